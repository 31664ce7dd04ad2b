from __future__ import annotations

import threading

from clovisor_py.errors import Forbidden
from clovisor_py.kube import reporter as module
from clovisor_py.kube.objects import Ref
from clovisor_py.kube.reporter import Reporter

CART, WEB = Ref("Pod", "shop", "cart"), Ref("Pod", "shop", "web")


def test_each_sentence_is_said_once_until_it_is_taken_back():
    written = []
    with Reporter(lambda *event: written.append(event)) as reporter:
        assert reporter.say(CART, "1", "NoVeth", "why")
        assert not reporter.say(CART, "1", "NoVeth", "why")
        assert reporter.say(WEB, "2", "NoVeth", "why")
        assert reporter.say(CART, "9", "NoVeth", "why")
        reporter.unsay(CART, "Other")
        assert not reporter.say(CART, "9", "NoVeth", "why")
        reporter.unsay(CART, "NoVeth")
        assert reporter.say(CART, "9", "NoVeth", "why")
    assert [event[:2] for event in written] == [(CART, "1"), (WEB, "2"), (CART, "9"), (CART, "9")]
    assert reporter.written == 4


def test_a_refusal_is_counted_and_logged_once(caplog):
    def refuse(*_):
        raise Forbidden("the API server forbids to create events (403): grant it.")

    with Reporter(refuse) as reporter:
        for number in range(3):
            reporter.say(CART, "1", "NoVeth", f"why {number}")
    assert (reporter.written, reporter.failed) == (0, 3)
    assert sum("no Event could be written" in record.message for record in caplog.records) == 1


def test_nobody_waits_for_the_api_server(monkeypatch):
    monkeypatch.setattr(module, "WAITING", 2)
    monkeypatch.setattr(module, "CLOSE_S", 0.1)
    free = threading.Event()
    with Reporter(lambda *_: free.wait(10)) as reporter:
        for number in range(10):
            reporter.say(CART, "1", "NoVeth", f"why {number}")
        assert reporter.dropped >= 7
        free.set()


def test_a_bug_does_not_end_it():
    calls = []

    def broken(*event):
        calls.append(event)
        raise ValueError("what")

    with Reporter(broken) as reporter:
        reporter.say(CART, "1", "A", "x")
        reporter.say(CART, "1", "A", "y")
    assert (len(calls), reporter.failed) == (2, 2)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 3)
    with Reporter(lambda *_: None) as reporter:
        for number in range(50):
            reporter.say(Ref("Pod", "shop", f"p{number}"), "", "A", "x")
            reporter.say(CART, "", "B", f"{number}")
        assert len(reporter._said) <= 3
        assert all(len(said) <= module.SENTENCES for said in reporter._said.values())
