"""The node's agent where it must not leak and must not end: levels that change on open connections, private pods, refusals."""

from __future__ import annotations

import http.client
import time
from types import SimpleNamespace

import pytest

from clovisor_py import agent as agent_module
from tests.live.test_node import bare, off, on, own_node, run, within
from tests.live.test_trace import fetch
from tests.support import foreign
from tests.support.fake_cluster import FakeCluster, pod, ref
from tests.support.netns import pod as sandbox
from tests.support.nginx import nginx_in

__all__ = ["own_node", "run"]
pytestmark = pytest.mark.live


def test_a_level_that_changes_reaches_a_connection_that_stays_open(run) -> None:
    with sandbox("web") as web, nginx_in(web), run(FakeCluster(pod("web", web.ipv4)), redact="off") as running:
        within(1, lambda: on(web.ifindex))
        client = http.client.HTTPConnection(web.ipv4, 80, timeout=5)
        sessions = running.sink.sessions

        def ask(path: str) -> str:
            before = len(sessions)
            client.request("GET", path)
            client.getresponse().read()
            within(1, lambda: len(sessions) > before)
            return f"{sessions[-1].resource} {sessions[-1].attributes}"

        assert "SECRET1" in ask("/bytes/100?token=SECRET1")
        for level, shown in (("strict", False), ("off", True)):
            running.cluster.put(pod("web", web.ipv4, annotations={"clovisor.io/redact": level}))
            within(1, lambda level=level: running.agent.pods[ref("web")].wanted.decision.redact == level)
            time.sleep(0.1)
            assert ("SECRET2" in ask("/bytes/100?token=SECRET2")) is shown
        client.close()


@pytest.mark.parametrize("crashed", [False, True])
def test_what_was_captured_for_a_tap_alone_is_for_no_successor(run, crashed: bool) -> None:
    with sandbox("web") as web, nginx_in(web) as nginx:
        cluster = FakeCluster(pod("web", web.ipv4, trace=None))
        with run(cluster) as first:
            first.agent.tap({ref("web"): "off"})
            within(1, lambda: on(web.ifindex))
            if crashed:
                first.agent.veths.leave = first.agent.veths.abandon = lambda: None
        assert on(web.ifindex) if crashed else off(web.ifindex)
        for _ in range(5):
            fetch(nginx.url("/bytes/100?token=SECRET"))
        with run(cluster) as second:
            within(2, lambda: second.agent.begun)
            assert off(web.ifindex)
            strangers = second.agent.agent.pipeline.ledger.strangers
    assert (second.sink.sessions, strangers > 0) == ([], crashed)


def test_one_whose_filters_cannot_come_back_is_its_own_trouble(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has taken every preference that we may have; the other pod is repaired, and traced on."""
    monkeypatch.setattr(agent_module, "REPAIR_S", 0.2)
    with bare(2) as (taken, address), bare(3) as (other, another):
        cluster = FakeCluster(pod("a", address), pod("b", another))
        with run(cluster, hook="clsact") as running:
            within(1, lambda: on(taken) and on(other))
            for ifindex in (taken, other):
                web = SimpleNamespace(ifindex=ifindex)
                (preference, handle, _), *_ = foreign.filters(web, "ingress")
                foreign.drop_filter(web, "ingress", preference, handle)
                for each in range(1, 9) if ifindex == taken else ():
                    foreign.put_filter(web, "ingress", foreign.NEXT, each, foreign.ETH_P_IP)
            within(3, lambda: running.agent.agent.troubles.count > 1 and on(other))
            assert running.agent.agent.report(look=False).repairs == 1
            with foreign.netlink("being somebody else") as route:
                place = {"parent": foreign.PARENTS["ingress"], "protocol": foreign.ETH_P_IP}
                for each in range(1, 9):
                    route.tc("del-filter", "bpf", taken, prio=each, **place)
            within(3, lambda: on(taken))
