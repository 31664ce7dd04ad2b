"""Losses: when the kernel lost segments of a pod, so that a session says what else may be missing around it.

A session knows the holes in its own bytes. That others were lost whole (the ring was full, the table of connections, the
budget) only the pod's counters know, and they are looked at about once a second: so a loss has a time between two looks, and
is told of all sessions of that pod that overlap it and end after the second look. Counters in, a number out; no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from clovisor_py.model.session import Session

WINDOWS: Final = 64
"""Losses of one pod that are remembered: those of the latest minute, if every look finds one."""
KEEP_NS: Final = 60_000_000_000
"""How long a loss is told of; later sessions began after it, nearly all."""


class _Loss(NamedTuple):
    since_ns: int
    until_ns: int
    segments: int


class Losses:
    """By interface. Times are ns since the epoch, as sessions have them. For one thread."""

    def __init__(self) -> None:
        self._looked: dict[int, tuple[int, int]] = {}
        """When it was looked last, and what had been lost until then."""
        self._known: dict[int, deque[_Loss]] = {}
        """Only of pods that lost anything lately."""

    def look(self, interface: int, now_ns: int, lost: int) -> None:
        """So many segments of this veth have been lost since it is traced."""
        since_ns, before = self._looked.get(interface, (0, 0))
        self._looked[interface] = (now_ns, lost)
        if lost > before:
            self._known.setdefault(interface, deque(maxlen=WINDOWS)).append(_Loss(since_ns, now_ns, lost - before))
        elif self._known and (known := self._known.get(interface)) is not None and known[-1].until_ns < now_ns - KEEP_NS:
            del self._known[interface]

    def forget(self, interface: int) -> None:
        """It is traced no more."""
        self._looked.pop(interface, None)
        self._known.pop(interface, None)

    def mark(self, sessions: list[Session]) -> None:
        """Tell each session what its pod lost while it lasted; costs nothing while nothing is lost."""
        if not self._known:
            return
        for session in sessions:
            start_ns, end_ns = session.start_ns, session.start_ns + max(session.duration_ns, 0)
            for loss in self._known.get(session.interface, ()):
                if loss.since_ns <= end_ns and start_ns <= loss.until_ns:
                    session.pod_lost += loss.segments
