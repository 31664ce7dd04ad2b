"""The dashboard to open first: rate, errors and durations of every service that a traced pod is or calls."""

from __future__ import annotations

from typing import Final

from tools._dashboards_json import Kind, Page, Panel, Row
from tools._dashboards_words import (
    CALL_COLUMNS,
    CALLS,
    FAILING,
    LOSING,
    NAMESPACE,
    OF_SERVER,
    PROTOCOL,
    RATE,
    SECONDS,
    SERVED,
    SERVER,
    SHARE,
    SLOW,
    TOP,
    call_table,
    not_read,
    once,
    quantile,
    share,
)

SPOKEN: Final = f"{SERVED}, protocol"
ASKED: Final = f"{SERVED}, operation"

NOW: Final = (
    Panel(
        "Calls",
        RATE,
        "Calls a second; one that was seen at both ends counts once.",
        {"calls": f"sum({CALLS})"},
        Kind.FIGURE,
        6,
        4,
    ),
    Panel(
        "Failed",
        SHARE,
        "Share of calls that failed, by the protocol's own word (an HTTP status from 400 on, a SQLSTATE, a gRPC status); "
        "timeouts and resets among them.",
        {"failed": share("")},
        Kind.FIGURE,
        6,
        4,
        FAILING,
    ),
    Panel(
        "Duration, 95th percentile",
        SECONDS,
        "From the request's first byte to the answer's last, at the server where it is traced, else at the client.",
        {"{{protocol}}": quantile(0.95, "protocol")},
        Kind.FIGURE,
        6,
        4,
        SLOW,
    ),
    Panel(
        "Not read",
        SHARE,
        "Share of all traced pods' segments that Clovisor lost: what the other panels do not know of. Clovisor / Agents says "
        "where and why.",
        {"lost": not_read()},
        Kind.FIGURE,
        6,
        4,
        LOSING,
    ),
)
BY_SERVER: Final = (
    Panel("Rate", RATE, "Calls a second by server.", {OF_SERVER: f"sum by ({SERVED}) ({CALLS})"}),
    Panel("Errors", SHARE, "Share of a server's calls that failed.", {OF_SERVER: share(SERVED)}, steps=FAILING),
    Panel(
        "Duration",
        SECONDS,
        "95th percentile by server and protocol.",
        {OF_SERVER + " {{protocol}}": quantile(0.95, SPOKEN)},
    ),
)
CLOSER: Final = (
    Panel(
        "Calls by class of status",
        RATE,
        "What the answers say: 2xx, 4xx, 5xx, or the protocol's own classes.",
        {"{{status_class}}": once("clovisor_calls_total", "status_class")},
        width=12,
        stacked=True,
    ),
    Panel(
        "Durations",
        SECONDS,
        "Of all calls together, by protocol: median, 90th and 99th percentile.",
        {"{{protocol}} p" + str(round(100 * each)): quantile(each, "protocol") for each in (0.5, 0.9, 0.99)},
        width=12,
    ),
    Panel(
        "Servers",
        RATE,
        "All of them now; click a heading to sort.",
        call_table(SPOKEN),
        Kind.TABLE,
        24,
        labels={"server_namespace": "Namespace", "server": "Server", "protocol": "Protocol"},
        columns=CALL_COLUMNS,
    ),
    Panel(
        "Operations",
        RATE,
        f"The {TOP} most frequent: templates that are learnt from paths, statements without their values, commands.",
        {
            "Calls": f"topk({TOP}, {once('clovisor_calls_total', ASKED)})",
            "Failed calls": once("clovisor_calls_failed_total", ASKED),
        },
        Kind.TABLE,
        24,
        labels={"server_namespace": "Namespace", "server": "Server", "operation": "Operation"},
    ),
)

OVERVIEW: Final = Page(
    "clovisor-overview",
    "Clovisor / Overview",
    "Rate, errors and durations of every service that a traced pod is or calls.",
    (NAMESPACE, SERVER, PROTOCOL),
    (Row("Now", NOW), Row("By server", BY_SERVER), Row("Closer", CLOSER)),
)
