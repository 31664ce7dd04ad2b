"""TCP's pairs as metrics; see `tcp`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from clovisor_py.metrics._families import FINE, cumulative
from clovisor_py.metrics._ledgers import counter, label
from clovisor_py.metrics.tcp import Pair, Tcp

PAIR: Final = ("client_namespace", "client", "server_namespace", "server", "side")
RTT_BOUNDS: Final = (0.00005, *FINE, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""s. Inside of a node a round trip is some 50 µs; across the world 300 ms."""
SENT: Final = (
    ("clovisor_tcp_bytes", "Payload bytes of connections, by who sent them."),
    ("clovisor_tcp_segments", "Segments with payload."),
    ("clovisor_tcp_retransmissions", "Of these: nothing in it was new."),
    ("clovisor_tcp_zero_windows", "Segments by which the sender said that it takes no more for now."),
)
"""In the order of `tcp.COUNTS`."""


def tcp_metrics(tcp: Tcp) -> Iterator[Metric]:
    """All pairs."""
    pairs = tcp.pairs()
    connections = CounterMetricFamily("clovisor_tcp_connections", "Connections, read or not.", labels=PAIR)
    open_now = GaugeMetricFamily("clovisor_tcp_connections_open", "Connections now.", labels=PAIR)
    resets = CounterMetricFamily("clovisor_tcp_resets", "Connections that a reset ended, or refused.", labels=PAIR)
    rtt = HistogramMetricFamily(
        "clovisor_tcp_rtt_seconds", "Smoothed round-trip time as the traced pod's own socket knows it.", labels=PAIR
    )
    for pair in pairs:
        ends = _ends(pair)
        connections.add_metric(ends, pair.connections)
        open_now.add_metric(ends, pair.open)
        resets.add_metric(ends, pair.resets)
        if pair.rtt.count:
            rtt.add_metric(ends, *cumulative(pair.rtt, RTT_BOUNDS))
    yield from (connections, open_now, resets, rtt)
    for index, (name, what) in enumerate(SENT):
        metric = CounterMetricFamily(name, what, labels=[*PAIR, "sender"])
        for pair in pairs:
            for sender, counts in (("client", pair.sent), ("server", pair.received)):
                metric.add_metric([*_ends(pair), sender], counts[index])
        yield metric
    yield counter("clovisor_tcp_pairs_forgotten", "Pairs that made room for others.", [([], tcp.forgotten)])
    lost = [(["too many pairs"], tcp.overflowed), (["too many at once"], tcp.unnamed)]
    yield counter("clovisor_tcp_unnamed", "Connections that are told as other.", lost, ["reason"])


def _ends(pair: Pair) -> list[str]:
    names = (pair.client_namespace, pair.client, pair.server_namespace, pair.server, pair.side.value)
    return [label(name) for name in names]
