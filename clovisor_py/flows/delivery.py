"""Delivery: bytes in order go to the detector or to the parser, and a flow gets its protocol, its ends and its burial.

Every method takes the flow: a flow knows its state, this class knows what they all share. What a parser raises is let
through; `pipeline` catches it and gives the flow up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Final

from clovisor_py.flows.by_id import ById
from clovisor_py.flows.connection import UNDECIDED, Tally
from clovisor_py.flows.control import FULL, NONE, Control
from clovisor_py.flows.detect import UNKNOWN, Detector, Ports, Verdict, by_any_name
from clovisor_py.flows.in_order import InOrder
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.loop import BLIND, Handover
from clovisor_py.flows.pairing import Begun, Pairing
from clovisor_py.flows.reader import Reader
from clovisor_py.flows.stream import Piece
from clovisor_py.flows.table import Flow
from clovisor_py.flows.terms import NOT_ASKED, Terms
from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.model.session import Outcome, Session
from clovisor_py.protocols import _api
from clovisor_py.protocols._api import Protocol, Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._redaction import Redaction

PAIRINGS: Final[dict[_api.Pairing, type[Pairing]]] = {_api.Pairing.FIFO: InOrder, _api.Pairing.BY_ID: ById}


class Delivery:
    """`emit` takes sessions; `watch(flow_id, time_ns)` hears of a request on a flow that nobody watches.

    `hints`: server port to protocol.
    """

    __slots__ = (
        "_begun",
        "_control",
        "_cursor",
        "_emit",
        "_ledger",
        "_memories",
        "_names",
        "_protocols",
        "_riders",
        "_watch",
        "default",
        "terms",
    )

    def __init__(
        self,
        ledger: Ledger,
        control: Control,
        emit: Callable[[Session], None],
        watch: Callable[[Hashable, int], None],
        protocols: Iterable[Protocol],
        hints: Mapping[int, Protocol],
        redaction: Redaction,
        begun: Begun | None = None,
    ) -> None:
        self._ledger, self._control = ledger, control
        self._emit, self._watch, self._begun = emit, watch, begun
        self.default = Terms(hints, redaction)
        """What holds at a veth that has no terms of its own."""
        self.terms: dict[int, Terms] = {}
        """By interface."""
        self._cursor = Cursor(b"")
        self._protocols = tuple(protocols)
        self._names = by_any_name(self._protocols)
        self._memories: dict[str, dict[Any, Any]] = {}
        self._riders: dict[str, tuple[Protocol, ...]] = {}
        for protocol in self._protocols:
            if protocol.over:
                self._riders[protocol.over] = (*self._riders.get(protocol.over, ()), protocol)

    def terms_of(self, flow: Flow) -> Terms:
        """What holds at its veth."""
        return self.terms.get(flow.interface, self.default)

    def told(self, flow: Flow) -> Mapping[int, Protocol]:
        """Server port to protocol, as far as somebody said so of this flow's ends."""
        return self.terms_of(flow).told([flow.ends[direction] for direction in flow.ports.servers()], self._names)

    def protocol(self, flow: Flow) -> Protocol:
        """That of its readers."""
        return self._names[flow.protocol]

    def setup(self, flow: Flow) -> Setup:
        """What its parser is made with."""
        riders, memory = self._riders.get(flow.protocol, ()), self._memories.setdefault(flow.protocol, {})
        return Setup(self.terms_of(flow).redaction, flow.udp, riders, memory, not flow.mid_stream)

    def capture(self, flow: Flow) -> None:
        """Tell the kernel how much of it is wanted now."""
        wanted = self.protocol(flow).capture.value if flow.readers is not None else FULL
        self._control.capture(flow.id, self.terms_of(flow).capture or wanted)

    def deliver_all(self, flow: Flow, direction: int, pieces: Iterable[Piece]) -> None:
        """Each of them; the ledger learns of those behind one that ended in an exception."""
        rest = iter(pieces)
        try:
            for piece in rest:
                self.deliver(flow, direction, piece)
        except Exception:
            self._ledger.opaque += sum(piece.weight for piece in rest)
            raise

    def deliver(self, flow: Flow, direction: int, piece: Piece) -> None:
        """Bytes, or a gap, or the end of one direction."""
        if flow.opaque:
            self._ledger.opaque += piece.weight
            return
        self._ledger.parsed += piece.weight
        if piece.length:
            turn = direction != flow.speaker
            if turn:
                self.turn(flow, direction, piece.time_ns)
            self._route(flow, direction, piece, turn)
        if piece.fin:
            self.finish(flow, direction, Outcome.CLOSED, piece.time_ns)

    def _route(self, flow: Flow, direction: int, piece: Piece, turn: bool) -> None:
        """To whoever is in charge now."""
        if flow.readers is not None:
            self.hand(flow, direction, piece)
        elif not flow.opaque:
            if flow.detector is None:
                hints = flow.told = self.told(flow)
                flow.detector = Detector(self._protocols, hints, flow.ports, flow.mid_stream, flow.udp, self._ledger)
            verdict = flow.detector.offer(direction, piece, turn)
            if verdict is not None:
                self.decide(flow, verdict, piece.time_ns)

    def turn(self, flow: Flow, direction: int, time_ns: int) -> None:
        """Another than before speaks: that one's turn is over."""
        flow.speaker = direction
        if flow.readers is not None:
            other = flow.readers[1 - direction]
            if other.state:
                other.over(time_ns)

    def hand(self, flow: Flow, direction: int, piece: Piece) -> None:
        """To the parser, as far as it was seen."""
        assert flow.readers is not None and flow.pairing is not None
        reader = flow.readers[direction]
        seq, time_ns, length, data, *_ = piece
        if piece.turn and reader.state == BLIND:
            reader.over(time_ns)
        unseen = length - len(data)
        if unseen and not piece.lost:
            self._ledger.cut_bytes += unseen
        try:
            if data and reader.fast:
                reader.run(data, time_ns, seq)
            elif data:
                reader.read(data, time_ns, seq, piece.turn_age_ns)
            if unseen:
                reader.unseen(unseen, time_ns, seq + len(data), piece.lost)
        except Handover as handover:
            rest = handover.rest
            self.hand_over(flow, direction, handover, rest._replace(length=rest.length + unseen, lost=piece.lost))
            return
        if flow.udp:
            reader.settle()
        elif reader.state == BLIND and reader.sender == CLIENT and flow.pairing.in_order and flow.pairing.oldest_ns:
            flow.readers[1 - direction].blindfold(time_ns)  # whose answers will follow, nobody knows

    def hand_over(self, flow: Flow, direction: int, handover: Handover, rest: Piece) -> None:
        """The connection changes its protocol (an Upgrade, a tunnel); `rest` and what else is unread belongs to the new one."""
        assert flow.readers is not None and flow.pairing is not None
        other, waiting, name = 1 - direction, flow.pairing, handover.name
        unread = [(other, flow.readers[other].leftover()), (direction, rest)]
        protocol = self._names.get(name)
        if name and protocol is None:
            self.give_up(flow, name, rest.time_ns)
            assert flow.tally is not None
            for whose, piece in unread:
                if piece.length:
                    flow.tally.add(whose, piece.time_ns, piece.seq, piece.length, flow.udp)
            return
        for reader in flow.readers:
            reader.dismiss()
        waiting.settle()
        flow.mid_stream = False
        flow.readers, flow.pairing, flow.speaker = None, None, -1
        ports = Ports(flow.ports.by_direction, 1 - flow.server)
        flow.detector = Detector(self._protocols, {}, ports, False, False, self._ledger)
        if protocol is not None:
            self.decide(flow, Verdict(protocol, 1 - flow.server), rest.time_ns, waiting)
        else:
            flow.tally = Tally(rest.time_ns)
            self.capture(flow)
            waiting.abandon(rest.time_ns)
        for whose, piece in unread:
            if piece.length:
                self.deliver(flow, whose, piece)

    def decide(self, flow: Flow, verdict: Verdict, now_ns: int, waiting: Pairing | None = None) -> None:
        """The protocol is known, or never will be. `waiting`: requests of another protocol whose answers come in this one."""
        detector, flow.detector = flow.detector, None
        protocol = verdict.protocol
        if protocol is None or detector is None:
            self.give_up(flow, UNDECIDED if detector is None else detector.unread, now_ns)
            return
        flow.server, terms = 1 - verdict.client, self.terms_of(flow)
        if terms.refuses(flow.server, *flow.peer):
            self.ignore(flow)
            return
        flow.doubt = flow.tally if detector.hinted is protocol else None
        flow.tally, flow.protocol = None, protocol.name
        facts = flow.facts(protocol.sessions)
        flow.pairing = PAIRINGS[protocol.pairing](facts, self._ledger, self._emit, self._watch, self._begun)
        self._take_over(flow.pairing, waiting, now_ns)
        parser = protocol.parser(self.setup(flow))
        readers = []
        for direction in (0, 1):
            sender = SERVER if direction == flow.server else CLIENT
            reader = Reader(parser, sender, flow.pairing, self._cursor, self._ledger, self._control, direction)
            reader.begin(flow.mid_stream, verdict.aligned[direction])
            readers.append(reader)
        flow.readers = (readers[0], readers[1])
        self.capture(flow)
        flow.speaker = -1
        for direction, piece in detector.pieces:
            turn = direction != flow.speaker
            if turn:
                self.turn(flow, direction, piece.time_ns)
            self._route(flow, direction, piece, turn)
        for direction in flow.client_first:
            if flow.streams[direction].ended:
                self.finish(flow, direction, Outcome.CLOSED, now_ns)

    @staticmethod
    def _take_over(pairing: Pairing, waiting: Pairing | None, now_ns: int) -> None:
        """The requests that the new protocol answers go with it; to the others nobody will see an answer."""
        for request, fresh in () if waiting is None else waiting.drain():
            if request.correlation is not None and not pairing.in_order:
                pairing.take(request, CLIENT, fresh)
            else:
                pairing.not_seen(request, fresh, now_ns)

    def finish(self, flow: Flow, direction: int, outcome: Outcome, now_ns: int) -> None:
        """No more bytes in this direction; without a server's there are no more answers."""
        if flow.readers is not None and flow.pairing is not None:
            flow.readers[direction].finish(outcome, now_ns)
            if direction == flow.server:
                flow.pairing.close(outcome, now_ns)

    def flush(self, flow: Flow, outcome: Outcome, now_ns: int, note: str) -> None:
        """Everything that is held, unread, undecided or unanswered goes out."""
        for direction in flow.client_first:
            self.deliver_all(flow, direction, flow.streams[direction].give_up())
        if flow.detector is not None and flow.detector.pieces:
            self.decide(flow, flow.detector.settle() or UNKNOWN, now_ns)
        if flow.pairing is None:
            return
        flow.pairing.note = note
        for direction in flow.client_first:
            if not flow.streams[direction].ended:
                self.finish(flow, direction, outcome, now_ns)
        flow.pairing.close(outcome, now_ns)

    def give_up(self, flow: Flow, reason: str, now_ns: int) -> None:
        for stream in flow.streams:
            self._ledger.opaque += sum(piece.weight for piece in stream.forget_held())
        for reader in flow.readers or ():
            reader.dismiss()
        pairing, flow.pairing, flow.readers, flow.detector = flow.pairing, None, None, None
        flow.opaque, flow.why = True, reason
        flow.tally = flow.tally or Tally(now_ns)
        self._ledger.count_unparsed(flow.server_end.port, reason)
        if not flow.ended:
            self._control.capture(flow.id, NONE)
        if pairing is not None:
            pairing.abandon(now_ns)

    def ignore(self, flow: Flow) -> None:
        """None of our business: no session will tell of it."""
        for stream in flow.streams:
            self._ledger.opaque += sum(piece.weight for piece in stream.forget_held())
        self._ledger.flows_not_asked += 1
        flow.detector, flow.tally, flow.opaque, flow.why = None, None, True, NOT_ASKED
        self._control.capture(flow.id, NONE)

    def reopen(self, flow: Flow, now_ns: int) -> None:
        """Look again at a flow that nobody reads, from its middle: what was not captured meanwhile is not known."""
        for stream in flow.streams:
            self._ledger.opaque += sum(piece.weight for piece in stream.forget_held())
            stream.renew()
        flow.detector, flow.opaque, flow.mid_stream, flow.speaker = None, False, True, -1
        flow.why, flow.tally = UNDECIDED, flow.tally or Tally(now_ns)
        self.capture(flow)
