"""The worker, without a clock: sinks that wait for the test, and a test that waits for the counts."""

import logging
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from clovisor_py.errors import ExportFailed, ExportInterrupted, SinkGone
from clovisor_py.exporters import _worker
from clovisor_py.exporters._api import Delivery
from clovisor_py.exporters._worker import Worker
from tests.support.sessions import session

ONE = session()


class Sink:
    """Answers by script: an int (accepted), an exception (raised), None (all); after its end, all."""

    def __init__(self, *script):
        self.script = list(script)
        self.batches = []
        self.closed = 0
        self.threads = set()

    def export(self, sessions):
        self.threads.add(threading.current_thread())
        answer = self.script.pop(0) if self.script else None
        if isinstance(answer, Exception):
            raise answer
        self.batches.append(list(sessions))
        return len(sessions) if answer is None else answer

    def close(self):
        self.threads.add(threading.current_thread())
        self.closed += 1


class Stuck(Sink):
    """Takes a batch and does not come back before it is told to."""

    def __init__(self):
        super().__init__()
        self.entered, self.release = threading.Event(), threading.Event()

    def export(self, sessions):
        self.entered.set()
        self.release.wait()
        return super().export(sessions)


@contextmanager
def worker(sink, **settings):
    with Worker("test:", sink, **({"queue_limit": 1000, "linger_s": 0.0, "pause_s": 0.001} | settings)) as made:
        yield made
        if isinstance(sink, Stuck):
            sink.release.set()


def balanced(ledger):
    return ledger.offered == ledger.sent + sum(ledger.dropped.values()) + ledger.waiting


def settled(made):
    """Wait until nothing waits; pytest's own timeout is the limit."""
    while made.ledger().waiting:
        assert balanced(made.ledger())
        time.sleep(0.001)
    return made.ledger()


def test_what_is_offered_is_sent_in_order_from_one_thread():
    sink = Sink()
    sessions = [session(seq=seq) for seq in range(2500)]
    with worker(sink, queue_limit=5000) as made:
        for start in range(0, 2500, 100):
            made.offer(sessions[start : start + 100])
        made.offer([])
    assert [one.seq for batch in sink.batches for one in batch] == list(range(2500))
    assert max(map(len, sink.batches)) <= 512
    ledger = made.ledger()
    assert (ledger.offered, ledger.sent, ledger.waiting, sum(ledger.dropped.values())) == (2500, 2500, 0, 0)
    assert sink.closed == 1
    assert len(sink.threads) == 1
    assert threading.current_thread() not in sink.threads


def test_a_full_queue_drops_the_oldest_and_never_blocks():
    sink = Stuck()
    with worker(sink, queue_limit=10) as made:
        made.offer([ONE])
        sink.entered.wait()
        for seq in range(25):
            made.offer([session(seq=seq)])
        made.offer([session(seq=seq) for seq in range(25, 60)])
        ledger = made.ledger()
        assert (ledger.offered, ledger.dropped["queue full"], ledger.waiting) == (61, 50, 11)
        assert balanced(ledger)
        sink.release.set()
        assert settled(made).sent == 11
    assert [one.seq for batch in sink.batches[1:] for one in batch] == list(range(50, 60))


def test_a_batch_leaves_when_it_is_full_or_old_enough():
    sink = Sink()
    with worker(sink, batch=4, linger_s=3600) as made:
        made.offer([ONE] * 3)
        assert made.ledger().waiting == 3
        made.offer([ONE])
        assert settled(made).sent == 4
    assert [len(batch) for batch in sink.batches] == [4]
    with worker(sink, batch=100, linger_s=0.01) as made:
        made.offer([ONE])
        assert settled(made).sent == 1


def test_closing_does_not_wait_for_a_batch_to_ripen():
    sink = Sink()
    with worker(sink, linger_s=3600) as made:
        made.offer([ONE] * 3)
    assert made.ledger().sent == 3


def test_the_ledger_says_why_the_sink_last_failed():
    sink = Sink(ExportFailed("no; do this."), ExportFailed("not yet; do that."), ValueError())
    with worker(sink, attempts=2) as made:
        assert made.ledger().error == ""
        made.offer([ONE])
        assert settled(made).error == "not yet; do that."
        made.offer([ONE])
        assert settled(made).error == "ValueError", "also where it had nothing to say"
        made.offer([ONE])
        assert (settled(made).sent, made.ledger().error) == (1, "ValueError")


