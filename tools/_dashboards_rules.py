"""Recording rules and alerts as plain data, and the YAML that Prometheus reads.

Recorded is what dashboards ask often and what takes many series: calls and their durations by who calls whom, once for each
side at which they were seen (`edge_side:`) and once altogether (`edge:`); what is by who is called (`server:`) is made in
`_dashboards_services`. A call between two traced pods is seen at both, and counted once. The names of durations are those of
the agent's own table, so that a family that is added there is recorded, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from clovisor_py.metrics._families import CLIENT, FAMILIES, OTHER, SERVER
from tools._dashboards_promql import EACH, EDGE, EVERY, WINDOW, Alert, Recording, either
from tools._dashboards_services import ABOUT_SERVICES, servers

Json = dict[str, Any]

BY_FAMILY: Final = (*FAMILIES.values(), OTHER)
ENGINE_LOSSES: Final = "buffer_overflows|flows_evicted|held_evicted|pending_evicted"
"""Events of the engine by which messages or whole connections are lost for want of room. Not `strangers`: what is captured for
a pod that is gone is lost to nobody."""
LOST_A_SECOND: Final = 0.1
"""Six a minute: where a single one in hours is no reason to look, a bound that is really met loses many."""
PUSH_LOSSES: Final = "points (failed|refused|rejected)|pushes untold"
"""Events of the part `metrics` by which points of a push are lost."""
BOUNDS: Final = ("clovisor_edges_overflowed_total", "clovisor_operations_merged_total", "clovisor_routes_overflowed_total")
"""What counts where the number of series is held down; of these one has several series (UNNAMED)."""
UNNAMED: Final = f"sum without (reason) (rate(clovisor_tcp_unnamed_total[{WINDOW}]))"


def recordings() -> list[Recording]:
    """In the order in which they are evaluated: later ones use earlier ones."""
    calls, failed = "edge_side:clovisor_calls:rate5m", "edge_side:clovisor_calls_failed:rate5m"
    return [
        Recording(calls, f"sum by ({EACH}) (rate(clovisor_edge_calls_total[{WINDOW}]))"),
        Recording(failed, f"sum by ({EACH}) (rate(clovisor_edge_calls_failed_total[{WINDOW}]))"),
        *_durations(),
        Recording("edge:clovisor_calls:rate5m", f"max without (side) ({calls})"),
        Recording("edge:clovisor_calls_failed:rate5m", f"max without (side) ({failed})"),
        Recording("edge:clovisor_duration_seconds_bucket:rate5m", either("edge_side:clovisor_duration_seconds_bucket:rate5m")),
    ]


def ledgers() -> list[Recording]:
    """Of agents: all labels but those of pods stay."""
    segments = "instance:clovisor_segments:rate5m"
    lost, seen = (f'sum without (stage, reason) ({segments}{{stage="{stage}"}})' for stage in ("lost", "seen"))
    return [
        Recording(segments, f"sum without (namespace, pod) (rate(clovisor_segments_total[{WINDOW}]))"),
        Recording("instance:clovisor_segments_lost:ratio_rate5m", f"({lost} or 0 * {seen}) / ({seen} > 0) or 0 * {seen}"),
    ]


def _durations() -> Iterator[Recording]:
    record = "edge_side:clovisor_duration_seconds_bucket:rate5m"
    for side in (SERVER, CLIENT):
        names = [family.names[side] for family in BY_FAMILY if family.sided]
        yield Recording(record, f"sum by ({EDGE}, le) (rate({{{buckets(names)}}}[{WINDOW}]))", side.value)
    names = [family.names[SERVER] for family in BY_FAMILY if not family.sided]
    yield Recording(record, f"sum by ({EACH}, le) (rate({{{buckets(names)}}}[{WINDOW}]))")


def buckets(names: Sequence[str]) -> str:
    """A selector of several histograms, which have to differ by more than their names: by protocol."""
    return f'__name__=~"({"|".join(names)})_bucket"'


ALERTS: Final = (
    Alert(
        "ClovisorAgentDown",
        "up and on (job, instance) count_over_time(clovisor_build_info[1d])",
        "== 0",
        "5m",
        "critical",
        "The agent at {{ $labels.instance }} does not answer.",
        "No pod of that node is traced: its programs fall silent ten seconds after the agent's last heartbeat. "
        "Look at `kubectl -n clovisor get pods -o wide` and at the log of the pod there.",
    ),
    Alert(
        "ClovisorAgentHung",
        "time() - clovisor_snapshot_timestamp_seconds",
        "> 60",
        "1m",
        "critical",
        "The agent at {{ $labels.instance }} has not told of itself for {{ $value | humanizeDuration }}.",
        "It answers, but its loop stands still, and what passes meanwhile is not read. The kubelet restarts it if /healthz "
        "says so, too; report it with the log from before.",
    ),
    Alert(
        "ClovisorAgentRestarting",
        "changes(process_start_time_seconds[30m]) and on (job, instance) count_over_time(clovisor_build_info[1d])",
        "> 2",
        "0m",
        "warning",
        "The agent at {{ $labels.instance }} began {{ $value }} times anew in half an hour.",
        "Sessions that are going on then are lost. `kubectl -n clovisor describe pod` says why the last one ended.",
    ),
    Alert(
        "ClovisorSegmentsLost",
        "instance:clovisor_segments_lost:ratio_rate5m",
        "> 0.01",
        "5m",
        "warning",
        "{{ $value | humanizePercentage }} of the traffic at {{ $labels.instance }} was not read.",
        "Sessions in it are missing or incomplete; turns and counters are complete. The dashboard Clovisor / Agents says for "
        "which reason, and `clovisor pods` for which pod. A pod over its budget wants `clovisor.io/capture: head` or `none`; "
        "a full ring wants a larger cpu_share.",
    ),
    Alert(
        "ClovisorSessionsLost",
        f'sum without (event) (rate(clovisor_engine_total{{event=~"{ENGINE_LOSSES}"}}[{WINDOW}]))',
        f"> {LOST_A_SECOND}",
        "10m",
        "warning",
        "The agent at {{ $labels.instance }} gives up connections or requests for want of room.",
        "Sessions of these are missing. The dashboard Clovisor / Agents says which bound was met, under Engine; trace fewer "
        "pods or ports there, or set `clovisor.io/capture: none` on the busiest.",
    ),
    Alert(
        "ClovisorParserCrashed",
        'increase(clovisor_engine_total{event="parser_crashes"}[15m])',
        "> 0",
        "0m",
        "warning",
        "A parser of the agent at {{ $labels.instance }} failed on what it was given.",
        "That connection is not read any further, others are. It is a bug: the log has it, please report it.",
    ),
    Alert(
        "ClovisorExporterDropping",
        f'sum without (reason, stage) (rate(clovisor_exported_sessions_total{{stage="dropped"}}[{WINDOW}]))',
        "> 0",
        "5m",
        "warning",
        "{{ $labels.exporter }} does not get all sessions of {{ $labels.instance }}.",
        "Spans are missing there; metrics are complete. The label `reason` of clovisor_exported_sessions_total says why: "
        "`queue full` means that the other end is away or too slow, `refused` and `failed` what it answered; the log has more.",
    ),
    Alert(
        "ClovisorExporterStuck",
        "clovisor_export_waiting_sessions * on (job, instance, exporter) "
        f'(rate(clovisor_exported_sessions_total{{stage="sent"}}[{WINDOW}]) == bool 0)',
        "> 0",
        "5m",
        "warning",
        "Nothing reaches {{ $labels.exporter }} from {{ $labels.instance }}, and {{ $value }} sessions wait.",
        "When the queue is full the oldest go. See whether that collector is up and reached from the node.",
    ),
    Alert(
        "ClovisorMetricsPushFailing",
        f'sum without (part, event) (rate(clovisor_agent_events_total{{part="metrics",event=~"{PUSH_LOSSES}"}}[{WINDOW}]))'
        " or on (job, instance) 0 * clovisor_build_info",
        "> 0",
        "10m",
        "warning",
        "Metrics of the agent at {{ $labels.instance }} do not reach the receiver that metrics_export names.",
        "There are gaps there; the next push that arrives has all counts again. Why, says the label `event` of "
        "clovisor_agent_events_total: `points failed` means that the receiver is away, `rejected` and `refused` what it "
        "answered; the log has more.",
    ),
    Alert(
        "ClovisorApiServerAway",
        "clovisor_api_synced",
        "== 0",
        "5m",
        "warning",
        "The agent at {{ $labels.instance }} does not hear from the API server about {{ $labels.resource }}.",
        "It goes on with what it knows: new pods are not traced, and new ends have no name. `clovisor doctor` in its container "
        "says whether the right is missing or the server is away.",
    ),
    Alert(
        "ClovisorSettingsRefused",
        "clovisor_settings_refused",
        "> 0",
        "1m",
        "warning",
        "There is a mistake in the settings of the agent at {{ $labels.instance }}.",
        "If it was running when they changed, it keeps what it had before, and none of the change holds; if it began with "
        "them, it took what is right in the file. `clovisor pods` and an Event on the node have the sentence.",
    ),
    Alert(
        "ClovisorRepairs",
        "increase(clovisor_repairs_total[15m])",
        "> 3",
        "0m",
        "warning",
        "Somebody takes Clovisor's filters off pods' veths at {{ $labels.instance }}.",
        "They are put back, and what passed meanwhile was not seen. Another program (a CNI, a second tracer) manages the same "
        "hook: `clovisor explain pod/NAMESPACE/NAME` names who runs ahead.",
    ),
    Alert(
        "ClovisorPodsNotTraced",
        'sum without (state) (clovisor_pods{state=~"no veth|refused"}) or on (job, instance) 0 * clovisor_build_info',
        "> 0",
        "15m",
        "warning",
        "{{ $value }} pods at {{ $labels.instance }} are to be traced and are not.",
        "`clovisor pods` there lists them, and `clovisor explain pod/NAMESPACE/NAME` says why.",
    ),
    Alert(
        "ClovisorShedding",
        f"rate(clovisor_shed_seconds_total[{WINDOW}])",
        "> 0.5",
        "15m",
        "info",
        "The agent at {{ $labels.instance }} captures less, to stay within its share of the CPU.",
        "Long messages are cut, then pods only counted; turns and counters stay complete. More of it: the setting cpu_share.",
    ),
    Alert(
        "ClovisorCpuOverShare",
        f"(rate(process_cpu_seconds_total[{WINDOW}]) - rate(clovisor_exposition_cpu_seconds_total[{WINDOW}])"
        f" - rate(clovisor_metrics_push_cpu_seconds_total[{WINDOW}]))"
        " / on (job, instance) clovisor_cpu_share_cores",
        "> 1.2",
        "15m",
        "warning",
        "The agent at {{ $labels.instance }} takes {{ $value | humanizePercentage }} of its share of the CPU.",
        "Capturing less did not make it less (pages for Prometheus and pushes of metrics are not in this figure): trace fewer "
        "pods on that node, or give it more by the setting cpu_share.",
    ),
    Alert(
        "ClovisorMetricsMerged",
        " + ".join((*(f"rate({name}[{WINDOW}])" for name in BOUNDS), UNNAMED)),
        "> 0",
        "30m",
        "info",
        "Some calls at {{ $labels.instance }} are not told apart in /metrics.",
        "There are more pairs, operations, paths or new connections than are kept apart; the rest is told as `other`, and sums "
        "are right. The dashboard Clovisor / Agents says which of these.",
    ),
    *ABOUT_SERVICES,
)


def recording_file() -> Json:
    """What Prometheus reads."""
    return {"groups": [_group("clovisor-edges", [*recordings(), *servers()]), _group("clovisor-agents", ledgers())]}


def alert_file() -> Json:
    return {"groups": [{"name": "clovisor-alerts", "interval": EVERY, "rules": [_alert(alert) for alert in ALERTS]}]}


def _group(name: str, rules: Sequence[Recording]) -> Json:
    return {"name": name, "interval": EVERY, "rules": [_recording(rule) for rule in rules]}


def _recording(rule: Recording) -> Json:
    return {"record": rule.record, "expr": rule.expr, **({"labels": {"side": rule.side}} if rule.side else {})}


def _alert(alert: Alert) -> Json:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        **({} if alert.lasting == "0m" else {"for": alert.lasting}),
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.description},
    }
