"""Agenda: which flows want to be looked at, and when; so that a tick costs what is due, not what is open.

A flow has at most one time. Flows are kept in slots of time, in no order within one: a slot costs eight bytes a flow, and is
gone through when it begins. Moving a flow to an earlier time leaves the old entry behind, to be passed over when it comes up;
when more entries are stale than live all are entered anew, so their number is bounded by that of the flows.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final

SLOT_BITS: Final = 26
"""A slot is 2**26 ns, 67 ms: less than the time between two ticks, so that few flows are gone through twice."""
STALE_SLACK: Final = 1024
"""Stale entries that are not worth entering all anew."""


class Agenda:
    """Flow ids by due time, ns."""

    __slots__ = ("_due", "_entries", "_order", "_slots")

    def __init__(self) -> None:
        self._due: dict[Hashable, int] = {}
        self._slots: dict[int, list[Hashable]] = {}
        self._order: list[int] = []
        """The slots, as a heap."""
        self._entries = 0

    def __len__(self) -> int:
        """Entries, stale ones too."""
        return self._entries

    def add(self, flow_id: Hashable, due_ns: int) -> None:
        """Look at the flow at `due_ns`, unless it is to be looked at earlier anyway."""
        known = self._due.get(flow_id)
        if known is not None and known <= due_ns:
            return
        self._due[flow_id] = due_ns
        self._enter(flow_id, due_ns >> SLOT_BITS)
        if self._entries > 2 * len(self._due) + STALE_SLACK:
            self._enter_anew()

    def watch(self, delay_ns: int, flow_id: Hashable, from_ns: int) -> None:
        """Look at the flow `delay_ns` after `from_ns`."""
        self.add(flow_id, from_ns + delay_ns)

    def forget(self, flow_id: Hashable) -> None:
        """The flow is gone."""
        self._due.pop(flow_id, None)

    def pop_due(self, now_ns: int) -> list[Hashable]:
        """Take off every flow whose time has come, the most overdue first."""
        order, found, later = self._order, dict[Hashable, int](), list[Hashable]()
        while order and order[0] <= now_ns >> SLOT_BITS:
            slot = heapq.heappop(order)
            entries = self._slots.pop(slot)
            self._entries -= len(entries)
            for flow_id in entries:
                due_ns = self._due.get(flow_id)
                if due_ns is None or due_ns >> SLOT_BITS != slot:
                    continue
                if due_ns <= now_ns:
                    found[flow_id] = self._due.pop(flow_id)
                else:
                    later.append(flow_id)
        for flow_id in dict.fromkeys(later):
            self._enter(flow_id, now_ns >> SLOT_BITS)
        return sorted(found, key=found.__getitem__)

    def _enter(self, flow_id: Hashable, slot: int) -> None:
        entries = self._slots.get(slot)
        if entries is None:
            entries = self._slots[slot] = []
            heapq.heappush(self._order, slot)
        entries.append(flow_id)
        self._entries += 1

    def _enter_anew(self) -> None:
        self._slots, self._order, self._entries = {}, [], 0
        for flow_id, due_ns in self._due.items():
            self._enter(flow_id, due_ns >> SLOT_BITS)
