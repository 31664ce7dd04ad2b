"""View: who called whom between two moments, for `clovisor top`: throughput, errors and latencies by pair or by operation.

`lines` says what happened between two moments (`taken`), and `untold` what of it no line tells apart. A call that was seen at
both ends is told once, by the side that saw more.

How long it was between the two is told by the monotonic clock, which is the machine's: an agent that began anew has the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from clovisor_py.metrics.histogram import LONGEST_NS, Histogram
from clovisor_py.metrics.taken import Counted, Edge, Ends, Taken
from clovisor_py.model.session import Side


class By(str, Enum):
    """What is one line: `l7_link` a pair and its protocol, `l7_rpc` also the operation."""

    LINK = "link"
    RPC = "rpc"


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
    hidden: int = 0
    """Sessions of the pair, in all its operations, of which so much passed unseen that there may be more than `calls`."""

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
        counts = {"calls": self.calls, "errors": self.errors, "hidden": self.hidden, "seconds": round(self.seconds, 3)}
        rates = {"calls_per_s": round(self.rate, 3), "error_rate": round(self.error_rate, 6)}
        sizes = {"request_bytes": self.sent, "response_bytes": self.received}
        said = {"protocol": self.protocol} | ({"operation": self.operation} if self.operation else {})
        return {**ends, **said, **counts, **rates, **waited, "rtt_ns": self.rtt.quantile(0.5) or None, **sizes}

    def quantile(self, percent: int) -> int | None:
        """ns; None where nobody waited."""
        return self.durations.quantile(percent / 100) if self.durations.count else None


def lines(before: Taken, now: Taken, by: By, seconds: float | None = None) -> list[Line]:
    """What happened in between; all that `now` has where it began later. `seconds`: how long it was, where clocks do not tell.

    Where templates have changed meanwhile (`Red` put rows together), operations of that pair begin anew with the next line.
    """
    before = _comparable(before, now)
    took = elapsed(before, now) if seconds is None else seconds
    rtt, hidden = _round_trips(before, now), _hidden(before, now)
    best: dict[tuple[str, ...], tuple[int, Line]] = {}
    for (*who, side), rows in _grown(before, now, by).items():
        cut = hidden.get((*who[:5], side), 0)
        found = _line(tuple(who), rows, took, rtt)._replace(hidden=cut)
        weight = 2 * found.calls + (side == Side.SERVER.value)
        if found.calls and weight > best.get(tuple(who), (0, found))[0]:
            best[tuple(who)] = weight, found
    return [line for _, line in best.values()]


def untold(before: Taken, now: Taken, by: By) -> int:
    """Sessions in between that are told as other: of a pair, or an operation, that found no room."""
    before = _comparable(before, now)
    return now.overflowed - before.overflowed + (now.merged - before.merged if by is By.RPC else 0)


def elapsed(before: Taken, now: Taken) -> float:
    """Seconds in between."""
    return now.clock - before.clock if before.clock and now.clock else now.taken - before.taken


def _comparable(before: Taken, now: Taken) -> Taken:
    """`before`; where `now` began later, as if nothing had been counted then."""
    if before.started == now.started:
        return before
    return Taken(now.started, before.taken or now.started, clock=before.clock)


def _hidden(before: Taken, now: Taken) -> dict[tuple[str, ...], int]:
    known = {one.edge: one.sessions for one in before.hidden}
    return {one.edge: max(one.sessions - known.get(one.edge, 0), 0) for one in now.hidden}


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
