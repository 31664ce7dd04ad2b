"""What a tap means on a node: who is meant, what is attached for it, how much is hidden, and when it ends."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from clovisor_py import node_taps as module
from clovisor_py.kernel.layout import BUCKETS, COUNTERS, Counter
from clovisor_py.kernel.maps import Stats
from clovisor_py.kube.objects import Ref
from clovisor_py.model.session import Side
from clovisor_py.model.workload import Endpoint
from clovisor_py.node_taps import NodeTaps
from clovisor_py.snapshot import Ended
from clovisor_py.tap import segments
from clovisor_py.taps import Taps
from tests.support.fake_cluster import FakeCluster, pod, ref
from tests.support.sessions import session
from tests.test_node import Bench, bench

__all__ = ["bench"]


class World(Bench):
    """A node with taps whose threads are not started: the test reads what was said to them."""

    def __init__(self, cluster):
        super().__init__(cluster)
        self.node.begun = True
        self.seen = 10
        self.agent.datapath.stats = self.stats
        self.agent.source = SimpleNamespace(now_ns=lambda: 5000)
        self.veths.table = {"10.0.0.1": 1, "10.0.0.2": 2}
        self.taps = Taps(SimpleNamespace(offer=lambda sessions: None), self.node.private)
        self.desk = NodeTaps(
            self.node, self.taps, "n1", {ref("far"): pod("far", node="n9"), ref("new"): pod("new", node="")}.get
        )

    def stats(self, ifindex):
        count = [0] * COUNTERS
        count[Counter.SEGMENTS] = count[Counter.CAPTURED] = self.seen
        return Stats(tuple(count), ((0,) * BUCKETS,) * 2)

    def open(self, *targets, redact=""):
        self.taps.open(None, " ".join(targets), redact)
        return self.taps.open_now[-1]

    def both(self, seconds=0.02):
        self.turn(seconds)
        self.desk.turn(self.now)


@pytest.fixture
def world(bench, monkeypatch):
    monkeypatch.setattr("clovisor_py.tap.Tap.start", lambda self: None)

    def make(*pods):
        made = World(FakeCluster(*pods))
        made.both()
        return made

    yield make


def words(tap):
    return b"".join(tap._words).decode()


def test_a_pod_that_nobody_enabled_is_attached_for_it_alone(world):
    one = world(pod("a", "10.0.0.1", trace=None))
    assert one.agent.on == {}
    tap = one.open("Pod/shop/a")
    one.both()
    assert not tap.answered
    one.both()
    assert (one.agent.on, one.node.private, tap.interfaces) == ({1: "detect"}, {1}, {1})
    one.both()
    assert '"enabled": false' in words(tap)
    call = session(side=Side.CLIENT, interface=2, server=Endpoint("10.0.0.1", 80))
    one.node.directory.name(call)
    assert not call.peer_traced, "nobody else will ever see a span of that end"
    one.cluster.put(pod("a", "10.0.0.1"))
    one.both()
    assert one.node.private == set()
    one.node.directory.name(call)
    assert call.peer_traced
    one.cluster.put(pod("a", "10.0.0.1", trace="false"))
    one.both()
    assert one.node.private == {1}
    one.seen = 17
    tap.leaving.set()
    for _ in range(2):
        one.both()
        assert not tap.let_go.is_set()
    one.both()
    assert (one.agent.on, one.node.private, tap.let_go.is_set()) == ({}, set(), True)
    assert one.agent.log == ["+1", "private -1"]
    tap.over.set()
    one.both()
    assert one.taps.open_now == ()


def test_what_was_counted_meanwhile(world):
    one = world(pod("a", "10.0.0.1"))
    tap = one.open("Pod/shop/a")
    tap.since = time.time() + 9
    one.both()
    one.both()
    one.seen = 17
    tap.leaving.set()
    one.both()
    (counts,) = tap.counted.values()
    assert [last.get(("seen", "")) - first.get(("seen", ""), 0) for first, last in [counts]] == [7]
    assert Ended("seen", "", 7) in segments([counts])


def test_more_is_hidden_for_as_long_as_somebody_wants_it(world):
    one = world(pod("a", "10.0.0.1"))
    one.open("Pod/shop/a", redact="off")
    one.both()
    assert one.agent.terms[1][1] == "default"
    strict = one.open("Pod/shop/a", redact="strict")
    one.both()
    assert one.agent.terms[1][1] == "strict"
    strict.over.set()
    one.both()
    assert one.agent.terms[1][1] == "default"


def test_nobody_sees_what_was_read_while_less_was_hidden_than_he_asks_for(world):
    """What comes out at the change of a level, by the level of before, is not for those who asked for the change."""
    one = world(pod("a", "10.0.0.1"))
    lax = one.open("Pod/shop/a", redact="off")
    one.both()
    hold, seen = one.agent.set_terms, {}

    def ending(ifindex, *terms):
        for name, tap in {"lax": lax, "strict": one.taps.open_now[-1]}.items():
            seen.setdefault(terms[1], {})[name] = tap.may_see(session(interface=ifindex))
        hold(ifindex, *terms)

    one.agent.set_terms = ending
    strict = one.open("Pod/shop/a", redact="strict")
    one.both()
    assert (seen, strict.interfaces) == ({"strict": {"lax": True, "strict": False}}, {1})
    second = one.open("Pod/shop/a", redact="strict")
    one.both()
    assert second.interfaces == {1} and seen.keys() == {"strict"}, "the level was strict already"
    one.taps.forget(second)
    strict.leaving.set()
    one.both()
    assert (one.agent.terms[1][1], strict.interfaces) == ("default", set())


def test_it_is_let_go_when_what_was_open_has_been_told_however_long_that_takes(world):
    one = world(pod("a", "10.0.0.1", trace=None), pod("b", "10.0.0.2"))
    tap = one.open("Namespace//shop")
    for _ in range(3):
        one.both()
    assert tap.interfaces == {1, 2}
    tap.leaving.set()
    one.both()
    assert tap.interfaces == {1}, "the other pod's are read on, for others"
    for _ in range(9):  # the node's agent does not get round to it
        one.desk.turn(one.now)
        assert tap.may_see(session(interface=1)) and not tap.let_go.is_set()
    for _ in range(3):
        one.both()
    assert tap.let_go.is_set()


def test_one_that_leaves_while_it_is_looked_at_loses_nothing(world):
    one = world(pod("a", "10.0.0.1", trace=None))
    tap = one.open("Pod/shop/a")
    for _ in range(3):
        one.both()
    told = one.desk._tell

    def leaves():
        tap.leaving.set()
        told()

    one.desk._tell = leaves
    one.both()
    assert (tap.interfaces, tap.let_go.is_set()) == ({1}, False)


def test_a_private_pod_that_another_taps_is_given_up_at_once(world):
    one = world(pod("a", "10.0.0.1", trace=None))
    strict, other = one.open("Pod/shop/a", redact="strict"), one.open("Pod/shop/a")
    for _ in range(3):
        one.both()
    assert strict.interfaces == other.interfaces == {1}
    strict.leaving.set()
    for _ in range(2):
        one.both()
    assert (strict.let_go.is_set(), strict.interfaces, other.interfaces) == (True, set(), {1})
    assert (one.agent.terms[1][1], one.agent.log) == ("default", ["+1"])


def test_the_pods_own_word_holds_though_nobody_enabled_it(world):
    one = world(pod("a", "10.0.0.1", trace="false", annotations={"clovisor.io/redact": "strict"}))
    one.open("Pod/shop/a", redact="off")
    one.both()
    one.both()
    assert one.agent.terms[1][1] == "strict"


def test_pods_that_come_and_go(world):
    one = world(pod("a", "10.0.0.1"))
    tap = one.open("Namespace//shop")
    for _ in range(3):
        one.both()
    one.cluster.put(pod("b", "10.0.0.2", trace=None))
    one.desk._second._next = 0.0
    one.both()
    one.both()
    one.both()
    assert tap.refs == {ref("a"), ref("b")} and tap.interfaces == {1, 2}
    one.cluster.delete(ref("b"))
    one.desk._second._next = 0.0
    one.both()
    assert "pod/shop/b has come" in words(tap) and "pod/shop/b is gone" in words(tap)


def test_one_without_a_veth_is_answered_with_its_reason(world):
    one = world(pod("a", "10.0.0.9", trace=None))
    tap = one.open("Pod/shop/a")
    for _ in range(3):
        one.both()
    assert "no veth of this node leads to it" in words(tap)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("Pod/shop/far", "pod/shop/far runs on node n9, and this is n1: run this there."),
        ("Pod/shop/new", "no node has been chosen yet for pod/shop/new: kubectl describe pod new -n shop says why."),
        ("Pod/shop/wbe", "the agent of node n1 knows no pod/shop/wbe; did you mean shop/web?"),
        ("Pod/x/y", "the agent of node n1 knows no pod/x/y; `clovisor pods -a` lists those of this node."),
        ("Deployment/shop/d", "no pod of deployment/shop/d runs on node n1: kubectl get pods -o wide says where they are."),
        ("Pod/shop/host", "pod/shop/host cannot be traced: it uses its host's network, and so has no veth of its own; "),
    ],
)
def test_what_cannot_be_seen(world, target, sentence):
    one = world(pod("web", "10.0.0.1"), pod("host", "192.0.2.1", host_network=True))
    tap = one.open(target)
    one.both()
    assert sentence in words(tap)
    assert (tap.refs, one.node.tapped) == (frozenset(), {})


def test_an_agent_that_is_starting(world):
    one = world(pod("web", "10.0.0.1"))
    one.node.begun = False
    tap = one.open("Pod/shop/web")
    one.both()
    assert "is starting" in words(tap)


def test_an_owner_is_followed(world):
    one = world(pod("web", "10.0.0.1")._replace(owner=Ref("ReplicaSet", "shop", "web-1")))
    tap = one.open("ReplicaSet/shop/web-1")
    one.both()
    assert tap.refs == {ref("web")}
    assert module.SECOND <= 1
