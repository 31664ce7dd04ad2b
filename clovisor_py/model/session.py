"""Session: a request paired with its response, which is what a user wants to see.

`as_dict` is the JSON of DESIGN ("Session as JSON"), the contract of `-o json`, `replay` and the jsonl exporter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone, tzinfo
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from clovisor_py.model.message import AttributeValue
from clovisor_py.model.workload import Endpoint, Workload

END: Final = "clovisor.end"
"""Attribute: why Clovisor, not the application, ended the session."""
FIRST_S: Final = -30_610_137_600
"""The second day of the year 1000: in any zone of the world, that year has four digits."""
LAST_S: Final = 253_402_214_400
"""The last day of the year 9999, likewise."""


class Side(str, Enum):
    """Where the session was observed: leaving a traced pod (client) or entering one (server)."""

    CLIENT = "client"
    SERVER = "server"


class Outcome(str, Enum):
    """How the session ended."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    RESET = "reset"
    CLOSED = "closed"
    ONE_WAY = "one_way"


BROKEN: Final = (Outcome.TIMEOUT, Outcome.RESET, Outcome.CLOSED)
"""There is no whole answer."""


class Part(NamedTuple):
    """The request or the response: when its first byte passed, and its bytes on the wire. A tuple: two are made a session."""

    time_ns: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TraceContext:
    """What the application itself said of its trace. `parent_id` is the caller's span; ids are positive integers."""

    trace_id: int
    parent_id: int
    format: str
    sampled: bool | None = None
    state: str = ""


class Ids(NamedTuple):
    """The ids of a session that `tracing.ids` makes: its trace's, where it has no context, and its spans' at both ends."""

    trace: int
    client: int
    server: int


@dataclass(slots=True)
class Session:
    """One finished session. Times are ns since the epoch, durations ns, sizes bytes on the wire."""

    protocol: str
    side: Side
    interface: int
    start_ns: int
    duration_ns: int
    ttfb_ns: int | None
    client: Endpoint
    server: Endpoint
    operation: str
    resource: str
    status: str
    outcome: Outcome
    request: Part | None
    response: Part | None
    truncated: bool = False
    gap_bytes: int = 0
    mid_stream: bool = False
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    propagation: dict[str, str] = field(default_factory=dict)
    seq: int = 0
    head: bytes = b""
    transport: str = "tcp"
    cgroup_id: int = 0
    """Of the traced pod's own end: the sending container's cgroup; 0 where it was not to be had."""
    client_workload: Workload | None = None
    server_workload: Workload | None = None
    trace: TraceContext | None = None
    connection: bool = False
    """A whole connection, of which nothing but its shape could be read; its duration is its life."""
    peer_traced: bool = False
    """The other end's pod is traced too, by this agent or that of its node: the call has a span of the other side."""
    peer_kept: bool = True
    """That span becomes one: it is not sampled away by the ratio of the other end's pod."""
    caller_span: int = 0
    """Of a session that left a pod: the span of the request there for which it was made; 0 where nobody knows of one."""
    unlinked: str = ""
    """Of a session that left a pod with a context: why no request there is its parent."""
    pod_lost: int = 0
    """Segments of the traced pod that the kernel lost around that time, as far as it was known when the session was told."""
    ids: Ids | None = None
    """Where `head` was left behind on purpose: the ids that had been made with it."""

    @property
    def failed(self) -> bool:
        """Whether RED counts it among the errors."""
        return self.outcome not in (Outcome.OK, Outcome.ONE_WAY) and not self.still_open

    @property
    def word(self) -> str:
        """How it went: its status; where it was broken off that, unless a whole connection was, whose status says more."""
        if self.outcome in BROKEN and not (self.connection and self.status):
            return str(self.outcome.value)
        return self.status or ("" if self.outcome is Outcome.ONE_WAY else str(self.outcome.value))

    @property
    def still_open(self) -> bool:
        """Clovisor ended it, not the application: nobody knows how it would have ended."""
        return END in self.attributes

    def as_dict(self) -> dict[str, Any]:
        """The documented JSON object."""
        return {
            "protocol": self.protocol,
            "side": self.side.value,
            "start": rfc3339(self.start_ns),
            "duration_ns": self.duration_ns,
            "ttfb_ns": self.ttfb_ns,
            "client": _end(self.client, self.client_workload),
            "server": _end(self.server, self.server_workload),
            "operation": self.operation,
            "resource": self.resource,
            "status": self.status,
            "outcome": self.outcome.value,
            "request": _part(self.request),
            "response": _part(self.response),
            "trace": _trace(self.trace),
            "capture": {"truncated": self.truncated, "gap_bytes": self.gap_bytes, "mid_stream": self.mid_stream},
            "attributes": self.attributes,
        }


def rfc3339(time_ns: int) -> str:
    """UTC with nanoseconds: `2026-01-02T03:04:05.000000006Z`. The year has four digits, whatever a capture file says."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return f"{_second(seconds)}.{nanos:09d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    """Remembered, because formatting it costs 2 µs, and thousands of sessions share one."""
    return f"{moment(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}"


def moment(seconds: int, tz: tzinfo | None) -> datetime:
    """Seconds since the epoch in that zone (None: the machine's own); the nearest that is told in it, where none is."""
    return datetime.fromtimestamp(min(max(seconds, FIRST_S), LAST_S), tz)


def _end(end: Endpoint, workload: Workload | None) -> dict[str, Any]:
    out: dict[str, Any] = {"ip": end.ip, "port": end.port}
    if workload is not None:
        out["workload"] = workload.as_dict()
    return out


def _part(part: Part | None) -> dict[str, Any] | None:
    return None if part is None else {"time": rfc3339(part.time_ns), "bytes": part.bytes}


def _trace(trace: TraceContext | None) -> dict[str, Any] | None:
    if trace is None:
        return None
    return {"trace_id": f"{trace.trace_id:032x}", "parent_id": f"{trace.parent_id:016x}", "format": trace.format}
