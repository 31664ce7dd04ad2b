"""RED: how many calls, how many failed, how long they took; for every session, always, whatever tracing samples.

The unit is an edge: who called whom, in which protocol, seen from which side. A call between two traced pods is two
sessions, one at each end; they are kept apart (as OpenTelemetry keeps `http.client.…` and `http.server.…` apart), so that
a call is never counted twice: `calls` answers one edge for each pair, that of the side that saw more. An edge consists of rows,
one for each operation and class of status; what is the sum of rows is summed up when somebody asks.

`Red.add` is called for every session on the engine's thread, and may take 1.5 µs: so what a session's texts mean (its row) is
remembered by these texts, and everything else that can be made later is. What is remembered is bounded, as all the rest.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final

from clovisor_py.flows.connection import NOT_CAPTURED
from clovisor_py.flows.sessions import UNSEEN_REQUEST, UNSEEN_RESPONSE
from clovisor_py.metrics._edge import REST, Edge, EdgeKey, Row
from clovisor_py.metrics._examples import example
from clovisor_py.metrics.operations import operation
from clovisor_py.metrics.routes import OTHER, Routes
from clovisor_py.model.session import BROKEN, END, Outcome, Session, Side
from clovisor_py.model.workload import Workload

EDGES: Final = 1024
"""Edges that are told apart; a port scan or a public service brings an unknown address each. The rest is one edge, OTHER,
and `Red.overflowed` counts what went there."""
ROWS: Final = 2048
"""Rows of all edges together, at 1 kB and 24 series each. What comes beyond, and beyond what an edge may have, is the edge's
own OTHER, and `Red.merged` counts it."""
STATUSES: Final = 4096
"""Statuses of all edges together, four for each edge: of most services one sees two or three. They come from the wire. What
comes beyond, and beyond what an edge may have, is the edge's own OTHER, which counts it."""
EXAMPLE_NS: Final = 10 * 10**9
"""An example stays one for so long: most sessions are none then, and who scrapes every 15 s finds new ones each time."""
REMEMBERED: Final = 4096
"""Texts of sessions whose row is remembered, and pairs of workloads whose edge is: at 0.4 kB each. Beyond, all is forgotten."""
TEXT_CHARS: Final = 256
"""Longer resources are not remembered."""
IDLE_NS: Final = 3600 * 10**9
"""An edge on which nothing happened for so long makes room, where there is none: workloads come and go, and their names with
them. Whoever reads the series has them."""
UNKNOWN: Final = "unknown"
"""Who has no name, where addresses are not told."""

_OK, _ERROR, _ONE_WAY, _SERVER = Outcome.OK, Outcome.ERROR, Outcome.ONE_WAY, Side.SERVER


