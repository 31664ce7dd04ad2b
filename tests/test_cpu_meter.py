"""What work costs is known while it goes on, and waiting costs nothing."""

from __future__ import annotations

import threading
import time

import pytest

from clovisor_py.cpu_meter import CpuMeter

PATIENCE_S = 10.0


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_work_is_counted_before_it_is_over():
    meter, go_on, burnt = CpuMeter(), threading.Event(), threading.Event()

    def work():
        with meter.running():
            burn(0.05)
            burnt.set()
            assert go_on.wait(PATIENCE_S)

    thread = threading.Thread(target=work)
    thread.start()
    assert burnt.wait(PATIENCE_S)
    while_it_went_on = meter.spent_s
    go_on.set()
    thread.join()
    assert 0.05 <= while_it_went_on <= meter.spent_s < while_it_went_on + 0.05
    assert meter.spent_s == meter.spent_s


def test_several_threads_add_up():
    meter = CpuMeter()

    def work():
        with meter.running():
            burn(0.02)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.spent_s >= 0.06


def test_work_that_fails_is_counted():
    meter = CpuMeter()
    with pytest.raises(ZeroDivisionError), meter.running():
        burn(0.01)
        raise ZeroDivisionError
    assert meter.spent_s >= 0.01
    before = meter.spent_s
    burn(0.01)
    assert meter.spent_s == before
