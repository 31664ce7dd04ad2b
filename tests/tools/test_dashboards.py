"""`tools/dashboards`: the files are as it makes them, Grafana and Prometheus can read them, alerts fire when they should.

Whether every query answers something is asked of a real Prometheus in `tests/live/test_grafana_prometheus.py`.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clovisor_py.metrics._families import FAMILIES, OTHER
from tests.support.control_plane import kubectl
from tools._dashboards import FOLDER, PAGES, files
from tools._dashboards_json import COLUMNS, Kind, Page, dashboard, panels
from tools._dashboards_rules import ALERTS, recordings

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "dashboards"
MADE = ROOT / FOLDER
APPLIED_BYTES = 256 * 1024
"""What the annotations of an object may hold, and `kubectl apply` writes the object into one."""
SCRAPE = "scrape.yml"  # not made
SEVERITIES = {"critical", "warning", "info"}

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)

ON = 'instance="n1:9464",job="clovisor"'
INFO = ("clovisor_build_info", 'node="n1",version="1"', "1x60")
SEEN = ("clovisor_segments_total", 'namespace="shop",pod="web",stage="seen",reason=""', "0+6000x60")
EXPORTED = "clovisor_exported_sessions_total"
OWN = "clovisor_agent_events_total"
FAILED = "clovisor_calls_failed_total"
CALL, SELDOM, LOOKUP = (
    f'client_namespace="shop",client="web",server_namespace="shop",server="{server}",protocol="{protocol}"'
    for server, protocol in (("cart", "http"), ("cron", "http"), ("dns", "dns"))
)
CALLED = ("clovisor_edge_calls_total", f'{CALL},side="client"', "0+120x60")
Series = tuple[str, str, str]


def durations(bound: float, longer: float, share: float) -> list[Series]:
    """Of 120 calls a minute, `share` up to the one bound (s), the rest up to the other."""
    within = ((bound, 120 * share), (longer, 120.0), ("+Inf", 120.0))
    name, labels = "http_client_request_duration_seconds_bucket", f'{CALL},operation="GET /",status_class="2xx"'
    return [(name, f'{labels},le="{upto}"', f"0+{calls:g}x60") for upto, calls in within]


CASES: dict[str, tuple[list[Series], list[Series]]] = {
    "ClovisorAgentDown": (
        [("up", "", "1x5 0x54"), (INFO[0], INFO[1], "1x5 _x54")],
        [("up", "", "1x60"), INFO],
    ),
    "ClovisorAgentHung": (
        [("clovisor_snapshot_timestamp_seconds", "", "100x60")],
        [("clovisor_snapshot_timestamp_seconds", "", "0+60x60")],
    ),
    "ClovisorAgentRestarting": (
        [("process_start_time_seconds", "", "0+60x60"), INFO],
        [("process_start_time_seconds", "", "0x50 3000x10"), INFO],
    ),
    "ClovisorSegmentsLost": (
        [SEEN, ("clovisor_segments_total", 'namespace="shop",pod="web",stage="lost",reason="ring full"', "0+600x60")],
        [SEEN, ("clovisor_segments_total", 'namespace="shop",pod="web",stage="lost",reason="ring full"', "0+6x60")],
    ),
    "ClovisorSessionsLost": (
        [("clovisor_engine_total", 'event="held_evicted"', "0+60x60")],
        [
            ("clovisor_engine_total", 'event="held_evicted"', "0+1x60"),
            ("clovisor_engine_total", 'event="gaps"', "0+60x60"),
            ("clovisor_engine_total", 'event="strangers"', "0+60x60"),
        ],
    ),
    "ClovisorParserCrashed": (
        [("clovisor_engine_total", 'event="parser_crashes"', "0x44 1x15")],
        [("clovisor_engine_total", 'event="parser_crashes"', "1x60")],
    ),
    "ClovisorExporterDropping": (
        [(EXPORTED, 'exporter="jaeger://j",stage="dropped",reason="failed"', "0+60x60")],
        [(EXPORTED, 'exporter="jaeger://j",stage="dropped",reason="failed"', "7x60")],
    ),
    "ClovisorExporterStuck": (
        [
            ("clovisor_export_waiting_sessions", 'exporter="jaeger://j"', "100x60"),
            (EXPORTED, 'exporter="jaeger://j",stage="sent",reason=""', "5x60"),
        ],
        [
            ("clovisor_export_waiting_sessions", 'exporter="jaeger://j"', "100x60"),
            (EXPORTED, 'exporter="jaeger://j",stage="sent",reason=""', "0+60x60"),
        ],
    ),
    "ClovisorMetricsPushFailing": (
        [(OWN, 'part="metrics",event="points failed"', "0+900x60"), (OWN, 'part="metrics",event="points sent"', "0x60"), INFO],
        [
            (OWN, 'part="metrics",event="points failed"', "900x60"),
            (OWN, 'part="metrics",event="points sent"', "0+900x60"),
            INFO,
        ],
    ),
    "ClovisorApiServerAway": (
        [("clovisor_api_synced", 'resource="pods"', "0x60")],
        [("clovisor_api_synced", 'resource="pods"', "0x50 1x10")],
    ),
    "ClovisorSettingsRefused": (
        [("clovisor_settings_refused", "", "1x60")],
        [("clovisor_settings_refused", "", "0x60")],
    ),
    "ClovisorRepairs": (
        [("clovisor_repairs_total", "", "0+1x60")],
        [("clovisor_repairs_total", "", "0x50 1x10")],
    ),
    "ClovisorPodsNotTraced": (
        [("clovisor_pods", 'state="refused"', "2x60"), INFO],
        [("clovisor_pods", 'state="traced"', "2x60"), INFO],
    ),
    "ClovisorShedding": (
        [("clovisor_shed_seconds_total", "", "0+60x60")],
        [("clovisor_shed_seconds_total", "", "0+6x60")],
    ),
    "ClovisorCpuOverShare": (
        [
            ("process_cpu_seconds_total", "", "0+60x60"),
            ("clovisor_exposition_cpu_seconds_total", "", "0+3x60"),
            ("clovisor_metrics_push_cpu_seconds_total", "", "0+3x60"),
            ("clovisor_cpu_share_cores", "", "0.5x60"),
        ],
        [
            ("process_cpu_seconds_total", "", "0+60x60"),
            ("clovisor_exposition_cpu_seconds_total", "", "0+20x60"),
            ("clovisor_metrics_push_cpu_seconds_total", "", "0+20x60"),
            ("clovisor_cpu_share_cores", "", "0.5x60"),
        ],
    ),
    "ClovisorMetricsMerged": (
        [
            ("clovisor_edges_overflowed_total", "", "0x60"),
            ("clovisor_operations_merged_total", "", "0x60"),
            ("clovisor_routes_overflowed_total", "", "0x60"),
            ("clovisor_tcp_unnamed_total", 'reason="too many pairs"', "0x60"),
            ("clovisor_tcp_unnamed_total", 'reason="too many at once"', "0+60x60"),
        ],
        [
            ("clovisor_edges_overflowed_total", "", "9x60"),
            ("clovisor_operations_merged_total", "", "9x60"),
            ("clovisor_routes_overflowed_total", "", "9x60"),
            ("clovisor_tcp_unnamed_total", 'reason="too many pairs"', "9x60"),
        ],
    ),
    "ClovisorServiceFailing": (
        [
            CALLED,
            (FAILED, f'{CALL},side="client",status_class="4xx"', "0+60x60"),
            (FAILED, f'{CALL},side="client",status_class="timeout"', "_ 0+4x59"),
            (FAILED, f'{CALL},side="client",status_class="5xx"', "_ 0+4x59"),
        ],
        [
            CALLED,
            (FAILED, f'{CALL},side="client",status_class="4xx"', "0+60x60"),
            (FAILED, f'{CALL},side="client",status_class="5xx"', "0+2x60"),
            ("clovisor_edge_calls_total", f'{SELDOM},side="server"', "0+6x60"),
            (FAILED, f'{SELDOM},side="server",status_class="5xx"', "0+6x60"),
            ("clovisor_edge_calls_total", f'{LOOKUP},side="server"', "0+600x60"),
            (FAILED, f'{LOOKUP},side="server",status_class="error"', "0+500x60"),
        ],
    ),
    "ClovisorServiceSlow": (
        [CALLED, *durations(1.0, 5.0, 0.97)],
        [CALLED, *durations(1.0, 5.0, 0.995)],
    ),
}
"""Alert to what makes it fire, and to what does not: a sample a minute, for an hour."""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)


def test_the_files_are_as_they_are_made() -> None:
    done = run(TOOL, "--check")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_it_writes_what_differs_and_says_so(tmp_path: Path) -> None:
    assert run(TOOL, "--folder", tmp_path).returncode == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict(files())
    changed = tmp_path / "clovisor-map.json"
    changed.write_text("{}")
    done = run(TOOL, "--check", "--folder", tmp_path)
    assert (done.returncode, done.stdout) == (1, f"{changed}: differs\n")
    assert changed.read_text() == "{}"
    done = run(TOOL, "--folder", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{changed}: written\n")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    done = run(TOOL, "--folder", tmp_path / "absent")
    assert done.returncode == 2
    assert "absent" in done.stderr and "Traceback" not in done.stderr


def made(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files()[f"{page.uid}.json"])
    assert found == dashboard(page)
    return found


@each_page
def test_a_panel_has_a_unit_a_description_and_a_place(page: Page) -> None:
    taken: set[tuple[int, int]] = set()
    all_of_them = made(page)["panels"]
    assert len({panel["id"] for panel in all_of_them}) == len(all_of_them)
    for panel in all_of_them:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= COLUMNS, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"] and panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0] == {"color": "green", "value": None}
            assert all(one["properties"][0]["id"] == "unit" for one in panel["fieldConfig"]["overrides"])


@each_page
def test_the_data_source_is_a_variable_and_so_is_what_a_query_asks_for(page: Page) -> None:
    whole = made(page)
    variables = [variable["name"] for variable in whole["templating"]["list"]]
    assert variables[0] == "datasource"
    for panel in whole["panels"]:
        for target in panel.get("targets", ()):
            assert panel["datasource"] == target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            used = set(re.findall(r"\$([a-z]+)\b", target["expr"]))
            assert used <= set(variables), target["expr"]
        ids = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(ids)) == len(ids)


def test_every_variable_is_used() -> None:
    for page in PAGES:
        asked = " ".join(expr for panel in panels(page) for expr in panel.queries.values())
        for variable in page.variables:
            assert f"${variable.name}" in asked, (page.uid, variable.name)


def test_a_table_names_all_labels_that_its_queries_answer() -> None:
    for page in PAGES:
        for panel in panels(page):
            if panel.kind is Kind.TABLE and panel.title != "Agents":  # which takes the labels as they come
                for expr in panel.queries.values():
                    groups = {frozenset(by.split(", ")) for by in re.findall(r"(?:sum|max|min) by \(([^)]*)\)", expr)}
                    assert any(group - {"le", "side"} == panel.labels.keys() for group in groups), (panel.title, expr)


def test_the_map_has_the_fields_that_a_node_graph_wants() -> None:
    [graph] = [panel for page in PAGES for panel in made(page)["panels"] if panel["type"] == "nodeGraph"]
    assert [target["refId"] for target in graph["targets"]] == ["nodes", "edges"]
    assert all(target["format"] == "table" and target["instant"] for target in graph["targets"])
    points, lines = (set(re.findall(r'"([a-z_]+)"', target["expr"])) for target in graph["targets"])
    assert {"id", "title", "subtitle", "mainstat", "secondarystat"} <= points
    assert {"id", "source", "target", "mainstat", "secondarystat", "color"} <= lines
    fields = [one["options"]["alias"] for one in graph["transformations"]]
    assert fields == [arc["field"] for arc in graph["options"]["nodes"]["arcs"]] == ["arc__failed", "arc__ok"]


def test_dashboards_have_names_and_links_of_their_own() -> None:
    assert len({page.uid for page in PAGES}) == len({page.title for page in PAGES}) == len(PAGES)
    assert all(len(page.uid) <= 40 for page in PAGES), "Grafana takes no longer ones"


def test_every_family_of_durations_is_recorded() -> None:
    recorded = " ".join(rule.expr for rule in recordings())
    for family in (*FAMILIES.values(), OTHER):
        assert all(name in recorded for name in family.names.values())


def test_alerts_say_how_bad_it_is_and_what_to_do() -> None:
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
    for alert in ALERTS:
        assert alert.severity in SEVERITIES
        about = "server" if alert.name.startswith("ClovisorService") else "instance"
        assert f"$labels.{about} " in alert.summary and alert.description.endswith(".")


@promtool
def test_promtool_has_nothing_to_say() -> None:
    done = run("promtool", "check", "rules", *sorted(MADE.glob("*.rules.yml")))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@promtool
def test_the_scrape_configuration_finds_the_agents_port(tmp_path: Path) -> None:
    [job] = yaml.safe_load((MADE / SCRAPE).read_text())["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod", "namespaces": {"names": ["clovisor"]}}]
    rest = tmp_path / SCRAPE  # Debian's Prometheus is built without Kubernetes
    rest.write_text(yaml.safe_dump({"scrape_configs": [job]}))
    done = run("promtool", "check", "config", "--syntax-only", rest)
    assert done.returncode == 0, done.stderr
    keep = job["relabel_configs"][0]
    spec = yaml.safe_load((MADE.parent / "base" / "daemonset.yaml").read_text())["spec"]["template"]
    [port] = spec["spec"]["containers"][0]["ports"]
    assert keep["regex"] == f"{spec['metadata']['labels']['app.kubernetes.io/name']};{port['name']}"
    assert job["honor_labels"] is True, "traced pods are told by `namespace` and `pod`"


def case(name: str, series: list[Series], number: int) -> dict[str, Any]:
    firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    samples = [{"labels": "{}", "value": number}]
    return {
        "interval": "1m",
        "name": f"{name}: {number}",
        "input_series": [
            {"series": f"{metric}{{{','.join(filter(None, (ON, more)))}}}", "values": v} for metric, more, v in series
        ],
        "promql_expr_test": [{"expr": firing, "eval_time": "55m", "exp_samples": samples}],
    }


@promtool
def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    assert CASES.keys() == {alert.name for alert in ALERTS}
    tests = [case(name, series, number) for name, (bad, calm) in CASES.items() for series, number in ((bad, 1), (calm, 0))]
    path = tmp_path / "tests.yml"
    rules = [str(path) for path in sorted(MADE.glob("*.rules.yml"))]
    path.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": "1m", "tests": tests}))
    done = run("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@promtool
def test_a_share_of_what_is_sent_again_is_of_one_sides_segments(tmp_path: Path) -> None:
    [panel] = [panel for page in PAGES for panel in panels(page) if panel.title == "Retransmitted"]
    [asked] = panel.queries.values()
    asked = re.sub(r"\$(namespace|server)\b", ".*", asked).replace("$__rate_interval", "5m")
    sides = {"client": (100, 10), "server": (200, 2)}
    series = [
        {"series": f'clovisor_tcp_{name}_total{{server_namespace="shop",server="cart",side="{side}"}}', "values": f"0+{by}x60"}
        for side, counts in sides.items()
        for name, by in zip(("segments", "retransmissions"), counts, strict=True)
    ]
    share = {"labels": '{server_namespace="shop",server="cart"}', "value": 0.1}
    test = {"interval": "1m", "input_series": series}
    test["promql_expr_test"] = [{"expr": asked, "eval_time": "30m", "exp_samples": [share]}]
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [], "evaluation_interval": "1m", "tests": [test]}))
    done = run("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kustomization_has_every_file() -> None:
    generated = yaml.safe_load((MADE / "kustomization.yaml").read_text())["configMapGenerator"]
    named = [name for one in generated for name in one["files"]]
    assert (
        sorted(named)
        == sorted([*files(), SCRAPE])
        == sorted(path.name for path in MADE.iterdir() if path.name != "kustomization.yaml")
    )


def test_what_is_applied_is_not_too_large() -> None:
    done = run(kubectl(), "kustomize", MADE)
    assert done.returncode == 0, done.stderr
    maps = list(yaml.safe_load_all(done.stdout))
    assert sorted(name for one in maps for name in one["data"]) == sorted([*files(), SCRAPE])
    for one in maps:
        assert one["metadata"]["namespace"] == "clovisor"
        assert len(json.dumps(one)) < APPLIED_BYTES, one["metadata"]["name"]
        dashboards = one["metadata"]["name"] != "clovisor-prometheus"
        assert (one["metadata"]["labels"].get("grafana_dashboard") == "1") == dashboards


@each_page
def test_grafanas_own_model_of_a_dashboard_reads_all_of_it(page):
    """What it does not know, Grafana would not either; `definition` is written by Grafana itself, and is not in the model."""
    model = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="needs grafana-foundation-sdk (PyPI)")
    encoder = importlib.import_module("grafana_foundation_sdk.cog.encoder").JSONEncoder
    made = json.loads((MADE / f"{page.uid}.json").read_text())
    read = json.loads(json.dumps(model.Dashboard.from_json(made), cls=encoder))
    assert {path.rpartition("/")[2] for path in unread(made, read)} <= {"id", "definition"}


def unread(written: Any, read: Any, path: str = "") -> Iterator[str]:
    """Places of a document that came back otherwise, or not at all."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            yield from unread(value, read.get(key), f"{path}/{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for index, value in enumerate(written):
            yield from unread(value, read[index], f"{path}/{index}")
    elif written != read:
        yield path
