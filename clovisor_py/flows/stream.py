"""Stream: one direction of a TCP connection put back in order by its sequence numbers.

In come segments as they passed the veth; out come pieces in order, each byte once (the first copy wins), and in place of
bytes that never came a piece that is `lost`. Out-of-order pieces wait behind their hole, a bounded number of them for a
bounded time, because a hole has two meanings that only time tells apart: the bytes are late, or nobody will ever see them.
A hole becomes a gap when the receiver acknowledges it, when too much waits behind it, when it is old, or at the end.

The pipeline has a short way past this class for the segment that is exactly the next one; it moves `next_seq` itself.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from clovisor_py.flows.ledger import BUFFERED_BYTES, Ledger

SEQ_MASK: Final = 0xFFFF_FFFF
MAX_WINDOW: Final = 1 << 30
"""The furthest that TCP can be apart from itself (RFC 7323, 2.3): further back is not old, it is far ahead."""
HELD_PIECES: Final = 64
"""Pieces that wait for earlier bytes: more than a reordering network ever needs. Beyond: `held_evicted`, a gap."""
HELD_BYTES: Final = 256 * 1024
"""Captured bytes that wait for earlier bytes; four of the longest segments there are. Beyond: `held_evicted`, a gap."""
UNKNOWN_SEQ: Final = -1


class Piece(NamedTuple):
    """Consecutive payload: `data` is the captured beginning of `length` bytes, the first of which has number `seq`."""

    seq: int
    time_ns: int
    length: int
    data: bytes
    weight: int = 0
    """1 where the ledger's segment is counted with this piece."""
    fin: bool = False
    """The direction ends after it."""
    lost: bool = False
    """Nobody saw these bytes, as against those that were left out on purpose."""
    turn_age_ns: int = 0
    turn: bool = False
    """The kernel, which sees every packet, says that a turn begins with it, whatever was not seen before."""

    def after(self, size: int) -> Piece:
        """Without its first `size` bytes."""
        rest = self._replace(seq=(self.seq + size) & SEQ_MASK, length=self.length - size, data=self.data[size:])
        return rest._replace(turn_age_ns=0, turn=False) if size else rest

    def before(self, size: int) -> Piece:
        """Its first `size` bytes."""
        return self._replace(length=size, data=self.data[:size], fin=False)


_NONE: Final[list[Piece]] = []
"""What streams without a hole hold; never added to. Nearly all are, and there are two for each open connection."""


