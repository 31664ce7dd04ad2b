"""What a client did, noted by itself, held against the sessions that Clovisor showed of it.

Each connection is compared by itself: its calls in their order are its sessions in theirs, no one missing, no one twice. Who
a connection is, the client knows best: the port that it calls from, or a name that it gives itself. Times are the client's
own, around the call in its code: the difference to the session's is what its library and the scheduler took.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from difflib import unified_diff
from typing import Any, Final

OUTLIER_NS: Final = 1_000_000
MOST: Final = 12
"""Differences that are shown: one shifts all that follow."""
BEFORE_NS: Final = 20_000_000
"""By how much a session may seem to begin before the test: the kernel's clock is not the one that the test reads."""
FEW: Final = 20
SETTLE_S: Final = 0.4
"""After the last one that was waited for: sessions that there should not be come within a tick or two."""

Json = dict[str, Any]


@dataclass(slots=True)
class Call:
    """One call; what is None is not compared. `who` is the connection."""

    who: Hashable
    operation: str
    resource: str | None
    status: str | None
    outcome: str | None = "ok"
    request_bytes: int | None = None
    response_bytes: int | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    start_ns: int = 0
    """Since the epoch; 0: nobody noted it."""
    duration_ns: int = 0
    """0: nobody measured it."""


class Truth:
    """The calls of one test."""

    def __init__(self, began_ns: int | None = None) -> None:
        self.calls: list[Call] = []
        self.began_ns = time.time_ns() if began_ns is None else began_ns
        """Since the epoch; sessions that are older are none of this test's."""

    def note(self, who: Hashable, operation: str, resource: str | None = "", status: str | None = "ok", **more: Any) -> Call:
        """A call whose duration nobody knows: one of a pipeline, or what a library does by itself."""
        noted = Call(who, operation, resource, status, **more)
        self.calls.append(noted)
        return noted

    @contextmanager
    def call(
        self, who: Hashable, operation: str, resource: str | None = "", status: str | None = "ok", **more: Any
    ) -> Iterator[Call]:
        """The call that is made in the block, and how long that took."""
        noted = self.note(who, operation, resource, status, **more)
        noted.start_ns, began = time.time_ns(), time.perf_counter_ns()
        yield noted
        noted.duration_ns = time.perf_counter_ns() - began

    @property
    def connections(self) -> set[Hashable]:
        return {call.who for call in self.calls}


def port(session: Json) -> Hashable:
    """Who, by the client's port."""
    number: int = session["client"]["port"]
    return number


@dataclass
class Comparison:
    """`wrong` has a sentence for each difference; the times are differences to the client's own, in ns."""

    made: int = 0
    seen: int = 0
    wrong: list[str] = field(default_factory=list)
    differences: list[int] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)
    """From the client's start to the first byte that passed."""
    outliers: list[str] = field(default_factory=list)

    @property
    def median_ns(self) -> float:
        return statistics.median(map(abs, self.differences)) if self.differences else 0.0

    def __str__(self) -> str:
        timed = f"{len(self.differences)} timed, median difference {self.median_ns / 1e6:.3f} ms"
        outliers = f"{len(self.outliers)} outliers over 1 ms{': ' if self.outliers else ''}{'; '.join(self.outliers)}"
        return f"{self.seen} sessions of {self.made} calls; {timed}; {outliers}"

    def check(self) -> None:
        """Nothing is missing, twice, or different."""
        assert not self.wrong, f"{self}\n" + "\n".join(self.wrong[:MOST])

    def check_times(self) -> None:
        """The usual difference is small. Of few calls a busy machine makes anything: ask it of all of a file together."""
        assert len(self.differences) >= FEW, str(self)
        assert self.median_ns < OUTLIER_NS, str(self)
        assert abs(statistics.median(self.delays or [0])) < OUTLIER_NS, f"the starts differ: {self.delays}"

    def add(self, other: Comparison) -> None:
        """That one's, too."""
        self.made += other.made
        self.seen += other.seen
        self.wrong += other.wrong
        self.differences += other.differences
        self.delays += other.delays
        self.outliers += other.outliers


