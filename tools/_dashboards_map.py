"""The service map: who calls whom, as a node graph of two queries, and the same as tables.

Grafana's node graph wants one frame of nodes and one of edges, with fields of given names. A query of Prometheus has labels and
one number: the number is the share that fails, and the other figures are written into labels (`count_values`), which need no
transformation and carry their unit with them.
"""

from __future__ import annotations

from typing import Final

from tools._dashboards_json import Column, Kind, Page, Panel, Row
from tools._dashboards_words import (
    CALL_COLUMNS,
    FAILING,
    NAMESPACE,
    NUMBER,
    OVER,
    PROTOCOL,
    RATE,
    SECONDS,
    SERVED,
    call_table,
    quantile,
)

PAIR: Final = "client_namespace, client, server_namespace, server"
ENDS: Final = {
    "client_namespace": "From namespace",
    "client": "From",
    "server_namespace": "To namespace",
    "server": "To",
}
RED, GREY = "#F2495C", "#8E8E8E"
"""Of Grafana's palette; lines take no names of it."""


def _around(metric: str, more: str = "") -> str:
    """Calls into the namespaces and out of them."""
    into, out_of = (f'{metric}{{{more}{side}_namespace=~"$namespace"}}' for side in ("server", "client"))
    return f"({into} or {out_of})"


CALLS: Final = _around("edge:clovisor_calls:rate5m", 'protocol=~"$protocol",')
FAILED: Final = _around("edge:clovisor_calls_failed:rate5m", 'protocol=~"$protocol",')
BUCKETS: Final = _around("edge:clovisor_duration_seconds_bucket:rate5m", 'protocol=~"$protocol",')


def _calls(by: str) -> str:
    return f"sum by ({by}) ({CALLS})"


def _failing(by: str) -> str:
    """A share, also where nothing is called just now."""
    return f"sum by ({by}) ({FAILED}) / clamp_min({_calls(by)}, 1e-9)"


def _written(series: str, by: str, label: str, number: str, text: str) -> str:
    """`series` with a number (one of each `by`, and of each there has to be one) as the text of a label."""
    numbers = f'label_replace(count_values by ({by}) ("{label}", {number}), "{label}", "{text}", "{label}", "(.*)")'
    return f"{series} * on ({by}) group_left ({label}) {numbers}"


def _figures(by: str) -> str:
    """The share that fails; calls a second and the slower ones' duration, where one is known, as labels."""
    busy = _written(_failing(by), by, "mainstat", f"round({_calls(by)}, 0.01)", "$1/s")
    slow = f"max by ({by}) ({quantile(0.95, f'{by}, protocol', BUCKETS)})"
    known = f"(round(1000 * {slow} > 0, 0.01) or 0 * {_calls(by)})"
    both = _written(busy, by, "secondarystat", known, "p95 $1 ms")
    return f'label_replace({both}, "secondarystat", "", "secondarystat", "p95 0 ms")'


def _end(series: str, side: str, label: str) -> str:
    return f'label_join({series}, "{label}", "/", "{side}_namespace", "{side}")'


def _node(series: str, side: str) -> str:
    titled = f'label_replace({_end(series, side, "id")}, "title", "$1", "{side}", "(.*)")'
    return f'label_replace({titled}, "subtitle", "$1", "{side}_namespace", "(.*)")'


def nodes() -> str:
    """All ends of `edges`: Grafana fails at a line whose end is not there. Who only calls has no figures of its own."""
    servers = _node(_figures(SERVED), "server")
    clients = _node(f"0 * {_calls('client_namespace, client')}", "client")
    return f"{servers} or on (id) {clients}"


def edges() -> str:
    """Red where too many fail (from Grafana 11 on; before, all lines are grey)."""
    found = _written(_figures(PAIR), PAIR, "color", f"{_failing(PAIR)} > bool {FAILING[-1][0]}", "$1")
    for number, colour in (("1", RED), ("0", GREY)):
        found = f'label_replace({found}, "color", "{colour}", "color", "{number}")'
    found = _end(_end(found, "client", "source"), "server", "target")
    return f'label_join({found}, "id", " → ", "source", "target")'


def _tcp(metric: str) -> str:
    rates = _around(f"rate({metric}").replace("}", f"}}{OVER})")
    return f"max without (side) (sum by ({PAIR}, side) ({rates}))"


GRAPH: Final = Panel(
    "Service map",
    RATE,
    "Who calls whom: calls a second, and the duration that 95 of 100 stay below. The ring is the share of a server's calls "
    "that fails; from Grafana 11 on a line is red where more than a twentieth does. Who only calls has no figures.",
    {"nodes": nodes(), "edges": edges()},
    Kind.MAP,
    24,
    20,
    FAILING,
)
PAIRS: Final = Panel(
    "Pairs",
    RATE,
    "The lines of the map, by protocol.",
    call_table(f"{PAIR}, protocol", CALLS, FAILED, BUCKETS),
    Kind.TABLE,
    24,
    10,
    labels={**ENDS, "protocol": "Protocol"},
    columns=CALL_COLUMNS,
)
CONNECTIONS: Final = Panel(
    "Connections",
    NUMBER,
    "TCP by pair, read or not; round trips as the traced pod's own socket knows them.",
    {
        "Open": f"max without (side) (sum by ({PAIR}, side) ({_around('clovisor_tcp_connections_open')}))",
        "New": _tcp("clovisor_tcp_connections_total"),
        "Reset": _tcp("clovisor_tcp_resets_total"),
        "Retransmitted": _tcp("clovisor_tcp_retransmissions_total"),
        "Payload": _tcp("clovisor_tcp_bytes_total"),
        "Round trip p95": quantile(0.95, PAIR, _around("rate(clovisor_tcp_rtt_seconds_bucket").replace("}", f"}}{OVER})")),
    },
    Kind.TABLE,
    24,
    10,
    labels=ENDS,
    columns={
        "New": Column("cps"),
        "Reset": Column("cps"),
        "Retransmitted": Column("pps"),
        "Payload": Column("Bps"),
        "Round trip p95": Column(SECONDS),
    },
)

MAP: Final = Page(
    "clovisor-map",
    "Clovisor / Service map",
    "Who calls whom, how often, how fast, and what fails.",
    (NAMESPACE, PROTOCOL),
    (Row("Map", [GRAPH]), Row("Pairs", [PAIRS, CONNECTIONS])),
)