class Red:
    """The edges. Written by one thread; any other may read meanwhile.

    `addresses`: an end without a name is called by its address, for a human to read; else it is UNKNOWN, as a metric's label
    has to be. `by_operation`: False where nobody asks for operations, sizes and examples (a summary): an edge has
    one row then, which saves two thirds of what `add` costs.
    """

    __slots__ = (
        "_addresses",
        "_by_operation",
        "_checked_ns",
        "_edges",
        "_other",
        "_pairs",
        "_remembered",
        "_rows",
        "_statuses",
        "forgotten",
        "merged",
        "overflowed",
        "private",
        "routes",
    )

    def __init__(self, addresses: bool = True, by_operation: bool = True) -> None:
        self._addresses, self._by_operation = addresses, by_operation
        self._edges: dict[EdgeKey, Edge] = {}
        self._other = Edge(("", OTHER, "", OTHER, OTHER, Side.SERVER), by_operation)
        self._pairs: dict[tuple[int | str, int | str, str, bool], tuple[Edge, Workload | None, Workload | None]] = {}
        """By the identity of both workloads, which are held here and so stay what they are: hashing one takes 1 µs."""
        self._remembered = self._rows = self._statuses = self._checked_ns = 0
        self.forgotten = 0
        """Edges that made room for others; what they had counted is told no more."""
        self.routes = Routes()
        self.private: Container[int] = ()
        """Interfaces whose sessions are not counted: of pods that nobody enabled, while somebody looks at them."""
        self.overflowed = 0
        self.merged = 0
        """Sessions whose operation was not told apart: too many."""

    def add(self, session: Session) -> None:
        """Count one session."""
        if self.private and session.interface in self.private:
            return
        client, server = session.client_workload, session.server_workload
        pair = self._pairs.get((
            id(client) if client is not None else session.client[0],
            id(server) if server is not None else session.server[0],
            session.protocol, session.side is _SERVER,
        ))  # fmt: skip
        edge = self._edge(session) if pair is None else pair[0]
        if (session.gap_bytes or session.truncated or session.mid_stream or session.connection) and _hides(session):
            edge.hidden += 1
        outcome, request, response = session.outcome, session.request, session.response
        broken, ended = outcome is not _OK and outcome in BROKEN, END in session.attributes
        if (row := edge.only) is None:
            rows = edge.rows_ok if outcome is _OK else edge.rows_failed if outcome is _ERROR else edge.rows_one_way
            row = rows.get((session.operation, session.resource, session.status))
            if row is None or ended or broken:
                row = self._row(edge, session)
            if request is not None:
                size = request[1]  # bytes; by name it is read more slowly
                row.sent += size
                edge.request_sizes[size.bit_length()] += 1
            if response is not None:
                size = response[1]
                row.received += size
                edge.response_sizes[size.bit_length()] += 1
        row.calls += 1
        if ended or outcome is _ONE_WAY:
            return
        status = session.word if broken else session.status or outcome.value
        if status not in (statuses := edge.statuses):
            status = self._status(edge, status, session.start_ns)
        statuses[status] += 1
        if outcome is not _OK:
            edge.count_error(row, status)
        if session.connection or (request is None and not session.ttfb_ns):
            return  # a connection's life, or an answer to what was not seen: nobody knows how long somebody waited
        ns = session.duration_ns
        if edge.slowest is None or ns > edge.slowest.duration_ns:
            edge.slowest = session
        row.durations.add(ns)
        if edge.only is None and (
            (known := row.examples.get(ns.bit_length() >> 2)) is None or abs(session.start_ns - known.start_ns) >= EXAMPLE_NS
        ):
            row.examples[ns.bit_length() >> 2] = example(session)

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

    def _edge(self, session: Session) -> Edge:
        """The edge of a pair that is not remembered; remembers it."""
        client, server = session.client_workload, session.server_workload
        key = (
            client.namespace if client else "",
            client.title if client else session.client.ip if self._addresses else UNKNOWN,
            server.namespace if server else "",
            server.title if server else session.server.ip if self._addresses else UNKNOWN,
            session.protocol,
            session.side,
        )
        edge = self._edges.get(key)
        if edge is None:
            if len(self._edges) >= EDGES:
                self._make_room(session.start_ns)
            if len(self._edges) >= EDGES:
                self.overflowed += 1
                return self._other
            edge = self._edges[key] = Edge(key, self._by_operation)
        if len(self._pairs) >= REMEMBERED:
            self._pairs.clear()
        who = id(client) if client is not None else session.client.ip, id(server) if server is not None else session.server.ip
        remembered = (*who, session.protocol, session.side is _SERVER)
        self._pairs[remembered] = edge, client, server
        return edge

    def _row(self, edge: Edge, session: Session) -> Row:
        """The row of texts that are not remembered; remembers them."""
        if edge is self._other:
            return edge.rest()
        trie = self.routes.of(edge.server_namespace, edge.server)
        what = operation(session, trie)
        if trie is not None and trie.changed:
            trie.changed = False
            self._regroup(edge.server_namespace, edge.server)
        row = edge.row(what)
        if row is None:
            if self._rows >= ROWS:
                self._make_room(session.start_ns, edge)
            if edge.full or self._rows >= ROWS:
                self.merged += 1
                return edge.rest()
            self._rows += 1
            row = edge.add_row(what)
        if session.outcome not in BROKEN and END not in session.attributes and len(session.resource) <= TEXT_CHARS:
            self._remember(edge, session, row)
        return row

    def _status(self, edge: Edge, status: str, now_ns: int) -> str:
        """Under which name a status is counted that the edge does not know."""
        if self._statuses >= STATUSES:
            self._make_room(now_ns, edge)
        before = edge.apart
        called = edge.called(status, self._statuses < STATUSES)
        self._statuses += edge.apart - before
        return called

    def _remember(self, edge: Edge, session: Session, row: Row) -> None:
        if self._remembered >= REMEMBERED:
            for each in self._edges.values():
                each.forget()
            self._remembered = 0
        self._remembered += 1
        outcome = session.outcome
        rows = edge.rows_ok if outcome is _OK else edge.rows_failed if outcome is _ERROR else edge.rows_one_way
        rows[session.operation, session.resource, session.status] = row

    def _make_room(self, now_ns: int, busy: Edge | None = None) -> None:
        """Forget edges (but `busy`) on which nothing has happened between two such looks, IDLE_NS apart at least."""
        if now_ns - self._checked_ns < IDLE_NS:
            return
        self._checked_ns = now_ns
        idle = [key for key, edge in self._edges.items() if edge.calls == edge.checked and edge is not busy]
        for key in idle:
            gone = self._edges.pop(key)
            self._remembered -= gone.forget()
            self._rows -= sum(operation != REST for operation in gone.rows())
            self._statuses -= gone.apart
        for edge in self._edges.values():
            edge.checked = edge.calls
        self._pairs.clear()
        self.forgotten += len(idle)
        self.routes.keep({(edge.server_namespace, edge.server) for edge in self._edges.values()})

    def _regroup(self, namespace: str, server: str) -> None:
        """A server's paths have other templates now: what was counted apart is put together, and nothing is lost or doubled."""
        trie = self.routes.of(namespace, server)
        assert trie is not None, "it has just changed"
        for edge in self._edges.values():
            if (edge.server_namespace, edge.server) == (namespace, server):
                self._remembered -= edge.forget()
                self._rows -= edge.regroup(trie.find)


def total(edges: Iterable[Edge]) -> Edge:
    """These edges merged into a new one."""
    out = Edge(("", "", "", "", "", Side.SERVER))
    for edge in edges:
        out.merge(edge)
    return out


def _hides(session: Session) -> bool:
    """Bytes were lost, an answer or its question passed unseen, or a whole connection did (the budget was used up).

    One that is only `truncated` hides nothing: its end was left out on purpose, and it is there, with its status.
    """
    if session.connection:
        return session.resource == NOT_CAPTURED
    return bool(session.gap_bytes) or UNSEEN_RESPONSE in session.attributes or UNSEEN_REQUEST in session.attributes
