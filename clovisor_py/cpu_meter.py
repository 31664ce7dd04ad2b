"""Cpu meter: what certain work costs, to be known while it still goes on.

Some work of the agent is excused from its CPU share, as capturing less would not make it less: pages and pushes of metrics.
Excused when it is over, it would have been held against the engine for as long as it took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class CpuMeter:
    """Adds up the CPU time of threads, s, from `running` to its end. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: dict[int, float] = {}
        """Threads that are at it, with their CPU time when they began, s."""
        self._over_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """The calling thread's, which cannot be at it twice."""
        thread = threading.get_ident()
        with self._lock:
            self._began[thread] = time.thread_time()
        try:
            yield
        finally:
            with self._lock:
                self._over_s += time.thread_time() - self._began.pop(thread)

    @property
    def spent_s(self) -> float:
        """So far; never less than before."""
        with self._lock:  # none of these threads can end meanwhile: the clock of one that is gone must not be asked for
            now = [time.clock_gettime(time.pthread_getcpuclockid(one)) - began for one, began in self._began.items()]
            return self._over_s + sum(now)
