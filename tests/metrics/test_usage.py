"""What traced pods use, as metrics."""

from __future__ import annotations

from clovisor_py.kernel.pod_usage import Traffic, Usage
from clovisor_py.metrics.exposition import Exposition
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.snapshot import State
from tests.support.snapshots import snapshot, traced


class Read:
    """Stands for PodUsage."""

    beyond = 0

    def __init__(self, **found):
        self.found, self.asked = found, []

    def read(self, uids):
        self.asked = uids
        return self.found

    def traffic(self):
        return {"veth3f2a": Traffic(5000, 6, 7, 100, 2, 3), "eth0": Traffic(1, 1, 1, 1, 1, 1)}


def lines(usage, *pods):
    page = Exposition(Red, lambda: snapshot(*pods), usage=usage).render()[0].decode()
    return [in_order(line) for line in page.splitlines() if line.startswith(("k8s_", "clovisor_pod_"))]


def in_order(line):
    """Its labels sorted: in which order a page has them means nothing."""
    name, brace, rest = line.partition("{")
    labels, _, value = rest.partition("}")
    return f"{name}{{{','.join(sorted(labels.split(',')))}}}{value}" if brace else line


def test_of_traced_pods():
    usage = Read(u1=Usage(1.5, 1000, 700, 2, 4100, 101))
    found = lines(usage, traced(), traced(name="idle", uid="u2", state=State.NOT_SELECTED))
    own = 'namespace="shop",pod="cart-7d9f"'
    assert usage.asked == ["u1"]
    assert found == [
        f"k8s_pod_cpu_time_seconds_total{{{own}}} 1.5",
        f"k8s_pod_memory_usage_bytes{{{own}}} 1000.0",
        f"k8s_pod_memory_working_set_bytes{{{own}}} 700.0",
        f"clovisor_pod_oom_kills_total{{{own}}} 2.0",
        f'clovisor_pod_disk_io_bytes_total{{direction="read",{own}}} 4100.0',
        f'clovisor_pod_disk_io_bytes_total{{direction="write",{own}}} 101.0',
        f'k8s_pod_network_io_bytes_total{{direction="receive",{own}}} 5000.0',
        f'k8s_pod_network_io_bytes_total{{direction="transmit",{own}}} 100.0',
        f'k8s_pod_network_packets_total{{direction="receive",{own}}} 6.0',
        f'k8s_pod_network_packets_total{{direction="transmit",{own}}} 2.0',
        f'k8s_pod_network_packets_dropped_total{{direction="receive",{own}}} 7.0',
        f'k8s_pod_network_packets_dropped_total{{direction="transmit",{own}}} 3.0',
        "clovisor_pod_usage_searches_cut_total 0.0",
        "clovisor_pod_budget_ratio 1.0",
    ]


def test_a_pod_that_somebody_only_looks_at_is_named_nowhere():
    usage, pods = Read(u1=Usage(1.5, 1000, 700, 2, 4100, 101)), snapshot(traced(selected=False))
    page = Exposition(Red, lambda: pods, lambda: Tcp(lambda session: None), usage).render()[0].decode()
    assert usage.asked == []
    assert not [name for name in ("cart", "shop", "u1", "veth3f2a") if name in page]


def test_what_is_not_known_is_not_told():
    found = lines(Read(u1=Usage(cpu_s=0.0)), traced(veth="gone"))
    assert [line.partition("{")[0] for line in found if "{" in line] == ["k8s_pod_cpu_time_seconds_total"]
