"""The dashboard of traced pods: what the kernel counted of each (for whatever is spoken), and what it uses."""

from __future__ import annotations

from typing import Final

from tools._dashboards_json import Page, Panel, Row, Variable
from tools._dashboards_words import NUMBER, ONE, OVER, RATE, SECONDS

NAMESPACE: Final = Variable("namespace", "Namespace", "clovisor_segments_total", "namespace")
POD: Final = Variable("pod", "Pod", 'clovisor_segments_total{namespace=~"$namespace"}', "pod")
ON: Final = 'namespace=~"$namespace",pod=~"$pod"'
OF_POD: Final = "{{namespace}}/{{pod}}"
BOTH_WAYS: Final = OF_POD + " {{direction}}"


def _rate(metric: str, by: str = "") -> str:
    rate = f"rate({metric}{{{ON}}}{OVER})"
    return f"sum by (namespace, pod, {by}) ({rate})" if by else f"sum by (namespace, pod) ({rate})"


SEEN: Final = (
    Panel(
        "Turns",
        "ops",
        "Of conversations, counted in the kernel: for whatever is spoken, encrypted or not.",
        {BOTH_WAYS: _rate("clovisor_turns_total", "direction")},
        width=12,
    ),
    Panel(
        "Latency of turns, 95th percentile",
        SECONDS,
        "From the last payload of one side to the first of the other: `from_pod` is how long the pod took.",
        {BOTH_WAYS: f"histogram_quantile(0.95, {_rate('clovisor_turn_duration_seconds_bucket', 'direction, le')})"},
        width=12,
    ),
    Panel(
        "Segments",
        "pps",
        "Seen, and of these: captured, cut, counted or lost, by reason.",
        {OF_POD + " {{stage}} {{reason}}": _rate("clovisor_segments_total", "stage, reason")},
        width=12,
    ),
    Panel(
        "Sessions",
        RATE,
        "By their outcome.",
        {OF_POD + " {{reason}}": _rate("clovisor_sessions_total", "reason")},
        width=12,
    ),
)
USED: Final = (
    Panel("CPU", NUMBER, "Cores.", {OF_POD: _rate("k8s_pod_cpu_time_seconds_total")}),
    Panel(
        "Memory",
        "bytes",
        "Working set: without the page cache that nobody has used for long.",
        {OF_POD: f"max by (namespace, pod) (k8s_pod_memory_working_set_bytes{{{ON}}})"},
    ),
    Panel(
        "Killed for want of memory",
        NUMBER,
        "Processes, in an hour.",
        {OF_POD: f"sum by (namespace, pod) (increase(clovisor_pod_oom_kills_total{{{ON}}}[1h]))"},
        steps=ONE,
    ),
    Panel("Disk", "Bps", "Bytes on block devices.", {BOTH_WAYS: _rate("clovisor_pod_disk_io_bytes_total", "direction")}),
    Panel("Network", "Bps", "Bytes on the pod's veth.", {BOTH_WAYS: _rate("k8s_pod_network_io_bytes_total", "direction")}),
    Panel(
        "Packets dropped",
        "pps",
        "By the pod's veth.",
        {BOTH_WAYS: _rate("k8s_pod_network_packets_dropped_total", "direction")},
    ),
)

PODS: Final = Page(
    "clovisor-pods",
    "Clovisor / Pods",
    "What traced pods say and use.",
    (NAMESPACE, POD),
    (Row("Seen", SEEN), Row("Used", USED)),
)
