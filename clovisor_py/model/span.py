"""Span: a session in its exported form, the same for every tracing exporter."""

from __future__ import annotations

from dataclasses import dataclass, field

from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Side


@dataclass(slots=True)
class Span:
    """Ids are positive integers (trace 128 bit, span 64 bit); `parent_id` 0 is a root. Times: ns since the epoch."""

    service: str
    name: str
    side: Side
    trace_id: int
    span_id: int
    parent_id: int
    start_ns: int
    duration_ns: int
    error: bool
    sampled: bool = True
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    trace_state: str = ""
    """The tracestate that came with the context, as it was written: for exporters that hand it on."""
