"""Sessions made from messages: what is filled in when both are known, or only the request, or only the response.

The session says what was not seen of it: `truncated`, `gap_bytes`, `mid_stream`, and `clovisor.*` attributes in words.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, NamedTuple

from clovisor_py.flows.ledger import Ledger
from clovisor_py.model.message import SERVER, Message
from clovisor_py.model.session import END, Outcome, Part, Session, Side
from clovisor_py.model.workload import Endpoint

UNSEEN_REQUEST: Final = "clovisor.request"
UNSEEN_RESPONSE: Final = "clovisor.response"
NOT_SEEN: Final = "not seen"
SEEN: Final = "clovisor.seen"
ONE_DIRECTION: Final = "one direction"
REPEATED: Final = "clovisor.repeated"
"""Attribute, true: the request is a copy of one that waits for its answer."""

_OK, _ERROR = Outcome.OK, Outcome.ERROR  # looking up a member costs more than a call
_tuple = tuple.__new__  # and a named tuple's own `__new__` more than both


class Facts(NamedTuple):
    """What all sessions of a flow have in common."""

    protocol: str
    side: Side
    interface: int
    client: Endpoint
    server: Endpoint
    transport: str
    cgroup_id: int = 0
    flow_id: Hashable = None


class SessionMaker:
    """Makes the sessions of one flow; `emit` takes each as soon as it is complete."""

    __slots__ = (
        "_client", "_emit", "_interface", "_ledger", "_protocol", "_server", "_side", "_transport",
        "cgroup_id", "note", "one_direction",
    )  # fmt: skip

    def __init__(self, facts: Facts, ledger: Ledger, emit: Callable[[Session], None]) -> None:
        self._protocol, self._side, self._interface = facts.protocol, facts.side, facts.interface
        self._client, self._server, self._transport = facts.client, facts.server, facts.transport
        self._ledger = ledger
        self._emit = emit
        self.cgroup_id = facts.cgroup_id
        """Of the pod's own end; may become known later than the rest."""
        self.note = ""
        """Why Clovisor, not the application, ends what is still open."""
        self.one_direction = False
        """The other direction never passes this veth: nobody can say whether there was a response."""

    def answered(self, request: Message, response: Message, fresh: bool, broken: Outcome | None) -> None:
        start = request.start_ns
        first = response.start_ns - start
        duration = response.end_ns - start
        attributes = request.attributes
        attributes.update(response.attributes)
        if broken is not None and self.note:
            attributes[END] = self.note
        self._ledger.sessions += 1
        self._emit(
            Session(
                request.protocol or response.protocol or self._protocol,
                self._side,
                self._interface,
                start,
                duration if duration > 0 else 0,
                first if first > 0 else 0,
                self._client,
                self._server,
                request.operation or response.operation,
                request.resource or response.resource,
                response.status,
                broken or (_ERROR if response.error else _OK),
                _tuple(Part, (start, request.size)),
                _tuple(Part, (response.start_ns, response.size)),
                request.incomplete or response.incomplete,
                request.gap_bytes + response.gap_bytes,
                fresh,
                attributes,
                request.propagation,
                request.seq,
                request.head,
                self._transport,
                self.cgroup_id,
            )
        )

    def unanswered(
        self, request: Message, fresh: bool, outcome: Outcome, now_ns: int, note: dict[str, str], truncated: bool = False
    ) -> None:
        """Only the request is known; the session lasted until now."""
        request.attributes.update(note)
        if self.one_direction:
            outcome = Outcome.ONE_WAY
            request.attributes[SEEN] = ONE_DIRECTION
        self._single(request, fresh, outcome, max(now_ns - request.start_ns, 0), truncated)

    def not_seen(self, request: Message, fresh: bool, now_ns: int) -> None:
        """There was a response, or there may have been, and it passed unseen: no failure that anybody saw."""
        self._ledger.unseen_responses += 1
        self.unanswered(request, fresh, _OK, now_ns, {UNSEEN_RESPONSE: NOT_SEEN}, truncated=True)

    def repeated(self, request: Message, fresh: bool) -> None:
        """The same was asked before and not answered yet: whatever comes is the answer to the first."""
        request.attributes[REPEATED] = True
        self._single(request, fresh, Outcome.ONE_WAY, request.end_ns - request.start_ns, False)

    def silent(self, request: Message, fresh: bool) -> None:
        """It asked for no answer, and so nothing failed."""
        self._single(request, fresh, _OK, request.end_ns - request.start_ns, False)

    def one_way(self, message: Message, sender: int, fresh: bool) -> None:
        self._single(message, fresh, Outcome.ONE_WAY, message.end_ns - message.start_ns, False, sender == SERVER)

    def _single(
        self, message: Message, fresh: bool, outcome: Outcome, duration_ns: int, truncated: bool, served: bool = False
    ) -> None:
        part = Part(message.start_ns, message.size)
        session = self._session(message, outcome, duration_ns)
        session.request, session.response = (None, part) if served else (part, None)
        session.operation, session.resource = message.operation, message.resource
        session.truncated = message.incomplete or truncated
        session.mid_stream = fresh
        self._emit(session)

    def unasked(self, response: Message, turn_age_ns: int, broken: Outcome | None) -> None:
        """The request passed before this process looked; the kernel still knows when."""
        start = response.start_ns - turn_age_ns
        outcome = broken or (_ERROR if response.error else _OK)
        session = self._session(response, outcome, max(response.end_ns - start, 0))
        session.start_ns, session.ttfb_ns = start, turn_age_ns
        session.response = Part(response.start_ns, response.size)
        session.operation, session.resource = response.operation or "unknown", response.resource
        session.truncated = response.incomplete
        session.mid_stream = True
        session.attributes[UNSEEN_REQUEST] = NOT_SEEN
        self._emit(session)

    def _session(self, message: Message, outcome: Outcome, duration_ns: int) -> Session:
        """With what is known from one message alone."""
        self._ledger.sessions += 1
        return Session(
            protocol=message.protocol or self._protocol,
            side=self._side,
            interface=self._interface,
            start_ns=message.start_ns,
            duration_ns=duration_ns,
            ttfb_ns=None,
            client=self._client,
            server=self._server,
            operation="",
            resource="",
            status=message.status,
            outcome=outcome,
            request=None,
            response=None,
            gap_bytes=message.gap_bytes,
            attributes=message.attributes,
            propagation=message.propagation,
            seq=message.seq,
            head=message.head,
            transport=self._transport,
            cgroup_id=self.cgroup_id,
        )
