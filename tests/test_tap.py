"""A tap's queue is bounded and counted, its pods' sessions are nobody else's where nobody enabled them, and it always ends."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from clovisor_py import tap as module
from clovisor_py.errors import ClovisorError, UsageError
from clovisor_py.kube.objects import Ref
from clovisor_py.protocols._redaction import Level
from clovisor_py.snapshot import Ended
from clovisor_py.tap import Tap, Taps, means, segments, wanted_by
from clovisor_py.tap_wire import Begun
from tests.support.fake_cluster import pod, ref
from tests.support.sessions import session


class Sink:
    """What the exporters get."""

    def __init__(self):
        self.sessions = []

    def offer(self, sessions):
        self.sessions += sessions

    def ledgers(self):
        return {"x": 1}


class Bench:
    """Taps without a node: the test is the engine's thread."""

    def __init__(self):
        self.sink, self.private = Sink(), set()
        self.taps = Taps(self.sink, self.private)
        self.ends = []

    def open(self, *interfaces, redact=""):
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        self.ends += [ours, theirs]
        self.taps.open(ours, "Pod/shop/web", redact)
        tap = self.taps.open_now[-1]
        tap.interfaces = frozenset(interfaces)
        tap.answer(Begun("n1"))
        return tap, theirs


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.taps.close()
    for sock in made.ends:
        sock.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "tap"]


def read(sock):
    """All lines, to the end."""
    data = bytearray()
    while part := sock.recv(65536):
        data += part
    return [next(iter(json.loads(one).items())) for one in data.splitlines()]


def leave(tap, sock):
    sock.shutdown(socket.SHUT_WR)
    assert tap.leaving.wait(5)
    tap.let_go.set()
    return read(sock)


def test_a_tap_gets_the_sessions_of_its_pods(bench):
    tap, sock = bench.open(7)
    bench.taps.offer([session(interface=7), session(interface=8), session(interface=7)])
    said = leave(tap, sock)
    assert [kind for kind, _ in said] == ["answer", "session", "session", "end"]
    assert said[-1][1] == {"lost": 0, "segments": [], "why": ""}
    assert len(bench.sink.sessions) == 3
    assert tap.over.wait(5)


def test_what_is_traced_for_a_tap_alone_goes_nowhere_else(bench):
    bench.private.add(7)
    _, sock = bench.open(7)
    bench.taps.offer([session(interface=7), session(interface=8)])
    assert [one.interface for one in bench.sink.sessions] == [8]
    assert bench.taps.ledgers() == {"x": 1}
    sock.close()


def test_sessions_that_began_while_more_was_shown_are_not_for_who_asked_for_less(bench):
    tap, sock = bench.open(7)
    tap.not_before[7] = 1000
    bench.taps.offer([session(interface=7, start_ns=999), session(interface=7, start_ns=1000)])
    assert [kind for kind, _ in leave(tap, sock)] == ["answer", "session", "end"]


def test_a_slow_reader_loses_and_is_told_how_much(bench, monkeypatch):
    monkeypatch.setattr(module, "QUEUE", 10)
    tap, sock = bench.open(7)
    before = time.monotonic()
    for _ in range(2000):
        bench.taps.offer([session(interface=7)] * 7)
    assert time.monotonic() - before < 5
    said = leave(tap, sock)
    shown = sum(kind == "session" for kind, _ in said)
    assert said[-1][1]["lost"] + shown == 14_000
    assert said[-1][1]["lost"] > 0
    assert len(bench.sink.sessions) == 14_000


def test_one_who_hangs_or_goes_is_let_go(bench, monkeypatch):
    monkeypatch.setattr(module, "SILENCE_S", 0.3)
    silent, _ = bench.open(7)
    gone, sock = bench.open(7)
    sock.close()
    assert gone.over.wait(5) or gone.leaving.is_set()
    assert silent.over.wait(5)
    gone.let_go.set()


def test_beats_keep_it_and_remarks_are_bounded(bench, monkeypatch):
    monkeypatch.setattr(module, "SILENCE_S", 0.5)
    monkeypatch.setattr(module, "BEAT_S", 0.1)
    monkeypatch.setattr(module, "WORDS", 3)
    tap, sock = bench.open(7)
    for _ in range(10):
        sock.sendall(b"\n")
        time.sleep(0.1)
    for number in range(50):
        tap.remark(f"{number}")
    said = leave(tap, sock)
    assert ("beat", 0) in said
    assert any("remarks had no room" in str(content) for kind, content in said if kind == "remark")


def test_a_refusal_and_an_engine_that_hangs(bench, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    for sentence in ("no such pod.", module.HANGS):
        ours, theirs = socket.socketpair()
        bench.ends += [ours, theirs]
        bench.taps.open(ours, "Pod/shop/web", "")
        tap = bench.taps.open_now[-1]
        if sentence != module.HANGS:
            tap.refuse(sentence)
        assert read(theirs) == [("error", sentence)]
        assert tap.over.wait(5)
        bench.taps.forget(tap)
    assert bench.taps.open_now == ()


def test_the_agents_end_is_told(bench):
    _, sock = bench.open(7)
    bench.taps.close()
    assert read(sock)[-1] == ("end", {"lost": 0, "segments": [], "why": module.ENDING})
    with pytest.raises(ClovisorError, match="has ended"):
        bench.taps.open(sock, "Pod/shop/web", "")


def test_too_many(bench, monkeypatch):
    monkeypatch.setattr(module, "TAPS", 1)
    bench.open(7)
    with pytest.raises(ClovisorError, match="1 taps are open already"):
        bench.open(7)


@pytest.mark.parametrize(("targets", "redact"), [("", ""), ("Pod/x", ""), ("Pod/a/b c", ""), ("Pod/a/b", "secret")])
def test_what_makes_no_sense(bench, targets, redact):
    with pytest.raises(UsageError, match=r": (use|write)|no level: write"):
        bench.taps.open(None, targets, redact)


def test_the_strictest_that_anybody_asks_for():
    one, other = Tap(None, [], Level.OFF), Tap(None, [], Level.STRICT)
    one.refs, other.refs = frozenset({ref("a"), ref("b")}), frozenset({ref("b")})
    assert wanted_by([one, other]) == {ref("a"): "off", ref("b"): "strict"}


def test_what_a_target_means():
    web = pod("web", "10.0.0.2")._replace(owner=Ref("ReplicaSet", "shop", "web-1"))
    meant = [Ref("Pod", "shop", "web"), Ref("Namespace", "", "shop"), Ref("ReplicaSet", "shop", "web-1")]
    assert all(means(target, web, "deployment/web") for target in [*meant, Ref("Deployment", "shop", "web")])
    others = [Ref("Pod", "shop", "x"), Ref("Namespace", "", "x"), Ref("Deployment", "other", "web"), Ref("Job", "shop", "web")]
    assert not any(means(target, web, "deployment/web") for target in others)


def test_segments_are_what_was_added():
    first, last = {("seen", ""): 5, ("lost", "ring full"): 1}, {("seen", ""): 9, ("lost", "ring full"): 1, ("captured", ""): 4}
    found = segments([(first, last), ({}, {("seen", ""): 2})])
    assert found == (Ended("seen", "", 6), Ended("lost", "ring full", 0), Ended("captured", "", 4))
