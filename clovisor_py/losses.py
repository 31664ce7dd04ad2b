"""Losses: when the kernel lost segments of a pod, so that a session says what else may be missing around it.

A session knows the holes in its own bytes. That others were lost whole (the ring was full, the table of connections, the
budget) only the pod's counters know. Sessions leave within milliseconds, so who delivers them looks at the counters of their
pods first (`due`), and at all pods once a second while anything comes. A loss has a time between two looks, and is told of all
sessions of that pod that overlap it and are delivered after the second. Counters in, a number out; no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from clovisor_py.model.session import Session

PAUSE_NS: Final = 500_000
"""For each traced pod, between two looks at one whose sessions come without end: up to ten pods every batch is looked at, and
all looks together (4 µs each on 2 CPUs) stay below a hundredth of a core. Sessions in between may miss a loss."""
GRAIN_NS: Final = 1_000_000_000
"""Losses within so long are remembered as one: a flood has no end of them."""
WINDOWS: Final = 128
"""Losses of one pod that are remembered: those of the latest minute at least, as any two in a row span more than GRAIN_NS."""
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
        """So many segments of this veth have been lost; of the first look nothing is told, what is new since then is."""
        since_ns, before = self._looked.get(interface, (now_ns, lost))
        self._looked[interface] = (now_ns, lost)
        if lost > before:
            self._remember(interface, _Loss(since_ns, now_ns, lost - before))
        elif self._known and (known := self._known.get(interface)) is not None and known[-1].until_ns < now_ns - KEEP_NS:
            del self._known[interface]

    def due(self, sessions: list[Session], now_ns: int) -> list[int]:
        """The interfaces to be looked at before these sessions are marked: of those that have been, and not just now."""
        found = {session.interface for session in sessions}.intersection(self._looked)
        latest = now_ns - PAUSE_NS * len(self._looked)
        return [interface for interface in found if self._looked[interface][0] <= latest]

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
            for loss in reversed(self._known.get(session.interface, ())):
                if loss.until_ns < start_ns:
                    break  # as are all before it
                if loss.since_ns <= end_ns:
                    session.pod_lost += loss.segments

    def _remember(self, interface: int, loss: _Loss) -> None:
        known = self._known.setdefault(interface, deque(maxlen=WINDOWS))
        if known and loss.until_ns - known[-1].since_ns <= GRAIN_NS:
            last = known.pop()
            loss = _Loss(last.since_ns, loss.until_ns, last.segments + loss.segments)
        known.append(loss)
