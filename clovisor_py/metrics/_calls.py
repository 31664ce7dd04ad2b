"""Calls: RED's edges as metrics: durations by operation and class of status, calls, answers and errors, sizes; with exemplars.

Histograms are told with OpenTelemetry's names and bounds (`_families`). An exemplar is the trace id of a call of that bucket:
the one that the application sent, else the one that Clovisor's own spans have; only of sessions that become spans (`sampling`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Final

from prometheus_client.core import CounterMetricFamily, Exemplar, HistogramMetricFamily, Metric

from clovisor_py.metrics._edge import Edge, Row, merged
from clovisor_py.metrics._examples import Example
from clovisor_py.metrics._families import Families, cumulative
from clovisor_py.metrics._ledgers import counter, label
from clovisor_py.metrics.operations import Operation
from clovisor_py.metrics.red import Red
from clovisor_py.tracing.sampling import Ratio, whole

ENDS: Final = ("client_namespace", "client", "server_namespace", "server", "protocol", "side")
ASKED: Final = ("operation", "status_class")
SIZES_BITS: Final = range(6, 25, 2)
"""Bounds of sizes: 2^6 - 1 (63 bytes) to 2^24 - 1 (16 MiB): a size is known by its number of bits."""
DURATION: Final = "Duration of calls, from the request's first byte to the answer's last, as seen at a traced pod."

Bucket = tuple[str, float] | tuple[str, float, Exemplar]


def call_metrics(red: Red, families: Families, ratio: Ratio = whole, conventions: bool = False) -> Iterator[Metric]:
    """All that RED knows. `ratio`: of sessions, as sampling has it: exemplars are of those that become spans.

    `conventions`: durations have OpenTelemetry's own attributes as labels, too.
    """
    edges = red.edges()
    yield from _durations(edges, families, ratio, conventions)
    yield from _pairs(edges)
    yield from _counts(edges)
    yield from _sizes(edges)
    yield counter("clovisor_edges_forgotten", "Pairs that made room for others, idle for an hour.", [([], red.forgotten)])
    yield counter("clovisor_edges_overflowed", "Sessions of pairs that were not told apart: too many.", [([], red.overflowed)])
    yield counter(
        "clovisor_operations_merged",
        "Sessions whose operation is told as other: too many of one pair, or of all.",
        [([], red.merged)],
    )
    yield counter("clovisor_routes_overflowed", "Paths that had no template of their own.", [([], red.routes.paths_overflowed)])


def ends_of(edge: Edge) -> list[str]:
    """Values of ENDS."""
    names = (edge.client_namespace, edge.client, edge.server_namespace, edge.server, edge.protocol, edge.side.value)
    return [label(name) for name in names]


def _rows(edge: Edge) -> Iterable[tuple[tuple[str, str], dict[Operation, Row]]]:
    """By labels ASKED: two operations of the wire may be written the same."""
    found: dict[tuple[str, str], dict[Operation, Row]] = {}
    for operation, row in edge.rows().items():
        found.setdefault((label(operation.title), label(operation.code)), {})[operation] = row
    return found.items()


def _durations(edges: Iterable[Edge], families: Families, ratio: Ratio, conventions: bool) -> Iterator[Metric]:
    metrics: dict[str, HistogramMetricFamily] = {}
    for edge in edges:
        family, system = families.of(edge), label(families.system(edge))
        name, ends = family.names[edge.side], ENDS[: 5 if family.sided else 6]
        for asked, rows in _rows(edge):
            what, row = next(iter(rows.items()))
            if len(rows) > 1:
                row = merged(*rows.values())
            if not row.durations.count:
                continue
            said = family.words.said(edge.side, system, what) if conventions else {}
            if name not in metrics:
                metrics[name] = HistogramMetricFamily(name, DURATION, labels=[*ends, *ASKED, *said])
            counts, total = cumulative(row.durations, family.bounds)
            buckets = _with_examples(counts, row.examples, ratio)
            metrics[name].add_metric([*ends_of(edge)[: len(ends)], *asked, *map(label, said.values())], buckets, total)
    yield from metrics.values()


def _with_examples(counts: Sequence[tuple[str, float]], examples: dict[int, Example], ratio: Ratio) -> Sequence[Bucket]:
    """The longest example of each bucket, beside its count."""
    told: dict[int, Exemplar] = {}
    bounds = [float(bound) for bound, _ in counts]
    for _, one in sorted(examples.copy().items(), key=itemgetter(0)):
        if one.has_span(ratio):
            seconds = one.duration_ns / 1e9
            at = next(index for index, bound in enumerate(bounds) if seconds <= bound)
            ended_s = (one.start_ns + one.duration_ns) / 1e9
            told[at] = Exemplar({"trace_id": f"{one.trace_id:032x}"}, seconds, ended_s)
    return [(*pair, told[index]) if index in told else pair for index, pair in enumerate(counts)]


def _pairs(edges: Iterable[Edge]) -> Iterator[Metric]:
    """Both from a pair's first session on, also where none has failed yet.

    A rate takes no notice of a series' first value: were failures told only once there are some, as by operation and status,
    their first burst would be none.
    """
    what = "Sessions of a pair that failed; told from its first session on."
    calls = CounterMetricFamily("clovisor_edge_calls", "Sessions of a pair; one way ones, too.", labels=ENDS)
    failed = CounterMetricFamily("clovisor_edge_calls_failed", what, labels=ENDS)
    for edge in edges:
        ends = ends_of(edge)
        failed.add_metric(ends, edge.errors)
        calls.add_metric(ends, edge.calls)
    yield from (calls, failed)


def _counts(edges: Iterable[Edge]) -> Iterator[Metric]:
    calls = CounterMetricFamily("clovisor_calls", "Sessions by what was asked for; one way ones, too.", labels=[*ENDS, *ASKED])
    failed = CounterMetricFamily("clovisor_calls_failed", "Of these, the failed ones.", labels=[*ENDS, *ASKED])
    answers = CounterMetricFamily("clovisor_answers", "Sessions by the status of their answer.", labels=[*ENDS, "status"])
    errors = CounterMetricFamily("clovisor_errors", "Of these, the failed ones.", labels=[*ENDS, "status"])
    for edge in edges:
        ends = ends_of(edge)
        for asked, rows in _rows(edge):
            calls.add_metric([*ends, *asked], sum(row.calls for row in rows.values()))
            if number := sum(row.errors for row in rows.values()):
                failed.add_metric([*ends, *asked], number)
        for metric, statuses in ((answers, edge.statuses), (errors, edge.error_statuses)):
            for status, count in _merged(statuses.copy()).items():
                metric.add_metric([*ends, status], count)
    yield from (calls, failed, answers, errors)


def _sizes(edges: Iterable[Edge]) -> Iterator[Metric]:
    request = HistogramMetricFamily("clovisor_request_size_bytes", "Bytes of requests on the wire.", labels=ENDS)
    response = HistogramMetricFamily("clovisor_response_size_bytes", "Bytes of responses on the wire.", labels=ENDS)
    for edge in edges:
        rows, ends = edge.rows().values(), ends_of(edge)
        sent, received = sum(row.sent for row in rows), sum(row.received for row in rows)
        for metric, sizes, total in ((request, edge.request_sizes, sent), (response, edge.response_sizes, received)):
            if any(sizes):
                metric.add_metric(ends, sized(sizes), total)
    yield from (request, response)


def sized(sizes: Sequence[int]) -> list[tuple[str, float]]:
    """Counts by number of bits as buckets."""
    buckets = [(str(float(2**bits - 1)), float(sum(sizes[: bits + 1]))) for bits in SIZES_BITS]
    return [*buckets, ("+Inf", float(sum(sizes)))]


def _merged(statuses: Mapping[str, int]) -> dict[str, int]:
    """By label: two statuses of the wire may be written the same."""
    merged: dict[str, int] = {}
    for status, count in statuses.items():
        merged[label(status)] = merged.get(label(status), 0) + count
    return merged
