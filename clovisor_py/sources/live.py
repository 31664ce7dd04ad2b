"""Segments from the kernel's ring, as they happen.

Kernel times are CLOCK_MONOTONIC; they become wall time here and nowhere else, with an offset that is measured anew each
second (the wall clock is slewed and stepped, the kernel's is not).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from clovisor_py.kernel.ring import BATCH, Ring
from clovisor_py.model.segment import Segment

OFFSET_EVERY_NS: Final = 1_000_000_000

QUIET_AFTER_NS: Final = 1_000_000_000
QUIET_POLL_S: Final = 0.05
"""Between two looks when nothing at all has come for QUIET_AFTER_NS: half of what an agent at rest costs is its looks. Only the
first record after a silence waits longer for it; a flood wakes the reader whenever it comes."""

BUSY: Final = 8
"""Records in one batch from which on something comes: a request a second is no reason to hurry."""


def wall_offset_ns() -> int:
    """Wall clock less CLOCK_MONOTONIC, of the three measurements the one that took least time."""
    best = (1 << 62, 0)
    for _ in range(3):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        best = min(best, (after - before, wall - (before + after) // 2))
    return best[1]


class LiveSource:
    """An endless iterable of batches, some of them empty.

    One every `poll_s`; every `busy_poll_s` while much comes; every QUIET_POLL_S at least when nothing does.
    """

    def __init__(self, ring: Ring, poll_s: float, busy_poll_s: float) -> None:
        self._ring = ring
        self._poll_s = poll_s
        self._busy_poll_s = busy_poll_s
        self._offset = wall_offset_ns()
        self._measured = self._heard = time.monotonic_ns()

    def now_ns(self) -> int:
        """The wall clock that this source's segments are on."""
        return time.monotonic_ns() + self._offset

    def batches(self) -> Iterator[list[Segment]]:
        """Batches in the ring's order; a full one (`drained` is False then) is followed by the next without a sleep."""
        while True:
            self._measure()
            batch = self._ring.read(self._offset)
            yield batch
            if self.drained(batch):
                self._ring.wait(self._pause_s(len(batch)))

    def _pause_s(self, records: int) -> float:
        if records:
            self._heard = self._measured
        if records >= BUSY:
            return self._busy_poll_s
        quiet = self._measured - self._heard > QUIET_AFTER_NS
        return max(self._poll_s, QUIET_POLL_S) if quiet else self._poll_s

    @staticmethod
    def drained(batch: list[Segment]) -> bool:
        """Whether the ring was empty after this batch."""
        return len(batch) < BATCH

    def _measure(self) -> None:
        now = time.monotonic_ns()
        if now - self._measured >= OFFSET_EVERY_NS:
            self._offset, self._measured = wall_offset_ns(), now
