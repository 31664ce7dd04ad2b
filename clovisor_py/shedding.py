"""Shedding: the process stays within its share of a core by letting the kernel send less up, and says so.

It looks what the time since the last look cost. What every pod was charged matters only where that was too much, or the ring
may have been full; looking at the counters of all pods is for then. `Throttle` decides; this measures.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from clovisor_py.kernel import layout
from clovisor_py.kernel.maps import Stats
from clovisor_py.sources.throttle import Throttle

SECOND: Final = 1.0
SHEDDING: Final = "more than %g of a core can read: capturing less of the busiest pods; counters stay complete."

_log = logging.getLogger(__name__)


class Shedding:
    """`share` is of one core, `most` bytes a second for one pod; `stats` fetches every pod's counters, by interface."""

    def __init__(self, share: float, most: int, stats: Callable[[], Iterable[tuple[int, Stats]]]) -> None:
        self._throttle = Throttle(share, most)
        self._stats = stats
        self.seconds = 0.0
        """For how long pods were allowed less."""
        self._lost = self._written = 0
        self._charged: dict[int, int] = {}
        self.begin()

    @property
    def active(self) -> bool:
        """Pods are allowed less than the setting, now."""
        return self._throttle.shedding

    @property
    def allowed(self) -> float:
        """What part of the setting the busiest pods are allowed, now: 1 unless `active`."""
        return self._throttle.ceiling / self._throttle.most if self._throttle.most else 1.0

    def begin(self) -> None:
        """What was spent until now does not count."""
        self._cpu, self._at = time.process_time(), time.monotonic()
        self._charged_at = self._at

    def excuse(self, cpu_s: float) -> None:
        """So many seconds of CPU went into what capturing less would not make less."""
        self._cpu += cpu_s

    def forget(self, interface: int) -> None:
        """It is traced no more."""
        self._charged.pop(interface, None)

    def look(self, now: float, written: int) -> int | None:
        """The new budget of a pod, bytes a second, if it is another one. `written`: bytes that ever went into the ring."""
        cpu, elapsed = time.process_time(), now - self._at
        used = (cpu - self._cpu) / elapsed
        self._cpu, self._at = cpu, now
        throttle = self._throttle
        self.seconds += elapsed if throttle.shedding else 0.0
        if not throttle.concerned(used) and (now - self._charged_at < SECOND or written == self._written):
            return None
        self._written = written
        before = throttle.ceiling
        ceiling = throttle.observe(used, *self._charges(now))
        if ceiling == before:
            return None
        if before == throttle.most:
            _log.warning(SHEDDING, throttle.share)
        return ceiling

    def _charges(self, now: float) -> tuple[float, bool]:
        """Bytes a second that the busiest pod was charged since the last look, and whether the ring was full meanwhile."""
        elapsed, self._charged_at = max(now - self._charged_at, 1e-3), now
        heaviest, lost = 0.0, 0
        for interface, stats in self._stats():
            charged = stats[layout.Counter.CAPTURED_BYTES] + layout.RECORD_COST * stats[layout.Counter.RECORDS]
            heaviest = max(heaviest, (charged - self._charged.get(interface, 0)) / elapsed)
            self._charged[interface] = charged
            lost += stats[layout.Counter.LOST_RING]
        behind, self._lost = lost > self._lost, lost
        return heaviest, behind
