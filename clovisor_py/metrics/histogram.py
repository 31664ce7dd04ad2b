"""Histogram: durations in log-linear buckets, so that every quantile is right to about 3 %, from nanoseconds to days.

Each power of two is cut into 16 buckets of equal width: the middle of a bucket is within 1/32 (3.1 %) of anything in it,
below 16 ns the values are exact. No boundaries to choose, and two histograms merge by adding: what the quantile of all
edges of a service map needs. Only buckets that were hit take memory, 960 at the very most.

Written by one thread; any other may read meanwhile (it sees a moment that is at most some values old).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

SUB_BITS: Final = 4
SUB_BUCKETS: Final = 1 << SUB_BITS
"""Buckets in each power of two; twice as many would halve the error and double the memory."""
RELATIVE_ERROR: Final = 1 / (2 * SUB_BUCKETS)
LONGEST_NS: Final = (1 << 63) - 1
"""Longer durations (292 years: a broken clock) count as this."""


class Histogram:
    """Counts durations in ns; `total_ns` is their exact sum, `min_ns` and `max_ns` their exact extremes (0 when empty)."""

    __slots__ = ("count", "counts", "max_ns", "min_ns", "total_ns")

    def __init__(self) -> None:
        self.count = 0
        self.total_ns = 0
        self.min_ns = 0
        self.max_ns = 0
        self.counts: dict[int, int] = {}

    def add(self, ns: int) -> None:
        """Count one duration; a negative one (clocks) counts as 0."""
        if ns < 0:
            ns = 0
        elif ns > LONGEST_NS:
            ns = LONGEST_NS
        shift = ns.bit_length() - SUB_BITS - 1
        index = (shift << SUB_BITS) + (ns >> shift) if shift > 0 else ns
        counts = self.counts
        counts[index] = counts.get(index, 0) + 1
        if ns > self.max_ns:  # noqa: PLR1730 (a call of max would take a tenth of what the session may cost)
            self.max_ns = ns
        if ns < self.min_ns or not self.count:
            self.min_ns = ns
        self.count += 1
        self.total_ns += ns

    def merge(self, other: Histogram) -> None:
        """Add everything that `other` has counted; `other` stays as it is."""
        if not other.count:
            return
        for index, count in list(other.counts.items()):
            self.counts[index] = self.counts.get(index, 0) + count
        self.min_ns = min(self.min_ns, other.min_ns) if self.count else other.min_ns
        self.max_ns = max(self.max_ns, other.max_ns)
        self.count += other.count
        self.total_ns += other.total_ns

    def quantile(self, q: float) -> int:
        """The duration (ns) that a share `q` (0 to 1) of all do not exceed, within RELATIVE_ERROR; 0 when empty."""
        buckets = list(self.buckets())
        rank = max(q, 0.0) * sum(count for _, _, count in buckets)
        seen = 0
        for low, high, count in buckets:
            seen += count
            if seen >= rank and count:
                return min(max((low + high) // 2, self.min_ns), self.max_ns)
        return self.max_ns

    def buckets(self) -> Iterator[tuple[int, int, int]]:
        """(lowest ns, highest ns, count) of each bucket that was hit, ascending; both ends belong to it."""
        for index, count in sorted(self.counts.copy().items()):
            yield *_bounds(index), count


def _bounds(index: int) -> tuple[int, int]:
    if index < 2 * SUB_BUCKETS:
        return index, index
    shift = (index >> SUB_BITS) - 1
    low = (index - (shift << SUB_BITS)) << shift
    return low, low + (1 << shift) - 1
