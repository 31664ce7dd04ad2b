"""Spans as jaeger-client's: from our Span to datagrams of bounded size.

What is jaeger-client's: the Tracer of each service, its Span and SpanContext, their conversion (`jaeger_client.thrift`) and
the generated types. What is not: its Reporter, which queues 100 spans on a Tornado loop and drops the rest without a word,
cuts batches by number of spans, and loses those whose datagram gets too long. `_Collected` takes its place, which is what a
reporter is for: it encodes finished spans (`_compact`) and keeps them until this module takes them. No loop, no thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from clovisor_py.exporters import _bounds, _compact  # first: it imports jaeger_client without its deprecation warnings
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
HALF_MICROSECOND: Final = 0.5e-6
"""Added to float seconds, which jaeger-client truncates to µs: so rounding never takes one away."""
TRACE_STATE: Final = "w3c.tracestate"
"""As Jaeger calls the tracestate that comes by OTLP."""
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

    def datagrams(self, spans: Iterable[Span]) -> tuple[list[Datagram], str]:
        """By service; within one in their order, as many to a datagram as go in. What cannot be encoded is in none; the text
        says why of the last one.
        """
        used: dict[str, jaeger_client.Tracer] = {}
        fault = ""
        for span in spans:
            try:
                service = _bounds.text(span.service, _bounds.NAME_CHARS) or _bounds.UNNAMED
                tracer = used.get(service) or used.setdefault(service, self._tracer(service))
                _finish(tracer, span)
            except Exception as error:  # noqa: BLE001 (whatever a plugin made of it: counted, said, and the others go)
                fault = f"a session cannot be told as a span ({type(error).__name__}: {error})."
        return [datagram for tracer in used.values() for datagram in self._pack(tracer.reporter)], fault

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
    """A jaeger-client reporter (by shape) that keeps finished spans, encoded, until they are taken."""

    def __init__(self) -> None:
        self.beginning = b""
        self._process: ttypes.Process = None
        self._spans: list[bytes] = []

    def set_process(self, service_name: str, tags: Mapping[str, str], max_length: int) -> None:
        """Called by the Tracer with what its spans have in common."""
        self._process = thrift.make_process(service_name, tags, max_length)
        self.beginning = _compact.beginning(self._process)

    def report_span(self, span: jaeger_client.Span) -> None:
        """Called by `Span.finish`. Encoded at once: one that cannot be leaves nothing behind."""
        [theirs] = thrift.make_jaeger_batch([span], self._process).spans
        self._spans.append(_compact.encode(theirs))

    def take(self) -> list[bytes]:
        """The spans so far."""
        spans, self._spans = self._spans, []
        return spans


def _finish(tracer: jaeger_client.Tracer, span: Span) -> None:
    """Make it a span of jaeger-client's, with our ids, times and tags."""
    context = jaeger_client.SpanContext(span.trace_id, span.span_id, span.parent_id, _SAMPLED)
    start = _within(span.start_ns) // 1000 / 1e6 + HALF_MICROSECOND
    theirs = jaeger_client.Span(context, tracer, _bounds.text(span.name, _bounds.NAME_CHARS), start_time=start)
    theirs.tags.extend(thrift.make_tags(_tags(span), _bounds.TEXT_CHARS, _bounds.TEXT_CHARS))
    theirs.finish(start + _within(span.duration_ns) // 1000 / 1e6 + HALF_MICROSECOND)


def _within(time_ns: int) -> int:
    """What a collector can keep: ns of 63 bits, until the year 2262. A capture file may say anything."""
    return min(max(time_ns, 0), _bounds.LONG - 1)


def _tags(span: Span) -> dict[str, AttributeValue]:
    tags: dict[str, AttributeValue] = {}
    for key, value in _bounds.clean(span.attributes).items():
        tags[key] = _bounds.list_text(value) if isinstance(value, list) else value
    tags["span.kind"] = "client" if span.side is Side.CLIENT else "server"
    if span.error:
        tags["error"] = True
    if span.trace_state:
        tags[TRACE_STATE] = _bounds.text(span.trace_state, _bounds.TEXT_CHARS)
    return tags
