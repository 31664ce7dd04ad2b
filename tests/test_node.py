"""What the node's agent decides, without a kernel: an agent that writes down what it is told, and veths from a table."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from clovisor_py import node as module
from clovisor_py import node_veths
from clovisor_py.config import Settings
from clovisor_py.errors import KernelRefused
from clovisor_py.kernel.targets import Veth
from clovisor_py.kube.policy import Rules
from clovisor_py.model.session import Side
from clovisor_py.node import BAD_SETTING, NodeAgent
from clovisor_py.node_veths import NO_VETH, NOT_ATTACHED
from clovisor_py.roster import LONGEST_PAUSE_S, Local
from clovisor_py.troubles import Troubles
from tests.support.fake_cluster import NAMES, FakeCluster, Notes, pod, ref
from tests.support.sessions import session


class Datapath:
    """Traces nothing."""

    def __init__(self) -> None:
        self.foreign: list[int] = []
        self.detached: list[int] = []
        self.blind = False

    def heartbeat(self) -> None:
        pass

    def detach(self, ifindex: int) -> None:
        self.detached.append(ifindex)

    def strays(self) -> list[int]:
        if self.blind:
            raise OSError(24, "Too many open files")
        found, self.foreign = self.foreign, []
        return found


class FakeAgent:
    """Stands for the real one."""

    def __init__(self, settings, sessions, *, directory, lost, private, **_) -> None:
        self.datapath, self.directory, self.lost = Datapath(), directory, lost
        self.on: dict[int, str] = {}
        self.terms: dict[int, tuple] = {}
        self.refuse: set[int] = set()
        self.stuck: set[int] = set()
        self.troubles = Troubles(logging.getLogger("agent"))
        self.private = private
        self.log: list[str] = []

    def add(self, veth, mode):
        if veth.ifindex in self.refuse:
            raise KernelRefused("attaching failed: no room; disable some.")
        self.on[veth.ifindex] = mode
        self.log.append(f"+{veth.ifindex}")

    def drop(self, ifindex):
        self.forget(ifindex)
        if ifindex in self.stuck:
            raise KernelRefused("detaching was refused (Operation not permitted): try again.")

    def forget(self, ifindex):
        self.directory.remove(ifindex)
        self.terms.pop(ifindex, None)
        if self.on.pop(ifindex, None) is not None:
            private = "private " if ifindex in self.private else ""
            self.log.append(f"{private}-{ifindex}")

    def finish(self):
        self.log.append("finished")

    def set_terms(self, ifindex, hints, redact, capture, permits, said):
        self.terms[ifindex] = (dict(hints), redact, capture, permits)

    def tracing(self):
        return {}

    shedding = SimpleNamespace(excuse=lambda cpu_s: None)


class Veths:
    """Address to ifindex."""

    def __init__(self) -> None:
        self.table: dict[str, int] = {}
        self.looks = 0
        self.blind = False

    def veths_by_address(self, anew=False):
        self.looks += 1
        if self.blind:
            raise KernelRefused("listing the interfaces was refused (No buffer space available): try again.")

    def of(self, addresses):
        for one in addresses:
            if one in self.table:
                number = self.table[one]
                return Veth(number, f"veth{number}", f"veth{number}", (one,), "eth0")
        return "no veth of this node leads to it"


class Bench:
    """An agent, and the world around it."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster, self.notes, self.now = cluster, Notes(), 1000.0
        self.ratios: dict[int, float] = {}
        self.node = NodeAgent(Settings(), None, cluster, self.notes, ratios=self.ratios)
        self.agent, self.veths = self.node.agent, self.node.veths._veths
        self.node._full = module.Every(0.0)
        self.node._full._next = self.now + 5

    def turn(self, seconds: float = 0.02) -> None:
        self.now += seconds
        self.node._turn(self.now)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Bench]]:
    monkeypatch.setattr(module, "Agent", FakeAgent)
    monkeypatch.setattr(node_veths, "PodVeths", Veths)
    monkeypatch.setattr(module, "SLICE_S", float("inf"))
    yield Bench


