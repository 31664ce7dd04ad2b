"""When a live command ends: its time is over, Ctrl-C, or SIGTERM. The first signal asks, the second insists.

To insist is to wait for nothing more: not for the compiler, not for a slow exporter. What undoes the work is never cut short,
as it would leave filters or namespaces on the node: from the end of `work` on, or from the second signal, further ones are
noted and no more.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C where a command has no better answer (128 + SIGINT)."""


class Until:
    """Callable: whether it is time to end. The time begins with `start`: what comes before it is preparation."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end: float | None = None
        self.asked = False
        self.leaving = False
        """Signals change nothing any more: it is being cleaned up."""

    def start(self) -> None:
        """The seconds count from now."""
        self._end = None if self._seconds is None else time.monotonic() + self._seconds

    def __call__(self) -> bool:
        return self.asked or (self._end is not None and time.monotonic() >= self._end)

    @contextmanager
    def work(self) -> Iterator[None]:
        """Put it innermost: its block may be broken off by a second signal, the ends of all `with` around it may not."""
        try:
            yield
        finally:
            self.leaving = True


@contextmanager
def until(seconds: float | None) -> Iterator[Until]:
    """Signals end the block's loop in an orderly way; the second raises KeyboardInterrupt, once, and not in a clean-up."""
    state = Until(seconds)

    def ask(signum: int, frame: FrameType | None) -> None:
        if state.asked and not state.leaving:
            state.leaving = True
            raise KeyboardInterrupt
        state.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