def test_a_failure_is_tried_again_and_said_once(caplog):
    caplog.set_level(logging.INFO)
    sink = Sink(ExportFailed("nobody there."), ExportFailed("nobody there."), None)
    with worker(sink) as made:
        made.offer([ONE] * 5)
        ledger = settled(made)
    assert (ledger.sent, sum(ledger.dropped.values())) == (5, 0)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "export test: nobody there."),
        ("INFO", "export test: works again (0 sessions dropped so far)."),
    ]


def test_tries_are_bounded_and_the_loss_counted():
    sink = Sink(*[ExportFailed("no.")] * 7)
    with worker(sink, attempts=3, batch=5) as made:
        for _ in range(2):
            made.offer([ONE] * 5)
            settled(made)
        assert made.ledger().dropped["failed"] == 10
        made.offer([ONE] * 5)
        assert settled(made).sent == 5
    assert balanced(made.ledger())


def test_what_a_sink_refuses_is_counted_and_said_once(caplog):
    sink = Sink(3, 0, 99, -4)
    with worker(sink, batch=5) as made:
        for _ in range(4):
            made.offer([ONE] * 5)
            settled(made)
        ledger = made.ledger()
    assert (ledger.sent, ledger.dropped["refused"]) == (3 + 0 + 5 + 0, 2 + 5 + 0 + 5)
    assert len([record for record in caplog.records if "refused" in record.message]) == 1


def test_a_faulty_sink_does_not_end_the_thread(caplog):
    sink = Sink(ZeroDivisionError("a bug"), KeyError("another"), None)
    with worker(sink, batch=5) as made:
        for _ in range(3):
            made.offer([ONE] * 5)
            settled(made)
        ledger = made.ledger()
    assert (ledger.sent, ledger.dropped["failed"]) == (5, 10)
    warnings = [record for record in caplog.records if record.exc_info]
    assert len(warnings) == 1
    assert "a bug" in warnings[0].message


def test_a_sink_that_fails_to_close_is_said(caplog):
    class Bad(Sink):
        def close(self):
            raise RuntimeError("no end")

    with worker(Bad()) as made:
        made.offer([ONE])
    assert made.ledger().sent == 1
    assert any("closing" in record.message for record in caplog.records)


def test_after_closing_everything_is_counted_as_stopped():
    with worker(Sink()) as made:
        pass
    made.offer([ONE] * 3)
    ledger = made.close()
    assert (ledger.offered, ledger.dropped["stopped"], ledger.waiting) == (3, 3, 0)


def test_a_stuck_sink_does_not_hold_up_the_end(caplog):
    sink = Stuck()
    with worker(sink, batch=2) as made:
        made.offer([ONE] * 5)
        sink.entered.wait()
        ledger = made.close(deadline_s=0.05)
        assert (ledger.offered, ledger.sent, ledger.dropped["stopped"], ledger.waiting) == (5, 0, 5, 0)
        sink.release.set()
        made._thread.join()
        assert made.ledger() == ledger
    assert any("in time" in record.message for record in caplog.records)


def test_the_end_cuts_pauses_short_and_tries_once_more():
    sink = Sink(ExportFailed("no."), None)
    with worker(sink, attempts=2, pause_s=3600) as made:
        made.offer([ONE] * 3)
        while sink.script[:-1]:
            time.sleep(0.001)
        ledger = made.close(deadline_s=60)
    assert (ledger.sent, ledger.dropped["stopped"]) == (3, 0)


def test_the_end_does_not_wait_for_the_dead():
    sink = Sink(*[ExportFailed("no.")] * 1000)
    with worker(sink, attempts=1000, pause_s=3600, batch=2) as made:
        made.offer([ONE] * 7)
        ledger = made.close(deadline_s=60)
    assert (ledger.dropped["failed"], ledger.waiting) == (7, 0)
    assert len(sink.script) > 990


def test_the_ledger_balances_at_any_moment():
    script = [None, 3, ExportFailed("x."), ZeroDivisionError("y"), None, 0] * 200
    sink, moments = Sink(*script), []
    with worker(sink, queue_limit=50, batch=7, attempts=2) as made:

        def feed():
            for size in range(300):
                made.offer([ONE] * (size % 23))

        feeders = [threading.Thread(target=feed) for _ in range(3)]
        for thread in feeders:
            thread.start()
        while any(thread.is_alive() for thread in feeders):
            moments.append(made.ledger())
        for thread in feeders:
            thread.join()
        made.close(deadline_s=0.01)
        moments.append(made.ledger())
    assert all(map(balanced, moments))
    assert moments[-1].waiting == 0
    assert moments[-1].offered == 3 * sum(size % 23 for size in range(300))


