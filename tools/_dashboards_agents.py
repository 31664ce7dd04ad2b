"""The dashboard about Clovisor itself: what it saw and did not see, how its exporters do, and what it costs."""

from __future__ import annotations

from typing import Final

from tools._dashboards_json import Column, Kind, Page, Panel, Row, Variable
from tools._dashboards_words import ANY, LOSING, NUMBER, ONE, OVER, RATE, SECONDS, SEGMENTS, SHARE, not_read

INSTANCE: Final = Variable("instance", "Agent", "clovisor_build_info", "instance")
ON: Final = 'instance=~"$instance"'
OF_AGENT: Final = "{{instance}}"
SILENT: Final = ((10.0, "yellow"), (60.0, "red"))
"""s since an agent last told of itself: /healthz says so after ten, and an alert after a minute."""
ENDED: Final = f'{SEGMENTS}{{{ON},stage!="seen"}}'
SEEN: Final = f'{SEGMENTS}{{{ON},stage="seen"}}'
EXPORTED: Final = "clovisor_exported_sessions_total"
AGENT: Final = f"and on (job, instance) clovisor_build_info{{{ON}}}"
"""`process_…` is there of many programs."""
BOUNDS: Final = {
    "pairs": "clovisor_edges_overflowed_total",
    "operations": "clovisor_operations_merged_total",
    "paths": "clovisor_routes_overflowed_total",
    "connections": "clovisor_tcp_unnamed_total",
}


def _stage(stage: str, by: str) -> str:
    return f'sum by ({by}) (rate({EXPORTED}{{{ON},stage="{stage}"}}{OVER}))'


def _figure(title: str, unit: str, what: str, expr: str, steps: tuple[tuple[float, str], ...] = ()) -> Panel:
    return Panel(title, unit, what, {title: expr}, Kind.FIGURE, 4, 4, steps)


