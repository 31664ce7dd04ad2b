from __future__ import annotations

import os
import signal

import pytest

from clovisor_py.cli._until import INTERRUPTED, until


def test_a_signal_asks_and_a_second_one_insists() -> None:
    with pytest.raises(KeyboardInterrupt), until(None) as over:
        assert not over()
        os.kill(os.getpid(), signal.SIGTERM)
        assert over()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("numbers", "trace", "replay"),
    [
        ((), 0, 0),
        ((signal.SIGINT,), 0, 130),
        ((signal.SIGTERM,), 143, 143),
        ((signal.SIGHUP,), 129, 129),
        ((signal.SIGTERM, signal.SIGINT), 143, 143),
    ],
)
def test_the_exit_status_says_who_ended_it(numbers: tuple[int, ...], trace: int, replay: int) -> None:
    heard = []
    with until(None, lambda: heard.append(1)) as over:
        with over.work():
            pass
        for number in numbers:
            os.kill(os.getpid(), number)
        assert (over.exit_status(), over.exit_status(INTERRUPTED)) == (trace, replay)
    assert len(heard) == bool(numbers), "the first one only"


def test_no_signal_cuts_a_clean_up_short() -> None:
    with until(None) as over:
        with over.work():
            pass
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert over()


def test_to_insist_once_is_enough() -> None:
    with until(None) as over:
        with pytest.raises(KeyboardInterrupt), over.work():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    with until(None) as over:
        with pytest.raises(KeyboardInterrupt):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # without `work`: what was being prepared is being undone


def test_time_is_over() -> None:
    with until(0) as over:
        assert not over()
        over.start()
        assert over()
    with until(3600) as over:
        over.start()
        assert not over()
