"""The demo into a real Jaeger: each call of the client is there, under the trace that it carried, as long as it really was."""

from __future__ import annotations

import logging
import statistics
import subprocess
from pathlib import Path

import pytest

from clovisor_py.agent import Agent
from clovisor_py.config import Settings
from clovisor_py.demo.playground import Playground
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.kernel import attach, netns
from clovisor_py.kernel.targets import Veth
from tests.support.jaeger import jaeger
from tests.support.netns import require_namespaces
from tests.support.trace import CLOVISOR, wait_until

pytestmark = pytest.mark.live
REQUESTS = 90
OUTLIER_NS = 1_000_000

log = logging.getLogger(__name__)


@pytest.mark.jaeger
@pytest.mark.slow
def test_each_context_is_in_jaeger_with_the_servers_own_durations() -> None:
    require_namespaces()
    with jaeger() as store:
        with Playground() as playground, open_urls(["jaeger://127.0.0.1"], queue_limit=8192) as fanout:
            with Agent(Settings(), fanout) as agent:
                agent.attach([Veth(p.ifindex, p.veth, p.name, (p.ipv4, p.ipv6), "eth0") for p in playground.pods])
                playground.start_traffic(REQUESTS, rate=60)
                agent.run(lambda: agent.report().red.total().calls >= REQUESTS and playground.wait(0.01))
                agent.run(_soon())
                agent.finish()
                fanout.close()
            truth = [record for record in playground.truth() if record["side"] == "server" and record["trace_id"]]
        expected = {(int(record["trace_id"], 16), record["service"]): record for record in truth}
        assert len(expected) == len(truth)
        found = {}
        for trace_id in {trace_id for trace_id, _ in expected}:
            services = {service for one, service in expected if one == trace_id}
            wait_until(lambda t=trace_id, s=services: s <= _servers(store.spans(t)).keys(), f"the spans of {trace_id:x}")
            found |= {(trace_id, service): span for service, span in _servers(store.spans(trace_id)).items()}
    assert found.keys() == expected.keys()
    differences = {key: found[key]["duration"] * 1000 - expected[key]["duration_ns"] for key in expected}
    median = statistics.median(map(abs, differences.values()))
    outliers = {
        f"{service} in {trace:x}": f"{d / 1e6:+.2f} ms" for (trace, service), d in differences.items() if abs(d) > OUTLIER_NS
    }
    log.info("%d spans, median difference %.3f ms, outliers %s", len(found), median / 1e6, outliers)
    assert median < OUTLIER_NS


def _servers(spans: list[dict]) -> dict[str, dict]:
    """A service's own span of the call that it served."""
    kind = [({tag["key"]: tag["value"] for tag in span["tags"]}, span) for span in spans]
    return {span["process"]["serviceName"]: span for tags, span in kind if tags.get("span.kind") == "server"}


def _soon():
    rounds = iter(range(20))
    return lambda: next(rounds, None) is None


@pytest.mark.parametrize("interrupt", [False, True])
def test_the_command_leaves_nothing_behind(interrupt: bool, tmp_path: Path) -> None:
    require_namespaces()
    out = tmp_path / "out"
    with out.open("wb") as sink:
        process = subprocess.Popen([CLOVISOR, "demo", "--requests", "40"], stdout=sink, stderr=sink)
        if interrupt:
            wait_until(lambda: "/productpage/1" in out.read_text(), "the first sessions")
            process.send_signal(2)
        assert process.wait(60) == 0
    text = out.read_text()
    assert "client      → productpage" in text
    if not interrupt:
        assert "40 of 40 requests of the client seen, at both ends" in text
        assert "lost 0" in text
    assert not [name for name in netns.names() if name.startswith("clovisor-")]
    assert not Path("/sys/fs/bpf/clovisor").exists()
    assert attach.find_all() == []
