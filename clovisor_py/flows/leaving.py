"""Leaving: a flow ends, or is followed no further. What waits in it is reported, and what nobody could read is a session of
its own, so that no connection goes without a word.
"""

from __future__ import annotations

from collections.abc import Callable

from clovisor_py.flows import connection
from clovisor_py.flows.agenda import Agenda
from clovisor_py.flows.connection import NOT_CAPTURED, SILENT, Ending
from clovisor_py.flows.control import Control
from clovisor_py.flows.deadlines import Deadlines
from clovisor_py.flows.delivery import Delivery
from clovisor_py.flows.doubt import doubted
from clovisor_py.flows.guard import Guard
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.table import Flow, FlowTable
from clovisor_py.model.session import Outcome, Session


class Leaving:
    """Takes flows out of `table`, and out of everything that knows them. `emit` gets the sessions."""

    __slots__ = ("_agenda", "_control", "_deadlines", "_delivery", "_emit", "_guard", "_ledger", "_table")

    def __init__(
        self,
        ledger: Ledger,
        table: FlowTable,
        agenda: Agenda,
        control: Control,
        delivery: Delivery,
        deadlines: Deadlines,
        guard: Guard,
        emit: Callable[[Session], None],
    ) -> None:
        self._ledger, self._table, self._agenda, self._control = ledger, table, agenda, control
        self._delivery, self._deadlines, self._guard, self._emit = delivery, deadlines, guard, emit

    def end(self, flow: Flow, outcome: Outcome, now_ns: int) -> None:
        """The connection has ended; late segments will be known as such."""
        flow.ended = True
        self._guard.run(flow, now_ns, self._flush, outcome, "")
        self._tell(flow, _ending(flow, outcome, now_ns))
        self._table.close(flow, now_ns)
        self._forget(flow)

    def leave(self, flow: Flow, why: str, now_ns: int) -> None:
        """The connection may go on, but it is followed no further."""
        self._guard.run(flow, now_ns, self._flush, Outcome.CLOSED, why)
        self._tell(flow, _ending(flow, None, now_ns))
        self._table.remove(flow)
        self._forget(flow)

    def _flush(self, flow: Flow, outcome: Outcome, why: str, now_ns: int) -> None:
        """What is old is reported as that, the rest as `outcome`."""
        self._deadlines.expire(flow, now_ns)
        self._delivery.flush(flow, outcome, now_ns, why)

    def _tell(self, flow: Flow, ending: Ending) -> None:
        """A connection that nobody could read is a session of its own."""
        if doubted(flow):
            self._ledger.count_unparsed(flow.server_end.port, flow.why)
        if flow.tally is None:
            return
        said = any(side.segments for side in flow.tally.sides)
        counted = self._control.counted(flow.connection)
        heard = counted is not None and any(side.segments for side in counted)
        reason = flow.why if said or flow.opaque else NOT_CAPTURED if heard else SILENT
        if flow.server < 0:
            flow.server = flow.likely_server
            if self._delivery.terms_of(flow).refuses(flow.server, *flow.peer):
                self._ledger.flows_not_asked += 1
                return
        facts = flow.facts("udp" if flow.udp else "tcp")
        self._ledger.sessions += 1
        self._emit(connection.session(flow.tally, facts, flow.server, reason, ending, counted, flow.mid_stream))

    def _forget(self, flow: Flow) -> None:
        self._agenda.forget(flow.id)
        for reader in flow.readers or ():
            reader.dismiss()
        self._ledger.flows_one_direction += not flow.udp and flow.seen != 3


def _ending(flow: Flow, outcome: Outcome | None, now_ns: int) -> Ending:
    """How a connection ended that nobody could read. `outcome` None: it did not, as far as was seen."""
    answered = flow.seen == 3
    if outcome is Outcome.RESET:
        said = flow.opaque or flow.tally is None or any(side.segments for side in flow.tally.sides)
        refused = not said and not flow.mid_stream
        return Ending(Outcome.RESET, "refused" if refused else "reset", now_ns)
    if outcome is not None:
        return Ending(Outcome.OK, "closed", now_ns)
    if not answered and not flow.udp and not flow.mid_stream:
        return Ending(Outcome.TIMEOUT, "no answer", now_ns)
    return Ending(Outcome.OK, "open", flow.last_ns)