NOW: Final = (
    _figure("Agents", NUMBER, "Nodes whose agent answers.", f"count(clovisor_build_info{{{ON}}})"),
    _figure("Pods traced", NUMBER, "On all of these nodes.", f'sum(clovisor_pods{{{ON},state="traced"}})'),
    _figure("Not read", SHARE, "Share of the traced pods' segments that were lost.", not_read(f"{ON},"), LOSING),
    _figure(
        "Not delivered",
        "cps",
        "Sessions a second that exporters dropped.",
        f'sum(rate({EXPORTED}{{{ON},stage="dropped"}}{OVER}))',
        ANY,
    ),
    _figure(
        "Shedding",
        NUMBER,
        "Agents that capture less, to stay within their share of the CPU.",
        f"sum(clovisor_shedding{{{ON}}})",
        ((1.0, "yellow"),),
    ),
    _figure(
        "Settings refused",
        NUMBER,
        "Agents whose settings file has a mistake; `clovisor pods` has the sentence.",
        f"sum(clovisor_settings_refused{{{ON}}})",
        ONE,
    ),
    Panel(
        "Agents",
        NUMBER,
        "Where they are, and for how long they have not told of themselves.",
        {
            "Silent for": f"time() - clovisor_snapshot_timestamp_seconds{{{ON}}} + on (job, instance) "
            "group_left (node, version) 0 * clovisor_build_info"
        },
        Kind.TABLE,
        24,
        6,
        labels={"node": "Node", "version": "Version", "instance": "Address", "job": "Job"},
        columns={"Silent for": Column(SECONDS, SILENT)},
    ),
)
LEDGER: Final = (
    Panel(
        "Where segments ended",
        "pps",
        "Whatever was seen on the pods' veths is in here: captured, cut (as the protocol or a budget asks), only counted, or "
        "lost; by reason.",
        {"{{stage}} {{reason}}": f"sum by (stage, reason) ({ENDED})"},
        width=12,
        stacked=True,
    ),
    Panel(
        "Not accounted for",
        "pps",
        "Seen less captured, cut, counted and lost: 0, but for counters that are read a moment apart.",
        {OF_AGENT: f"abs(sum by (instance) ({SEEN}) - sum by (instance) ({ENDED}))"},
        width=12,
    ),
    Panel(
        "Lost",
        SHARE,
        "Share of segments that were not read, by agent. Above a hundredth there is an alert.",
        {OF_AGENT: f"instance:clovisor_segments_lost:ratio_rate5m{{{ON}}}"},
        width=12,
        steps=LOSING,
    ),
    Panel(
        "Sessions made",
        RATE,
        "By their outcome.",
        {"{{reason}}": f"sum by (reason) (rate(clovisor_sessions_total{{{ON}}}{OVER}))"},
        width=12,
        stacked=True,
    ),
)
EXPORTERS: Final = (
    Panel(
        "Delivered",
        "cps",
        "Sessions a second that the other end took, or that were handed to the socket (UDP).",
        {"{{exporter}}": _stage("sent", "exporter")},
    ),
    Panel(
        "Dropped",
        "cps",
        "By reason: `queue full` (the other end is away or slow), `refused`, `failed`, `stopped`.",
        {"{{exporter}} {{reason}}": _stage("dropped", "exporter, reason")},
        steps=ANY,
    ),
    Panel(
        "Waiting",
        NUMBER,
        "Sessions in the queues.",
        {"{{exporter}}": f"sum by (exporter) (clovisor_export_waiting_sessions{{{ON}}})"},
    ),
    Panel(
        "Left out",
        "cps",
        "Sessions that sampling kept from an exporter, as it was told to; metrics have them all.",
        {"{{exporter}}": _stage("left out", "exporter")},
    ),
)
API: Final = (
    Panel(
        "Watches that hold",
        "bool_yes_no",
        "Whether all agents hear about a resource. Without it tracing goes on with what is known.",
        {"{{resource}}": f"min by (resource) (clovisor_api_synced{{{ON}}})"},
    ),
    Panel(
        "Objects known",
        NUMBER,
        "To the agent that knows most.",
        {"{{resource}}": f"max by (resource) (clovisor_api_objects{{{ON}}})"},
    ),
    Panel(
        "What happens to watches",
        "ops",
        "Lists, watches, events, versions that are gone (410), failures.",
        {"{{resource}} {{event}}": f"sum by (resource, event) (rate(clovisor_api_watch_events_total{{{ON}}}{OVER}))"},
    ),
)
COST: Final = (
    Panel(
        "CPU",
        NUMBER,
        "Cores that agents use (pages for Prometheus also by themselves), and the share that they are to keep to.",
        {
            OF_AGENT: f"rate(process_cpu_seconds_total{OVER}) {AGENT}",
            f"{OF_AGENT} pages": f"rate(clovisor_exposition_cpu_seconds_total{{{ON}}}{OVER})",
            "least share": f"min(clovisor_cpu_share_cores{{{ON}}})",
        },
    ),
    Panel(
        "Memory",
        "bytes",
        "Resident, and those bytes of it that wait for their parser.",
        {
            OF_AGENT: f"process_resident_memory_bytes {AGENT}",
            f"{OF_AGENT} buffered": f"clovisor_engine_buffered_bytes{{{ON}}}",
        },
    ),
    Panel(
        "Shedding",
        SHARE,
        "What part of the setting the busiest pods may send up, and for what share of the time it is less than all.",
        {
            f"{OF_AGENT} allowed": f"clovisor_pod_budget_ratio{{{ON}}}",
            f"{OF_AGENT} shedding": f"rate(clovisor_shed_seconds_total{{{ON}}}{OVER})",
        },
    ),
)
PARTS: Final = (
    Panel(
        "Engine",
        "ops",
        "What it counts, losses among it: gaps, late and evicted data, violations, connections that are given up.",
        {"{{event}}": f"sum by (event) (rate(clovisor_engine_total{{{ON}}}{OVER})) > 0"},
        width=12,
    ),
    Panel(
        "Parts",
        "ops",
        "What the agents' parts count of themselves.",
        {"{{part}} {{event}}": f"sum by (part, event) (rate(clovisor_agent_events_total{{{ON}}}{OVER})) > 0"},
        width=12,
    ),
    Panel(
        "Pods by state",
        NUMBER,
        "What became of the nodes' pods.",
        {"{{state}}": f"sum by (state) (clovisor_pods{{{ON}}})"},
        stacked=True,
    ),
    Panel(
        "Repairs",
        NUMBER,
        "Filters that somebody had taken off and that were put back, in a quarter of an hour.",
        {OF_AGENT: f"increase(clovisor_repairs_total{{{ON}}}[15m])"},
        steps=((3.0, "red"),),
    ),
    Panel(
        "Not told apart in metrics",
        "cps",
        "Sessions and connections that are told as `other`, so that series stay few.",
        {name: f"sum(rate({metric}{{{ON}}}{OVER}))" for name, metric in BOUNDS.items()},
    ),
)

AGENTS: Final = Page(
    "clovisor-agents",
    "Clovisor / Agents",
    "What Clovisor saw and did not see, how its exporters do, and what it costs.",
    (INSTANCE,),
    (
        Row("Now", NOW),
        Row("Ledger", LEDGER),
        Row("Exporters", EXPORTERS),
        Row("API server", API),
        Row("Cost", COST),
        Row("Engine and parts", PARTS),
    ),
)
