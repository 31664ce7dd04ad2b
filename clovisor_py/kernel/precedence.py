"""Precedence: whether our programs go first again where another TCX program has put itself before them.

It may have come later and end the chain, so it is overtaken. But it may want to be first as much as we do: then each would
put the other back for ever, and each time the kernel makes all other changes to interfaces wait. So after OVERTAKINGS of a
veth that come within CALM_S of each other ours stay behind there, which `attach.ahead` tells, and it is tried again after
CALM_S. What is missing altogether is put back in any case.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

OVERTAKINGS: Final = 3
"""A CNI that restarts, or an agent that is installed, comes once or twice. Veths that were given up: `given_up`."""
CALM_S: Final = 600.0
"""Who comes less often than that does not insist."""
STAY: Final = "interface %d: a program puts itself before ours again and again; they stay behind it for now."

_log = logging.getLogger(__name__)


class Place(Enum):
    """Where ours are on a veth, on the hook that is worse off."""

    FIRST = "first"
    BEHIND = "behind"
    MISSING = "missing"


class Precedence:
    """`clock`: monotonic, s. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._overtaken: dict[int, tuple[int, float]] = {}
        """By ifindex: how often in a row we went before somebody again, and when that was the last time."""
        self._staying: set[int] = set()
        self.given_up = 0
        """How often it was decided to stay behind."""

    def claims(self, ifindex: int, place: Place) -> bool:
        """Whether ours are to be put on (again)."""
        if place is not Place.BEHIND:
            return place is Place.MISSING
        if self._row(ifindex) < OVERTAKINGS:
            self._staying.discard(ifindex)
            return True
        if ifindex not in self._staying:
            self._staying.add(ifindex)
            self.given_up += 1
            _log.warning(STAY, ifindex)
        return False

    def claimed(self, ifindex: int, place: Place) -> None:
        """They were."""
        if place is Place.BEHIND:
            self._overtaken[ifindex] = self._row(ifindex) + 1, self._clock()

    def forget(self, ifindex: int) -> None:
        """It is traced no more."""
        self._overtaken.pop(ifindex, None)
        self._staying.discard(ifindex)

    def _row(self, ifindex: int) -> int:
        number, last = self._overtaken.get(ifindex, (0, 0.0))
        return number if self._clock() < last + CALM_S else 0