def test_a_sink_whose_reader_is_gone_ends_the_worker_without_a_word(caplog):
    sink = Sink(None, SinkGone("nobody reads."))
    with worker(sink, batch=5, linger_s=3600) as made:
        made.offer([ONE] * 5)
        assert settled(made).sent == 5
        assert not made.gone
        made.offer([ONE] * 12)
        ledger = settled(made)
        assert made.gone
        assert (ledger.sent, ledger.dropped["reader gone"]) == (5, 12)
        made.offer([ONE] * 3)
        made._thread.join()
        assert made.ledger().dropped["reader gone"] == 15
        assert balanced(made.ledger())
    assert sink.closed == 1
    assert caplog.records == []


def test_closing_twice_waits_once_and_warns_once(caplog):
    sink = Stuck()
    with worker(sink) as made:
        made.offer([ONE])
        sink.entered.wait()
        ledger = made.close(deadline_s=0.01)
        assert made.close(deadline_s=3600) == ledger
        assert made.close(deadline_s=3600) == ledger
    assert len(caplog.records) == 1


def test_a_close_that_was_interrupted_is_not_waited_for_again(monkeypatch):
    sink = Stuck()

    def interrupted(_=None):
        raise KeyboardInterrupt

    with worker(sink) as made:
        made.offer([ONE] * 2)
        sink.entered.wait()
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(made._thread, "join", interrupted)
            made.close(deadline_s=3600)
        ledger = made.close(deadline_s=3600)
        assert (ledger.dropped["stopped"], ledger.waiting) == (2, 0)


def test_the_thread_has_a_name_and_cannot_keep_the_process():
    with worker(Sink()) as made:
        assert made._thread.name == "export test:"
        assert made._thread.daemon
    assert not made._thread.is_alive()


def test_nothing_is_logged_when_nothing_is_wrong(caplog):
    caplog.set_level(logging.DEBUG)
    with worker(Sink()) as made:
        made.offer([ONE])
    assert caplog.records == []


def lost(ledger):
    return {reason: number for reason, number in ledger.dropped.items() if number}


def test_a_sink_gives_its_own_reasons_and_the_rest_is_refused(caplog):
    sink = Sink(Delivery(3, {"too old": 2, "too long": 1}, "they were old."), Delivery(10))
    with worker(sink, batch=10, linger_s=3600) as made:
        made.offer([ONE] * 10)
        assert lost(settled(made)) == {"too old": 2, "too long": 1, "refused": 4}
        assert made.ledger().error == "they were old."
        made.offer([ONE] * 10)
        assert settled(made).sent == 13
        assert balanced(made.ledger())
    assert ["they were old" in record.message for record in caplog.records] == [True]


@pytest.mark.parametrize("answer", [Delivery(99), Delivery(-5, {"a": 99}), Delivery(3, {"a": -4, "b": 99}), -1, 99])
def test_whatever_numbers_a_sink_gives_each_session_is_counted_once(answer):
    with worker(Sink(answer), batch=10, linger_s=3600) as made:
        made.offer([ONE] * 10)
        ledger = settled(made)
    assert balanced(ledger)
    assert min(ledger.sent, *ledger.dropped.values()) >= 0


def test_an_answer_that_is_none_is_a_fault_of_the_sink(caplog):
    with worker(Sink("all of it")) as made:
        made.offer([ONE] * 10)
        assert lost(settled(made)) == {"failed": 10}
    assert "answered str" in caplog.text


def test_a_batch_that_was_delivered_in_part_is_counted_in_part():
    """What an attempt settled stays settled, whatever becomes of the others."""
    part = ExportInterrupted("busy.", sent=4, dropped={"too old": 1})
    ends = {"failed": [ExportFailed("away.")], "reader gone": [SinkGone("x.")], "refused": [Delivery(4, {"too old": 1})]}
    for reason, end in ends.items():
        with worker(Sink(part, *end), batch=10, linger_s=3600, attempts=2) as made:
            made.offer([ONE] * 10)
            ledger = settled(made)
        assert (ledger.sent, lost(ledger)) == (4, {"too old": 1, reason: 5})


def test_a_pause_that_the_receiver_asks_for_is_bounded(monkeypatch):
    monkeypatch.setattr(_worker, "LONGEST_WAIT_S", 0.05)
    with worker(Sink(ExportInterrupted("busy.", retry_after_s=1e9))) as made:
        began = time.monotonic()
        made.offer([ONE])
        assert settled(made).sent == 1
        assert time.monotonic() - began >= 0.05