def test_what_is_wanted_is_attached_and_what_is_not_is_taken_off(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1"), pod("b", "10.0.0.2", trace=None)))
    one.veths.table = {"10.0.0.1": 1, "10.0.0.2": 2}
    one.turn()
    assert one.agent.on == {1: "detect"}
    one.cluster.label_namespace("shop", **{"clovisor.io/trace": "true"})
    one.cluster.put(pod("a", "10.0.0.1", trace="false"))
    one.turn()
    assert one.agent.on == {2: "detect"}
    one.cluster.delete(ref("b"))
    one.turn()
    assert one.agent.on == {} and ref("b") not in one.node.pods


def test_terms_come_first_and_change_live(bench):
    annotations = {"clovisor.io/ports": "8080=http", "clovisor.io/capture": "head", "clovisor.io/redact": "strict"}
    one = bench(FakeCluster(pod("a", "10.0.0.1", annotations=annotations)))
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    assert one.agent.on == {1: "head"}
    assert one.agent.terms[1] == ({8080: "http"}, "strict", "head", None)
    one.cluster.put(pod("a", "10.0.0.1", annotations={"clovisor.io/egress": "10.0.0.5:5432"}))
    one.turn()
    hints, redact, capture, permits = one.agent.terms[1]
    assert (hints, redact, capture) == ({}, "default", None)
    assert permits("10.0.0.5", 5432) and not permits("10.0.0.5", 80)
    assert one.agent.log == ["+1"]
    one.node.apply("off", {9092: "kafka"})
    assert one.agent.terms[1][:2] == ({9092: "kafka"}, "off")


def test_a_ratio_of_its_own_holds_until_its_flows_have_ended(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1", annotations={"clovisor.io/sample": "0.1"}), pod("b", "10.0.0.2")))
    one.veths.table = {"10.0.0.1": 1, "10.0.0.2": 2}
    one.turn()
    assert one.ratios == {1: 0.1}
    one.cluster.put(pod("a", "10.0.0.1", annotations={"clovisor.io/sample": "1"}))
    one.turn()
    assert one.ratios == {1: 1.0}
    one.cluster.put(pod("a", "10.0.0.1", trace="false"))
    one.turn()
    assert one.ratios == {}


def test_a_restarted_container_is_known_by_its_new_id(bench, monkeypatch):
    monkeypatch.setattr(module, "Cgroups", lambda: SimpleNamespace(container={70: "a1", 80: "b2"}.get))
    one = bench(FakeCluster(pod("a", "10.0.0.1", containers={"a1": "web", "c3": "side"})))
    one.veths.table = {"10.0.0.1": 1}

    def container(cgroup_id):
        seen = session(side=Side.SERVER, interface=1, cgroup_id=cgroup_id)
        one.node.directory.name(seen)
        return seen.server_workload.container

    one.turn()
    assert (container(70), container(80)) == ("web", "")
    one.cluster.put(pod("a", "10.0.0.1", containers={"b2": "web", "c3": "side"}))
    one.turn()
    assert (container(70), container(80)) == ("", "web")
    assert one.agent.log == ["+1"]


def test_nothing_is_looked_at_when_nothing_changes(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1")))
    one.veths.table = {"10.0.0.1": 1}
    for _ in range(10):
        one.turn()
    assert one.veths.looks == 1


def test_a_pod_that_fails_is_tried_again_ever_more_seldom_and_said_once(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1")))
    attempts = []
    for _ in range(2000):
        one.turn(0.1)
        attempts.append(one.node.pods[ref("a")].attempts)
    assert attempts[0] == 1 and attempts[-1] in range(10, 18)
    assert [note[:2] for note in one.notes.said] == [("a", NO_VETH)]
    one.veths.table = {"10.0.0.1": 1}
    one.turn(LONGEST_PAUSE_S)
    assert one.agent.on == {1: "detect"}
    assert one.node.pods[ref("a")].problem == ""


def test_one_that_is_refused_does_not_keep_the_others_from_it(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))
    one.veths.table = {"10.0.0.1": 1, "10.0.0.2": 2}
    one.agent.refuse = {1}
    for _ in range(50):
        one.turn(0.1)
    assert one.agent.on == {2: "detect"}
    assert one.notes.said == [("a", NOT_ATTACHED, "it cannot be traced: attaching failed: no room; disable some.")]
    assert 1 not in one.agent.terms


def test_a_pod_that_moved_is_followed_within_a_full_comparison(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1")))
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    one.veths.table = {"10.0.0.1": 7}
    one.turn()
    assert one.agent.on == {1: "detect"}
    one.turn(5)
    assert one.agent.on == {7: "detect"}
    assert one.node.veths.moved == 1


def test_a_vanished_veth_is_looked_for_again(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1")))
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    one.veths.table = {}
    one.agent.lost(Veth(1, "veth1", "veth1", (), ""))
    one.turn()
    assert one.agent.on == {}
    one.veths.table = {"10.0.0.1": 2}
    one.turn(0.2)
    assert one.agent.on == {2: "detect"}


def test_another_pod_of_the_same_name(bench):
    one = bench(FakeCluster(pod("web-0", "10.0.0.1", uid="1")))
    one.veths.table = {"10.0.0.1": 1, "10.0.0.2": 2}
    one.turn()
    one.cluster.put(pod("web-0", "10.0.0.2", uid="2"))
    one.turn()
    assert one.agent.log == ["+1", "-1", "+2"]


def test_two_pods_with_one_veth(bench):
    one = bench(FakeCluster(pod("old", "10.0.0.1")))
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    one.cluster.put(pod("new", "10.0.0.1"))
    one.turn()
    assert "is that of pod/shop/old" in one.node.pods[ref("new")].problem
    one.cluster.put(pod("old", "10.0.0.1", deleted=True))
    one.turn(1)
    assert one.node.pods[ref("new")].veth is not None
    assert one.node.pods[ref("old")].veth is None


def test_strays_are_taken_off(bench):
    one = bench(FakeCluster())
    one.agent.datapath.foreign = [4, 5]
    one.turn(6)
    assert one.node.veths.strays == 2


def test_what_makes_no_sense_is_said_about_the_object_that_says_it(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1", annotations={"clovisor.io/ports": "x"})))
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    one.turn(6)
    assert [note[:2] for note in one.notes.said] == [("a", BAD_SETTING)]
    assert one.agent.on == {1: "detect"}


def test_settings_that_change_reach_every_pod(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1", trace=None)))
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    one.cluster.rules = Rules(default=True, names=NAMES)
    one.node.concern([ref("a")])
    one.turn()
    assert one.agent.on == {1: "detect"}


def test_it_waits_for_the_first_answer_and_may_be_stopped_meanwhile(bench):
    cluster = FakeCluster(pod("a", "10.0.0.1"))
    cluster.ready = False
    one = bench(cluster)
    rounds: list[float] = []
    one.node.run(lambda: len(rounds) > 2, rounds.append)
    assert one.agent.on == {}


def test_sessions_are_named_by_the_cluster_and_the_veth(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1", "fd00::1"), pod("b", "10.0.0.2")))
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    seen = session(side=Side.SERVER, interface=1, server_workload=None, client_workload=None)
    seen.client, seen.server = seen.client._replace(ip="10.0.0.2"), seen.server._replace(ip="192.0.2.7")
    one.node.directory.name(seen)
    assert (seen.client_workload.name, seen.server_workload.name) == ("b", "a")
    assert not seen.peer_traced


def test_the_first_attempt_is_at_once_and_pauses_end(bench):
    local = Local(bench(FakeCluster(pod("a"))).cluster.wanted(ref("a")))
    assert not local.wants(0)
    assert not local.fail("x", "why", 10.0)
    assert not local.wants(10.05) and local.wants(10.1)
    assert local.fail("x", "why", 13.0)
    for step in range(40):
        local.fail("x", "why", 20.0 + step)
    assert local.next_try == 59.0 + LONGEST_PAUSE_S
    assert local.recover() and not local.recover()


def test_looks_that_fail_end_nothing_and_what_was_seen_last_holds(bench, caplog):
    one = bench(FakeCluster(pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))
    one.veths.table = {"10.0.0.1": 1, "10.0.0.2": 2}
    one.turn()
    one.veths.blind = one.agent.datapath.blind = True
    one.cluster.put(pod("a", "10.0.0.1", trace=None))
    for _ in range(3):
        one.turn(6)
    assert (one.agent.on, one.veths.looks) == ({2: "detect"}, 4)
    assert (one.agent.troubles.count, len(caplog.records)) == (6, 2)
    one.veths.blind = one.agent.datapath.blind = False
    one.cluster.put(pod("a", "10.0.0.1"))
    one.turn(6)
    assert set(one.agent.on) == {1, 2}


def test_one_that_cannot_be_detached_is_a_stray_and_tried_again(bench, caplog):
    one = bench(FakeCluster(pod("a", "10.0.0.1")))
    one.veths.table = {"10.0.0.1": 1}
    one.turn()
    one.agent.stuck = {1}
    one.cluster.put(pod("a", "10.0.0.1", trace=None))
    one.turn()
    for _ in range(3):
        one.agent.datapath.foreign = [1]
        one.turn(6)
    assert (one.node.pods[ref("a")].veth, one.node.veths.strays, one.agent.troubles.count) == (None, 0, 4)
    assert len(caplog.records) == 1
    one.agent.stuck, one.agent.datapath.foreign = set(), [1]
    one.turn(6)
    assert one.node.veths.strays == 1


def test_what_is_private_is_told_so_to_its_end_and_is_not_left_to_a_successor(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1"), pod("b", "10.0.0.2", trace=None), pod("c", "10.0.0.3", trace=None)))
    one.veths.table = {"10.0.0.1": 1, "10.0.0.2": 2, "10.0.0.3": 3}
    one.turn()
    one.node.tap({ref("a"): "off", ref("b"): "off", ref("c"): "off"})
    one.turn()
    assert one.node.private == {2, 3}
    one.agent.stuck = {2}
    one.node.tap({ref("a"): "off", ref("c"): "off"})
    one.turn()
    assert (one.agent.log[3:], one.node.private) == (["private -2"], {3})
    one.node.finish()
    assert (one.agent.log[4:], one.node.private, one.agent.on) == (["private -3", "finished"], set(), {1: "detect"})


def test_after_a_failure_what_is_private_is_taken_off_unread(bench):
    one = bench(FakeCluster(pod("a", "10.0.0.1"), pod("b", "10.0.0.2", trace=None)))
    one.veths.table = {"10.0.0.1": 1, "10.0.0.2": 2}
    one.turn()
    one.node.tap({ref("b"): "off"})
    one.turn()
    one.node.veths.abandon()
    assert (one.agent.datapath.detached, one.agent.log) == ([2], ["+1", "+2"])


def test_terms_of_one_that_nobody_taps_any_more_are_not_eased_before_it_is_detached(bench):
    one = bench(FakeCluster(pod("b", "10.0.0.2", trace=None)))
    one.veths.table = {"10.0.0.2": 2}
    one.turn()
    one.node.tap({ref("b"): "strict"})
    one.turn()
    assert one.agent.terms[2][1] == "strict"
    one.node.tap({})
    assert one.agent.terms[2][1] == "strict"
    one.turn()
    assert one.agent.on == {}


def test_a_bad_pod_is_its_own_trouble(bench):
    """Whatever is refused while one is looked at, the others are looked at, too."""
    one = bench(FakeCluster(pod("a", "10.0.0.1"), pod("b", "10.0.0.2")))
    one.veths.table = {"10.0.0.1": 1, "10.0.0.2": 2}
    workload = one.cluster.workload

    def failing(each):
        if each.ref == ref("a"):
            raise OSError(12, "Cannot allocate memory")
        return workload(each)

    one.cluster.workload = failing
    one.turn()
    assert one.agent.on == {2: "detect"}
    one.cluster.workload = workload
    one.turn(6)
    assert set(one.agent.on) == {1, 2}
