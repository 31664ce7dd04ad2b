"""The families of `/metrics` as OTLP's ExportMetricsServiceRequests, of bounded size.

They are read from the very collector that Prometheus reads, so both say the same. Names are OpenTelemetry's: dots, and the unit
apart (`http.server.request.duration` in `s`); a collector that writes them to Prometheus arrives at those of `/metrics` again.
Attributes are OpenTelemetry's where it has some (`metrics._conventions`): of durations beside ours, which are what all families
share; of what is said of a pod or a process, instead of them.

One Resource: the agent, on its node; who called whom stays in attributes, called as the labels are. Not a Resource a workload:
a series is about a pair of them as seen from one node, and OpenTelemetry wants one writer for each stream. Two agents that see
a replica each of one workload would write the same stream otherwise, each with its own counts.

Specification: https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/metrics/v1/metrics.proto
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from prometheus_client.core import Metric

from clovisor_py import __version__
from clovisor_py.exporters import _otlp_attributes, _otlp_points
from clovisor_py.exporters._otlp_points import HISTOGRAM_FIELD, NUMBER_FIELD, Buckets, Labels, Starts
from clovisor_py.exporters._otlp_spans import REQUEST_BYTES
from clovisor_py.exporters._otlp_wire import VARINT, sized, tag, varint

UNITS: Final = (("_seconds", "s"), ("_bytes", "By"), ("_ratio", "1"))
"""Endings of Prometheus' names, and the units that they stand for; a collector makes the ones of the others."""
DOTTED: Final = frozenset({"http", "rpc", "db", "messaging", "dns", "k8s"})
"""Beginnings of OpenTelemetry's own names, which have dots throughout; of ours only the first word is a namespace."""
WORDS: Final = {"working.set": "working_set"}
"""Two words that are one part of a name."""
POD: Final = "k8s_"
"""Beginning of families whose labels OpenTelemetry knows, every one: they are called as there, and only so."""
CALLED: Final = {"namespace": "k8s.namespace.name", "pod": "k8s.pod.name", "direction": "network.io.direction"}
"""Labels of these."""

_SCOPE: Final = sized(1, sized(1, b"clovisor") + sized(2, __version__.encode()))
_CUMULATIVE: Final = tag(2, VARINT) + varint(2)
_MONOTONIC: Final = tag(3, VARINT) + varint(1)
_KINDS: Final = {"counter": (7, _CUMULATIVE + _MONOTONIC), "histogram": (9, _CUMULATIVE)}
"""Prometheus' type to the field of a Metric that holds its points, and what follows them."""
_GAUGE: Final = (5, b"")
_AROUND_BYTES: Final = 24
"""The headers around a family's points, at most; and those around all families."""


class Request(NamedTuple):
    """The body of one export call, and the points in it."""

    body: bytes
    points: int


@dataclass(frozen=True, slots=True)
class _Family:
    """`head`: name, description, unit; `points`: whole fields."""

    head: bytes
    kind: tuple[int, bytes]
    points: Sequence[bytes]

    @property
    def overhead(self) -> int:
        return len(self.head) + len(self.kind[1]) + _AROUND_BYTES

    def around(self, points: Sequence[bytes]) -> bytes:
        """A whole `metrics` field of a ScopeMetrics; nothing where there are no points."""
        number, tail = self.kind
        return sized(2, self.head + sized(number, b"".join(points) + tail)) if points else b""


