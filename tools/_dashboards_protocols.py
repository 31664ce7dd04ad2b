"""The dashboard of protocols: what is spoken and how it is answered, each family's own histogram, sizes, and TCP below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from clovisor_py.metrics._families import CLIENT, Family
from clovisor_py.metrics._families import SERVER as AT_SERVER
from clovisor_py.model.session import Side
from tools._dashboards_json import Column, Kind, Page, Panel, Row
from tools._dashboards_rules import BY_FAMILY, buckets
from tools._dashboards_words import (
    CALLS,
    CHOSEN,
    FAILING,
    NAMESPACE,
    NUMBER,
    OF_SERVER,
    OVER,
    PROTOCOL,
    RATE,
    SECONDS,
    SERVED,
    SERVER,
    SHARE,
    SLOW,
    TOP,
    once,
    quantile,
    share,
)

NAMED: Final = 'server_namespace=~"$namespace",server=~"$server"'
"""Of metrics that know no protocol."""
RESENDING: Final = ((0.01, "yellow"), (0.05, "red"))
"""Shares of segments that are sent again: a hundredth is seen by users, a twentieth breaks throughput."""


def _slowest() -> str:
    """As seen at servers, or where no server is traced, at clients; those are several metrics with the same labels."""
    at_servers = [family.names[AT_SERVER] for family in BY_FAMILY]
    at_clients = [family.names[CLIENT] for family in BY_FAMILY if family.sided]
    rates = (f"rate({{{buckets(names)},{CHOSEN}}}{OVER})" for names in (at_servers, at_clients))
    return " or ".join(f"{quantile(0.95, 'server, protocol, operation', rate)} > 0" for rate in rates)


ALL: Final = (
    Panel(
        "Rate",
        RATE,
        "Calls a second by protocol.",
        {"{{protocol}}": f"sum by (protocol) ({CALLS})"},
        stacked=True,
    ),
    Panel("Errors", SHARE, "Share of a protocol's calls that failed.", {"{{protocol}}": share("protocol")}, steps=FAILING),
    Panel("Duration", SECONDS, "95th percentile by protocol.", {"{{protocol}}": quantile(0.95, "protocol")}),
    Panel(
        "Statuses",
        RATE,
        "Answers by their status, as the protocol writes it.",
        {"{{protocol}} {{status}}": once("clovisor_answers_total", "protocol, status")},
        width=12,
    ),
    Panel(
        "Failures",
        RATE,
        "Of these, the failed ones; by how they ended where no answer came (timeout, reset). A graph begins "
        "with the second scrape of a status: the first failures with one that is new are in Errors above, not here.",
        {"{{protocol}} {{status}}": once("clovisor_errors_total", "protocol, status")},
        width=12,
    ),
    Panel(
        "Slowest operations",
        SECONDS,
        f"The {TOP} slowest by their 95th percentile.",
        {"p95": f"topk({TOP}, {_slowest()})"},
        Kind.TABLE,
        24,
        labels={"server": "Server", "protocol": "Protocol", "operation": "Operation"},
        columns={"p95": Column(SECONDS, SLOW)},
    ),
)


def _family(family: Family) -> Iterator[Panel]:
    for side in (AT_SERVER, CLIENT) if family.sided else (AT_SERVER,):
        yield from _histogram(family.names[side], side, family.sided)


def _histogram(name: str, side: Side, sided: bool) -> Iterator[Panel]:
    """Raw, not recorded: exemplars belong to the raw metric alone."""
    where = f" at the {side.value}" if sided else ""
    yield Panel(
        f"Duration{where}, 95th percentile",
        SECONDS,
        f"{name}, by operation. Dots are single calls (exemplars) with their trace ids: a link in the data source's settings "
        "opens the trace.",
        {"{{operation}}": quantile(0.95, "operation", f"rate({name}_bucket{{{CHOSEN}}}{OVER})")},
        width=12,
        exemplars=True,
    )
    yield Panel(
        f"Rate{where}",
        RATE,
        f"{name}, by operation and class of status.",
        {"{{operation}} {{status_class}}": f"sum by (operation, status_class) (rate({name}_count{{{CHOSEN}}}{OVER}))"},
        width=12,
    )


def _sizes(what: str) -> Panel:
    rates = f"rate(clovisor_{what}_size_bytes_bucket{{{CHOSEN}}}{OVER})"
    return Panel(
        f"Sizes of {what}s",
        "bytes",
        "On the wire, headers included: median and 99th percentile.",
        {"{{protocol}} p" + str(round(100 * each)): quantile(each, "protocol", rates) for each in (0.5, 0.99)},
        width=12,
    )


def _by_side(metric: str, more: str = "") -> str:
    return f"sum by ({SERVED}, side{more}) (rate({metric}{{{NAMED}}}{OVER}))"


def _tcp(metric: str, more: str = "") -> str:
    return f"max without (side) ({_by_side(metric, more)})"


SEGMENTS: Final = _by_side("clovisor_tcp_segments_total")
"""A share is of one side's segments: two sides see different ones."""

TCP: Final = (
    Panel(
        "Connections now",
        NUMBER,
        "Open ones by server, read or not.",
        {OF_SERVER: f"max without (side) (sum by ({SERVED}, side) (clovisor_tcp_connections_open{{{NAMED}}}))"},
    ),
    Panel("New connections", "cps", "A second, by server.", {OF_SERVER: _tcp("clovisor_tcp_connections_total")}),
    Panel("Resets", "cps", "Connections that a reset ended, or refused.", {OF_SERVER: _tcp("clovisor_tcp_resets_total")}),
    Panel(
        "Retransmitted",
        SHARE,
        "Share of segments in which nothing was new, at the side that saw the larger one.",
        {OF_SERVER: f"max without (side) ({_by_side('clovisor_tcp_retransmissions_total')} / ({SEGMENTS} > 0))"},
        steps=RESENDING,
    ),
    Panel(
        "Round trip, 95th percentile",
        SECONDS,
        "Smoothed, as the traced pod's own socket knows it.",
        {OF_SERVER: quantile(0.95, SERVED, f"rate(clovisor_tcp_rtt_seconds_bucket{{{NAMED}}}{OVER})")},
    ),
    Panel(
        "Zero windows",
        "pps",
        "Segments by which one end said that it takes no more for now: it reads too slowly.",
        {OF_SERVER + " {{sender}}": _tcp("clovisor_tcp_zero_windows_total", ", sender")},
    ),
    Panel(
        "Payload",
        "Bps",
        "Bytes a second by server and by who sent them.",
        {OF_SERVER + " {{sender}}": _tcp("clovisor_tcp_bytes_total", ", sender")},
        width=12,
    ),
    Panel(
        "Connections that nobody could read",
        "cps",
        "By the server's port, on all nodes. `clovisor explain` of such a pod says what helps: a hint in `clovisor.io/ports`; "
        "or it is encrypted.",
        {"{{port}} {{reason}}": f"sum by (port, reason) (rate(clovisor_unparsed_flows_total{OVER}))"},
        width=12,
    ),
)

PROTOCOLS: Final = Page(
    "clovisor-protocols",
    "Clovisor / Protocols",
    "What is spoken, how it is answered, and what TCP below it does.",
    (NAMESPACE, SERVER, PROTOCOL),
    (
        Row("All", ALL),
        *(Row(family.names[AT_SERVER].removesuffix("_seconds"), list(_family(family))) for family in BY_FAMILY),
        Row("Sizes", [_sizes("request"), _sizes("response")]),
        Row("TCP", TCP),
    ),
)
