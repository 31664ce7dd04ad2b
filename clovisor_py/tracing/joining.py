"""Joining: a call that a pod makes while it serves a request that carried the same context is that request's child.

An application that forwards the headers it was sent, and makes no spans of its own, sends the same trace and parent out that
came in. So the context of every request that is being served is remembered, with where it came in. A session that leaves the
same pod with that context hangs below the span of the request that was being served when it began, if exactly one was. With
several, or none (the application has spans of its own, or began the trace), it is `unlinked`, and hangs where its context
says. Nothing is joined by a guess of time: times only tell which requests were being served.

A pod is an interface and its addresses: behind a bridge there are many. A request is served from its head on, not from its
end: who is sent a long body may act on it before it is there. A session is judged when it has ended, so requests are
remembered for a while after their answer. Requests that were being served when tracing began are not known: a second one with
the same context, that came while one of those was still served, is taken for the only one. For one thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from clovisor_py.model.message import Message
from clovisor_py.model.session import Session, Side
from clovisor_py.model.workload import Endpoint
from clovisor_py.tracing import context, ids

MOST: Final = 16_384
"""Requests with a context that are remembered, at 0.4 kB each; beyond it the oldest are `forgotten`, answered ones first."""
KEEP_NS: Final = 60_000_000_000
"""How long after its answer a request is remembered: calls that it began have ended by then, as an answer or as a timeout."""
OPEN_NS: Final = 30_000_000_000
"""How long a request that was forgotten unanswered may still be served: as long as one waits for an answer by default. What its
pod calls meanwhile is `unlinked`."""
LOOKED_AT: Final = 16
"""Of the oldest, in search of an answered one to forget: requests that last for hours are few, and all at the front."""

SAME: Final = 64
"""Requests with one context at one pod; with more, all its calls are `unlinked` until they are forgotten."""
LOOK_NS: Final = 1_000_000_000
"""How often it is looked whether some can be forgotten."""

NONE: Final = "none"
SEVERAL: Final = "several"
TOO_OLD: Final = "not known any more"
"""Why a session is unlinked. The last: requests that may have been served when it began are remembered no longer."""

_OPEN: Final = 1 << 63
_UNKNOWN: Final[frozenset[str]] = frozenset()


class _Served:
    """A request that carried a context, from its first byte to the last of its answer."""

    __slots__ = ("client", "depth", "head", "ip", "other", "seq", "start_ns", "transport", "until_ns")

    def __init__(self, client: Endpoint, ip: str, transport: str, message: Message, other: _Served | None) -> None:
        self.client, self.seq, self.head = client, message.seq, message.head
        self.ip = ip
        """The address at which it entered the pod."""
        self.transport = transport
        self.start_ns, self.until_ns = message.start_ns, _OPEN
        self.other = other
        """An earlier one with the same context at the same interface."""
        self.depth: int = 1 if other is None else other.depth + 1

    def span(self, interface: int) -> int:
        """The id of its span, as `ids` makes it of the session that it will be."""
        return ids.span_id_of(self.client, self.seq, self.head, self.start_ns, interface, self.transport, Side.SERVER)


class Joining:
    """`begun` hears of every request with a context that enters a pod, `take` of every session whose context was read.

    Each of those requests becomes a session that `take` hears of, however it ends: until then it is being served.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self.joined = 0
        """Sessions that were joined to the request that they were made for."""
        self.unlinked: dict[str, int] = {}
        """Those that left a pod with a context and were not, by reason."""
        self.forgotten = 0
        """Requests that were given up because there were too many; a call made for one of them is `unlinked`."""
        self.clear()

    def clear(self) -> None:
        """What comes has nothing to do with what was (another capture)."""
        self._requests: dict[tuple[int, int, int], _Served] = {}
        """By interface, trace and parent; the first of each, the oldest first."""
        self._count = 0
        self._pods: dict[int, frozenset[str]] = {}
        """The addresses of the pod behind an interface, where they are known."""
        self._horizon_ns = 0
        """Until when one may have been served that is remembered no longer."""
        self._horizons: dict[int, int] = {}
        """The same of one interface, where it is later."""
        self._look_ns = 0
        """When there may be some to be forgotten."""

    def know(self, interface: int, addresses: Iterable[str]) -> None:
        """All addresses of the one pod behind this interface: what enters at one of them may leave from another."""
        self._pods[interface] = frozenset(addresses)

    def forget(self, interface: int) -> None:
        """It is traced no more."""
        self._pods.pop(interface, None)

    def begun(self, interface: int, client: Endpoint, server: Endpoint, transport: str, message: Message) -> None:
        """A request with a context has entered a pod, at `server`; told again when the rest of it has come, it is the same."""
        found = context.read(message.propagation)
        if found is None:
            return
        if message.start_ns > self._look_ns:
            self._expire(message.start_ns)
        key = (interface, found.trace_id, found.parent_id)
        known = self._requests.get(key)
        if known is not None and (known.depth > SAME or _find(known, message.seq, client) is not None):
            return
        self._requests[key] = _Served(client, server.ip, transport, message, known)
        self._count += 1
        if self._count > self._most:
            self._make_room(message.start_ns)

    def take(self, session: Session) -> None:
        """A session with a context has ended. One that left a pod is told whose child it is, or that nobody knows."""
        trace = session.trace
        if trace is None:
            return
        known = self._requests.get((session.interface, trace.trace_id, trace.parent_id))
        if session.side is Side.CLIENT:
            self._link(session, known)
        elif (served := _find(known, session.seq, session.client)) is not None:
            served.until_ns = session.start_ns + max(session.duration_ns, 0)

    def _link(self, session: Session, known: _Served | None) -> None:
        start_ns, caller, ip = session.start_ns, known, session.client.ip
        count = 0 if known is None or known.depth <= SAME else known.depth
        while known is not None:
            if known.start_ns <= start_ns <= known.until_ns and self._at_one_pod(session.interface, known.ip, ip):
                count, caller = count + 1, known
            known = known.other
        horizon_ns = max(self._horizon_ns, self._horizons.get(session.interface, 0))
        if count == 1 and caller is not None and start_ns > horizon_ns:
            session.caller_span = caller.span(session.interface)
            self.joined += 1
            return
        session.unlinked = SEVERAL if count > 1 else TOO_OLD if start_ns <= horizon_ns else NONE
        self.unlinked[session.unlinked] = self.unlinked.get(session.unlinked, 0) + 1

    def _at_one_pod(self, interface: int, ip: str, other: str) -> bool:
        return ip == other or {ip, other} <= self._pods.get(interface, _UNKNOWN)

    def _make_room(self, now_ns: int) -> None:
        """The oldest that was answered goes; where none of the oldest was, the oldest. Those passed over go to the end."""
        requests = self._requests
        looked_at = list(islice(requests, LOOKED_AT))
        given_up, until_ns = looked_at[0], now_ns + OPEN_NS
        for key in looked_at:
            if (answered_ns := _last(requests[key])) < _OPEN:
                given_up, until_ns = key, answered_ns
                break
            requests[key] = requests.pop(key)
        interface = given_up[0]
        self._horizons[interface] = max(self._horizons.get(interface, 0), until_ns)
        self.forgotten += self._drop(given_up)

    def _expire(self, now_ns: int) -> None:
        """Forget those that were answered long ago, at the front; one that still lasts there goes to the end."""
        self._look_ns = now_ns + LOOK_NS
        before_ns, requests = now_ns - KEEP_NS, self._requests
        for interface, until_ns in list(self._horizons.items()):
            if until_ns < before_ns:
                self._horizon_ns = max(self._horizon_ns, self._horizons.pop(interface))
        for key in list(requests):
            oldest, until_ns = requests[key].start_ns, _last(requests[key])
            if until_ns < before_ns:
                self._horizon_ns = max(self._horizon_ns, until_ns)
                self._drop(key)
            elif oldest < before_ns:
                requests[key] = requests.pop(key)
            else:
                return

    def _drop(self, key: tuple[int, int, int]) -> int:
        """How many that were."""
        served: _Served | None = self._requests.pop(key)
        number = 0
        while served is not None:
            number, served = number + 1, served.other
        self._count -= number
        return number


def _find(served: _Served | None, seq: int, client: Endpoint) -> _Served | None:
    """The one of these that began so."""
    while served is not None and not (served.seq == seq and served.client == client):
        served = served.other
    return served


def _last(served: _Served | None) -> int:
    """When the last of these was answered."""
    until_ns = 0
    while served is not None:
        until_ns, served = max(until_ns, served.until_ns), served.other
    return until_ns
