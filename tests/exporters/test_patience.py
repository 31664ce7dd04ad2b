from __future__ import annotations

import threading
import time

from clovisor_py.errors import ExportFailed, SinkGone
from clovisor_py.exporters._fanout import Fanout
from clovisor_py.exporters._patience import Patience
from clovisor_py.exporters._queue import allowance
from clovisor_py.exporters._worker import Worker
from tests.support.sessions import session


class Slow:
    """Takes a batch only when it is told to."""

    def __init__(self):
        self.go = threading.Semaphore(0)

    def export(self, sessions):
        self.go.acquire()
        return len(sessions)

    def close(self):
        pass


class Failing(Slow):
    def __init__(self, error):
        self.error = error

    def export(self, sessions):
        raise self.error


def never():
    return False


def workers(*sinks, **how):
    return Fanout([Worker(f"{index}:", sink, queue_limit=64, batch=4, linger_s=0, **how) for index, sink in enumerate(sinks)])


def test_a_slow_one_gets_everything():
    slow = Slow()
    with workers(slow) as fanout:
        patience = Patience(fanout, 8, never)
        feeder = threading.Thread(target=lambda: ([patience.offer([session()] * 5) for _ in range(20)], patience.drain()))
        feeder.start()
        most = 0
        while feeder.is_alive():
            most = max(most, fanout.ledgers()["0:"].waiting)
            slow.go.release()
            feeder.join(0.001)
        ledger = fanout.ledgers()["0:"]
        assert (ledger.offered, ledger.sent, ledger.waiting) == (100, 100, 0)
        assert most <= 8


def test_more_than_there_is_room_for_goes_in_parts():
    slow = Slow()
    slow.go.release(1000)
    with workers(slow) as fanout:
        patience = Patience(fanout, 8, never)
        patience.offer([session()] * 100)
        patience.drain()
        assert fanout.ledgers()["0:"].sent == 100


def test_one_that_fails_is_waited_for_no_more(caplog):
    slow = Slow()
    slow.go.release(1000)
    with workers(slow, Failing(ExportFailed("nobody there.")), attempts=2, pause_s=0.001) as fanout:
        patience = Patience(fanout, 8, never)
        patience.offer([session()] * 1000)
        patience.drain()
        ledgers = fanout.ledgers()
        assert ledgers["0:"].sent == 1000
        assert ledgers["1:"].dropped["failed"] >= 4


class Recovering(Slow):
    """Fails until it is told that it is well; then it takes a batch only when it is told to."""

    def __init__(self):
        super().__init__()
        self.well = False

    def export(self, sessions):
        if not self.well:
            raise ExportFailed("not yet.")
        return super().export(sessions)


def test_one_that_works_again_is_waited_for_again():
    sink = Recovering()
    with workers(sink, attempts=2, pause_s=0.001) as fanout:
        patience = Patience(fanout, 8, never)
        patience.offer([session()] * 4)
        while not fanout.ledgers()["0:"].failing:
            time.sleep(0.001)
        assert fanout.ledgers()["0:"].dropped["failed"] == 4
        sink.well = True
        sink.go.release()
        patience.offer([session()] * 4)
        while fanout.ledgers()["0:"].failing:
            time.sleep(0.001)
        feeder = threading.Thread(target=lambda: (patience.offer([session()] * 1000), patience.drain()))
        feeder.start()
        most = 0
        while feeder.is_alive():
            most = max(most, fanout.ledgers()["0:"].waiting)
            sink.go.release()
            feeder.join(0.001)
        ledger = fanout.ledgers()["0:"]
        assert (ledger.sent, ledger.dropped["failed"], ledger.dropped["queue full"]) == (1004, 4, 0)
        assert most <= 8


def test_one_that_nobody_reads_ends_the_waiting():
    with workers(Failing(SinkGone("nobody reads."))) as fanout:
        patience = Patience(fanout, 8, never)
        patience.offer([session()] * 1000)
        patience.drain()
        assert fanout.gone


def test_it_can_be_told_to_stop():
    slow = Slow()
    asked = threading.Event()
    with workers(slow) as fanout:
        patience = Patience(fanout, 8, asked.is_set)
        patience.offer([session()] * 8)
        threading.Timer(0.02, asked.set).start()
        patience.drain()
        assert fanout.ledgers()["0:"].waiting == 8
        slow.go.release(10)


def test_long_ones_are_no_more_than_the_queue_has_room_for():
    """One that is half as long as all that may wait, many times: nothing is dropped."""
    slow = Slow()
    long = session(attributes={"text": "x" * (allowance(1) // 2)})
    with workers(slow) as fanout:
        patience = Patience(fanout, 8, never)
        feeder = threading.Thread(target=lambda: (patience.offer([long] * 50), patience.offer([long] * 50), patience.drain()))
        feeder.start()
        while feeder.is_alive():
            slow.go.release()
            feeder.join(0.001)
        ledger = fanout.ledgers()["0:"]
        assert (ledger.sent, sum(ledger.dropped.values())) == (100, 0)
