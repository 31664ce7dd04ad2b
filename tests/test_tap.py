"""A tap's queue is bounded and counted, and it always ends."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from clovisor_py import tap as module
from clovisor_py.snapshot import Ended
from clovisor_py.tap import Stage, segments
from clovisor_py.tap_wire import Begun
from tests.support.sessions import session
from tests.support.tap_bench import Bench, read


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "tap"]


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
        tap, theirs = bench.ask()
        if sentence != module.HANGS:
            tap.refuse(sentence)
        assert read(theirs) == [("error", sentence)]
        assert tap.over.wait(5)
        bench.taps.forget(tap)
    assert bench.taps.open_now == ()


def test_its_stages(bench):
    tap, theirs = bench.ask()
    assert tap.stage is Stage.ASKED
    tap.began = 1.0
    assert tap.stage is Stage.AWAITED
    tap.answer(Begun("n1"))
    assert tap.stage is Stage.OPEN
    theirs.shutdown(socket.SHUT_WR)
    assert tap.leaving.wait(5)
    assert tap.stage is Stage.LEAVING
    tap.let_go.set()
    assert tap.over.wait(5)
    assert tap.stage is Stage.OVER


def test_segments_are_what_was_added():
    first, last = {("seen", ""): 5, ("lost", "ring full"): 1}, {("seen", ""): 9, ("lost", "ring full"): 1, ("captured", ""): 4}
    found = segments([(first, last), ({}, {("seen", ""): 2})])
    assert found == (Ended("seen", "", 6), Ended("lost", "ring full", 0), Ended("captured", "", 4))
