"""Exposition: what Prometheus reads, made when it asks, from RED's edges and the last snapshot; nothing is kept twice.

Labels are names of workloads, services, ports and statuses, never paths or keys; RED bounds how many there are, and what comes
from the wire is made printable first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from clovisor_py.metrics._families import Families, cumulative
from clovisor_py.metrics._ledgers import counter, label, node_metrics, pod_metrics
from clovisor_py.metrics.red import Edge, Red
from clovisor_py.snapshot import Snapshot

ENDS: Final = ("client_namespace", "client", "server_namespace", "server", "protocol", "side")


class Exposition(Collector):
    """Reads when it is asked; both callables must be quick and may be called from any thread."""

    def __init__(self, red: Callable[[], Red], snapshot: Callable[[], Snapshot]) -> None:
        self._red = red
        self._snapshot = snapshot
        self._families = Families()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The whole page and its content type: OpenMetrics where `accept` asks for it, else Prometheus' text."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> list[Metric]:
        """Nothing before it is asked: registering would collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, now."""
        red, snapshot = self._red(), self._snapshot()
        edges = red.edges()
        yield from self._durations(edges)
        yield from _calls(edges, red.overflowed)
        yield from pod_metrics(snapshot.pods)
        yield from node_metrics(snapshot)

    def _durations(self, edges: Iterable[Edge]) -> Iterator[Metric]:
        metrics: dict[str, HistogramMetricFamily] = {}
        for edge in edges:
            if not edge.durations.count:
                continue
            family = self._families.of(edge)
            name, labels = family.names[edge.side], 5 if family.sided else 6
            if name not in metrics:
                what = "Duration of calls, from the request's first byte to the answer's last, as seen at a traced pod."
                metrics[name] = HistogramMetricFamily(name, what, labels=ENDS[:labels])
            buckets, total = cumulative(edge.durations, family.bounds)
            metrics[name].add_metric(_ends(edge)[:labels], buckets, total)
        yield from metrics.values()


def _ends(edge: Edge) -> list[str]:
    names = (edge.client_namespace, edge.client, edge.server_namespace, edge.server, edge.protocol, edge.side.value)
    return [label(name) for name in names]


def _calls(edges: Iterable[Edge], overflowed: int) -> Iterator[Metric]:
    calls = CounterMetricFamily("clovisor_calls", "Sessions by who called whom; one way ones, too.", labels=ENDS)
    answers = CounterMetricFamily("clovisor_answers", "Sessions by the status of their answer.", labels=[*ENDS, "status"])
    errors = CounterMetricFamily("clovisor_errors", "Of these, the failed ones.", labels=[*ENDS, "status"])
    for edge in edges:
        ends = _ends(edge)
        calls.add_metric(ends, edge.calls)
        for metric, statuses in ((answers, edge.statuses), (errors, edge.error_statuses)):
            for status, count in _merged(statuses.copy()).items():
                metric.add_metric([*ends, status], count)
    yield from (calls, answers, errors)
    yield counter("clovisor_edges_overflowed", "Sessions of pairs that were not told apart: too many.", [([], overflowed)])


def _merged(statuses: Mapping[str, int]) -> dict[str, int]:
    """By label: two statuses of the wire may be written the same."""
    merged: dict[str, int] = {}
    for status, count in statuses.items():
        merged[label(status)] = merged.get(label(status), 0) + count
    return merged
