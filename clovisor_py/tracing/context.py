"""The trace context that an application sent along: read, never written.

One answer for any headers whatsoever: a TraceContext, or None. Half a context is none: an id that is all zeros, of the
wrong length or not hexadecimal makes its header void, and the next format is tried. Precedence, where a request carries
several (a mesh often adds its own): `traceparent` (the W3C standard), `b3` in one header, `b3` in several (the order that
B3's specification asks for), `uber-trace-id`, `sw8`. What was void is named (`void`) and counted (`Contexts`), never raised.

Several comments of one statement may hold several contexts: the last one's counts. Records of one Kafka message that do not
all carry the same have none.

- traceparent: https://www.w3.org/TR/trace-context/ (a later version is read by the fields of version 00, as it asks)
- b3: https://github.com/openzipkin/b3-propagation
- uber-trace-id: https://www.jaegertracing.io/docs/1.76/sdk-migration/#propagation-format
- sw8: https://skywalking.apache.org/docs/main/latest/en/api/x-process-propagation-headers-v3/

SkyWalking's ids are text, not numbers. Its trace id becomes 128 bits and its parent (segment id and span index) 64 bits
by hashing: sessions of one SkyWalking trace meet in one trace here, under an id that SkyWalking does not know. `state`
then holds SkyWalking's own trace id.
"""

from __future__ import annotations

import base64
import binascii
import re
from _blake2 import blake2b  # hashlib has the same and loads OpenSSL, 3.5 MB of memory for nothing
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from clovisor_py.model.session import TraceContext

HEADER_LIMIT: Final = 4096
"""Characters of a header that is looked at; a longer one is void. sw8, the longest, carries an endpoint's name."""
MALFORMED: Final = "clovisor.trace_context.malformed"
"""Attribute of a span: the headers that `void` names."""
STATE_LIMIT: Final = 512
"""Characters of tracestate that are kept, in whole entries: what W3C asks everybody to hand on at least."""
REMEMBERED: Final = 1024
"""Values of traceparent whose context is kept: the same one passes every veth of a call, and every hop that forwards it."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_B3 = re.compile(r"([0-9a-fA-F]{32}|[0-9a-fA-F]{16})-([0-9a-fA-F]{16})(?:-([01d])(?:-[0-9a-fA-F]{16})?)?")
_B3_TRACE = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{16}")
_B3_SPAN = re.compile(r"[0-9a-fA-F]{16}")
_UBER = re.compile(r"([0-9a-fA-F]{1,32}):([0-9a-fA-F]{1,16}):[0-9a-fA-F]{0,16}:([0-9a-fA-F]{1,2})")
_SW8_FIELDS: Final = 8

_SAMPLED: Final = {"1": True, "true": True, "d": True, "0": False, "false": False}
"""B3's words for the sampling decision: `d` is debug, true and false come from old senders."""


class Contexts:
    """Reads the contexts of sessions, and counts by format what became of them."""

    __slots__ = ("found", "malformed")

    def __init__(self) -> None:
        self.found = dict.fromkeys((form.format for form in _FORMATS), 0)
        """Contexts that were read."""
        self.malformed: dict[str, int] = {}
        """Headers that should have held one and did not, as `void` names them."""

    def read(self, propagation: Mapping[str, str]) -> TraceContext | None:
        """As the function of that name."""
        context = read(propagation)
        if context is not None:
            self.found[context.format] += 1
        for name in void(propagation, context):
            self.malformed[name] = self.malformed.get(name, 0) + 1
        return context


def read(propagation: Mapping[str, str]) -> TraceContext | None:
    """The context in these headers (lower-case name to value), or None."""
    if (context := _traceparent(propagation)) is not None:
        return context
    for form in _FORMATS[1:]:
        context = form.reader(propagation)
        if context is not None:
            return context
    return None


def void(propagation: Mapping[str, str], context: TraceContext | None) -> tuple[str, ...]:
    """Headers that should have held a context and did not; `context` is what was read of all of them.

    What stands behind the one that was read is not looked at. A `b3` that only says whether to sample is not void.
    """
    if context is not None and context.format == _FIRST:
        return ()
    found = []
    for form in _FORMATS:
        if form.name in propagation:
            if context is not None and form.format == context.format and form.reader(propagation) is not None:
                break
            if form.name != "b3" or propagation["b3"].strip() not in _SAMPLED:
                found.append(form.name)
    return tuple(found)


