"""When a live command ends: its time is over, Ctrl-C, or SIGTERM. The first asks, the second Ctrl-C insists."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Until:
    """Callable: whether it is time to end."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self.asked = False

    def __call__(self) -> bool:
        return self.asked or (self._end is not None and time.monotonic() >= self._end)


@contextmanager
def until(seconds: float | None) -> Iterator[Until]:
    """Signals end the block's loop in an orderly way; a second one raises KeyboardInterrupt, and `with` still cleans up."""
    state = Until(seconds)

    def ask(signum: int, frame: FrameType | None) -> None:
        if state.asked:
            raise KeyboardInterrupt
        state.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
