"""What the node's agent tells its engine of servers: its pods' own words, the cluster's for all others, and changes of them."""

from __future__ import annotations

from clovisor_py.node import RETELL_S
from tests.support.fake_cluster import FakeCluster, pod, ref
from tests.test_node import bench

__all__ = ["bench"]


class Talking(FakeCluster):
    def protocol_at(self, ip: str, port: int) -> str:
        return f"{ip}-{port}"


def test_a_pods_own_ports_are_its_own_business(bench):
    one = bench(Talking(pod("a", "10.0.0.1", annotations={"clovisor.io/ports": "8080=http"})))
    said = one.node.terms.said
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    local = one.node.pods[ref("a")]
    assert [said(local, "10.0.0.1", port) for port in (8080, 9090)] == ["http", ""]
    assert said(local, "10.96.0.7", 80) == "10.96.0.7-80"


def test_open_connections_are_told_when_words_change_and_not_too_often(bench):
    one = bench(FakeCluster())
    told = []
    one.agent.retell = lambda: told.append(one.now)
    one.now += RETELL_S  # as long as it has run
    one.node._retell._next = one.now
    one.turn()
    assert told == []
    for version in range(1, 4):
        one.cluster.protocols_version = version
        one.turn()
    assert len(told) == 1
    one.turn(RETELL_S)
    one.turn(RETELL_S)
    assert len(told) == 2
