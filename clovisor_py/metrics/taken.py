"""Taken: what RED and TCP have counted up to one moment, as plain facts that go through JSON (`snapshot.as_json`).

An agent is asked for it, and whoever asks twice knows what happened in between (`view`). Any thread may take it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from clovisor_py.metrics import _edge
from clovisor_py.metrics.histogram import Histogram
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.snapshot import NOTHING

Ends = tuple[str, str, str, str]
Edge = tuple[str, str, str, str, str, str]


class Counted(NamedTuple):
    """One row of RED up to now. `durations`: number of a bucket (`histogram`) to calls."""

    client_namespace: str = ""
    client: str = ""
    server_namespace: str = ""
    server: str = ""
    protocol: str = ""
    side: str = ""
    operation: str = ""
    code: str = ""
    calls: int = 0
    errors: int = 0
    sent: int = 0
    received: int = 0
    durations: Mapping[str, int] = NOTHING

    @property
    def edge(self) -> Edge:
        """The pair, the protocol, the side."""
        return self.client_namespace, self.client, self.server_namespace, self.server, self.protocol, self.side

    @property
    def who(self) -> tuple[str, ...]:
        """All that tells it from others."""
        return (*self.edge, self.operation, self.code)


class Trips(NamedTuple):
    """Round trips of one pair's connections up to now, in the same buckets."""

    client_namespace: str = ""
    client: str = ""
    server_namespace: str = ""
    server: str = ""
    side: str = ""
    rtt: Mapping[str, int] = NOTHING

    @property
    def ends(self) -> Ends:
        """The pair, whatever side it was seen at."""
        return self.client_namespace, self.client, self.server_namespace, self.server


class Hidden(NamedTuple):
    """Sessions of an edge up to now with which others may have passed unseen (`Edge.hidden`)."""

    client_namespace: str = ""
    client: str = ""
    server_namespace: str = ""
    server: str = ""
    protocol: str = ""
    side: str = ""
    sessions: int = 0

    @property
    def edge(self) -> Edge:
        """The pair, the protocol, the side."""
        return self.client_namespace, self.client, self.server_namespace, self.server, self.protocol, self.side


class Taken(NamedTuple):
    """Everything that was counted from `started` to `taken`, s since the epoch. Another `started`: it began anew."""

    started: float = 0
    taken: float = 0
    rows: tuple[Counted, ...] = ()
    trips: tuple[Trips, ...] = ()
    overflowed: int = 0
    """Sessions whose pair is told as other."""
    merged: int = 0
    """Sessions whose operation is."""
    hidden: tuple[Hidden, ...] = ()
    clock: float = 0
    """`taken` on the monotonic clock, s; 0 where nobody says."""


def take(red: Red, tcp: Tcp | None, started: float) -> Taken:
    """All that was counted up to now. Any thread."""
    edges = red.edges()
    rows = tuple(
        Counted(
            *_named_edge(edge),
            *(what.title, what.code, row.calls, row.errors, row.sent, row.received),
            durations=_named(row.durations),
        )
        for edge in edges
        for what, row in edge.rows().items()
    )
    trips = tuple(
        Trips(pair.client_namespace, pair.client, pair.server_namespace, pair.server, pair.side.value, _named(pair.rtt))
        for pair in (tcp.pairs() if tcp is not None else ())
        if pair.rtt.count
    )
    hidden = tuple(Hidden(*_named_edge(edge), edge.hidden) for edge in edges if edge.hidden)
    return Taken(started, time.time(), rows, trips, red.overflowed, red.merged, hidden, time.monotonic())


def _named_edge(edge: _edge.Edge) -> Edge:
    side = edge.side.value
    return edge.client_namespace, edge.client, edge.server_namespace, edge.server, edge.protocol, side


def _named(durations: Histogram) -> Mapping[str, int]:
    return {str(index): count for index, count in durations.counts.copy().items()}
