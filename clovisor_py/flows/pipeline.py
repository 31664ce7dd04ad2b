"""Pipeline: segments in, sessions out. The one page to read first.

A segment finds its flow (`table`), its bytes find their place in the stream (`stream`), the first bytes find the protocol
(`detect`), its parser makes messages of the bytes (`reader`), requests and responses find each other (`pairing`), and a
session comes out as soon as its response ends. Nothing here does I/O or asks a clock: time comes with the segments, and
with `tick`, which the caller owes about every 100 ms to 1 s and which costs what is due, not what is open.

Almost all segments are the next one of a stream, wholly captured, at the beginning of a message: `feed` hands their own
bytes straight to the parser. Whatever else a network can do goes through `_slow`.

A parser is somebody's code reading strangers' bytes. What it raises ends with its flow, which is then only counted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from clovisor_py.flows.agenda import Agenda
from clovisor_py.flows.control import NONE, Control, NoControl
from clovisor_py.flows.detect import UNKNOWN, Detector, Verdict, resolve
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.pairing import PAIRINGS
from clovisor_py.flows.reader import BLIND, READING, GivenUp, Reader
from clovisor_py.flows.sessions import Facts
from clovisor_py.flows.stream import MAX_WINDOW, SEQ_MASK, Piece
from clovisor_py.flows.table import MAX_FLOWS, Flow, FlowTable
from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.model.segment import ACK, CONTINUED, FIN, PEER_OPENED, POD_OPENED, RST, SYN, Segment
from clovisor_py.model.session import Outcome, Session
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._registry import registry

__all__ = ["Control", "NoControl", "Pipeline"]

HOLE_NS: Final = 1_000_000_000
"""How long a hole may be late: longer than a retransmission takes (200 ms and up), shorter than a user waits for a span."""
DETECT_NS: Final = 1_000_000_000
"""How long bytes wait for further evidence before what there is decides."""
QUIET_NS: Final = 5_000_000_000
"""A message whose end was not captured is reported after so long a silence, though its turn may go on."""

STILL_OPEN: Final = "still open when tracing ended"
EVICTED: Final = "forgotten: too many connections"
IDLE: Final = "forgotten: silent for too long"

_SIGNALS = SYN | FIN | RST
_NO_HINTS: Mapping[int, str] = MappingProxyType({})


class Pipeline:
    """The engine. Not thread-safe: one source feeds it. All times are wall clock, ns since the epoch.

    `hints`: server port to protocol name, the operator's word (UsageError for a name that no protocol has).
    `protocols`: name to protocol; by default all that are installed.
    """

    def __init__(
        self,
        *,
        hints: Mapping[int, str] = _NO_HINTS,
        request_timeout_s: float = 30.0,
        flow_idle_s: float = 120.0,
        max_flows: int = MAX_FLOWS,
        protocols: Mapping[str, Protocol] | None = None,
        control: Control | None = None,
    ) -> None:
        known = registry() if protocols is None else protocols
        self.ledger = Ledger()
        self._protocols = tuple(known.values())
        self._hints = resolve(hints, known)
        self._timeout_ns = int(request_timeout_s * 1e9)
        self._idle_ns = int(flow_idle_s * 1e9)
        self._control: Control = NoControl() if control is None else control
        self._table = FlowTable(self.ledger, max_flows)
        self._agenda = Agenda()
        self._cursor = Cursor(b"")
        self._out: list[Session] = []

    @property
    def flows(self) -> int:
        """Connections that are followed now."""
        return len(self._table)

    def unparsed(self) -> list[tuple[int, str, int]]:
        """(server port, reason, flows) of what nobody could read so far, most frequent first. Port 0: all further ports."""
        counts = [(port, reason, flows) for (port, reason), flows in self.ledger.unparsed.items()]
        return sorted(counts, key=lambda row: (-row[2], row[0], row[1]))

    def feed(self, batch: Iterable[Segment]) -> list[Session]:
        """Take segments in the order in which they passed; answer the sessions that they completed."""
        table, ledger = self._table, self.ledger
        get, touch = table.flows.get, table.flows.move_to_end
        quick = 0
        for segment in batch:
            (time_ns, flow_id, _, direction, _, _, _, _, _, seq, ack, tcp_flags, _, flags, length, data, *_) = segment
            flow = get(flow_id) or self._open(segment)
            if flow is None:
                continue
            touch(flow_id)
            flow.last_ns = time_ns
            try:
                if flow.readers is not None:
                    reader = flow.readers[direction]
                    stream, other = flow.streams if not direction else flow.streams[::-1]
                    if (
                        reader.fast
                        and seq == stream.next_seq
                        and length == len(data)
                        and length
                        and not (tcp_flags & _SIGNALS or flags & CONTINUED or stream.held)
                        and not 0 < (ack - other.next_seq) & SEQ_MASK <= MAX_WINDOW
                    ):
                        quick += 1
                        stream.next_seq = (seq + length) & SEQ_MASK
                        if direction != flow.speaker:
                            self._turn(flow, direction, time_ns)
                        reader.run(data, time_ns, seq)
                        if reader.state:
                            self._plan(flow)
                        continue
                self._slow(flow, segment)
            except Exception as error:  # noqa: BLE001 a parser's bug must not end tracing: `_failed` counts it
                self._failed(flow, error, time_ns)
        ledger.payload += quick
        ledger.parsed += quick
        return self._taken()

    def tick(self, now_ns: int) -> list[Session]:
        """Do what is due: timeouts, old holes, silent flows. Answers the sessions that this ended."""
        for flow_id in self._agenda.pop_due(now_ns):
            flow = self._table.flows.get(flow_id)
            if flow is not None:
                self._guarded(flow, now_ns, self._look)
        for flow in self._table.idle(now_ns - self._idle_ns):
            self._leave(flow, IDLE, now_ns)
        self._table.forget_closed(now_ns)
        return self._taken()

    def close(self, now_ns: int) -> list[Session]:
        """The capture ends: every request still waiting is reported, as `timeout` only if it is older than that."""
        for flow in list(self._table.flows.values()):
            self._leave(flow, STILL_OPEN, now_ns)
        return self._taken()

    # ---- a segment ----

    def _open(self, segment: Segment) -> Flow | None:
        """A flow for a segment that belongs to none, unless it is a latecomer."""
        table, ledger = self._table, self.ledger
        opens = segment.tcp_flags & (SYN | ACK) == SYN
        if not opens and (table.is_closed(segment.flow_id) or not (segment.length or segment.tcp_flags & SYN)):
            self._count(segment)
            ledger.late += bool(segment.length and not segment.flags & CONTINUED)
            return None
        flow = table.open(segment)
        flow.opener = _opener(segment)
        flow.detector = Detector(self._protocols, self._hints, flow.ports, flow.mid_stream)
        ledger.flows_mid_stream += flow.mid_stream
        for surplus in table.surplus():
            self._leave(surplus, EVICTED, segment.time_ns)
        return flow

    def _count(self, segment: Segment) -> int:
        """Enter a segment; answers 1 if the ledger's equation expects it to come out again."""
        if not segment.length:
            self.ledger.controls += 1
            return 0
        if segment.flags & CONTINUED:
            self.ledger.pieces += 1
            return 0
        self.ledger.payload += 1
        return 1

    def _slow(self, flow: Flow, segment: Segment) -> None:
        """Any segment whatsoever."""
        time_ns, direction, tcp_flags = segment.time_ns, segment.direction, segment.tcp_flags
        weight = self._count(segment)
        flow.seen |= 1 << direction
        if flow.udp:
            piece = Piece(0, time_ns, segment.length, segment.data, weight, turn_age_ns=segment.turn_age_ns)
            self._deliver(flow, direction, piece)
            self._plan(flow)
            return
        stream = flow.streams[direction]
        seq = segment.seq
        if tcp_flags & SYN:
            stream.open(seq)
            seq = (seq + 1) & SEQ_MASK
        if tcp_flags & ACK:
            self._acknowledge(flow, direction, segment)
        if segment.length or tcp_flags & FIN:
            fin = bool(tcp_flags & FIN)
            self._push(
                flow, direction, Piece(seq, time_ns, segment.length, segment.data, weight, fin, False, segment.turn_age_ns)
            )
        if segment.lost != flow.lost:
            flow.lost = segment.lost  # the kernel says that it lost some: no use waiting for them
            self._deliver_all(flow, direction, stream.give_up())
        if tcp_flags & RST:
            self._end(flow, Outcome.RESET, time_ns)
        elif stream.ended and flow.streams[1 - direction].ended:
            self._end(flow, Outcome.CLOSED, time_ns)
        else:
            self._plan(flow)

    def _push(self, flow: Flow, direction: int, piece: Piece) -> None:
        if flow.opaque:
            self.ledger.opaque += piece.weight
            flow.streams[direction].ended |= piece.fin
        else:
            self._deliver_all(flow, direction, flow.streams[direction].push(piece))

    def _acknowledge(self, flow: Flow, direction: int, segment: Segment) -> None:
        """What `direction` has received, and what follows from it for the other one."""
        if flow.opaque:
            return
        if flow.seen == 1 << direction:
            # Nothing of the other direction was ever seen. If it opened, accepted or said more, it goes another way.
            opened = not flow.mid_stream and segment.length > 0
            flow.one_direction = flow.one_direction or opened or flow.first_ack not in (-1, segment.ack)
            flow.first_ack = segment.ack
        self._deliver_all(flow, 1 - direction, flow.streams[1 - direction].acknowledged(segment.ack, segment.time_ns))

    # ---- bytes in order ----

    def _deliver_all(self, flow: Flow, direction: int, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if flow.opaque:
                self.ledger.opaque += piece.weight
            else:
                self._deliver(flow, direction, piece)

    def _deliver(self, flow: Flow, direction: int, piece: Piece) -> None:
        """Bytes, or a gap, or the end of one direction."""
        if flow.opaque:
            self.ledger.opaque += piece.weight
            return
        self.ledger.parsed += piece.weight
        if piece.length:
            turn = direction != flow.speaker
            if turn:
                self._turn(flow, direction, piece.time_ns)
            if flow.detector is None:
                self._hand(flow, direction, piece)
            else:
                verdict = flow.detector.offer(direction, piece, turn)
                if verdict is not None:
                    self._decide(flow, verdict, piece.time_ns)
        if piece.fin:
            self._finish(flow, direction, Outcome.CLOSED, piece.time_ns)

    def _turn(self, flow: Flow, direction: int, time_ns: int) -> None:
        """Another than before speaks: that one's turn is over."""
        flow.speaker = direction
        if flow.readers is not None:
            other = flow.readers[1 - direction]
            if other.state:
                other.over(time_ns)

    def _hand(self, flow: Flow, direction: int, piece: Piece) -> None:
        """To the parser, as far as it was seen."""
        assert flow.readers is not None and flow.pairing is not None
        reader = flow.readers[direction]
        seq, time_ns, length, data, *_ = piece
        if data and reader.fast:
            reader.run(data, time_ns, seq)
        elif data:
            reader.read(data, time_ns, seq, piece.turn_age_ns)
        unseen = length - len(data)
        if unseen:
            self.ledger.cut_bytes += 0 if piece.lost else unseen
            reader.unseen(unseen, time_ns, seq + len(data), piece.lost)
        if flow.udp:
            reader.settle()
        elif reader.state == BLIND and reader.sender == CLIENT and flow.pairing.in_order and flow.pairing.oldest_ns:
            flow.readers[1 - direction].blindfold(time_ns)  # whose answers will follow, nobody knows

    # ---- the life of a flow ----

    def _decide(self, flow: Flow, verdict: Verdict, now_ns: int) -> None:
        """The protocol is known, or never will be."""
        detector, flow.detector = flow.detector, None
        protocol = verdict.protocol
        if protocol is None or detector is None:
            self._give_up(flow, "unknown protocol", now_ns)
            return
        flow.server = 1 - verdict.client
        client, server = (flow.peer, flow.pod) if flow.server == 0 else (flow.pod, flow.peer)
        facts = Facts(protocol.name, flow.side, flow.interface, client, server, "udp" if flow.udp else "tcp")
        watch = partial(self._watch, flow.id)
        flow.pairing = PAIRINGS[protocol.pairing](facts, self.ledger, self._out.append, watch)
        parser = protocol.parser()
        readers = []
        for direction in (0, 1):
            sender = SERVER if direction == flow.server else CLIENT
            skip = partial(self._control.skip_until, flow.id, direction)
            reader = Reader(parser, sender, flow.pairing, self._cursor, self.ledger, skip)
            reader.begin(flow.mid_stream, verdict.aligned[direction])
            readers.append(reader)
        flow.readers = (readers[0], readers[1])
        self._control.capture(flow.id, protocol.capture.value)
        flow.speaker = -1
        for direction, piece in detector.pieces:
            if direction != flow.speaker:
                self._turn(flow, direction, piece.time_ns)
            self._hand(flow, direction, piece)
        for direction in flow.client_first:
            if flow.streams[direction].ended:
                self._finish(flow, direction, Outcome.CLOSED, now_ns)

    def _finish(self, flow: Flow, direction: int, outcome: Outcome, now_ns: int) -> None:
        """No more bytes in this direction; without a server's there are no more answers."""
        if flow.readers is not None and flow.pairing is not None:
            flow.readers[direction].finish(outcome, now_ns)
            if direction == flow.server:
                flow.pairing.close(outcome, now_ns)

    def _end(self, flow: Flow, outcome: Outcome, now_ns: int) -> None:
        """The connection has ended; late segments will be known as such."""
        try:
            self._flush(flow, outcome, now_ns)
        finally:
            self._remove(flow)
            self._table.close(flow, now_ns)

    def _leave(self, flow: Flow, why: str, now_ns: int) -> None:
        """The connection may go on, but it is followed no further."""
        self._guarded(flow, now_ns, partial(self._flush, note=why), Outcome.CLOSED)
        self._remove(flow)
        self._table.remove(flow)

    def _flush(self, flow: Flow, outcome: Outcome, now_ns: int, note: str = "") -> None:
        """Everything that is held, unread, undecided or unanswered goes out."""
        for direction in flow.client_first:
            self._deliver_all(flow, direction, flow.streams[direction].give_up())
        if flow.detector is not None and flow.detector.pieces:
            self._decide(flow, flow.detector.settle() or UNKNOWN, now_ns)
        if flow.pairing is None:
            return
        flow.pairing.note = note
        self._expire(flow, now_ns)
        for direction in flow.client_first:
            if not flow.streams[direction].ended:
                self._finish(flow, direction, outcome, now_ns)
        flow.pairing.close(outcome, now_ns)

    def _remove(self, flow: Flow) -> None:
        self._agenda.forget(flow.id)
        self.ledger.flows_one_direction += not flow.udp and flow.seen != 3
        flow.readers = flow.pairing = flow.detector = None

    def _guarded(self, flow: Flow, now_ns: int, step: Callable[..., None], *args: Outcome) -> None:
        try:
            step(flow, *args, now_ns)
        except Exception as error:  # noqa: BLE001 as in `feed`
            self._failed(flow, error, now_ns)

    def _failed(self, flow: Flow, error: Exception, now_ns: int) -> None:
        """Give the flow up: it is not what it was taken for, or its parser is broken. From now on it is only counted."""
        if isinstance(error, GivenUp):
            reason = str(error)
        else:
            self.ledger.parser_crashes += 1
            reason = f"parser failed: {type(error).__name__}"
        self._give_up(flow, reason, now_ns)

    def _give_up(self, flow: Flow, reason: str, now_ns: int) -> None:
        for stream in flow.streams:
            self.ledger.opaque += sum(piece.weight for piece in stream.held)
            stream.held.clear()
        pairing, flow.pairing, flow.readers, flow.detector = flow.pairing, None, None, None
        flow.opaque = True
        self.ledger.count_unparsed(flow.server_end.port, reason)
        if flow.id in self._table.flows:
            self._control.capture(flow.id, NONE)
        if pairing is not None:
            pairing.abandon(now_ns)

    # ---- time ----

    def _watch(self, flow_id: Hashable, asked_ns: int) -> None:
        self._agenda.add(flow_id, asked_ns + self._timeout_ns)

    def _plan(self, flow: Flow) -> None:
        """Note when this flow has to be looked at again, if ever."""
        due = [stream.hole_since_ns + HOLE_NS for stream in flow.streams if stream.held]
        if flow.readers is not None and flow.pairing is not None:
            due += [reader.latest_ns + QUIET_NS for reader in flow.readers if reader.state == BLIND and reader.start_ns]
            if flow.pairing.oldest_ns:
                due.append(self._overdue_ns(flow))
                flow.pairing.watched = True
            elif flow.udp:
                due.append(flow.last_ns + self._timeout_ns)
        elif flow.detector is not None and flow.detector.waiting:
            due.append(flow.last_ns + DETECT_NS)
        if due:
            self._agenda.add(flow.id, min(due))

    def _overdue_ns(self, flow: Flow) -> int:
        """When the oldest request is overdue. A response on its way counts, where it can be the only one's."""
        assert flow.readers is not None and flow.pairing is not None
        oldest = flow.pairing.oldest_ns
        answer = flow.readers[flow.server]
        if flow.pairing.in_order and answer.start_ns and answer.state == READING:
            oldest = max(oldest, flow.last_ns)
        return oldest + self._timeout_ns

    def _look(self, flow: Flow, now_ns: int) -> None:
        """The flow is due for one reason or another."""
        for direction, stream in enumerate(flow.streams):
            self._deliver_all(flow, direction, stream.overdue(now_ns - HOLE_NS))
        if flow.detector is not None and flow.detector.waiting and flow.last_ns + DETECT_NS <= now_ns:
            verdict = flow.detector.settle()
            if verdict is not None:
                self._decide(flow, verdict, now_ns)
        for reader in flow.readers or ():
            if reader.state == BLIND and reader.start_ns and reader.latest_ns + QUIET_NS <= now_ns:
                reader.quiet(now_ns, alone=flow.seen != 3)
        if flow.pairing is not None:
            flow.pairing.watched = False
            self._expire(flow, now_ns)
            if flow.udp and not flow.pairing.oldest_ns and flow.last_ns + self._timeout_ns <= now_ns:
                self._remove(flow)
                self._table.remove(flow)
                return
        self._plan(flow)

    def _expire(self, flow: Flow, now_ns: int) -> None:
        assert flow.pairing is not None
        flow.pairing.one_direction = flow.one_direction and flow.seen != 3
        if flow.pairing.oldest_ns and self._overdue_ns(flow) <= now_ns:
            flow.pairing.expire(now_ns - self._timeout_ns, now_ns)

    def _taken(self) -> list[Session]:
        taken = self._out[:]
        self._out.clear()
        return taken


def _opener(segment: Segment) -> int:
    """The direction of who opened the connection, as far as this segment tells: -1."""
    if segment.tcp_flags & SYN:
        return 1 - segment.direction if segment.tcp_flags & ACK else segment.direction
    if segment.flags & POD_OPENED:
        return 0
    return 1 if segment.flags & PEER_OPENED else -1
