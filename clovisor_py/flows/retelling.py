"""Retelling: a walk over all open flows because servers may be said to speak something else, a few flows at a time.

A busy cluster has such news all the time, and a node tens of thousands of connections: one walk at once would stop
everything else for as long. Flows that are opened meanwhile have heard the news.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

from clovisor_py.flows.table import Flow

SLICE: Final = 256
"""Flows of one step, ten a second: 1 ms, 6 where all that is known of servers has to be found anew. 10,000 take 4 s."""


class Retelling:
    """Over `flows`, which may change between two steps."""

    def __init__(self, flows: Mapping[object, Flow]) -> None:
        self._flows = flows
        self._left: deque[object] = deque()
        self._again = False

    def begin(self) -> None:
        """There is news. Also to those that this walk has passed: they are walked again when it is done."""
        if self._left:
            self._again = True
        else:
            self._left.extend(self._flows)

    def step(self) -> Iterator[Flow]:
        """The next few, those that have ended left out."""
        for _ in range(min(SLICE, len(self._left))):
            flow = self._flows.get(self._left.popleft())
            if flow is not None:
                yield flow
        if not self._left and self._again:
            self._again = False
            self.begin()
