"""What traced pods use, as metrics: CPU, memory, IO and network, with OpenTelemetry's names where it has some."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from prometheus_client.core import Metric

from clovisor_py.kernel.pod_usage import PodUsage, Traffic, Usage
from clovisor_py.metrics._ledgers import POD, Row, counter, gauge, label
from clovisor_py.snapshot import Pod, State

RECEIVE, TRANSMIT = "receive", "transmit"
TRAFFIC: Final = (
    ("k8s_pod_network_io_bytes", "Bytes that passed the pod's veth.", ("received_bytes", "sent_bytes")),
    ("k8s_pod_network_packets", "Packets that passed it.", ("received_packets", "sent_packets")),
    ("k8s_pod_network_packets_dropped", "Packets that the veth dropped.", ("received_dropped", "sent_dropped")),
)
"""What the pod receives, its veth on the host sends."""


def usage_metrics(pods: Collection[Pod], usage: PodUsage) -> Iterator[Metric]:
    """Of those that are traced and selected: nobody is to hear of one that somebody only looks at (see `node_taps`).

    What is not known of one is not told.
    """
    traced = {pod.ref: pod for pod in pods if pod.state is State.TRACED and pod.selected}
    found = usage.read([pod.uid for pod in traced.values()])
    known = [([label(pod.namespace), label(pod.name)], found[pod.uid]) for pod in traced.values() if pod.uid in found]
    yield counter("k8s_pod_cpu_time_seconds", "CPU time of the pod's containers.", _rows(known, "cpu_s"), POD)
    yield gauge("k8s_pod_memory_usage_bytes", "Memory, page cache included.", _rows(known, "memory_bytes"), POD)
    what = "Memory without the page cache that nobody has used for long."
    yield gauge("k8s_pod_memory_working_set_bytes", what, _rows(known, "working_set_bytes"), POD)
    what = "Processes that were killed for want of memory; only cgroups of version 2 tell."
    yield counter("clovisor_pod_oom_kills", what, _rows(known, "oom_kills"), POD)
    io = [
        ([*own, direction], float(number))
        for own, one in known
        for direction, number in (("read", one.read_bytes), ("write", one.written_bytes))
        if number is not None
    ]
    yield counter("clovisor_pod_disk_io_bytes", "Bytes that the pod read and wrote on block devices.", io, [*POD, "direction"])
    yield from _network(traced.values(), usage)
    yield counter("clovisor_pod_usage_searches_cut", "Searches for pods' cgroups that met too many.", [([], usage.beyond)])


def _rows(known: Collection[tuple[list[str], Usage]], field: str) -> list[Row]:
    values = ((own, getattr(one, field)) for own, one in known)
    return [(own, float(value)) for own, value in values if value is not None]


def _network(pods: Collection[Pod], usage: PodUsage) -> Iterator[Metric]:
    traffic = usage.traffic()
    known = [(pod, traffic[pod.veth]) for pod in pods if pod.veth in traffic]
    for name, what, fields in TRAFFIC:
        rows = [row for pod, passed in known for row in _directions(pod, passed, fields)]
        yield counter(name, what, rows, [*POD, "direction"])


def _directions(pod: Pod, passed: Traffic, fields: tuple[str, str]) -> list[Row]:
    own = [label(pod.namespace), label(pod.name)]
    return [
        ([*own, direction], float(getattr(passed, field))) for direction, field in zip((RECEIVE, TRANSMIT), fields, strict=True)
    ]
