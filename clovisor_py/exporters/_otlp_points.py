"""Points of OTLP's metrics: one number, or one histogram, of one stream at one time; and since when a stream counts.

Every value is cumulative. A point says from when on: a stream that was there from the first push on counts from the agent's
beginning; one that comes later, comes back, or falls (its pod or pair was forgotten meanwhile), from the push before. What was
counted by somebody else, for longer than we know (a pod's CPU time), begins with its first point, which then says by itself
that nothing happened before: so no rate is made of it. So does a stream that took others in: words of a path became LEARNT,
and its value has what they had told already. What came since the push before is in its value then, and in no rate.

Specifications: https://opentelemetry.io/docs/specs/otel/metrics/data-model/ ("Resets and Gaps"),
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import Exemplar

from clovisor_py.exporters import _otlp_attributes
from clovisor_py.exporters._otlp_wire import BYTES, FIXED64, sized, tag, varint

NUMBER_FIELD: Final = 7
"""`attributes` of a NumberDataPoint."""
HISTOGRAM_FIELD: Final = 9
"""`attributes` of a HistogramDataPoint."""
_FILTERED: Final = 7
"""`filtered_attributes` of an Exemplar."""
_IDS: Final = {"span_id": 4, "trace_id": 5}
"""What an exemplar says in hexadecimal, to its field."""
OPERATION: Final = "operation"
"""The label whose value is a template."""
LEARNT: Final = "{name}"
"""What takes the place of words, in a template, when there are too many of them (`metrics.routes.NAME`)."""
_FOREIGN: Final = ("k8s_", "clovisor_pod_oom_", "clovisor_pod_disk_")
"""Beginnings of families that the kernel counts, from the pod's beginning on."""

_TIME: Final = struct.Struct("<cQcQ")
_START, _NOW = tag(2, FIXED64), tag(3, FIXED64)
_NUMBER: Final = struct.Struct("<cd")
_AS_DOUBLE, _SUM = tag(4, FIXED64), tag(5, FIXED64)
_COUNT: Final = struct.Struct("<cQ")
_COUNT_TAG: Final = tag(4, FIXED64)
_COUNTS, _BOUNDS, _EXAMPLE = tag(6, BYTES), tag(7, BYTES), 8
_EXAMPLE_TIME, _EXAMPLE_VALUE = tag(2, FIXED64), tag(3, FIXED64)
_Rest = tuple[str, ...]
"""A family, and values of all labels but OPERATION."""
_POINT: Final = 1
"""`data_points` of a Gauge, a Sum and a Histogram."""


@dataclass(slots=True)
class Buckets:
    """A histogram as Prometheus writes it: each bound with the number of values up to it; `total`: None where none is kept."""

    bounds: list[float] = field(default_factory=list)
    reached: list[float] = field(default_factory=list)
    total: float | None = None
    examples: list[Exemplar] = field(default_factory=list)

    @property
    def count(self) -> float:
        """All values: the last bound is infinite."""
        return self.reached[-1] if self.reached else 0.0

    def each(self) -> list[int]:
        """Values of each bucket alone."""
        return [max(int(upto - before), 0) for before, upto in zip([0.0, *self.reached], self.reached, strict=False)]


class Starts:
    """Since when each stream counts; as large as the last push. Times are ns since the epoch."""

    def __init__(self, began_ns: int) -> None:
        self._last_ns = began_ns
        self._before: dict[tuple[str, bytes], tuple[int, float]] = {}
        self._now: dict[tuple[str, bytes], tuple[int, float]] = {}
        self._asked_before: dict[_Rest, list[str]] = {}
        self._asked_now: dict[_Rest, list[str]] = {}
        """Operations of streams that are alike in all else."""

    def of(self, family: str, labels: Mapping[str, str], attributes: bytes, value: float, now_ns: int) -> int:
        """Of one stream, whose value (or number of values) is this one now; `attributes` are its labels, encoded."""
        key = family, attributes
        known = self._before.get(key)
        took_in = self._takes_in(family, labels)
        if known is not None and value >= known[1]:
            start = known[0]
        else:
            start = now_ns if known is None and (took_in or family.startswith(_FOREIGN)) else self._last_ns
        self._now[key] = min(start, now_ns), value
        return min(start, now_ns)

    def _takes_in(self, family: str, labels: Mapping[str, str]) -> bool:
        """Whether the last push had streams that may be part of this one."""
        operation = labels.get(OPERATION)
        if operation is None:
            return False
        rest = family, *(value for key, value in labels.items() if key != OPERATION)
        self._asked_now.setdefault(rest, []).append(operation)
        return LEARNT in operation and any(_became(before, operation) for before in self._asked_before.get(rest, ()))

    def done(self, now_ns: int) -> None:
        """That was all of this push: a stream that was not in it begins anew, if it comes back."""
        self._before, self._now, self._last_ns = self._now, {}, now_ns
        self._asked_before, self._asked_now = self._asked_now, {}


def _became(before: str, now: str) -> bool:
    """Whether words of the one template are LEARNT in the other, and all else is the same."""
    old, new = before.split("/"), now.split("/")
    same = (there == here or (there == LEARNT and not here.startswith("{")) for here, there in zip(old, new, strict=False))
    return before != now and len(old) == len(new) and all(same)


class Labels:
    """Labels as encoded attributes; most are said many times over, so each is encoded once a push."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str, str], bytes] = {}

    def encode(self, number: int, labels: Iterable[tuple[str, str]]) -> bytes:
        """Fields with this number; an empty label is none, as in Prometheus."""
        return b"".join(self._known.get((number, *pair)) or self._add(number, *pair) for pair in labels if pair[1])

    def _add(self, number: int, key: str, value: str) -> bytes:
        made = self._known[number, key, value] = _otlp_attributes.encode(number, key, value)
        return made


def number(attributes: bytes, start_ns: int, now_ns: int, value: float) -> bytes:
    """A whole `data_points` field. `start_ns` 0: none, as of a gauge."""
    return sized(_POINT, attributes + _TIME.pack(_START, start_ns, _NOW, now_ns) + _NUMBER.pack(_AS_DOUBLE, value))


def histogram(attributes: bytes, start_ns: int, now_ns: int, buckets: Buckets) -> bytes:
    """A whole `data_points` field."""
    counts, bounds = buckets.each(), buckets.bounds[:-1]
    parts = [
        attributes,
        _TIME.pack(_START, start_ns, _NOW, now_ns),
        _COUNT.pack(_COUNT_TAG, sum(counts)),
        b"" if buckets.total is None else _NUMBER.pack(_SUM, buckets.total),
        _packed(_COUNTS, "Q", counts),
        _packed(_BOUNDS, "d", bounds),
        *map(_example, buckets.examples),
    ]
    return sized(_POINT, b"".join(parts))


def _packed(field_tag: bytes, kind: str, values: Sequence[float]) -> bytes:
    data = struct.pack(f"<{len(values)}{kind}", *values)
    return b"%b%b%b" % (field_tag, varint(len(data)), data)


def _example(one: Exemplar) -> bytes:
    labels: Mapping[str, str] = one.labels
    parts = [
        sized(_IDS[key], bytes.fromhex(value)) if key in _IDS else _otlp_attributes.encode(_FILTERED, key, value)
        for key, value in labels.items()
    ]
    if one.timestamp is not None:
        parts.append(_COUNT.pack(_EXAMPLE_TIME, max(int(float(one.timestamp) * 1e9), 0)))
    return sized(_EXAMPLE, b"".join(parts) + _NUMBER.pack(_EXAMPLE_VALUE, one.value))
