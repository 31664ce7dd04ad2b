"""Throttle: how much the kernel may send up, so that user space stays within its share of a core.

The kernel enforces the budget (user space would be too late: 20 MB cross a veth in 20 ms); this decides it, some times a
second, from what it cost. Under load only the pods that use most are lowered: everybody gets the same ceiling, and whoever is
below it does not notice. Turns and counters stay complete whatever the ceiling is.
"""

from __future__ import annotations

from typing import Final

FLOOR: Final = 64 * 1024
"""Bytes a second: some hundred heads of requests, so that a glimpse of every pod is left."""
RISE: Final = 1.06
"""Back up a little with each look: with four a second, 10 s from a tenth to the whole."""
TARGET: Final = 0.9
"""Part of the share that a lower ceiling aims at: the share is a limit, not an average."""
CALM: Final = 0.8
"""Only below this part of the share is the ceiling raised: between the two it is left alone, or it would swing."""

BEHIND: Final = 0.7
"""When records were lost, so much less is let up from now on."""


class Throttle:
    """`share` is of one core; `most` is the setting, bytes a second for one pod."""

    def __init__(self, share: float, most: int) -> None:
        self.share = share
        self.most = most
        self.ceiling = most

    @property
    def shedding(self) -> bool:
        """Whether pods get less than the setting."""
        return self.ceiling < self.most

    def concerned(self, used: float) -> bool:
        """Whether there is anything to decide, at this use of cores."""
        return self.shedding or used > self.share

    def observe(self, used: float, heaviest: float, behind: bool = False) -> int:
        """The new ceiling.

        `used`: cores that the process used since the last look; `heaviest`: bytes a second that the pod which used most was
        charged; `behind`: the ring was full. On a starved node the reader gets less than its share, and still cannot keep up.
        """
        if used > self.share or behind:
            affordable = heaviest * TARGET * self.share / used if used > self.share else heaviest * BEHIND
            self.ceiling = max(FLOOR, min(self.ceiling, int(affordable)))
        elif used < CALM * self.share and self.shedding:
            self.ceiling = min(self.most, int(self.ceiling * RISE))
        return self.ceiling
