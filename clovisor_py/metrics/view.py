"""View: who called whom between two moments, for `clovisor top`: throughput, errors and latencies by pair or by operation.

`take` makes a Taken of what RED and TCP have counted up to now; it goes through JSON (`snapshot.as_json`), so that an agent
can be asked for it. `lines` says what happened between two of them. A call that was seen at both ends is told once, by the side
that saw more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from clovisor_py.metrics.histogram import LONGEST_NS, Histogram
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.model.session import Side
from clovisor_py.snapshot import NOTHING

Ends = tuple[str, str, str, str]
Edge = tuple[str, str, str, str, str, str]


class By(str, Enum):
    """What is one line: `l7_link` a pair and its protocol, `l7_rpc` also the operation."""

    LINK = "link"
    RPC = "rpc"


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


class Taken(NamedTuple):
    """Everything that was counted from `started` to `taken`, s since the epoch. Another `started`: it began anew."""

    started: float = 0
    taken: float = 0
    rows: tuple[Counted, ...] = ()
    trips: tuple[Trips, ...] = ()
    overflowed: int = 0
    """Sessions that are told as other."""


class Line(NamedTuple):
    """One line of a view; `operation` is empty where there is one for a pair."""

    client_namespace: str
    client: str
    server_namespace: str
    server: str
    protocol: str
    operation: str
    calls: int
    errors: int
    seconds: float
    durations: Histogram
    rtt: Histogram
    sent: int
    received: int

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds if self.seconds > 0 else 0.0

    @property
    def error_rate(self) -> float:
        """0 to 1."""
        return self.errors / self.calls if self.calls else 0.0

    def as_dict(self) -> dict[str, object]:
        """Durations in ns, None where nobody waited; sizes are bytes on the wire."""
        ends = {"client": {"namespace": self.client_namespace, "name": self.client}}
        ends |= {"server": {"namespace": self.server_namespace, "name": self.server}}
        waited = {f"p{q}_ns": self.quantile(q) for q in (50, 90, 99)}
        counts = {"calls": self.calls, "errors": self.errors, "seconds": round(self.seconds, 3)}
        rates = {"calls_per_s": round(self.rate, 3), "error_rate": round(self.error_rate, 6)}
        sizes = {"request_bytes": self.sent, "response_bytes": self.received}
        said = {"protocol": self.protocol} | ({"operation": self.operation} if self.operation else {})
        return {**ends, **said, **counts, **rates, **waited, "rtt_ns": self.rtt.quantile(0.5) or None, **sizes}

    def quantile(self, percent: int) -> int | None:
        """ns; None where nobody waited."""
        return self.durations.quantile(percent / 100) if self.durations.count else None


def take(red: Red, tcp: Tcp | None, started: float) -> Taken:
    """All that was counted up to now. Any thread."""
    rows = tuple(
        Counted(
            *(edge.client_namespace, edge.client, edge.server_namespace, edge.server, edge.protocol, edge.side.value),
            *(what.title, what.code, row.calls, row.errors, row.sent, row.received),
            durations=_named(row.durations),
        )
        for edge in red.edges()
        for what, row in edge.rows().items()
    )
    trips = tuple(
        Trips(pair.client_namespace, pair.client, pair.server_namespace, pair.server, pair.side.value, _named(pair.rtt))
        for pair in (tcp.pairs() if tcp is not None else ())
        if pair.rtt.count
    )
    return Taken(started, time.time(), rows, trips, red.overflowed + red.merged)


def lines(before: Taken, now: Taken, by: By, seconds: float | None = None) -> list[Line]:
    """What happened in between; all that `now` has where it began later. `seconds`: how long it was, where clocks do not tell.

    Where templates have changed meanwhile (`Red` put rows together), operations of that pair begin anew with the next line.
    """
    if before.started != now.started:
        before = Taken(now.started, before.taken or now.started)
    took = now.taken - before.taken if seconds is None else seconds
    rtt = _round_trips(before, now)
    best: dict[tuple[str, ...], tuple[int, Line]] = {}
    for (*who, side), rows in _grown(before, now, by).items():
        found = _line(tuple(who), rows, took, rtt)
        weight = 2 * found.calls + (side == Side.SERVER.value)
        if found.calls and weight > best.get(tuple(who), (0, found))[0]:
            best[tuple(who)] = weight, found
    return [line for _, line in best.values()]


def _grown(before: Taken, now: Taken, by: By) -> dict[tuple[str, ...], list[tuple[Counted, int]]]:
    """(client…, protocol, operation, side) to rows with what they have more than before (1), and what that was (-1)."""
    known, held = {row.who for row in before.rows}, {row.who for row in now.rows}
    moved = {row.edge for row in before.rows if row.who not in held} if by is By.RPC else set[Edge]()
    found: dict[tuple[str, ...], list[tuple[Counted, int]]] = {}
    for rows, sign, others in ((now.rows, 1, known), (before.rows, -1, held)):
        for row in rows:
            if row.edge not in moved or row.who in others:
                operation = row.operation if by is By.RPC else ""
                found.setdefault((*row.edge[:5], operation, row.side), []).append((row, sign))
    return found


def _line(who: tuple[str, ...], rows: Iterable[tuple[Counted, int]], seconds: float, rtt: Mapping[Ends, Histogram]) -> Line:
    calls = errors = sent = received = 0
    counts: dict[int, int] = {}
    for row, sign in rows:
        calls, errors = calls + sign * row.calls, errors + sign * row.errors
        sent, received = sent + sign * row.sent, received + sign * row.received
        _add(counts, row.durations, sign)
    ends = (who[0], who[1], who[2], who[3])
    trips = rtt.get(ends) or Histogram()
    return Line(*ends, who[4], who[5], calls, errors, seconds, histogram(counts), trips, sent, received)


def _round_trips(before: Taken, now: Taken) -> dict[Ends, Histogram]:
    counts: dict[Ends, dict[int, int]] = {}
    for trips, sign in ((now.trips, 1), (before.trips, -1)):
        for one in trips:
            _add(counts.setdefault(one.ends, {}), one.rtt, sign)
    return {ends: histogram(found) for ends, found in counts.items()}


def histogram(counts: Mapping[int, int]) -> Histogram:
    """With these buckets; its extremes are not known."""
    out = Histogram()
    out.counts = {index: count for index, count in counts.items() if count > 0}
    out.count, out.max_ns = sum(out.counts.values()), LONGEST_NS
    return out


def _add(into: dict[int, int], counts: Mapping[str, int], sign: int) -> None:
    for index, count in counts.items():
        into[int(index)] = into.get(int(index), 0) + sign * count


def _named(durations: Histogram) -> Mapping[str, int]:
    return {str(index): count for index, count in durations.counts.copy().items()}
