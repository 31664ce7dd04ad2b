"""A real Prometheus scrapes a running agent: its sums are the load's own counts, and promtool has nothing to say."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from clovisor_py.control_socket import Request
from clovisor_py.service import Service
from tests.live.test_node import on, within
from tests.support.agent_service import Served, agent
from tests.support.fake_cluster import pod
from tests.support.kernel import node
from tests.support.netns import pod as sandbox
from tests.support.nginx import Nginx, nginx_in
from tests.support.prometheus import prometheus
from tests.support.trace import CLOVISOR, PATIENCE_S

pytestmark = pytest.mark.live

PORT, OWN_PORT = 19464, 19090
"""In a network namespace of the test's own."""
CONNECTIONS = 5
PATHS = ["/", "/status/404", *(f"/users/{number}" for number in range(40)), *(f"/shop/{chr(97 + n)}x" for n in range(26))]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
RED = 'server="web",protocol="http",side="server"'


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Nginx, Service]]:
    with node(), sandbox("web") as made, nginx_in(made) as nginx:
        cluster = Served(pod("web", made.ipv4, made.ipv6))
        with agent(tmp_path / "control.sock", cluster, http_port=PORT, cpu_share=8.0) as running:
            within(5, lambda: on(made.ifindex))
            yield nginx, running


@pytest.fixture
def web(world: tuple[Nginx, Service]) -> Nginx:
    return world[0]


@pytest.fixture
def service(world: tuple[Nginx, Service]) -> Service:
    return world[1]


def load(nginx: Nginx) -> Counter[str]:
    """Every path once a connection; by class of status."""
    classes: Counter[str] = Counter()
    for _ in range(CONNECTIONS):
        client = http.client.HTTPConnection(nginx.pod.ipv4, 80, timeout=PATIENCE_S)
        for path in PATHS:
            client.request("GET", path, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
            answer = client.getresponse()
            answer.read()
            classes[f"{answer.status // 100}xx"] += 1
        client.close()
    return classes


def test_sums_are_the_loads_own(web: Nginx, tmp_path: Path) -> None:
    with prometheus(tmp_path, f"127.0.0.1:{PORT}", OWN_PORT) as asked:
        sent = load(web)
        asked.wait_for(f"sum(clovisor_calls_total{{{RED}}})", sent.total())
        by_class = {
            labels["status_class"]: value for labels, value in asked.query("sum(clovisor_calls_total) by (status_class)")
        }
        assert by_class == dict(sent)
        duration = "http_server_request_duration_seconds"
        assert asked.value(f"sum({duration}_count)") == asked.value(f'sum({duration}_bucket{{le="+Inf"}})') == sent.total()
        assert asked.value('sum(clovisor_sessions_total{pod="web"})') == sent.total()
        assert asked.value(f"sum(clovisor_request_size_bytes_count{{{RED}}})") == sent.total()
        operations = {labels["operation"] for labels, _ in asked.query(f"{duration}_count")}
        assert operations == {"GET /", "GET /status/{id}", "GET /users/{id}", "GET /shop/{name}"}
        users = f'sum({duration}_count{{operation="GET /users/{{id}}"}})'
        assert asked.value(users) == 40 * CONNECTIONS
        asked.wait_for('sum(clovisor_tcp_connections_total{server="web"})', CONNECTIONS)
        asked.wait_for('sum(clovisor_tcp_connections_open{server="web"})', 0)
        assert asked.value('clovisor_segments_total{pod="web",stage="seen"}') == asked.value(
            'sum(clovisor_segments_total{pod="web",stage!="seen"})'
        )
        assert (asked.value('k8s_pod_network_io_bytes_total{direction="receive"}') or 0) > 100 * sent.total()
        assert asked.value("clovisor_pod_budget_ratio") == 1
        found = asked.get("query_exemplars", query=f"{duration}_bucket", start="0", end="9999999999")
        assert {one["labels"]["trace_id"] for series in found for one in series["exemplars"]} == {TRACE}
        assert asked.value("up") == 1
        assert asked.value("scrape_samples_scraped") < 1000


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus")
def test_promtool_has_nothing_to_say(web: Nginx) -> None:
    load(web)

    def read() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=PATIENCE_S) as answer:
            return bytes(answer.read())

    within(PATIENCE_S, lambda: b"\nclovisor_tcp_connections_total{" in read())
    page = read()
    assert b"clovisor_agent_events_total{" in page and b"k8s_pod_network_io_bytes_total{" in page
    assert web.pod.ipv4.encode() not in page and b"/users/7" not in page
    done = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_top_through_the_agents_socket(web: Nginx, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), service.control._answer

    def answered(request: Request) -> object:
        found = answer(request)
        asked.set()
        return found

    monkeypatch.setattr(service.control, "_answer", answered)
    command = [CLOVISOR, "top", "--socket", str(tmp_path / "control.sock"), "--every", "4s", "-o", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as top:
        assert asked.wait(PATIENCE_S)
        sent = load(web)
        said, _ = top.communicate(timeout=PATIENCE_S)
    [line] = [json.loads(line) for line in said.splitlines()]
    assert (line["server"]["name"], line["protocol"], line["calls"]) == ("web", "http", sent.total())
    assert line["p50_ns"] > 0
