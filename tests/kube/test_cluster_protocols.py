"""What `Cluster` says of servers elsewhere: fed by the watches of the whole cluster, and told when it changes."""

from __future__ import annotations

from clovisor_py.kube.objects import Port, Ref, Service
from tests.kube.test_cluster import cluster, owner, pod, put

__all__ = ["cluster"]
REF = Ref("Service", "shop", "web")


def test_a_server_elsewhere_and_a_change_of_its_words(cluster):
    first = Service(REF, ips=("10.96.0.7",), ports=(Port(80, "http"),))
    put(cluster, "services", first)
    assert cluster.take() == set()
    before = cluster.protocols_version
    assert cluster.protocol_at("10.96.0.7", 80) == "http"
    put(cluster, "services", first._replace(ports=(Port(80, "redis"),)), first)
    cluster.take()
    assert cluster.protocol_at("10.96.0.7", 80) == "redis"
    assert cluster.protocols_version != before


def test_an_annotation_above_a_pod_of_another_node(cluster):
    there = pod("there", node="n2", ips=("10.0.9.9",), owner=Ref("StatefulSet", "shop", "db"))
    put(cluster, "pods", there)
    put(cluster, "statefulsets", owner("StatefulSet", "db", annotations={"clovisor.io/ports": "5000=redis"}))
    cluster.take()
    assert cluster.protocol_at("10.0.9.9", 5000) == "redis"
