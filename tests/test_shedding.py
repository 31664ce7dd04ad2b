"""shedding.py: what the process costs is measured, and the kernel is told less where that is too much."""

from __future__ import annotations

import logging

import pytest

from clovisor_py import shedding as module
from clovisor_py.kernel.layout import Counter
from clovisor_py.shedding import Shedding

MOST = 1_000_000


class Bench:
    """A process whose clocks the test moves; `charged` and `lost` are the counters of its one pod."""

    def __init__(self, monkeypatch):
        self.now = self.cpu = 0.0
        self.charged = self.lost = self.fetched = 0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module.time, "process_time", lambda: self.cpu)
        self.shedding = Shedding(0.5, MOST, self.stats)

    def stats(self):
        self.fetched += 1
        counters = dict.fromkeys(Counter, 0)
        counters |= {Counter.CAPTURED_BYTES: self.charged, Counter.LOST_RING: self.lost}
        return [(7, counters)]

    def pass_by(self, seconds, cpu, charged=0, lost=0):
        self.now, self.cpu = self.now + seconds, self.cpu + cpu
        self.charged, self.lost = self.charged + charged, self.lost + lost
        return self.shedding.look(self.now, self.charged)


@pytest.fixture
def bench(monkeypatch):
    return Bench(monkeypatch)


def test_too_much_is_answered_with_less_and_said_once(bench, caplog):
    assert bench.pass_by(0.25, 0.05) is None
    budget = bench.pass_by(0.25, 0.25, charged=250_000)
    assert budget is not None and budget < MOST
    assert bench.shedding.active and bench.shedding.allowed == budget / MOST
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    bench.pass_by(0.25, 0.25, charged=250_000)
    assert len(caplog.records) == 1
    assert bench.shedding.seconds == pytest.approx(0.25)


def test_calm_raises_it_again_to_the_whole(bench):
    bench.pass_by(0.25, 0.25, charged=250_000)
    for _ in range(200):
        bench.pass_by(0.25, 0.0)
    assert not bench.shedding.active and bench.shedding.allowed == 1.0


def test_a_full_ring_is_too_much_whatever_it_cost(bench):
    assert bench.pass_by(1.5, 0.0, charged=500_000, lost=3) is not None


def test_what_is_excused_does_not_count(bench):
    bench.shedding.excuse(0.25)
    assert bench.pass_by(0.25, 0.25, charged=250_000) is None


def test_the_counters_of_all_pods_are_for_when_it_matters(bench):
    for _ in range(8):
        bench.pass_by(0.25, 0.0)
    assert bench.fetched == 0, "nothing was written"
    bench.pass_by(0.25, 0.0, charged=1)
    assert bench.fetched == 1
    bench.shedding.forget(7)
    bench.pass_by(1.0, 0.9, charged=1000)
    assert bench.shedding.active
