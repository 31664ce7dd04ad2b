"""The facts that an agent publishes, made from one that writes down what it is told."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from clovisor_py.kernel.layout import BUCKETS, COUNTERS, Counter
from clovisor_py.kernel.maps import Stats
from clovisor_py.kube.reflector import State as Watching
from clovisor_py.metrics.by_pod import ByPod
from clovisor_py.model.session import Outcome
from clovisor_py.node_snapshot import Counting, Snapshots
from clovisor_py.snapshot import SEEN, State
from tests.support.fake_cluster import FakeCluster, pod
from tests.support.sessions import session
from tests.test_node import Bench, bench

__all__ = ["bench"]


@pytest.fixture
def world(bench: type[Bench]):
    pods = (pod("a", "10.0.0.1"), pod("b", "10.0.0.2", trace=None), pod("c", "10.0.0.3"), pod("d", "10.0.0.4"))
    host, new = pod("h", "192.0.2.1", host_network=True), pod("n")
    one = bench(FakeCluster(*pods, host, new))
    one.veths.table = {"10.0.0.1": 1, "10.0.0.4": 4}
    one.agent.refuse = {4}
    one.turn()
    core, reads = one.agent, []

    def stats(ifindex):
        reads.append(ifindex)
        count = [0] * COUNTERS
        count[Counter.SEGMENTS], count[Counter.CAPTURED], count[Counter.BYTES] = 9, 9, 1000
        return Stats(tuple(count), ((0,) * BUCKETS,) * 2)

    core.datapath.stats = stats
    core.datapath.ahead = lambda ifindex: ("cil_from_container",) if ifindex == 1 else ()
    core.datapath.ring = SimpleNamespace(written=100)
    core.datapath.maps = SimpleNamespace(sessions=lambda: [])
    core.shedding, core.settings = SimpleNamespace(active=False, allowed=1.0), SimpleNamespace(cpu_share=0.5)
    core.datapath.controls_refused, core.datapath.stale_bytes = 0, 24640
    core.ledgers = lambda: {"console:": SimpleNamespace(offered=3, sent=2, waiting=1, dropped={}, left_out=0)}
    core.report = lambda look: SimpleNamespace(
        engine={"payload": 5, "unparsed": {}}, unparsed=[(80, "why", 1)], shed_seconds=0.0, blind_seconds=2.6, repairs=2
    )
    return one, reads


def test_every_pod_of_the_node_and_what_became_of_it(world):
    one, _ = world
    by_pod = ByPod()
    Counting(SimpleNamespace(offer=lambda sessions: None), by_pod).offer([session(interface=1, outcome=Outcome.ERROR)])
    watching = [Watching("pods", 3.0, 1.0, "", 5, 1, 1, 0, 0, 0, 0), Watching("jobs", None, None, "no.", 0, 0, 0, 0, 0, 1, 0)]
    found = Snapshots(one.node, "n1", by_pod).take(1.0, watching)
    states = {each.name: each.state for each in found.pods}
    assert states == {
        "a": State.TRACED,
        "b": State.NOT_SELECTED,
        "c": State.NO_VETH,
        "d": State.REFUSED,
        "h": State.HOST_NETWORK,
        "n": State.NOT_RUNNING,
    }
    (traced,) = (each for each in found.pods if each.state is State.TRACED)
    assert (traced.veth, traced.ifindex, traced.bytes, traced.ended(SEEN)) == ("veth1", 1, (1000, 0), 9)
    assert traced.sessions == {"error": 1}
    assert traced.ahead == "cil_from_container"
    assert found.starting, "it has not been told yet that all have been looked at"
    assert [(each.name, each.synced, each.problem) for each in found.resources] == [("pods", True, ""), ("jobs", False, "no.")]
    assert found.own["ring stale bytes"] == 24640
    assert (found.repairs, found.engine, found.exporters[0].waiting) == (2, {"payload": 5}, 1)


def facts_of(one):
    one.agent.datapath.stats = lambda _: None
    [local] = one.node.pods.values()
    return Snapshots(one.node, "n1", ByPod())._pod(local, {})


def test_what_cannot_be_traced_is_said_of_pods_that_nobody_enabled(bench):
    one = bench(FakeCluster(pod("h", "192.0.2.1", trace=None, host_network=True)))
    one.turn()
    found = facts_of(one)
    assert found.state is State.HOST_NETWORK and not found.selected


def test_mistakes_are_sentences_of_their_own(bench):
    written = {"clovisor.io/ports": "80=nothing", "clovisor.io/capture": "some"}
    one = bench(FakeCluster(pod("a", "10.0.0.1", annotations=written)))
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    found = facts_of(one)
    assert (found.problem, found.problem_at, len(found.mistakes)) == ("", 0, 2)
    assert all(sentence.startswith("annotation clovisor.io/") for sentence in found.mistakes)


def test_sessions_count_from_where_segments_do(bench):
    """Seen by an operator: SEGMENTS began anew with each look, SESSIONS had those of earlier looks as well."""
    began = []
    one = bench(FakeCluster(pod("a", "10.0.0.1")))
    one.node.veths._began = began.append
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    one.cluster.put(pod("a", "10.0.0.1", trace="false"))
    one.turn()
    one.cluster.put(pod("a", "10.0.0.1"))
    one.turn()
    assert began == [1, 1]


def test_what_did_not_move_is_not_read_again_for_a_while(world):
    one, reads = world
    snapshots = Snapshots(one.node, "n1", ByPod())
    now = time.monotonic() + 1
    first = snapshots.take(now, [])
    second = snapshots.take(now + 1, [])
    assert reads == [1]
    assert [each.segments for each in first.pods] == [each.segments for each in second.pods]
    one.agent.datapath.ring.written = 200
    snapshots.take(now + 2, [])
    assert reads == [1, 1]
    snapshots.take(now + 7, [])
    assert reads == [1, 1, 1]


def test_what_was_attached_anew_is_read_anew(world):
    one, reads = world
    snapshots = Snapshots(one.node, "n1", ByPod())
    now = time.monotonic() + 1
    snapshots.take(now, [])
    for local in one.node.pods.values():
        local.since += 1
    snapshots.take(now + 1, [])
    assert reads == [1, 1]
