"""Every query of the dashboards and rules, asked of a real Prometheus that scrapes a real agent with real traffic of all kinds.

Two traced pods, one of which calls the other: HTTP of a real server and client, and what other protocols say, played over real
connections. What answers nothing there is listed with its reason.
"""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from clovisor_py import service as agent_module
from clovisor_py.kernel.pod_usage import PodUsage
from clovisor_py.kube.reflector import State
from tests.kernel.test_pod_usage import V2, fill, mount
from tests.live.test_node import on, within
from tests.live.test_trace import fetch
from tests.support.agent_service import Served, agent
from tests.support.fake_cluster import pod
from tests.support.kernel import node
from tests.support.live_grpc_peer import calls
from tests.support.live_web import module
from tests.support.netns import Pod
from tests.support.netns import pod as sandbox
from tests.support.nginx import Nginx, nginx_in
from tests.support.parser_harness import Script
from tests.support.prometheus import Prometheus, prometheus
from tests.support.scripts import restore
from tests.support.servers import Server, serving
from tests.support.services import forward
from tools._dashboards import PAGES, files
from tools._dashboards_json import ALL, panels
from tools._dashboards_map import edges, nodes
from tools._dashboards_promql import EVERY, WINDOW
from tools._dashboards_rules import ALERTS, ledgers, recordings
from tools._dashboards_services import servers

pytestmark = [pytest.mark.live, pytest.mark.slow]

PORT, OWN_PORT = 19465, 19091
"""In a network namespace of the test's own."""
PATIENCE_S: Final = 10
ROUNDS: Final = 3
GRPC_PORT: Final = 8201
GRPC: Final = module("tests.support.live_grpc_peer", "server")
SCRIPTS: Final = Path(__file__).parents[1] / "golden" / "scripts"
PLAYED: Final = {
    "dns": 53,
    "http2": 50051,
    "kafka": 9092,
    "postgresql": 5432,
    "redis": 6379,
    "tls": 443,
}
UNREADABLE: Final[Script] = [(0, b"\x01\x02garbage\xff" * 1000), (1, b"\x05nobody knows\xfe" * 1000)]
FIRING: Final = {
    "ClovisorPodsNotTraced": "one pod has no veth",
    "ClovisorExporterDropping": "nobody listens where Jaeger should be",
    "ClovisorExporterStuck": "the same",
    "ClovisorMetricsMerged": "every call of gRPC has a method of its own",
    "ClovisorServiceFailing": "what is played has every error that its protocol knows",
}
NOTHING: Final[dict[tuple[str, str], str]] = {}
"""(dashboard, panel) whose queries answer nothing here, to the reason."""


class Synced(Served):
    """With a watch of the API server that holds."""

    def states(self) -> list[State]:
        return [State("pods", 1.0, 0.1, "", 3, 1, 1, 0, 5, 0, 0)]


def play(script: Script, server: Pod, client: Pod, port: int, datagrams: bool) -> None:
    """What was said, said again: each piece has arrived before the next is sent."""
    kind = socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM
    here, there = (one.call(lambda: socket.socket(socket.AF_INET, kind)) for one in (client, server))
    with here, there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        there.bind((server.ipv4, port))
        if not datagrams:
            there.listen()
        here.settimeout(PATIENCE_S)
        here.connect((server.ipv4, port))
        if datagrams:
            here.send(b"")
            there.connect(there.recvfrom(1)[1])
            accepted = there
        else:
            accepted = there.accept()[0]
        with accepted:
            accepted.settimeout(PATIENCE_S)
            for sender, piece in script:
                assert isinstance(piece, bytes)
                (accepted if sender else here).sendall(piece)
                (here if sender else accepted).recv(len(piece), 0 if datagrams else socket.MSG_WAITALL)


def scripts() -> Iterator[tuple[int, bool, Script]]:
    yield 7777, False, UNREADABLE
    for folder, port in PLAYED.items():
        for path in sorted((SCRIPTS / folder).iterdir()):
            datagrams, script = restore(path.read_bytes())
            if all(isinstance(piece, bytes) for _, piece in script):
                yield port, datagrams, script


def talk(nginx: Nginx, client: Pod) -> None:
    for path in ("/", "/users/1", "/status/404"):
        client.call(lambda path=path: fetch(nginx.url(path)))
    for port, datagrams, script in scripts():
        play(script, nginx.pod, client, port, datagrams)


def grpc_calls(server: Server, client: Pod) -> None:
    client.call(lambda: calls(server.address, "usual"))


def rules(folder: Path) -> tuple[Path, ...]:
    """As they are, but evaluated more often."""
    for name, text in files().items():
        if name.endswith(".yml"):
            (folder / name).write_text(text.replace(f"interval: {EVERY}", "interval: 1s"))
    return tuple(folder.glob("*.yml"))


