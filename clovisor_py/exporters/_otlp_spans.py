"""Sessions as OTLP's ExportTraceServiceRequests: spans by the workload that tells them, in requests of bounded size.

One Resource a workload: who it is (`service.*`, `k8s.*`) is said once for all of its spans in a request, and not again in
each; with it goes what the operator says of all (`_own_resource`). A span that cannot be encoded (an attribute that a plugin
made of nothing we know) is dropped and counted; it takes nothing else with it.

Specification: https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from clovisor_py import __version__
from clovisor_py.exporters import _bounds, _otlp_attributes
from clovisor_py.exporters._otlp_wire import BYTES, FIXED32, FIXED64, VARINT, sized, tag, varint
from clovisor_py.model.message import AttributeValue
from clovisor_py.model.session import Session, Side
from clovisor_py.model.span import Span
from clovisor_py.model.workload import Workload
from clovisor_py.tracing import identity
from clovisor_py.tracing.spans import span_of

REQUEST_BYTES: Final = 1 << 20
"""Of one request, before compression: what proxies take without being told (nginx), a quarter of a gRPC collector's limit."""
RESOURCES: Final = 2048
"""Workloads whose Resource is remembered, at about 1 kB; beyond it all are forgotten, and it begins anew."""
NAMES: Final = 4096
"""Span names that are remembered, with the same end."""

_RESOURCE_BYTES: Final = 24
"""The headers around a Resource's spans, at most."""
_SCOPE: Final = sized(1, sized(1, b"clovisor") + sized(2, __version__.encode()))
_TRACE_ID: Final = tag(1, BYTES) + varint(16)
_SPAN_ID: Final = tag(2, BYTES) + varint(8)
_PARENT_ID: Final = tag(4, BYTES) + varint(8)
_KINDS: Final = {Side.SERVER: tag(6, VARINT) + varint(2), Side.CLIENT: tag(6, VARINT) + varint(3)}
_TIMES: Final = struct.Struct("<cQcQ")
_START, _END = tag(7, FIXED64), tag(8, FIXED64)
_ERROR: Final = sized(15, tag(3, VARINT) + varint(2))
_FLAGS: Final = (tag(16, FIXED32) + b"\0\0\0\0", tag(16, FIXED32) + b"\1\0\0\0")
"""W3C's `sampled`, not set and set."""
_SPAN: Final = tag(2, BYTES)
_U64: Final = (1 << 64) - 1
_U128: Final = (1 << 128) - 1


@dataclass(frozen=True, slots=True)
class Request:
    """The body of one export call."""

    body: bytes
    spans: int


@dataclass(frozen=True, slots=True, eq=False)
class _Resource:
    """`encoded`: the field of a ResourceSpans; `attributes`: what it says, as a span would; `size` of them, as spans count.

    What is said of all is in no span's attributes, and in neither of these two.
    """

    encoded: bytes
    attributes: Mapping[str, AttributeValue]
    size: int


