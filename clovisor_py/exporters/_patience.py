"""Patience: sessions are offered no faster than the exporters take them, because a file can wait, as a kernel cannot.

Waits for the slowest of those that deliver. One that has failed a whole batch after all its retries is waited for no more: a
collector that is down must not hold up the console, and what it misses is counted as ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from clovisor_py.exporters._fanout import Fanout
from clovisor_py.exporters._worker import FAILED
from clovisor_py.model.session import Session

LOOK_S: Final = 0.002
"""Between two looks at a queue that is full: nothing beside the time that a batch takes."""


class Patience:
    """`room`: sessions that may wait in one exporter's queue, whose limit is greater; `stop` ends all waiting."""

    def __init__(self, fanout: Fanout, room: int, stop: Callable[[], bool]) -> None:
        self._fanout = fanout
        self._room = room
        self._stop = stop
        self._known = 0
        """The most that can be waiting by now."""

    def offer(self, sessions: Sequence[Session]) -> None:
        """Hand them over as soon as there is room."""
        for begin in range(0, len(sessions), self._room):
            part = sessions[begin : begin + self._room]
            if self._known + len(part) > self._room:
                self._wait(self._room - len(part))
            self._fanout.offer(part)
            self._known += len(part)

    def drain(self) -> None:
        """Wait until everything has been delivered."""
        self._wait(0)

    def _wait(self, most: int) -> None:
        while (waiting := self._waiting()) > most and not self._stop() and not self._fanout.gone:
            time.sleep(LOOK_S)
        self._known = waiting

    def _waiting(self) -> int:
        ledgers = self._fanout.ledgers().values()
        return max((ledger.waiting for ledger in ledgers if not ledger.dropped[FAILED]), default=0)
