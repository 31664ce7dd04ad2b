"""Ledgers: the last snapshot as metrics: what each pod said and what of it was lost, and how the agent itself is doing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from clovisor_py.model.text import printable
from clovisor_py.snapshot import SEEN, Pod, Snapshot, State

POD: Final = ("namespace", "pod")
DIRECTIONS: Final = ("from_pod", "to_pod")
TURN_BITS: Final = range(13, 37, 2)
"""Bounds of a turn's latency: 2^13 ns (8 µs) to 2^35 ns (34 s), every second one that the kernel has."""

Row = tuple[Sequence[str], float]
PUSH_WAITING: Final = "metrics points waiting"
"""The one number among the parts' own that falls, too."""
_USER = re.compile(r"//[^/]*@")


def label(text: str) -> str:
    """Text for a label: nothing in it that cannot be encoded or seen."""
    return printable(text)


def pod_metrics(pods: Collection[Pod]) -> Iterator[Metric]:
    """The ledger of each pod that is enabled: another one's is for those alone who look at it.

    Of two with one name (one is just being replaced) the traced one is told: a series is told once.
    """
    staged = [*POD, "stage", "reason"]
    segments = CounterMetricFamily("clovisor_segments", "Segments with payload: seen is the sum of others.", labels=staged)
    turns = CounterMetricFamily("clovisor_turns", "Turns of conversations; all are counted.", labels=[*staged, "direction"])
    sessions = CounterMetricFamily("clovisor_sessions", "Sessions made, by their outcome.", labels=staged)
    what = "From the last payload of one side to the first of the other, measured in the kernel, which keeps no sum."
    latency = HistogramMetricFamily("clovisor_turn_duration_seconds", what, labels=[*POD, "direction"])
    enabled = sorted((pod for pod in pods if pod.selected), key=lambda pod: pod.state is State.TRACED)
    for pod in {pod.ref: pod for pod in enabled}.values():
        own = [label(pod.namespace), label(pod.name)]
        for each in pod.segments:
            segments.add_metric([*own, each.stage, each.reason], each.number)
        for outcome, number in pod.sessions.items():
            sessions.add_metric([*own, "made", label(outcome)], number)
        for direction, number, logs in zip(DIRECTIONS, pod.turns, pod.turn_ns, strict=True):
            if pod.segments:
                turns.add_metric([*own, SEEN, "", direction], number)
            if logs:
                latency.add_metric([*own, direction], _turns(logs), sum_value=None)
    yield from (segments, turns, sessions, latency)
    states = sorted(Counter(pod.state.value for pod in pods).items())
    rows = [([state], number) for state, number in states]
    yield gauge("clovisor_pods", "Pods of this node, by what became of them.", rows, ["state"])


def _turns(logs: Sequence[int]) -> list[tuple[str, float]]:
    """Bucket `k` of `logs` holds latencies from 2^k ns up to 2^(k+1)."""
    buckets = [(repr(2**bits / 1e9), float(sum(logs[:bits]))) for bits in TURN_BITS]
    return [*buckets, ("+Inf", float(sum(logs)))]