def decision(propagation: Mapping[str, str]) -> bool | None:
    """Whether the application says that this is to be sampled, where it says so without a context (`b3: 0`)."""
    if "b3" in propagation:
        return _SAMPLED.get(propagation["b3"].strip())
    if propagation.get("x-b3-flags") == "1":
        return True
    return _SAMPLED.get(propagation.get("x-b3-sampled", "").strip().lower())


def _traceparent(headers: Mapping[str, str]) -> TraceContext | None:
    value = headers.get("traceparent")
    if value is None:
        return None
    state = headers.get("tracestate", "")
    if len(value) > _TRACEPARENT_CHARS or len(state) > STATE_LIMIT:
        return _w3c(_value(headers, "traceparent"), state)
    return _known_w3c(value, state)


def _w3c(value: str, state: str) -> TraceContext | None:
    match = _TRACEPARENT.fullmatch(value.strip(" \t"))
    if match is None:
        return None
    version, trace, parent, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    return _context(trace, parent, _FIRST, bool(int(flags, 16) & 1), _state(state.strip()))


_TRACEPARENT_CHARS: Final = 64
"""Of a value that is remembered: version 00 has 55."""
_FIRST: Final = "traceparent"
_known_w3c = lru_cache(REMEMBERED)(_w3c)


def _b3_single(headers: Mapping[str, str]) -> TraceContext | None:
    match = _B3.fullmatch(_value(headers, "b3"))
    if match is None:
        return None
    trace, span, sampled = match.groups()
    return _context(trace, span, "b3", _SAMPLED.get(sampled or ""))


def _b3_multi(headers: Mapping[str, str]) -> TraceContext | None:
    trace, span = _value(headers, "x-b3-traceid"), _value(headers, "x-b3-spanid")
    if not (_B3_TRACE.fullmatch(trace) and _B3_SPAN.fullmatch(span)):
        return None
    if _value(headers, "x-b3-flags") == "1":  # debug implies a decision to sample
        return _context(trace, span, "b3", True)
    return _context(trace, span, "b3", _SAMPLED.get(_value(headers, "x-b3-sampled").lower()))


def _uber(headers: Mapping[str, str]) -> TraceContext | None:
    value = _value(headers, "uber-trace-id").replace("%3A", ":").replace("%3a", ":")  # some clients encode it as in a URL
    match = _UBER.fullmatch(value)
    if match is None:
        return None
    trace, span, flags = match.groups()
    return _context(trace, span, "uber-trace-id", bool(int(flags, 16) & 1))


def _sw8(headers: Mapping[str, str]) -> TraceContext | None:
    fields = _value(headers, "sw8").split("-")
    if len(fields) != _SW8_FIELDS or fields[0] not in ("0", "1"):
        return None
    sample, index = fields[0], fields[3]
    trace, segment = _text(fields[1]), _text(fields[2])
    if not (trace and segment and index.isascii() and index.isdigit()):
        return None
    return TraceContext(
        trace_id=_hash(trace, 16),
        parent_id=_hash(f"{segment}:{int(index)}", 8),
        format="sw8",
        sampled=sample == "1",
        state=trace[:STATE_LIMIT],
    )


class _Format(NamedTuple):
    """A way to write a context. `name`: the header without which there is none."""

    name: str
    format: str
    reader: Callable[[Mapping[str, str]], TraceContext | None]


_FORMATS: Final = (
    _Format("traceparent", _FIRST, _traceparent),
    _Format("b3", "b3", _b3_single),
    _Format("x-b3-traceid", "b3", _b3_multi),
    _Format("uber-trace-id", "uber-trace-id", _uber),
    _Format("sw8", "sw8", _sw8),
)
"""In order of precedence."""


def _value(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    return value.strip(" \t") if len(value) <= HEADER_LIMIT else ""


def _context(trace: str, parent: str, form: str, sampled: bool | None, state: str = "") -> TraceContext | None:
    trace_id, parent_id = int(trace, 16), int(parent, 16)
    if not (trace_id and parent_id):
        return None
    return TraceContext(trace_id, parent_id, form, sampled, state)


def _state(text: str) -> str:
    return text if len(text) <= STATE_LIMIT else text[: STATE_LIMIT + 1].rpartition(",")[0]


def _text(field: str) -> str:
    try:
        return base64.b64decode(field, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _hash(text: str, size: int) -> int:
    digest = blake2b(text.encode(), digest_size=size, person=b"clovisor.sw8").digest()
    return int.from_bytes(digest, "big") or 1