def test_a_pause_that_the_receiver_asks_for_ends_with_the_worker():
    sink = Sink(ExportInterrupted("busy.", retry_after_s=3600), ExportInterrupted("busy.", retry_after_s=3600))
    with worker(sink) as made:
        made.offer([ONE])
        while not made.ledger().error:
            time.sleep(0.001)
        ledger = made.close(deadline_s=60)
    assert lost(ledger) == {"failed": 1}
    assert sink.closed == 1


class Halfway(Stuck):
    """Delivers some of what it was given, and says so, before it hangs."""

    def settled(self, sessions):
        return Delivery(2, {"too old": 1}) if sessions else None


@pytest.mark.parametrize("sink", [Halfway(), Stuck()])
def test_what_a_stuck_sink_had_delivered_is_not_lost(sink, caplog):
    with worker(sink, batch=5, linger_s=3600) as made:
        made.offer([ONE] * 12)
        sink.entered.wait()
        ledger = made.close(deadline_s=0.01)
        assert balanced(ledger)
        assert (ledger.sent, lost(ledger)) == (
            (2, {"too old": 1, "stopped": 9}) if type(sink) is Halfway else (0, {"stopped": 12})
        )
        sink.release.set()
        made._thread.join()
        assert made.ledger() == ledger


def test_what_an_interrupted_attempt_had_delivered_is_not_lost_when_the_next_hangs():
    class Once(Stuck):
        def export(self, sessions):
            if not self.script:
                return super().export(sessions)
            raise self.script.pop()

    sink = Once()
    sink.script.append(ExportInterrupted("busy.", sent=2))
    with worker(sink, batch=5, linger_s=3600) as made:
        made.offer([ONE] * 5)
        sink.entered.wait()
        ledger = made.close(deadline_s=0.01)
        assert (ledger.sent, lost(ledger)) == (2, {"stopped": 3})


def test_a_sink_that_fails_when_it_is_asked_how_far_it_is_is_said(caplog):
    class Bad(Stuck):
        def settled(self, sessions):
            raise KeyError("x")

    with worker(Bad()) as made:
        made.offer([ONE] * 3)
        made._sink.entered.wait()
        assert lost(made.close(deadline_s=0.01)) == {"stopped": 3}
        assert "cannot say how far" in caplog.text


def test_a_sink_that_wants_to_end_the_thread_does_not(caplog):
    """A plugin's `sys.exit`."""
    sink = Sink(None)
    sink.export = lambda sessions: sys.exit(1)
    with worker(sink, batch=3, linger_s=3600) as made:
        for _ in range(2):
            made.offer([ONE] * 3)
            ledger = settled(made)
        assert (lost(ledger), ledger.error) == ({"failed": 6}, "SystemExit: 1")
        assert made._thread.is_alive()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # it is meant to
def test_a_thread_that_ended_all_the_same_leaves_nothing_uncounted(monkeypatch, caplog):
    monkeypatch.setattr(Worker, "_account", lambda *_: sys.exit())
    with worker(Sink(), batch=3, linger_s=3600) as made:
        made.offer([ONE] * 3)
        made._thread.join()
        made.offer([ONE] * 5)
        ledger = made.close()
    assert balanced(ledger)
    assert (ledger.waiting, lost(ledger)) == (0, {"stopped": 8})


def test_the_ledger_says_whether_the_last_batch_failed():
    with worker(Sink(ExportFailed("no."), None), attempts=1) as made:
        for failing in (True, False):
            made.offer([ONE])
            assert settled(made).failing is failing


LONG = session(attributes={"db.query.text": "x" * (1 << 20)})


def test_long_sessions_make_short_batches_and_leave_when_they_are_heavy_enough():
    sink = Sink()
    with worker(sink, linger_s=3600) as made:
        made.offer([LONG] * 3)
        assert made.ledger().waiting == 3
        made.offer([LONG] * 3)
        while not sink.batches:
            time.sleep(0.001)
    assert [len(batch) for batch in sink.batches] == [3, 3]
    assert made.ledger().sent == 6


def test_a_queue_of_long_sessions_is_bounded_by_bytes():
    sink = Stuck()
    with worker(sink, queue_limit=1000) as made:
        made.offer([ONE])
        sink.entered.wait()
        made.offer([LONG] * 20)
        ledger = made.ledger()
        assert balanced(ledger)
        assert (ledger.dropped["queue full"], ledger.waiting) == (13, 8)
        assert 7 << 20 < ledger.queued_bytes <= 1000 * 8192
