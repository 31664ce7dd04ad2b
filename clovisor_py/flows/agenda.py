"""Agenda: which flows want to be looked at, and when; so that a tick costs what is due, not what is open.

A flow has at most one time. Moving it to an earlier one leaves the old entry behind, to be passed over when it comes up;
when more entries are stale than live the heap is rebuilt, so its size is bounded by the number of flows.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from typing import Final

STALE_SLACK: Final = 1024
"""Stale entries that are not worth a rebuild."""


class Agenda:
    """Flow ids by due time, ns."""

    __slots__ = ("_due", "_heap", "_serial")

    def __init__(self) -> None:
        self._due: dict[Hashable, int] = {}
        self._heap: list[tuple[int, int, Hashable]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, flow_id: Hashable, due_ns: int) -> None:
        """Look at the flow at `due_ns`, unless it is to be looked at earlier anyway."""
        known = self._due.get(flow_id)
        if known is not None and known <= due_ns:
            return
        self._due[flow_id] = due_ns
        self._serial += 1  # so that the heap never has to compare ids
        heapq.heappush(self._heap, (due_ns, self._serial, flow_id))
        if len(self._heap) > 2 * len(self._due) + STALE_SLACK:
            self._rebuild()

    def watch(self, delay_ns: int, flow_id: Hashable, from_ns: int) -> None:
        """Look at the flow `delay_ns` after `from_ns`."""
        self.add(flow_id, from_ns + delay_ns)

    def forget(self, flow_id: Hashable) -> None:
        """The flow is gone."""
        self._due.pop(flow_id, None)

    def pop_due(self, now_ns: int) -> list[Hashable]:
        """Take off every flow whose time has come."""
        heap, found = self._heap, []
        while heap and heap[0][0] <= now_ns:
            due_ns, _, flow_id = heapq.heappop(heap)
            if self._due.get(flow_id) == due_ns:
                del self._due[flow_id]
                found.append(flow_id)
        return found

    def _rebuild(self) -> None:
        self._heap = [(due_ns, index, flow_id) for index, (flow_id, due_ns) in enumerate(self._due.items())]
        self._serial = len(self._heap)
        heapq.heapify(self._heap)


class Watcher:
    """Says of a flow that it wants to be looked at; a third of a `partial`'s size."""

    __slots__ = ("_flow_id", "_watch")

    def __init__(self, watch: Callable[[Hashable, int], None], flow_id: Hashable) -> None:
        self._watch = watch
        self._flow_id = flow_id

    def __call__(self, time_ns: int) -> None:
        self._watch(self._flow_id, time_ns)