class Encoder:
    """Sessions to requests; remembers what many of them have in common. `of_all`: what every Resource says, too."""

    def __init__(self, request_bytes: int = REQUEST_BYTES, of_all: Mapping[str, str] = MappingProxyType({})) -> None:
        self._limit = request_bytes
        self._of_all = of_all
        self._attributes = _otlp_attributes.Attributes()
        self._resources: dict[tuple[Workload | None, str], _Resource] = {}
        self._alike: dict[bytes, _Resource] = {}
        """By what is encoded: a workload that was called by another Service has the same Resource."""
        self._names: dict[str, bytes] = {}

    def requests(self, sessions: Sequence[Session]) -> tuple[list[Request], str]:
        """By workload; within one in their order. What cannot be encoded is in none; the text says why of the last one."""
        by_resource: dict[_Resource, list[bytes]] = {}
        fault = ""
        for session in sessions:
            try:
                span = span_of(session)
                resource = self._resource(session, span.service)
                by_resource.setdefault(resource, []).append(self._encode(span, resource))
            except (AttributeError, LookupError, TypeError, ValueError, OverflowError, struct.error) as error:
                fault = f"a {session.protocol} session cannot be told as a span ({type(error).__name__}: {error})."
        return list(self._pack(by_resource)), fault

    def _resource(self, session: Session, service: str) -> _Resource:
        workload = identity.observed(session)
        key = workload, service
        found = self._resources.get(key)
        if found is None:
            if len(self._resources) >= RESOURCES:
                self._resources.clear()
                self._alike.clear()
            made = _resource_of(workload, service, self._of_all)
            found = self._resources[key] = self._alike.setdefault(made.encoded, made)
        return found

    def _encode(self, span: Span, resource: _Resource) -> bytes:
        """A whole `spans` field of a ScopeSpans."""
        start = min(max(span.start_ns, 0), _U64)
        parts = [
            _TRACE_ID,
            (span.trace_id & _U128).to_bytes(16, "big"),
            _SPAN_ID,
            (span.span_id & _U64).to_bytes(8, "big"),
            self._names.get(span.name) or self._name(span.name),
            _KINDS[span.side],
            _TIMES.pack(_START, start, _END, min(start + span.duration_ns, _U64)),
            _FLAGS[span.sampled],
        ]
        if span.trace_state:
            parts.append(sized(3, _bounds.text(span.trace_state, _bounds.TEXT_CHARS).encode()))
        if span.parent_id:
            parts += _PARENT_ID, (span.parent_id & _U64).to_bytes(8, "big")
        if span.error:
            parts.append(_ERROR)
        parts += self._attributes.encode(span.attributes, resource.attributes, resource.size)
        body = b"".join(parts)
        return b"%b%b%b" % (_SPAN, varint(len(body)), body)

    def _name(self, name: str) -> bytes:
        if len(self._names) >= NAMES:
            self._names.clear()
        encoded = self._names[name] = sized(5, _bounds.text(name, _bounds.NAME_CHARS).encode())
        return encoded

    def _pack(self, by_resource: Mapping[_Resource, Sequence[bytes]]) -> Iterator[Request]:
        bodies: list[bytes] = []
        size = count = 0
        for resource, spans in by_resource.items():
            size += len(resource.encoded) + len(_SCOPE) + _RESOURCE_BYTES
            part: list[bytes] = []
            for span in spans:
                if count and size + len(span) > self._limit:
                    yield Request(b"".join([*bodies, _around(resource, part)]), count)
                    bodies, part, count = [], [], 0
                    size = len(resource.encoded) + len(_SCOPE) + _RESOURCE_BYTES
                part.append(span)
                size += len(span)
                count += 1
            bodies.append(_around(resource, part))
        if count:
            yield Request(b"".join(bodies), count)


def _around(resource: _Resource, spans: Sequence[bytes]) -> bytes:
    """A whole `resource_spans` field; nothing where there are no spans."""
    if not spans:
        return b""
    return sized(1, resource.encoded + sized(2, _SCOPE + b"".join(spans)))


def _resource_of(workload: Workload | None, service: str, of_all: Mapping[str, str]) -> _Resource:
    attributes: dict[str, AttributeValue] = {"service.name": _bounds.text(service, _bounds.NAME_CHARS) or _bounds.UNNAMED}
    if workload is not None:
        attributes.update(identity.of_resource(workload))
    attributes = _bounds.clean(attributes)
    encoded = _encoded(attributes)
    size = len(encoded) + _bounds.ATTRIBUTE_BYTES * len(attributes)
    more = _encoded({key: value for key, value in of_all.items() if key not in attributes})
    return _Resource(sized(1, encoded + more), attributes, size)


def _encoded(attributes: Mapping[str, AttributeValue]) -> bytes:
    return b"".join(_otlp_attributes.encode(_otlp_attributes.RESOURCE_FIELD, key, value) for key, value in attributes.items())