def cgroups(folder: Path, *uids: str) -> Path:
    mounts = folder / "mountinfo"
    mounts.write_text(mount(folder / "cg", "cgroup2", "rw"))
    for uid in uids:
        fill(folder / "cg" / "kubepods" / f"pod{uid}", V2)
    return mounts


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("grafana")
    with pytest.MonkeyPatch.context() as patch, node(), sandbox("web") as web, sandbox("shopper") as client:
        forward()
        uids = [f"11111111-2222-3333-4444-55555555555{number}" for number in (1, 2)]
        patch.setattr(agent_module, "PodUsage", partial(PodUsage, cgroups(folder, *uids)))
        cluster = Synced(
            pod("web", web.ipv4, web.ipv6, uid=uids[0]),
            pod("shopper", client.ipv4, client.ipv6, uid=uids[1]),
            pod("gone", "192.0.2.77"),
        )
        exports = (f"jsonl:{folder / 'sessions.jsonl'}", "jaeger://127.0.0.1")
        running = agent(folder / "control.sock", cluster, http_port=PORT, cpu_share=8.0, exports=exports, sample=0.5)
        with (
            nginx_in(web) as nginx,
            serving(web, GRPC, port=GRPC_PORT) as server,
            running,
            prometheus(folder, f"127.0.0.1:{PORT}", OWN_PORT, rules(folder)) as made,
        ):
            within(5, lambda: on(web.ifindex) and on(client.ifindex))
            made.wait_for("up", 1)  # it looks for targets every five seconds
            for _ in range(ROUNDS):
                talk(nginx, client)
                grpc_calls(server, client)
                time.sleep(1)  # a rate wants several scrapes
            made.wait_for("count(clovisor_tcp_connections_total) > bool 0", 1)
            made.wait_for("sum(edge:clovisor_duration_seconds_bucket:rate5m) > bool 0", 1)
            made.wait_for('sum(rate(clovisor_exported_sessions_total{stage="dropped"}[5m])) > bool 0', 1)  # tried for seconds
            yield made


def answers(asked: Prometheus, expr: str) -> list[float]:
    """Numbers that somebody can look at."""
    return [value for _, value in asked.query(prepared(expr)) if math.isfinite(value)]


def prepared(expr: str) -> str:
    """As Grafana asks it where nothing is chosen; `$1` is Prometheus' own."""
    expr = re.sub(r"\$(namespace|server|protocol|instance|pod)\b", lambda _: ALL, expr).replace("$__rate_interval", WINDOW)
    assert "$" not in expr.replace("$1", ""), expr
    return expr


def test_every_panel_has_something_to_show(asked: Prometheus) -> None:
    empty = {
        (page.uid, panel.title): name
        for page in PAGES
        for panel in panels(page)
        for name, expr in panel.queries.items()
        if not answers(asked, expr)
    }
    assert empty.keys() == NOTHING.keys(), empty


def test_graphs_of_single_calls_have_exemplars(asked: Prometheus) -> None:
    known = [panel for page in PAGES for panel in panels(page) if panel.exemplars]
    assert known
    for panel in known:
        for expr in panel.queries.values():
            found = asked.get("query_exemplars", query=prepared(expr), start="0", end="9999999999")
            assert any(
                re.fullmatch("[0-9a-f]{32}", one["labels"]["trace_id"]) for each in found for one in each["exemplars"]
            ), expr


def test_every_rule_records_something(asked: Prometheus) -> None:
    assert [rule.record for rule in (*recordings(), *servers(), *ledgers()) if not asked.query(rule.expr)] == []
    assert [rule.record for rule in (*recordings(), *servers(), *ledgers()) if not asked.query(rule.record)] == []


def test_every_alert_watches_something_and_those_fire_that_should(asked: Prometheus) -> None:
    assert [alert.name for alert in ALERTS if not asked.query(alert.measure)] == []
    fired = {alert.name for alert in ALERTS if asked.query(alert.expr)}
    assert FIRING.keys() - {"ClovisorExporterStuck"} <= fired <= FIRING.keys()  # that one waits for the last try
    groups = {group["name"]: group["rules"] for group in asked.get("rules")["groups"]}
    assert len(groups["clovisor-alerts"]) == len(ALERTS)
    assert [rule["name"] for rules in groups.values() for rule in rules if rule["health"] == "err"] == []


def test_every_variable_has_values(asked: Prometheus) -> None:
    for page in PAGES:
        for variable in page.variables:
            metric = variable.metric.replace("$namespace", ALL)
            assert asked.get(f"label/{variable.of}/values", **{"match[]": metric}), (page.uid, variable.name)


def test_a_call_that_was_seen_at_both_ends_counts_once(asked: Prometheus) -> None:
    chosen = '{server="web",client="shopper",protocol="http"}'
    rates = {labels["side"]: value for labels, value in asked.query(f"edge_side:clovisor_calls:rate5m{chosen}")}
    assert set(rates) == {"client", "server"}
    once = asked.value(f"edge:clovisor_calls:rate5m{chosen}")
    assert once is not None and min(rates.values()) <= once < sum(rates.values())
    kept = asked.value(f"count(count by (le) (edge:clovisor_duration_seconds_bucket:rate5m{chosen}))")
    assert asked.value(f"count(edge:clovisor_duration_seconds_bucket:rate5m{chosen})") == kept


def test_the_map_is_a_graph(asked: Prometheus) -> None:
    def frame(expr: str) -> list[tuple[dict[str, str], float]]:
        return [(dict(labels), value) for labels, value in asked.query(prepared(expr))]

    points, lines = frame(nodes()), frame(edges())
    ids = [labels["id"] for labels, _ in points]
    assert len(set(ids)) == len(ids) and "shop/web" in ids and "shop/shopper" in ids
    assert lines and len({labels["id"] for labels, _ in lines}) == len(lines)
    for labels, share in lines:
        assert {labels["source"], labels["target"]} <= set(ids)
        assert re.fullmatch(r"[\d.]+/s", labels["mainstat"]) and labels["color"].startswith("#")
        assert 0 <= share <= 1
    [web] = [labels for labels, _ in points if labels["id"] == "shop/web"]
    assert (web["title"], web["subtitle"]) == ("web", "shop")
    assert re.fullmatch(r"[\d.]+/s", web["mainstat"]) and re.fullmatch(r"p95 [\d.]+ ms", web["secondarystat"])