def node_metrics(snapshot: Snapshot) -> Iterator[Metric]:
    yield gauge("clovisor_build_info", "1, with the version.", [([snapshot.version, snapshot.node], 1)], ["version", "node"])
    yield gauge("clovisor_snapshot_timestamp_seconds", "When the agent last told of itself.", [([], snapshot.taken)])
    yield gauge("clovisor_shedding", "1 while pods are allowed less, to stay within the CPU share.", [([], snapshot.shedding)])
    yield counter("clovisor_shed_seconds", "For how long that was so.", [([], snapshot.shed_s)])
    yield gauge("clovisor_pod_budget_ratio", "What part of the setting the busiest pods may send up.", [([], snapshot.allowed)])
    yield gauge(
        "clovisor_cpu_share_cores", "Cores that the agent may use; see process_cpu_seconds_total.", [([], snapshot.cpu_share)]
    )
    what = "1 while a mistake keeps the settings file from holding; `clovisor pods` has the sentence."
    yield gauge("clovisor_settings_refused", what, [([], snapshot.settings_refused)])
    yield gauge("clovisor_readers", "Who looks at pods of this node now.", [([], snapshot.readers)])
    own = [(name.partition(" ")[::2], number) for name, number in sorted(snapshot.own.items()) if name != PUSH_WAITING]
    yield counter("clovisor_agent_events", "What the agent's parts count of themselves.", own, ["part", "event"])
    waiting: list[Row] = [([], snapshot.own[PUSH_WAITING])] if PUSH_WAITING in snapshot.own else []
    yield gauge("clovisor_metrics_push_waiting_points", "Points of a push that has not arrived yet.", waiting)
    yield counter(
        "clovisor_repairs", "Filters that had been removed or overtaken, and were put back.", [([], snapshot.repairs)]
    )
    events = [([name], number) for name, number in snapshot.engine.items() if name != "buffered"]
    yield counter("clovisor_engine", "What the engine counted on this node (flows/ledger.py).", events, ["event"])
    buffered = snapshot.engine.get("buffered", 0)
    yield gauge("clovisor_engine_buffered_bytes", "Bytes that wait for their parser.", [([], buffered)])
    unparsed = [([str(each.port), label(each.reason)], each.flows) for each in snapshot.unparsed]
    yield counter("clovisor_unparsed_flows", "Connections that nobody could read.", unparsed, ["port", "reason"])
    yield from _resources(snapshot)
    yield from _exporters(snapshot)


def _resources(snapshot: Snapshot) -> Iterator[Metric]:
    synced = [([label(each.name)], each.synced) for each in snapshot.resources]
    yield gauge("clovisor_api_synced", "1 while the API server's watch of a resource holds.", synced, ["resource"])
    objects = [([label(each.name)], each.objects) for each in snapshot.resources]
    yield gauge("clovisor_api_objects", "Objects of it that are known.", objects, ["resource"])
    since = [([label(each.name)], each.since) for each in snapshot.resources if each.since]
    yield gauge("clovisor_api_synced_timestamp_seconds", "When it was complete for the first time.", since, ["resource"])
    events = [([label(each.name), what], number) for each in snapshot.resources for what, number in each.counts.items()]
    yield counter("clovisor_api_watch_events", "What happened to the watch so far.", events, ["resource", "event"])


def _exporters(snapshot: Snapshot) -> Iterator[Metric]:
    """What follows `?` in a URL, or stands before `@`, may be secret; two exporters that differ only there are told as one."""
    rows: dict[tuple[str, str, str], int] = {}
    waiting: dict[str, int] = {}
    for each in snapshot.exporters:
        url = label(_USER.sub("//", each.url.partition("?")[0]))
        waiting[url] = waiting.get(url, 0) + each.waiting
        stages = {("offered", ""): each.offered, ("sent", ""): each.sent}
        stages |= {("dropped", reason): number for reason, number in each.dropped.items()}
        stages |= {("left out", "sampling"): each.left_out} if each.left_out else {}
        for (stage, reason), number in stages.items():
            rows[url, stage, reason] = rows.get((url, stage, reason), 0) + number
    what = "Sessions handed to an exporter: offered = sent + dropped + those that wait; others were left out."
    yield counter("clovisor_exported_sessions", what, rows.items(), ["exporter", "stage", "reason"])
    queued = [([url], number) for url, number in waiting.items()]
    yield gauge("clovisor_export_waiting_sessions", "Those that wait.", queued, ["exporter"])


def counter(name: str, what: str, rows: Iterable[Row], labels: Sequence[str] = ()) -> Metric:
    return _filled(CounterMetricFamily(name, what, labels=labels), rows)


def gauge(name: str, what: str, rows: Iterable[Row], labels: Sequence[str] = ()) -> Metric:
    return _filled(GaugeMetricFamily(name, what, labels=labels), rows)


def _filled(metric: CounterMetricFamily | GaugeMetricFamily, rows: Iterable[Row]) -> Metric:
    for values, number in rows:
        metric.add_metric(values, float(number))
    return metric
