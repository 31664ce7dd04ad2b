"""What really happened in the demo: one JSON object a line for every request, written by those who took part.

Each service writes what it served and what it called, the client what it called; comparing that with what Clovisor saw on
the wire is the proof of the demo and of the live tests. A line is one `write` to a file opened for appending, so that
all processes and threads share one file without a lock, and nothing is lost when one is killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict


class Record(TypedDict):
    """One request, as one end saw it."""

    service: str
    """Who writes."""
    side: str
    """`server`: it was served (from its first line read to the response handed to the kernel); `client`: it was called (from
    sending on an open connection to the last byte of the response)."""
    peer: str
    """The service that was called; empty on the server's side, who does not know its caller's name."""
    method: str
    path: str
    status: int
    """HTTP status, 0 where none came."""
    outcome: str
    """`ok` (below 400), `error`, or `failed`: the connection broke."""
    start_ns: int
    """ns since the epoch."""
    duration_ns: int
    trace_id: str
    """32 hex digits, lower case; empty without a trace context."""
    parent_id: str
    """Of the same context, the caller's span: 16 hex digits, lower case; empty where there is none."""
    format: str
    """How the trace context was written: `traceparent`, `b3`, `b3multi`, or empty."""
    request_id: str
    """The client's `x-request-id`, the same in all records that one of its requests led to."""
    family: str
    """`ipv4` or `ipv6`."""


class Truth:
    """The writing end, for one service."""

    def __init__(self, path: str, service: str) -> None:
        self.service = service
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def close(self) -> None:
        os.close(self._fd)

    def write(
        self,
        side: str,
        path: str,
        status: int,
        start_ns: int,
        duration_ns: int,
        headers: Mapping[str, str],
        *,
        family: str,
        peer: str = "",
        method: str = "GET",
    ) -> None:
        """Add a record; `headers` (names in lower case) are the request's."""
        trace_id, parent_id, form = trace_of(headers)
        record = Record(
            service=self.service,
            side=side,
            peer=peer,
            method=method,
            path=path,
            status=status,
            outcome="failed" if not status else "ok" if status < 400 else "error",
            start_ns=start_ns,
            duration_ns=duration_ns,
            trace_id=trace_id,
            parent_id=parent_id,
            format=form,
            request_id=headers.get("x-request-id", ""),
            family=family,
        )
        os.write(self._fd, json.dumps(record, separators=(",", ":")).encode() + b"\n")


def read(path: str | Path) -> list[Record]:
    """All records so far, in the order of their writing; a line that is still being written is left for later."""
    whole, _, _ = Path(path).read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in whole.splitlines()]


def trace_of(headers: Mapping[str, str]) -> tuple[str, str, str]:
    """Trace id and parent id that a request carries, and the format they are written in; three empty strings without any.

    Not the reading that Clovisor does itself, which this has to prove.
    """
    if parent := headers.get("traceparent"):
        _, trace_id, parent_id, _ = parent.lower().split("-")
        return trace_id, parent_id, "traceparent"
    if single := headers.get("b3"):
        trace_id, parent_id = single.lower().split("-")[:2]
        return trace_id.zfill(32), parent_id, "b3"
    if multi := headers.get("x-b3-traceid"):
        return multi.lower().zfill(32), headers.get("x-b3-spanid", "").lower(), "b3multi"
    return "", "", ""
