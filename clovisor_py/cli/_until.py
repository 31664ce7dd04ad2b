"""When a live command ends: its time is over, Ctrl-C, or SIGTERM. The first signal asks, the second insists.

To insist is to wait for nothing more: not for the compiler, not for a slow exporter. What undoes the work is never cut short,
as it would leave filters or namespaces on the node: from the end of `work` on, or from the second signal, further ones are
noted and no more.

The exit status says who ended it. Ctrl-C is how `trace` is meant to end: 0, as of tcpdump and ping. Where a command has an end
of its own (`replay`, `demo`), Ctrl-C leaves a part of it: 130. SIGTERM and SIGHUP are somebody else's word, and a script that
waits for the result has to know: 128 + the signal, as shells say it. Only `agent` ends with 0 on SIGTERM: Kubernetes ends every
pod so, and would call anything else a failure.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C where a command has no better answer (128 + SIGINT)."""
BY_SIGNAL: Final = 128
"""Exit status of what a signal ended, less the signal's number."""


class Until:
    """Callable: whether it is time to end. The time begins with `start`: what comes before it is preparation."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end: float | None = None
        self.signal = 0
        """The number of the first signal that came."""
        self.leaving = False
        """Signals change nothing any more: it is being cleaned up."""

    @property
    def asked(self) -> bool:
        """Somebody wants it to end."""
        return self.signal != 0

    def exit_status(self, ctrl_c: int = 0) -> int:
        """Of a command that did what it could: 0 unless a signal ended it, `ctrl_c` where that was Ctrl-C."""
        if self.signal in (0, signal.SIGINT):
            return ctrl_c if self.signal else 0
        return BY_SIGNAL + self.signal

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
def until(seconds: float | None, asked: Callable[[], None] | None = None) -> Iterator[Until]:
    """Signals end the block's loop in an orderly way; the second raises KeyboardInterrupt, once, and not in a clean-up.

    `asked` is called at the first signal, by its handler: for what the loop may be waiting in.
    """
    state = Until(seconds)

    def ask(signum: int, frame: FrameType | None) -> None:
        if state.asked and not state.leaving:
            state.leaving = True
            raise KeyboardInterrupt
        if not state.signal:
            state.signal = signum
            if asked is not None:
                asked()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
