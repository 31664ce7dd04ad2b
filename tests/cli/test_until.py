from __future__ import annotations

import os
import signal

import pytest

from clovisor_py.cli._until import until


def test_a_signal_asks_and_a_second_one_insists() -> None:
    with pytest.raises(KeyboardInterrupt), until(None) as over:
        assert not over()
        os.kill(os.getpid(), signal.SIGTERM)
        assert over()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_time_is_over() -> None:
    with until(0) as over:
        assert over()
    with until(3600) as over:
        assert not over()
