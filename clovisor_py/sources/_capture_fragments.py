"""IP fragments put together again, within bounds of memory and time: a capture may hold any number of halves.

A datagram is complete when its last fragment has come and nothing is missing before it; where fragments overlap the first
copy wins. Of a fragment that was cut the rest is missing on purpose, so the datagram's data end there and its length does not.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from clovisor_py.sources._capture_ip import Fragment

MAX_DATAGRAMS: Final = 256
"""Incomplete ones at once; the one that began first goes first."""
MAX_BYTES: Final = 4 << 20
"""Captured bytes of all of these; 64 of the longest datagrams there are."""
MAX_PIECES: Final = 1400
"""Of one datagram; 64 KiB over the smallest MTU that IPv4 knows."""
LIFETIME_NS: Final = 60_000_000_000
"""How long the rest may take (RFC 8200, 4.5)."""


class _Datagram:
    __slots__ = ("began_ns", "pieces", "size")

    def __init__(self, began_ns: int) -> None:
        self.began_ns = began_ns
        self.pieces: dict[int, tuple[bytes, int]] = {}
        """Offset to (captured data, true length)."""
        self.size = -1
        """Known when the last fragment was seen."""


class Fragments:
    """Counts are in fragments: each one that was added is `waiting`, or in `joined`, or in `dropped`."""

    def __init__(self) -> None:
        self._datagrams: OrderedDict[tuple[bytes, bytes, int, int], _Datagram] = OrderedDict()
        self._bytes = 0
        self.waiting = self.joined = self.dropped = 0

    def add(self, fragment: Fragment, data: bytes, length: int, time_ns: int) -> tuple[bytes, int] | None:
        """One more; answers (captured data, true length) of the datagram that it completed."""
        self._expire(time_ns - LIFETIME_NS)
        datagram = self._datagrams.setdefault(fragment.identity, _Datagram(time_ns))
        known = datagram.pieces.get(fragment.offset)
        if known is not None and known[1] >= length:
            self.dropped += 1  # a copy
            return None
        if known is not None:
            self._forget(known)
        datagram.pieces[fragment.offset] = (data, length)
        self._bytes += len(data)
        self.waiting += 1
        if not fragment.more:
            datagram.size = fragment.offset + length
        whole = _whole(datagram) if datagram.size >= 0 else None
        if whole is not None:
            self._remove(fragment.identity, joined=True)
        elif len(datagram.pieces) > MAX_PIECES:
            self._remove(fragment.identity)
        while self._datagrams and (len(self._datagrams) > MAX_DATAGRAMS or self._bytes > MAX_BYTES):
            self._remove(next(iter(self._datagrams)))
        return whole

    def _expire(self, before_ns: int) -> None:
        while self._datagrams and next(iter(self._datagrams.values())).began_ns < before_ns:
            self._remove(next(iter(self._datagrams)))

    def _remove(self, identity: tuple[bytes, bytes, int, int], *, joined: bool = False) -> None:
        pieces = self._datagrams.pop(identity).pieces
        self._bytes -= sum(len(data) for data, _ in pieces.values())
        self.waiting -= len(pieces)
        if joined:
            self.joined += len(pieces)
        else:
            self.dropped += len(pieces)

    def _forget(self, piece: tuple[bytes, int]) -> None:
        self._bytes -= len(piece[0])
        self.waiting -= 1
        self.dropped += 1


def _whole(datagram: _Datagram) -> tuple[bytes, int] | None:
    if sum(length for _, length in datagram.pieces.values()) < datagram.size:
        return None
    joined, at, cut = [], 0, False
    for offset, (data, length) in sorted(datagram.pieces.items()):
        if offset > at:
            return None
        seen = at - offset
        if seen >= length:
            continue
        if not cut:
            joined.append(data[seen:])
        cut = cut or len(data) < length
        at = offset + length
    return (b"".join(joined)[: datagram.size], datagram.size) if at >= datagram.size else None