class MetricsEncoder:
    """`resource`: attributes of who tells it; `began_ns`: since when it counts, ns since the epoch. For one thread."""

    def __init__(self, resource: Mapping[str, str], began_ns: int, request_bytes: int = REQUEST_BYTES) -> None:
        encode, field = _otlp_attributes.encode, _otlp_attributes.RESOURCE_FIELD
        self._resource = sized(1, b"".join(encode(field, key, value) for key, value in resource.items() if value))
        self._starts = Starts(began_ns)
        self._limit = request_bytes

    def requests(self, metrics: Iterable[Metric], now_ns: int) -> list[Request]:
        """All points of all families, as they are at this time (ns since the epoch)."""
        labels = Labels()
        families = [self._family(metric, labels, now_ns) for metric in metrics]
        self._starts.done(now_ns)
        return list(self._pack(families))

    def _family(self, metric: Metric, labels: Labels, now_ns: int) -> _Family:
        name, unit = named(metric.name)
        head = sized(1, name.encode()) + sized(2, metric.documentation.encode()) + (sized(3, unit.encode()) if unit else b"")
        points = self._histograms if metric.type == "histogram" else self._numbers
        return _Family(head, _KINDS.get(metric.type, _GAUGE), list(points(metric, labels, now_ns)))

    def _numbers(self, metric: Metric, labels: Labels, now_ns: int) -> Iterator[bytes]:
        counts = metric.type == "counter"
        wanted = f"{metric.name}_total" if counts else metric.name
        for sample in metric.samples:
            if sample.name == wanted:
                said = labels.encode(NUMBER_FIELD, _called(metric.name, sample.labels))
                start = self._starts.of(metric.name, sample.labels, said, sample.value, now_ns) if counts else 0
                yield _otlp_points.number(said, start, now_ns, sample.value)

    def _histograms(self, metric: Metric, labels: Labels, now_ns: int) -> Iterator[bytes]:
        for pairs, buckets in _by_labels(metric).items():
            said = labels.encode(HISTOGRAM_FIELD, pairs)
            ours = {key: value for key, value in pairs if "." not in key}  # the others follow from these
            start = self._starts.of(metric.name, ours, said, buckets.count, now_ns)
            yield _otlp_points.histogram(said, start, now_ns, buckets)

    def _pack(self, families: Iterable[_Family]) -> Iterator[Request]:
        bodies: list[bytes] = []
        around = len(self._resource) + len(_SCOPE) + _AROUND_BYTES
        size, count = around, 0
        for family in families:
            size += family.overhead
            part: list[bytes] = []
            for point in family.points:
                if count and size + len(point) > self._limit:
                    yield self._request([*bodies, family.around(part)], count)
                    bodies, part, count = [], [], 0
                    size = around + family.overhead
                part.append(point)
                size += len(point)
                count += 1
            bodies.append(family.around(part))
        if count:
            yield self._request(bodies, count)

    def _request(self, bodies: Iterable[bytes], count: int) -> Request:
        return Request(sized(1, self._resource + sized(2, _SCOPE + b"".join(bodies))), count)


def named(family: str) -> tuple[str, str]:
    """OpenTelemetry's name and unit for a family of Prometheus (as the family is called, without `_total`)."""
    name, unit = next(((family[: -len(end)], word) for end, word in UNITS if family.endswith(end)), (family, ""))
    begin, _, rest = name.partition("_")
    if begin in DOTTED:
        rest = rest.replace("_", ".")
        for parted, word in WORDS.items():
            rest = rest.replace(parted, word)
    return f"{begin}.{rest}", unit


def _called(family: str, labels: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Labels of a family of numbers, as attributes are called."""
    if not family.startswith(POD):
        return labels.items()
    return [(CALLED.get(key, key), value) for key, value in labels.items()]


def _by_labels(metric: Metric) -> Mapping[tuple[tuple[str, str], ...], Buckets]:
    found: dict[tuple[tuple[str, str], ...], Buckets] = {}
    for sample in metric.samples:
        pairs = tuple((key, value) for key, value in sample.labels.items() if key != "le")
        buckets = found.setdefault(pairs, Buckets())
        if sample.name.endswith("_bucket"):
            buckets.bounds.append(float(sample.labels["le"]))
            buckets.reached.append(sample.value)
            if sample.exemplar is not None:
                buckets.examples.append(sample.exemplar)
        elif sample.name.endswith("_sum"):
            buckets.total = sample.value
    return found
