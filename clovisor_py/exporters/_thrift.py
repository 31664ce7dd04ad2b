"""Spans as jaeger-client's: from our Span to datagrams of bounded size.

What is jaeger-client's: the Tracer of each service, its Span and SpanContext, their conversion (`jaeger_client.thrift`) and
the generated types. What is not: its Reporter, which queues 100 spans on a Tornado loop and drops the rest without a word,
cuts batches by number of spans, and loses those whose datagram gets too long. `_Collected` takes its place, which is what a
reporter is for: finished spans stay in a list until this module encodes them (`_compact`). No loop, no thread.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from clovisor_py.exporters import _compact  # first: it imports jaeger_client without its deprecation warnings
from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Side
from clovisor_py.model.span import Span

import jaeger_client  # isort: skip
from jaeger_client import thrift  # isort: skip
from jaeger_client.thrift_gen.jaeger import ttypes  # isort: skip

DATAGRAM_BYTES: Final = 65_000
"""What a Jaeger agent reads at most (its `max-packet-size`), 507 short of what UDP carries."""
SERVICES: Final = 512
"""Tracers kept; the one not used for longest makes room, and is made again (50 µs) when it comes back."""
NAME_CHARS: Final = 256
"""Of a service's, a span's or an attribute's name."""
TEXT_CHARS: Final = 4096
"""Of an attribute: room for an SQL statement. What is longer ends with `…`."""
ATTRIBUTES_BYTES: Final = 32_768
"""Of all attributes of a span: half a datagram. Those beyond are left out, and `clovisor.attributes_dropped` says how many."""
ATTRIBUTE_BYTES: Final = 20
"""What an attribute takes besides its name and text: Thrift's headers, or a number."""
LONG: Final = 1 << 63
HALF_MICROSECOND: Final = 0.5e-6
"""Added to float seconds, which jaeger-client truncates to µs: so rounding never takes one away."""
UNNAMED: Final = "unknown"
_SAMPLED: Final = 1


@dataclass(frozen=True, slots=True)
class Datagram:
    """`spans` spans of one service, ready for the socket."""

    data: bytes
    spans: int


class Encoder:
    """Spans to datagrams; `tags` describe this process, as jaeger-client's `hostname` and `ip` do."""

    def __init__(self, tags: Mapping[str, str], datagram_bytes: int = DATAGRAM_BYTES) -> None:
        self._tags = dict(tags)
        self._limit = datagram_bytes
        self._tracers: OrderedDict[str, jaeger_client.Tracer] = OrderedDict()

    def datagrams(self, spans: Iterable[Span]) -> Iterator[Datagram]:
        """The spans by service; within a service in their order, as many to a datagram as go in."""
        services: dict[str, list[Span]] = {}
        for span in spans:
            services.setdefault(_text(span.service, NAME_CHARS) or UNNAMED, []).append(span)
        for service, members in services.items():
            tracer = self._tracer(service)
            for span in members:
                _finish(tracer, span)
            yield from self._pack(tracer.reporter)

    def _tracer(self, service: str) -> jaeger_client.Tracer:
        tracer = self._tracers.pop(service, None)
        if tracer is None:
            tracer = jaeger_client.Tracer(service, _Collected(), jaeger_client.ConstSampler(True), tags=self._tags)
            if len(self._tracers) >= SERVICES:
                self._tracers.popitem(last=False)
        self._tracers[service] = tracer
        return tracer

    def _pack(self, collected: _Collected) -> Iterator[Datagram]:
        room = self._limit - len(collected.beginning) - _compact.LIST_HEADER_BYTES - len(_compact.END)
        part: list[bytes] = []
        size = 0
        for encoded in collected.take():
            if part and size + len(encoded) > room:
                yield Datagram(_compact.message(collected.beginning, part), len(part))
                part, size = [], 0
            part.append(encoded)
            size += len(encoded)
        if part:
            yield Datagram(_compact.message(collected.beginning, part), len(part))


class _Collected:
    """A jaeger-client reporter (by shape) that keeps finished spans until they are taken."""

    def __init__(self) -> None:
        self.beginning = b""
        self._process: ttypes.Process = None
        self._spans: list[jaeger_client.Span] = []

    def set_process(self, service_name: str, tags: Mapping[str, str], max_length: int) -> None:
        """Called by the Tracer with what its spans have in common."""
        self._process = thrift.make_process(service_name, tags, max_length)
        self.beginning = _compact.beginning(self._process)

    def report_span(self, span: jaeger_client.Span) -> None:
        """Called by `Span.finish`."""
        self._spans.append(span)

    def take(self) -> list[bytes]:
        """The spans so far, encoded."""
        spans, self._spans = self._spans, []
        return [_compact.encode(span) for span in thrift.make_jaeger_batch(spans, self._process).spans]


def _finish(tracer: jaeger_client.Tracer, span: Span) -> None:
    """Make it a span of jaeger-client's, with our ids, times and tags."""
    context = jaeger_client.SpanContext(span.trace_id, span.span_id, span.parent_id, _SAMPLED)
    start = span.start_ns // 1000 / 1e6 + HALF_MICROSECOND
    theirs = jaeger_client.Span(context, tracer, _text(span.name, NAME_CHARS), start_time=start)
    theirs.tags.extend(thrift.make_tags(_tags(span), TEXT_CHARS, TEXT_CHARS))
    theirs.finish(start + span.duration_ns // 1000 / 1e6 + HALF_MICROSECOND)


def _tags(span: Span) -> dict[str, AttributeValue]:
    tags = _clean(span.attributes)
    tags["span.kind"] = "client" if span.side is Side.CLIENT else "server"
    if span.error:
        tags["error"] = True
    return tags


def _clean(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Only what Thrift and Jaeger's JSON can say, within ATTRIBUTES_BYTES."""
    out: dict[str, AttributeValue] = {}
    room = ATTRIBUTES_BYTES
    for key, value in attributes.items():
        name, said = _text(key, NAME_CHARS), _value(value)
        size = ATTRIBUTE_BYTES + _bytes(name) + (_bytes(said) if isinstance(said, str) else 0)
        if size <= room and name not in out:
            out[name] = said
            room -= size
    if len(out) < len(attributes):
        out["clovisor.attributes_dropped"] = len(attributes) - len(out)
    return out


def _value(value: AttributeValue) -> AttributeValue:
    if isinstance(value, str):
        return _text(value, TEXT_CHARS)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -LONG <= value < LONG else _text(hex(value), TEXT_CHARS)  # str() refuses thousands of digits
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no such number: Jaeger could not show the trace
    return _text(json.dumps(value, default=str), TEXT_CHARS)  # as Jaeger shows a list that came by OTLP


def _text(text: str, limit: int) -> str:
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()  # a lone surrogate is no UTF-8


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
