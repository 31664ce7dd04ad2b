"""Who held a name (an IP, an IP and port) when: intervals, the newest first, kept for a while after their end.

Addresses are used again, and sessions are named after they happened, so an address alone says nothing: an address at a time
does. Times are nanoseconds since 1970, on this machine's clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from typing import Final, Generic, TypeVar

from clovisor_py.model.workload import Workload

OPEN: Final = 1 << 63
"""The end of what has not ended."""
RETAIN_NS: Final = 300 * 10**9
"""How long an interval outlives its end: longer than a request may take until it is a time-out, and its session is named."""
MOST_ENDED: Final = 10_000
"""Ended intervals of one table: 30 pods that end every second, for RETAIN_NS; about 10 MB with the pods. Beyond it the
oldest are forgotten, and counted."""

Key = TypeVar("Key", bound=Hashable)
Holder = TypeVar("Holder")


class Tenure(Generic[Holder]):
    """`holder` had it in `since <= t < until`, could have had it from `born` on; `earlier` had it before."""

    __slots__ = ("born", "earlier", "holder", "said", "since", "until")

    def __init__(self, holder: Holder, born: int, since: int, earlier: Tenure[Holder] | None) -> None:
        self.holder, self.born, self.since, self.until, self.earlier = holder, born, since, OPEN, earlier
        self.said: Workload | None = None
        """What was answered last: one object for as long as it stays true."""

    def covers(self, time_ns: int) -> bool:
        return self.since <= time_ns < self.until


class Tenures(Generic[Key, Holder]):
    """A table of intervals.

    `exclusive`: a new holder ends the one before (an IP of a pod); otherwise several hold it at once (an address behind two
    Services). Holders are told apart by `identity`; another version of the same just takes its place.
    """

    def __init__(self, *, exclusive: bool) -> None:
        self._exclusive = exclusive
        self._newest: dict[Key, Tenure[Holder]] = {}
        self._ended: deque[tuple[int, Key]] = deque()
        self.forgotten = 0
        """Ended intervals that were dropped before their time, because there were too many."""

    def __len__(self) -> int:
        return len(self._newest)

    def move(
        self, old: Holder | None, lost: Iterable[Key], new: Holder | None, held: Iterable[Key], born: int, now: int
    ) -> None:
        """A holder changed, came (old is None) or went: `lost` are the keys that it had, `held` those that it has.

        What it newly has, it had since `born`, as far as nobody else had it then.
        """
        keys = frozenset(held) if new is not None else frozenset()
        if old is not None:
            same = new is not None and identity(new) == identity(old)
            for key in lost:
                if not (same and key in keys):
                    self._end(key, identity(old), now)
        if new is not None:
            for key in keys:
                self._begin(key, new, born, now)

    def of(self, key: Key) -> Iterator[Tenure[Holder]]:
        """All intervals of a key, the newest first."""
        one = self._newest.get(key)
        while one is not None:
            yield one
            one = one.earlier

    def at(self, key: Key, time_ns: int) -> Tenure[Holder] | None:
        """The newest that covers this time."""
        one = self._newest.get(key)
        while one is not None and not one.since <= time_ns < one.until:
            one = one.earlier
        return one

    def all_at(self, key: Key, time_ns: int) -> list[Tenure[Holder]]:
        """All that cover this time."""
        return [one for one in self.of(key) if one.covers(time_ns)]

    def expire(self, now: int) -> None:
        """Forget what ended RETAIN_NS ago, and the oldest of what is too much."""
        ended = self._ended
        while ended and (ended[0][0] <= now - RETAIN_NS or len(ended) > MOST_ENDED):
            until, key = ended.popleft()
            self.forgotten += until > now - RETAIN_NS
            self._drop(key, until)

    def _begin(self, key: Key, holder: Holder, born: int, now: int) -> None:
        who, since = identity(holder), born
        for one in self.of(key):
            if one.until == OPEN and identity(one.holder) == who:
                one.holder = holder
                return
            if one.until == OPEN and self._exclusive:
                self._close(key, one, now)
            if one.until != OPEN:
                since = max(since, one.until)
        self._newest[key] = Tenure(holder, born, since, self._newest.get(key))

    def _end(self, key: Key, who: object, now: int) -> None:
        for one in self.of(key):
            if one.until == OPEN and identity(one.holder) == who:
                self._close(key, one, now)

    def _close(self, key: Key, one: Tenure[Holder], now: int) -> None:
        one.until = max(now, one.since)
        self._ended.append((one.until, key))

    def _drop(self, key: Key, until: int) -> None:
        """Take one interval with this end out of a key's chain."""
        later: Tenure[Holder] | None = None
        for one in self.of(key):
            if one.until == until:
                if later is not None:
                    later.earlier = one.earlier
                elif one.earlier is not None:
                    self._newest[key] = one.earlier
                else:
                    del self._newest[key]
                return
            later = one


def identity(holder: object) -> object:
    """What stays the same in all versions of an object: a pod of the same name is another if its uid is."""
    return getattr(holder, "uid", "") or getattr(holder, "ref", holder)
