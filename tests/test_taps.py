"""All who look: what is theirs alone goes nowhere else, and there are never too many of them."""

from __future__ import annotations

import threading

import pytest

from clovisor_py import taps as module
from clovisor_py.errors import ClovisorError, UsageError
from clovisor_py.protocols._redaction import Level
from clovisor_py.tap import Tap
from clovisor_py.taps import wanted_by
from tests.support.fake_cluster import ref
from tests.support.sessions import session
from tests.support.tap_bench import Bench, read


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "tap"]


def test_what_is_traced_for_a_tap_alone_goes_nowhere_else(bench):
    bench.private.add(7)
    _, sock = bench.open(7)
    bench.taps.offer([session(interface=7), session(interface=8)])
    assert [one.interface for one in bench.sink.sessions] == [8]
    assert bench.taps.ledgers() == {"x": 1}
    sock.close()


def test_too_many(bench, monkeypatch):
    monkeypatch.setattr(module, "TAPS", 1)
    bench.open(7)
    with pytest.raises(ClovisorError, match="1 taps are open already"):
        bench.open(7)


def test_one_that_no_thread_can_be_started_for_was_never_open(bench, monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    ours, theirs = bench.pair()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ClovisorError, match=r"no further thread: give it more"):
            bench.taps.open(ours, "Pod/shop/web", "")
    assert bench.taps.open_now == (), "whose pods would be traced for good"
    assert bench.taps.counts()["readers opened"] == 0
    ours.sendall(b"still the caller's")
    assert theirs.recv(100) == b"still the caller's"


@pytest.mark.parametrize(("targets", "redact"), [("", ""), ("Pod/x", ""), ("Pod/a/b c", ""), ("Pod/a/b", "secret")])
def test_what_makes_no_sense(bench, targets, redact):
    with pytest.raises(UsageError, match=r": (use|write)|no level: write"):
        bench.taps.open(None, targets, redact)


def test_the_strictest_that_anybody_asks_for():
    one, other = Tap(None, [], Level.OFF), Tap(None, [], Level.STRICT)
    one.refs, other.refs = frozenset({ref("a"), ref("b")}), frozenset({ref("b")})
    assert wanted_by([one, other]) == {ref("a"): "off", ref("b"): "strict"}


def test_the_agents_end_is_told(bench):
    _, sock = bench.open(7)
    bench.taps.close()
    assert read(sock)[-1] == ("end", {"lost": 0, "segments": [], "why": module.ENDING})
    with pytest.raises(ClovisorError, match="has ended"):
        bench.taps.open(sock, "Pod/shop/web", "")
