"""Patience: sessions are offered no faster than the exporters take them, because a file can wait, as a kernel cannot.

Waits for the slowest of those that deliver. One that has failed a batch after all its retries is not waited for until it takes
one again: a collector that is down must not hold up the console, and what it misses is counted as ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from clovisor_py.exporters._fanout import Fanout
from clovisor_py.exporters._queue import allowance, weights
from clovisor_py.model.session import Session

LOOK_S: Final = 0.002
"""Between two looks at a queue that is full: nothing beside the time that a batch takes."""


class Patience:
    """`room`: sessions (and the `allowance` of so many) that may wait in one exporter's queue, whose limit is greater; `stop`
    ends all waiting.
    """

    def __init__(self, fanout: Fanout, room: int, stop: Callable[[], bool]) -> None:
        self._fanout = fanout
        self._room = room
        self._stop = stop
        self._known = self._known_bytes = 0
        """The most that can be waiting by now."""
        self._room_bytes = allowance(room)

    def offer(self, sessions: Sequence[Session]) -> None:
        """Hand them over as soon as there is room."""
        weighed = weights(sessions)
        if len(sessions) <= self._room and (size := sum(weighed)) <= self._room_bytes:
            self._hand_over(sessions, weighed, size)
            return
        begin = size = 0
        for index, more in enumerate(weighed):
            if index > begin and (index - begin >= self._room or size + more > self._room_bytes):
                self._hand_over(sessions[begin:index], weighed[begin:index], size)
                begin, size = index, 0
            size += more
        self._hand_over(sessions[begin:], weighed[begin:], size)

    def drain(self) -> None:
        """Wait until everything has been delivered."""
        self._wait(0, 0)

    def _hand_over(self, part: Sequence[Session], weighed: Sequence[int], size: int) -> None:
        if self._known + len(part) > self._room or self._known_bytes + size > self._room_bytes:
            self._wait(self._room - len(part), max(self._room_bytes - size, 0))
        self._fanout.offer(part, weighed)
        self._known += len(part)
        self._known_bytes += size

    def _wait(self, most: int, most_bytes: int) -> None:
        self._look()
        while (self._known > most or self._known_bytes > most_bytes) and not self._stop() and not self._fanout.gone:
            time.sleep(LOOK_S)
            self._look()

    def _look(self) -> None:
        ledgers = [ledger for ledger in self._fanout.ledgers().values() if not ledger.failing]
        self._known = max((ledger.waiting for ledger in ledgers), default=0)
        self._known_bytes = max((ledger.queued_bytes for ledger in ledgers), default=0)
