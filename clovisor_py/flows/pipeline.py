"""Pipeline: segments in, sessions out. The one page to read first.

A segment finds its flow (`table`), its bytes find their place in the stream (`stream`), the first bytes find the protocol
(`detect`), its parser makes messages of the bytes (`reader`), requests and responses find each other (`pairing`), and a
session comes out as soon as its response ends. Nothing here does I/O or asks a clock: time comes with the segments, and
with `tick`, which the caller owes about every 100 ms to 1 s and which costs what is due, not what is open.

Almost all segments are the next one of a stream, wholly captured, at the beginning of a message: `feed` hands their own
bytes straight to the parser. Whatever else a network can do goes through `_slow`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from clovisor_py.flows.agenda import Agenda
from clovisor_py.flows.control import Control, NoControl
from clovisor_py.flows.deadlines import Deadlines
from clovisor_py.flows.delivery import Delivery
from clovisor_py.flows.detect import resolve
from clovisor_py.flows.following import follow
from clovisor_py.flows.guard import Guard
from clovisor_py.flows.leaving import Leaving
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.loop import Handover
from clovisor_py.flows.pairing import Begun
from clovisor_py.flows.reader import Reader
from clovisor_py.flows.retelling import Retelling
from clovisor_py.flows.stream import MAX_WINDOW, SEQ_MASK, Piece
from clovisor_py.flows.table import MAX_FLOWS, Flow, FlowTable
from clovisor_py.flows.terms import Terms
from clovisor_py.model.segment import ACK, CONTINUED, FIN, FROM_POD, RST, SYN, TO_POD, TURN, Segment
from clovisor_py.model.session import Outcome, Session
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._redaction import DEFAULT, Redaction
from clovisor_py.protocols._registry import registry

__all__ = ["Control", "NoControl", "Pipeline"]

STILL_OPEN: Final = "still open when tracing ended"
EVICTED: Final = "forgotten: too many connections"
IDLE: Final = "forgotten: silent for too long"
NOT_TRACED: Final = "its pod is traced no more"

_SIGNALS = SYN | FIN | RST
_NO_HINTS: Mapping[int, str] = MappingProxyType({})


class Pipeline:
    """The engine. Not thread-safe: one source feeds it. All times are wall clock, ns since the epoch.

    `hints`: server port to protocol name, the operator's word (UsageError for a name that no protocol has).
    `protocols`: name to protocol; by default all that are installed. `redaction`: what parsers may tell. `begun`: see there.
    `strangers`: whether a veth that was given no terms (`set_terms`) is read, by these; else its segments are only counted.
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
        redaction: Redaction = DEFAULT,
        begun: Begun | None = None,
        strangers: bool = True,
    ) -> None:
        known = self._known = registry() if protocols is None else protocols
        self.ledger, self._strangers = Ledger(), strangers
        self._idle_ns = int(flow_idle_s * 1e9)
        self._table = FlowTable(self.ledger, max_flows)
        self._retelling = Retelling(self._table.flows)
        self._out: list[Session] = []
        agenda = Agenda()
        timeout_ns = int(request_timeout_s * 1e9)
        watch = partial(agenda.watch, timeout_ns)
        self._agenda = agenda
        control = NoControl() if control is None else control
        self._delivery = Delivery(
            self.ledger, control, self._out.append, watch, known.values(), resolve(hints, known), redaction, begun
        )
        self._deadlines = Deadlines(agenda, self._delivery, timeout_ns)
        self._guard = Guard(self.ledger, self._delivery)
        self._leaving = Leaving(
            self.ledger, self._table, agenda, control, self._delivery, self._deadlines, self._guard, self._out.append
        )

    @property
    def flows(self) -> int:
        """Connections that are followed now."""
        return len(self._table)

    def unparsed(self) -> list[tuple[int, str, int]]:
        """(server port, reason, flows) of what nobody could read so far, most frequent first. Port 0: all further ports."""
        counts = [(port, reason, flows) for (port, reason), flows in self.ledger.unparsed.items()]
        return sorted(counts, key=lambda row: (-row[2], row[0], row[1]))

    def set_terms(
        self,
        interface: int,
        hints: Mapping[int, str],
        redaction: Redaction,
        now_ns: int,
        *,
        capture: str | None = None,
        permits: Callable[[str, int], bool] | None = None,
        said: Callable[[str, int], str] | None = None,
    ) -> list[Session]:
        """What holds for a veth from now on (see `flows.terms`); hints for all veths still count, after these.

        Open flows follow; answers the sessions that this ended. Raises UsageError for a name that no protocol has.
        """
        delivery = self._delivery
        told = {**delivery.default.hints, **resolve(hints, self._known)}
        before = delivery.terms.get(interface, delivery.default)
        delivery.terms[interface] = Terms(told, redaction, capture, permits, said)
        for flow in [flow for flow in self._table.flows.values() if flow.interface == interface]:
            self._guard.run(flow, now_ns, partial(follow, delivery, before=before))
        return self._taken()

    def retell(self, now_ns: int) -> list[Session]:
        """What `said` answers of servers may have changed: open flows follow, a few now and more with each `tick`.

        Answers the sessions that this ended.
        """
        self._retelling.begin()
        self._retell_some(now_ns)
        return self._taken()

    def _retell_some(self, now_ns: int) -> None:
        delivery = self._delivery
        for flow in self._retelling.step():
            terms = delivery.terms_of(flow)
            if terms.said is not None and flow.told is not None:
                self._guard.run(flow, now_ns, partial(follow, delivery, before=terms))

    def drop(self, interface: int, now_ns: int) -> list[Session]:
        """The veth is traced no more: its flows end here, its terms are forgotten. Answers the sessions that this ended."""
        for flow in [flow for flow in self._table.flows.values() if flow.interface == interface]:
            self._leaving.leave(flow, NOT_TRACED, now_ns)
        self._delivery.terms.pop(interface, None)
        return self._taken()

    def feed(self, batch: Iterable[Segment]) -> list[Session]:
        """Take segments in the order in which they passed; answer the sessions that they completed."""
        flows, turn = self._table.flows, self._delivery.turn
        get, touch = flows.get, flows.move_to_end
        quick = 0
        for segment in batch:
            # All at once costs less than asking for half of them by name.
            (
                time_ns, flow_id, _, direction, _, _, _, _, _, seq, ack, tcp_flags, _, flags, length, data, _, _, _, _,
                cgroup_id, _,
            ) = segment  # fmt: skip
            flow = get(flow_id) or self._open(segment)
            if flow is None:
                continue
            touch(flow_id)
            flow.last_ns = time_ns
            try:
                stream, other = flow.streams
                if direction:
                    stream, other = other, stream
                readers = flow.readers
                if (
                    readers is None
                    or seq != stream.next_seq
                    or not length
                    or stream.held
                    or tcp_flags & _SIGNALS
                    or flags & CONTINUED
                    or (ack != other.next_seq and 0 < (ack - other.next_seq) & SEQ_MASK <= MAX_WINDOW)
                ):
                    self._slow(flow, segment)
                    continue
                quick += 1
                stream.next_seq = (seq + length) & SEQ_MASK
                if direction != flow.speaker:
                    flow.speaker = direction
                    if readers[1 - direction].state:
                        turn(flow, direction, time_ns)
                    if cgroup_id and not flow.cgroup_id:
                        flow.know_cgroup(cgroup_id)
                reader = readers[direction]
                if reader.fast and length == len(data):
                    reader.run(data, time_ns, seq)
                else:
                    self._go_on(flow, reader, segment)
                if reader.state:
                    self._deadlines.plan(flow)
            except Handover as handover:
                self._guard.run(flow, time_ns, partial(self._hand_over, direction=direction, handover=handover))
            except Exception as error:  # noqa: BLE001 a parser's bug must not end tracing: `failed` counts it
                self._guard.failed(flow, error, time_ns)
        self.ledger.payload += quick
        self.ledger.parsed += quick
        return self._taken()

    def tick(self, now_ns: int) -> list[Session]:
        """Do what is due: timeouts, old holes, silent flows. Answers the sessions that this ended."""
        for flow_id in self._agenda.pop_due(now_ns):
            flow = self._table.flows.get(flow_id)
            if flow is not None:
                self._guard.run(flow, now_ns, self._deadlines.look)
                if self._deadlines.spent(flow, now_ns):
                    self._leaving.leave(flow, "", now_ns)
        for flow in self._table.idle(now_ns - self._idle_ns):
            self._leaving.leave(flow, IDLE, now_ns)
        self._retell_some(now_ns)
        self._table.forget_closed(now_ns)
        return self._taken()

    def close(self, now_ns: int) -> list[Session]:
        """The capture ends: every request still waiting is reported, as `timeout` only if it is older than that."""
        for flow in list(self._table.flows.values()):
            self._leaving.leave(flow, STILL_OPEN, now_ns)
        return self._taken()

    # ---- a segment ----

    def _open(self, segment: Segment) -> Flow | None:
        """A flow for a segment that belongs to none, unless it is a latecomer."""
        table, ledger = self._table, self.ledger
        if not self._strangers and segment.interface not in self._delivery.terms:
            ledger.strangers += self._count(segment)
            return None
        opens = segment.tcp_flags & (SYN | ACK) == SYN
        if not opens and (table.is_closed(segment.flow_id) or not (segment.length or segment.tcp_flags & SYN)):
            self._count(segment)
            ledger.late += bool(segment.length and not segment.flags & CONTINUED)
            return None
        flow = table.open(segment)
        if flow.opener == FROM_POD and self._delivery.terms_of(flow).refuses(TO_POD, *flow.peer):
            self._delivery.ignore(flow)
        ledger.flows_mid_stream += flow.mid_stream
        for surplus in table.surplus():
            self._leaving.leave(surplus, EVICTED, segment.time_ns)
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
        if segment.cgroup_id and not flow.cgroup_id:
            flow.know_cgroup(segment.cgroup_id)
        if flow.tally is not None and segment.length:
            flow.tally.add(direction, time_ns, segment.seq, segment.length, flow.udp)
        if flow.udp:
            piece = Piece(0, time_ns, segment.length, segment.data, weight, turn_age_ns=segment.turn_age_ns)
            self._delivery.deliver(flow, direction, piece)
            self._deadlines.plan(flow)
            return
        stream = flow.streams[direction]
        seq = segment.seq
        if tcp_flags & SYN:
            stream.open(seq)
            seq = (seq + 1) & SEQ_MASK
        missing = (segment.ack - flow.streams[1 - direction].next_seq) & SEQ_MASK
        if tcp_flags & ACK and (flow.seen != 3 or 0 < missing <= MAX_WINDOW):
            self._guard.run(flow, time_ns, partial(self._acknowledge, segment=segment))
        if segment.length or tcp_flags & FIN:
            fin, turn = bool(tcp_flags & FIN), bool(segment.flags & TURN)
            self._push(
                flow,
                direction,
                Piece(seq, time_ns, segment.length, segment.data, weight, fin, False, segment.turn_age_ns, turn),
            )
        if segment.lost != flow.lost:
            flow.lost = segment.lost  # the kernel says that it lost some: no use waiting for them
            self._delivery.deliver_all(flow, direction, stream.give_up())
        if tcp_flags & RST:
            self._leaving.end(flow, Outcome.RESET, time_ns)
        elif stream.ended and flow.streams[1 - direction].ended:
            self._leaving.end(flow, Outcome.CLOSED, time_ns)
        else:
            self._deadlines.plan(flow)

    def _go_on(self, flow: Flow, reader: Reader, segment: Segment) -> None:
        """The next segment of a stream, inside a message or not wholly captured."""
        time_ns, length, data = segment.time_ns, segment.length, segment.data
        if reader.skip > length:
            reader.step(length, data, time_ns)
            self.ledger.cut_bytes += length - len(data)
        else:
            piece = Piece(segment.seq, time_ns, length, data, turn_age_ns=segment.turn_age_ns)
            self._delivery.hand(flow, segment.direction, piece)

    def _push(self, flow: Flow, direction: int, piece: Piece) -> None:
        if flow.opaque:
            self.ledger.opaque += piece.weight
            flow.streams[direction].ended |= piece.fin
        else:
            self._delivery.deliver_all(flow, direction, flow.streams[direction].push(piece))

    def _hand_over(self, flow: Flow, now_ns: int, direction: int, handover: Handover) -> None:
        self._delivery.hand_over(flow, direction, handover, handover.rest)
        flow.last_ns = now_ns

    def _acknowledge(self, flow: Flow, now_ns: int, segment: Segment) -> None:
        """What the sender has received, and what follows from it for the other direction."""
        direction = segment.direction
        if flow.opaque:
            return
        if flow.seen == 1 << direction:
            # Nothing of the other direction was ever seen. If it opened, accepted or said more, it goes another way.
            opened = not flow.mid_stream and segment.length > 0
            flow.one_direction = flow.one_direction or opened or flow.first_ack not in (-1, segment.ack)
            flow.first_ack = segment.ack
        self._delivery.deliver_all(flow, 1 - direction, flow.streams[1 - direction].acknowledged(segment.ack, now_ns))

    def _taken(self) -> list[Session]:
        taken = self._out[:]
        self._out.clear()
        return taken
