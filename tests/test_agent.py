"""What the composition root does when the kernel refuses something, without a kernel: one veth's trouble is its own."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from clovisor_py import agent as module
from clovisor_py.agent import Agent
from clovisor_py.config import Settings
from clovisor_py.errors import KernelRefused, TargetGone
from clovisor_py.kernel.layout import PEER_OPENED, RST_SEEN
from clovisor_py.kernel.targets import Veth
from tests.metrics.test_tcp import entry, place
from tests.support.segments import Conversation

GET = "GET /greet HTTP/1.1\r\nHost: web\r\n\r\n"
VETH = 7
REFUSED = KernelRefused("attaching was refused (File exists): try again.")


class Datapath:
    """Attaches nothing; refuses what it is told to refuse."""

    def __init__(self, settings: Settings) -> None:
        self.unread: list[list[object]] = []
        self.ring = SimpleNamespace(read=lambda offset: self.unread.pop(0) if self.unread else [])
        self.refuses: dict[object, Exception] = {}
        self.displaced: list[int] = []
        self.repaired: list[int] = []
        self.losses = 0
        self.last_looks: list[tuple[object, ...]] = []
        """What is shown of connections when something is detached."""

    def capture(self, flow_id, mode):
        pass

    def skip_until(self, flow_id, direction, seq):
        pass

    def counted(self, connection):
        return None

    def attach(self, ifindex, mode):
        pass

    def set_mode(self, ifindex, mode):
        pass

    def detach(self, ifindex, look):
        self._heed("detach")
        for shown in self.last_looks:
            look(*shown, True)

    def lost(self, ifindex):
        return self.losses

    def broken(self):
        self._heed("broken")
        return self.displaced

    def repair(self, ifindex):
        self._heed(ifindex)
        self.repaired.append(ifindex)
        return True

    def _heed(self, what):
        if what in self.refuses:
            raise self.refuses[what]


class Sink:
    def __init__(self):
        self.sessions = []

    def offer(self, sessions):
        self.sessions += sessions


class Bench:
    """An agent with these veths, whose ring the test fills."""

    def __init__(self, *ifindexes, **how):
        self.sink, self.talk = Sink(), Conversation().handshake()
        terms = how.pop("terms", True)
        self.agent = Agent(Settings(), self.sink, **how)
        self.agent.source = SimpleNamespace(now_ns=lambda: self.talk.now)
        self.datapath = self.agent.datapath
        for ifindex in ifindexes:
            self.agent.add(Veth(ifindex, f"veth{ifindex}", f"pod{ifindex}", ("10.0.0.2",), "eth0"))
            if terms:
                self.agent.set_terms(ifindex, {}, "default")

    def captured(self):
        """What was said so far waits in the ring."""
        self.datapath.unread.append(self.talk.segments)
        self.talk.segments = []


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(module, "Datapath", Datapath)
    return Bench


def test_what_cannot_be_detached_ends_all_the_same_and_is_read_no_more(bench):
    one = bench(VETH, terms=False)
    one.agent.set_terms(VETH, {}, "default")
    one.talk.client(GET)
    one.captured()
    one.datapath.refuses["detach"] = REFUSED
    with pytest.raises(KernelRefused):
        one.agent.drop(VETH)
    assert [session.resource for session in one.sink.sessions] == ["/greet"]
    assert one.agent.veths == [] and one.agent.pipeline.flows == 0
    one.talk.client(GET)
    one.captured()
    one.agent._read_out()
    assert (len(one.sink.sessions), one.agent.pipeline.ledger.strangers) == (1, 1)


def test_a_session_tells_what_its_pod_had_lost_when_it_was_delivered(bench):
    one = bench(VETH, terms=False)
    one.agent.set_terms(VETH, {}, "default")
    for lost in (5, 7):
        one.datapath.losses = lost
        one.agent._feed(one.talk.client(GET).server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").segments)
        one.talk.segments = []
        one.talk.now += 1_000_000_000
    one.datapath.losses = 8
    one.talk.client(GET)
    one.captured()
    one.agent.drop(VETH)
    assert [session.pod_lost for session in one.sink.sessions] == [5, 2, 1]


def test_what_passed_since_the_last_sweep_counts_when_a_pod_goes(bench):
    one = bench(VETH, terms=False)
    one.datapath.last_looks = [(place(), entry(to_pod={"bytes": 40, "packets": 1}, state=PEER_OPENED | RST_SEEN))]
    one.agent.drop(VETH)
    [pair] = one.agent.tcp.pairs()
    assert (pair.connections, pair.open, pair.resets, pair.sent[0]) == (1, 0, 1, 40)
    assert pair.server == "pod7"  # it is known by name until then


def test_what_was_captured_for_somebody_who_is_gone_reaches_nobody(bench):
    one = bench()
    one.talk.client(GET).server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    one.captured()
    one.agent.drop(VETH)
    assert (one.sink.sessions, one.agent.pipeline.ledger.strangers) == ([], 2)


def test_a_pods_addresses_are_known_while_it_is_traced(bench):
    one = bench(1, 2)
    joining = one.agent._outlet.joining
    assert joining._pods == {1: {"10.0.0.2"}, 2: {"10.0.0.2"}}
    one.agent.drop(1)
    assert list(joining._pods) == [2]


def test_forgetting_reads_nothing(bench):
    one = bench(VETH)
    one.talk.client(GET)
    one.captured()
    one.agent.forget(VETH)
    assert one.datapath.unread and one.agent.veths == []


def test_one_that_cannot_be_repaired_does_not_keep_the_others_from_it(bench, caplog):
    one = bench(1, 2, 3)
    one.datapath.displaced, one.datapath.refuses = [1, 2, 3, 99], {1: REFUSED, 2: OSError(24, "Too many open files")}
    for _ in range(3):
        one.agent._repair()
    assert one.datapath.repaired == [3, 3, 3]
    assert one.agent.troubles.count == 6
    assert sum("did not succeed" in message for message in caplog.messages) == 2


def test_a_look_that_fails_is_one_of_many(bench, caplog):
    one = bench(1)
    one.datapath.displaced, one.datapath.refuses = [1], {"broken": KernelRefused("no buffer space: try again.")}
    one.agent._repair()
    del one.datapath.refuses["broken"]
    one.agent._repair()
    assert (one.datapath.repaired, one.agent.troubles.count) == ([1], 1)
    assert caplog.records[0].levelno == logging.WARNING


def test_one_that_has_vanished_is_lost_though_nothing_can_be_detached(bench):
    one = bench(1)
    one.agent._look = lambda: None
    one.datapath.displaced, one.datapath.refuses = [1], {1: TargetGone("gone."), "detach": REFUSED}
    one.agent._repair()
    assert one.agent.veths == [] and one.agent.troubles.count == 1