def compare(truth: Truth, sessions: Sequence[Json], who: Callable[[Json], Hashable] = port) -> Comparison:
    """Of the connections of `truth` only; sessions of others are none of its business."""
    made: dict[Hashable, list[Call]] = defaultdict(list)
    seen: dict[Hashable, list[Json]] = defaultdict(list)
    for call in truth.calls:
        made[call.who].append(call)
    for session in sorted(sessions, key=lambda session: nanoseconds(session["start"])):
        seen[who(session)].append(session)
    result = Comparison()
    for connection, calls in made.items():
        result.made += len(calls)
        result.seen += len(seen[connection])
        _compare_one(calls, seen[connection], result)
    return result


def _compare_one(calls: Sequence[Call], sessions: Sequence[Json], result: Comparison) -> None:
    if len(calls) != len(sessions):  # what is behind the first that is missing or extra says nothing
        made = [f"{call.operation} {call.resource} {call.status}" for call in calls]
        seen = [f"{session['operation']} {session['resource']} {session['status']}" for session in sessions]
        result.wrong.append(f"{len(calls)} calls, {len(sessions)} sessions of {calls[0].who}:")
        result.wrong += unified_diff(made, seen, "calls", "sessions", n=2, lineterm="")
        return
    for call, session in zip(calls, sessions, strict=True):
        wrong = list(_differences(call, session))
        result.wrong += [f"{call.who} {call.operation} {call.resource}: {text}" for text in wrong]
        if call.duration_ns and not wrong:
            _time(call, session, result)


def _differences(call: Call, session: Json) -> Iterator[str]:
    request, response = session["request"] or {}, session["response"] or {}
    told = {
        "operation": (call.operation, session["operation"]),
        "resource": (call.resource, session["resource"]),
        "status": (call.status, session["status"]),
        "outcome": (call.outcome, session["outcome"]),
        "request.bytes": (call.request_bytes, request.get("bytes")),
        "response.bytes": (call.response_bytes, response.get("bytes")),
        **{name: (value, session["attributes"].get(name)) for name, value in call.attributes.items()},
    }
    for name, (wanted, seen) in told.items():
        if wanted is not None and wanted != seen:
            yield f"{name} is {seen!r}, not {wanted!r}; attributes {session['attributes']}"


def _time(call: Call, session: Json, result: Comparison) -> None:
    difference = session["duration_ns"] - call.duration_ns
    result.differences.append(difference)
    if call.start_ns:
        result.delays.append(nanoseconds(session["start"]) - call.start_ns)
    if abs(difference) > OUTLIER_NS:
        took = f"{call.duration_ns / 1e6:.2f} ms for the client"
        result.outliers.append(f"{call.operation} {call.resource} {difference / 1e6:+.2f} ms ({took})")


def nanoseconds(text: str) -> int:
    """`2026-01-02T03:04:05.000000006Z` as ns since the epoch."""
    second, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{second}+00:00").timestamp()) * 1_000_000_000 + int(fraction)


def settled(sessions: Callable[[], Sequence[Json]], truth: Truth, who: Callable[[Json], Hashable] = port) -> list[Json]:
    """The sessions of the truth's connections, when there are enough of them or no more come within the usual patience."""
    deadline = time.monotonic() + PATIENCE_S
    while len(_of(truth, sessions(), who)) < len(truth.calls) and time.monotonic() <= deadline:
        time.sleep(0.1)
    time.sleep(SETTLE_S)
    return _of(truth, sessions(), who)


def _of(truth: Truth, sessions: Sequence[Json], who: Callable[[Json], Hashable]) -> list[Json]:
    """Not those of somebody who had the same port before: a fixture that asked whether the server was up, mostly."""
    connections, since_ns = truth.connections, truth.began_ns - BEFORE_NS
    return [session for session in sessions if who(session) in connections and nanoseconds(session["start"]) >= since_ns]


PATIENCE_S: Final = 5.0
"""For sessions of calls that have ended: exporters wait for a fraction of a second, and the machine may be busy."""