class Stream:
    """`next_seq` is the number of the next byte in order, UNKNOWN_SEQ before anything was seen."""

    __slots__ = ("_ledger", "_lost_seq", "_lost_size", "ended", "held", "held_bytes", "hole_since_ns", "mid_stream", "next_seq")

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.next_seq = UNKNOWN_SEQ
        self.mid_stream = False
        """Its SYN was not seen: the first bytes may lie in the middle of a message."""
        self.ended = False
        self.held = _NONE
        """Out of order, sorted, without overlaps."""
        self.held_bytes = 0
        self.hole_since_ns = 0
        self._lost_seq = 0
        self._lost_size = 0

    def open(self, seq: int) -> None:
        """A SYN; it takes one number. A repeated one changes nothing."""
        if self.next_seq == UNKNOWN_SEQ:
            self.next_seq = (seq + 1) & SEQ_MASK

    def renew(self) -> None:
        """Nobody followed it for a while: the next segment is wherever it is now."""
        self.next_seq = UNKNOWN_SEQ

    def push(self, piece: Piece) -> list[Piece]:
        """Take a segment; answer what is now in order (empty where it has to wait or brings nothing new)."""
        if self.next_seq == UNKNOWN_SEQ:
            self.next_seq = piece.seq
            self.mid_stream = True
        ahead = self._ahead(piece.seq)
        if self.ended or ahead + piece.length + piece.fin <= 0:
            self._count_old(piece)
            return []
        if ahead < 0:
            piece = piece.after(-ahead)
        elif ahead == 0 and not self.held:
            self._advance(piece)
            return [piece]
        elif ahead > 0:
            self._ledger.out_of_order += piece.weight
            if not self.held:
                self.hole_since_ns = piece.time_ns
        self._hold(piece)
        return self._drain([])

    def acknowledged(self, ack: int, time_ns: int) -> list[Piece]:
        """The receiver has everything before `ack`: what was not seen of it never will be."""
        ready: list[Piece] = []
        if self.next_seq == UNKNOWN_SEQ or self.ended:
            return ready
        while 0 < (missing := self._ahead(ack)) <= MAX_WINDOW:
            first = self._ahead(self.held[0].seq) if self.held else missing
            self._lose(min(first, missing), time_ns, ready)
        return ready

    def overdue(self, before_ns: int) -> list[Piece]:
        """Give up holes that opened at `before_ns` or earlier."""
        ready: list[Piece] = []
        while self.held and self.hole_since_ns <= before_ns:
            self._lose(self._ahead(self.held[0].seq), self.held[0].time_ns, ready)
        return ready

    def give_up(self) -> list[Piece]:
        """Nothing more will come: every hole is a gap."""
        ready: list[Piece] = []
        while self.held:
            self._lose(self._ahead(self.held[0].seq), self.held[0].time_ns, ready)
        return ready

    def _ahead(self, seq: int) -> int:
        """Bytes from `next_seq` to `seq`; negative for what is past."""
        ahead = (seq - self.next_seq) & SEQ_MASK
        return ahead if ahead <= SEQ_MASK - MAX_WINDOW else ahead - SEQ_MASK - 1

    def _advance(self, piece: Piece) -> None:
        self.next_seq = (self.next_seq + piece.length + piece.fin) & SEQ_MASK
        self.ended = piece.fin

    def _count_old(self, piece: Piece) -> None:
        into_gap = (piece.seq - self._lost_seq) & SEQ_MASK
        if self.ended or into_gap < self._lost_size:
            self._ledger.late += piece.weight
        else:
            self._ledger.duplicates += piece.weight

    def _hold(self, piece: Piece) -> None:
        """Insert what `piece` has that no held piece has; its weight goes with the first part."""
        index = 0
        while index < len(self.held) and (piece.length or piece.fin):
            other = self.held[index]
            room = (other.seq - piece.seq) & SEQ_MASK
            if room > SEQ_MASK - MAX_WINDOW:
                room -= SEQ_MASK + 1
            if piece.length + piece.fin <= room:
                break
            if room > 0:
                self._insert(index, piece.before(room))
                piece = piece.after(room)._replace(weight=0)
                index += 1
                room = 0
            index += 1
            covered = room + other.length + other.fin
            if covered >= piece.length + piece.fin:
                self._ledger.duplicates += piece.weight
                return
            if covered > 0:
                piece = piece.after(min(covered, piece.length))
        self._insert(index, piece)

    def _insert(self, index: int, piece: Piece) -> None:
        if self.held:
            self.held.insert(index, piece)
        else:
            self.held = [piece]
        self._account(len(piece.data))

    def _account(self, size: int) -> None:
        self.held_bytes += size
        self._ledger.buffered += size

    def forget_held(self) -> list[Piece]:
        """What waited, and waits no more."""
        forgotten, self.held = self.held, _NONE
        self._account(-self.held_bytes)
        return forgotten

    def _lose(self, size: int, time_ns: int, ready: list[Piece]) -> None:
        """Step over `size` bytes that nobody will see, and go on with what waited behind them."""
        ledger = self._ledger
        ledger.gaps += 1
        ledger.gap_bytes += size
        self._lost_seq, self._lost_size = self.next_seq, size
        gap = Piece(self.next_seq, time_ns, size, b"", lost=True)
        self._advance(gap)
        ready.append(gap)
        self._drain(ready)

    def _drain(self, ready: list[Piece]) -> list[Piece]:
        """Move what is in order from `held` to `ready`; make room if too much is still held."""
        held = self.held
        while held and held[0].seq == self.next_seq and not self.ended:
            piece = held.pop(0)
            self._account(-len(piece.data))
            self._advance(piece)
            ready.append(piece)
            if held:
                self.hole_since_ns = held[0].time_ns
        if self.ended:
            self._ledger.late += sum(piece.weight for piece in self.forget_held())
        elif held and (len(held) > HELD_PIECES or self.held_bytes > HELD_BYTES or self._ledger.buffered > BUFFERED_BYTES):
            self._ledger.held_evicted += 1
            self._lose(self._ahead(held[0].seq), held[0].time_ns, ready)
        return ready
