"""RED: how many calls, how many failed, how long they took; for every session, always, whatever tracing samples.

The unit is an edge: who called whom, in which protocol, seen from which side. A call between two traced pods is two
sessions, one at each end; they are kept apart (as OpenTelemetry keeps `http.client.…` and `http.server.…` apart), so that
a call is never counted twice: `calls` answers one edge for each pair, that of the side that saw more.

`Red.add` is called for every session on the engine's thread. It makes nothing that can be made when somebody asks: totals
are the sum of the edges.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from clovisor_py.flows.connection import NOT_CAPTURED
from clovisor_py.flows.sessions import UNSEEN_REQUEST, UNSEEN_RESPONSE
from clovisor_py.metrics.histogram import Histogram
from clovisor_py.model.session import Outcome, Session, Side

EDGES: Final = 1024
"""Edges that are told apart; a port scan or a public service brings an unknown address each. The rest is one edge, OTHER,
and `Red.overflowed` counts what went there."""
STATUSES: Final = 48
"""Statuses of one edge that are told apart (they come from the wire); the rest is counted as OTHER."""
STATUS_CHARS: Final = 64
"""Characters of a status that are kept: longer than every name that a protocol's specification gives one."""
OTHER: Final = "other"

_Key = tuple[str, str, str, str, str, Side]


class Edge:
    """Calls from `client` to `server` in `protocol`, seen at `side`; names are titles of workloads, or addresses."""

    __slots__ = (
        "calls",
        "client",
        "client_namespace",
        "durations",
        "error_statuses",
        "errors",
        "hidden",
        "protocol",
        "server",
        "server_namespace",
        "side",
        "slowest",
        "statuses",
    )

    def __init__(self, key: _Key) -> None:
        self.client_namespace, self.client, self.server_namespace, self.server, self.protocol, self.side = key
        self.calls = 0
        self.errors = 0
        self.hidden = 0
        """Sessions of which so much passed unseen that others may have passed with it: the counts are too low, perhaps."""
        self.durations = Histogram()
        """Of all for which somebody waited: not of one-way sessions and whole connections; of a timeout, how long it was."""
        self.statuses: dict[str, int] = {}
        self.error_statuses: dict[str, int] = {}
        """Those of the failed sessions only; a session without a status counts under its outcome."""
        self.slowest: Session | None = None


class Red:
    """The edges. Written by one thread; any other may read meanwhile."""

    __slots__ = ("_edges", "_other", "overflowed")

    def __init__(self) -> None:
        self._edges: dict[_Key, Edge] = {}
        self._other = Edge(("", OTHER, "", OTHER, OTHER, Side.SERVER))
        self.overflowed = 0

    def add(self, session: Session) -> None:
        """Count one session."""
        client, server = session.client_workload, session.server_workload
        key = (
            client.namespace if client else "",
            client.title if client else session.client.ip,
            server.namespace if server else "",
            server.title if server else session.server.ip,
            session.protocol,
            session.side,
        )
        edge = self._edges.get(key) or self._new(key)
        edge.calls += 1
        if (session.gap_bytes or session.truncated or session.mid_stream or session.connection) and _hides(session):
            edge.hidden += 1
        outcome = session.outcome
        if outcome is Outcome.ONE_WAY or session.still_open:
            return
        status = session.status or outcome.value
        if outcome is not Outcome.OK:
            edge.errors += 1
            _count(edge.error_statuses, status)
        _count(edge.statuses, status)
        if session.connection or (session.request is None and not session.ttfb_ns):
            return  # a connection's life, or an answer to what was not seen: nobody knows how long somebody waited
        durations = edge.durations
        if session.duration_ns > durations.max_ns or edge.slowest is None:
            edge.slowest = session
        durations.add(session.duration_ns)

    def edges(self) -> list[Edge]:
        """Every edge, each side by itself: the busiest first, then the longest, as callers take longer than who they call.

        OTHER comes last, where it has any.
        """
        found = sorted(self._edges.copy().values(), key=lambda edge: (-edge.calls, -edge.durations.quantile(0.5)))
        return [*found, self._other] if self._other.calls else found

    def calls(self) -> list[Edge]:
        """One edge for each (client, server, protocol): of the two sides, the one that saw more calls; else the server's."""
        best: dict[tuple[str, ...], Edge] = {}
        for edge in self.edges():
            key = (edge.client_namespace, edge.client, edge.server_namespace, edge.server, edge.protocol)
            rival = best.get(key)
            if rival is None or (rival.calls == edge.calls and edge.side is Side.SERVER):
                best[key] = edge
        return list(best.values())

    def total(self) -> Edge:
        """All sessions in one edge (both ends of a call are two sessions)."""
        return total(self.edges())

    def _new(self, key: _Key) -> Edge:
        if len(self._edges) >= EDGES:
            self.overflowed += 1
            return self._other
        edge = self._edges[key] = Edge(key)
        return edge


def total(edges: Iterable[Edge]) -> Edge:
    """These edges merged into a new one."""
    out = Edge(("", "", "", "", "", Side.SERVER))
    for edge in edges:
        out.calls += edge.calls
        out.errors += edge.errors
        out.hidden += edge.hidden
        if edge.slowest is not None and (out.slowest is None or edge.slowest.duration_ns > out.slowest.duration_ns):
            out.slowest = edge.slowest
        out.durations.merge(edge.durations)
        _merge(out.statuses, edge.statuses)
        _merge(out.error_statuses, edge.error_statuses)
    return out


def _hides(session: Session) -> bool:
    """Bytes were lost, an answer or its question passed unseen, or a whole connection did (the budget was used up).

    One that is only `truncated` hides nothing: its end was left out on purpose, and it is there, with its status.
    """
    if session.connection:
        return session.resource == NOT_CAPTURED
    return bool(session.gap_bytes) or UNSEEN_RESPONSE in session.attributes or UNSEEN_REQUEST in session.attributes


def _count(counts: dict[str, int], status: str, by: int = 1) -> None:
    if status not in counts:
        status = status[:STATUS_CHARS] if len(counts) < STATUSES else OTHER
    counts[status] = counts.get(status, 0) + by


def _merge(into: dict[str, int], counts: dict[str, int]) -> None:
    for status, count in counts.copy().items():
        _count(into, status, count)
