"""Deadlines: what happens to a flow because nothing else did: a hole grows old, a request is not answered, bytes that leave
the protocol open are followed by no others, a message whose end cannot be seen falls silent.

`plan` enters a flow into the agenda, `look` does what is due. Both cost nothing for flows that wait for nothing.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.flows.agenda import Agenda
from clovisor_py.flows.delivery import Delivery
from clovisor_py.flows.loop import BLIND, READING
from clovisor_py.flows.table import Flow

HOLE_NS: Final = 1_000_000_000
"""How long a hole may be late: longer than a retransmission takes (200 ms and up), shorter than a user waits for a span."""
DETECT_NS: Final = 1_000_000_000
"""How long bytes wait for further evidence before what there is decides."""
QUIET_NS: Final = 2_000_000_000
"""A message whose end was not captured (a long chunked body) is reported after so long a silence, though its turn may go on:
a session that somebody waits for, against one that is reported before its last pause is over, and says `truncated`."""


class Deadlines:
    """`timeout_ns`: how long a request may go unanswered."""

    __slots__ = ("_agenda", "_delivery", "_timeout_ns")

    def __init__(self, agenda: Agenda, delivery: Delivery, timeout_ns: int) -> None:
        self._agenda = agenda
        self._delivery = delivery
        self._timeout_ns = timeout_ns

    def plan(self, flow: Flow) -> None:
        """Note when this flow has to be looked at again, if ever."""
        due = []
        for stream in flow.streams:
            if stream.held:
                due.append(stream.hole_since_ns + HOLE_NS)
        if flow.readers is not None and flow.pairing is not None:
            for reader in flow.readers:
                if reader.state == BLIND and reader.open.start_ns:
                    due.append(reader.open.latest_ns + QUIET_NS)
            if flow.pairing.oldest_ns:
                due.append(self._overdue_ns(flow))
                flow.pairing.watched = True
        elif flow.detector is not None and flow.detector.waiting:
            due.append(flow.last_ns + DETECT_NS)
        if flow.udp and not due:
            due.append(flow.last_ns + self._timeout_ns)
        if due:
            self._agenda.add(flow.id, min(due))

    def _overdue_ns(self, flow: Flow) -> int:
        """When the oldest request is overdue. A response on its way counts, where it can be the only one's."""
        assert flow.readers is not None and flow.pairing is not None
        oldest = flow.pairing.oldest_ns
        answer = flow.readers[flow.server]
        if flow.pairing.in_order and answer.open.start_ns and answer.state in (READING, BLIND):
            oldest = max(oldest, flow.last_ns)
        return oldest + self._timeout_ns

    def look(self, flow: Flow, now_ns: int) -> None:
        """The flow is due for one reason or another."""
        for direction, stream in enumerate(flow.streams):
            self._delivery.deliver_all(flow, direction, stream.overdue(now_ns - HOLE_NS))
        if flow.detector is not None and flow.detector.waiting and flow.last_ns + DETECT_NS <= now_ns:
            verdict = flow.detector.settle()
            if verdict is not None:
                self._delivery.decide(flow, verdict, now_ns)
        for reader in flow.readers or ():
            if reader.state == BLIND and reader.open.start_ns and reader.open.latest_ns + QUIET_NS <= now_ns:
                reader.quiet(now_ns, alone=flow.seen != 3)
        if flow.pairing is not None:
            flow.pairing.watched = False
            self.expire(flow, now_ns)
        self.plan(flow)

    def expire(self, flow: Flow, now_ns: int) -> None:
        """Report the requests that nobody answered in time."""
        if flow.pairing is None:
            return
        flow.pairing.one_direction = flow.one_direction and flow.seen != 3
        if flow.pairing.oldest_ns and self._overdue_ns(flow) <= now_ns:
            assert flow.readers is not None
            if flow.pairing.in_order:
                flow.readers[flow.server].stall(now_ns)
            flow.pairing.expire(now_ns - self._timeout_ns, now_ns)

    def spent(self, flow: Flow, now_ns: int) -> bool:
        """Datagrams have no end of their own: it is over when nothing is asked any more, or nobody can read it."""
        waits = flow.pairing is not None and flow.pairing.oldest_ns
        return flow.udp and not waits and flow.last_ns + self._timeout_ns <= now_ns
