"""Edge: all calls from one to another in one protocol, seen at one side, in rows by what was asked for and how it ended.

Written by one thread; any other may read meanwhile: what is replaced or copied is so in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from clovisor_py.metrics._examples import Example
from clovisor_py.metrics.histogram import Histogram
from clovisor_py.metrics.operations import Operation
from clovisor_py.metrics.routes import OTHER
from clovisor_py.model.session import Session, Side

EDGE_ROWS: Final = 32
"""Rows of one edge, OTHER not counted: with 24 series each (a histogram and two counters), its sizes and statuses, an edge has
less than a thousand, whatever is on the wire."""
OWN_STATUSES: Final = 4
"""Statuses that each edge has, whatever others take: `ok`, `200` and the commonest errors of a service that comes late."""
STATUSES: Final = 48
"""Statuses of one edge that are told apart (they come from the wire); the rest is counted as OTHER. For all, see `red`."""
STATUS_CHARS: Final = 64
"""Characters of a status that are kept: longer than every name that a protocol's specification gives one."""
SIZE_BITS: Final = 65
"""Sizes are counted by their number of bits: 0, 1, 2 to 3, 4 to 7 bytes…"""

EdgeKey = tuple[str, str, str, str, str, Side]
REST: Final = Operation(OTHER, "", "")
_NO_SIZES: Final = [0] * SIZE_BITS
"""Of edges of whose sizes nobody asks; never written to."""


class Row:
    """Calls of one operation that ended alike."""

    __slots__ = ("calls", "durations", "errors", "examples", "received", "sent")

    def __init__(self) -> None:
        self.calls = self.errors = self.sent = self.received = 0
        """`sent` and `received` are bytes on the wire, of requests and of responses."""
        self.durations = Histogram()
        """Of all for which somebody waited: not of one-way sessions and whole connections; of a timeout, how long it was."""
        self.examples: dict[int, Example] = {}
        """A late session of each class of duration, by a quarter of its bits: at most 16."""

    def merge(self, other: Row) -> None:
        self.calls += other.calls
        self.errors += other.errors
        self.sent += other.sent
        self.received += other.received
        self.durations.merge(other.durations)
        self.examples.update(other.examples.copy())


class Edge:
    """Calls from `client` to `server` in `protocol`, seen at `side`; names are titles of workloads, or addresses.

    With `by_operation` False all of them are counted in one row, `only`, none is an example, and nobody asks for sizes.
    """

    __slots__ = (
        "_rows",
        "checked",
        "client",
        "client_namespace",
        "error_statuses",
        "hidden",
        "only",
        "protocol",
        "request_sizes",
        "response_sizes",
        "rows_failed",
        "rows_ok",
        "rows_one_way",
        "server",
        "server_namespace",
        "side",
        "slowest",
        "statuses",
    )

    def __init__(self, key: EdgeKey, by_operation: bool = True) -> None:
        self.client_namespace, self.client, self.server_namespace, self.server, self.protocol, self.side = key
        self._rows: dict[Operation, Row] = {}
        self.only = None if by_operation else self.add_row(REST)
        self.rows_ok: dict[tuple[str, str, str], Row] = {}
        """Operation, resource and status of sessions that were seen, to their row; `Red` keeps it, as the next two."""
        self.rows_failed: dict[tuple[str, str, str], Row] = {}
        self.rows_one_way: dict[tuple[str, str, str], Row] = {}
        self.hidden = 0
        """Sessions of which so much passed unseen that others may have passed with it: the counts are too low, perhaps."""
        self.statuses: dict[str, int] = {}
        self.error_statuses: dict[str, int] = {}
        """Those of the failed sessions only, under the same names; a session without a status counts under its outcome."""
        self.slowest: Session | None = None
        self.checked = 0
        """Sessions when `Red` looked last for edges on which nothing happens any more."""
        self.request_sizes = [0] * SIZE_BITS if by_operation else _NO_SIZES
        self.response_sizes = [0] * SIZE_BITS if by_operation else _NO_SIZES
        """Messages by the number of bits of their size on the wire, bytes."""

    @property
    def calls(self) -> int:
        """Sessions."""
        return sum(row.calls for row in self._rows.copy().values())

    @property
    def errors(self) -> int:
        """Of these: failed."""
        return sum(row.errors for row in self._rows.copy().values())

    @property
    def durations(self) -> Histogram:
        """Of all rows together: a copy."""
        out = Histogram()
        for row in self._rows.copy().values():
            out.merge(row.durations)
        return out

    def rows(self) -> dict[Operation, Row]:
        """All of them; theirs is still written to."""
        return self._rows.copy()

    # What follows is for the thread that writes.

    def row(self, operation: Operation) -> Row | None:
        return self._rows.get(operation)

    def add_row(self, operation: Operation) -> Row:
        row = self._rows[operation] = Row()
        return row

    @property
    def full(self) -> bool:
        """There is no room for another row."""
        return len(self._rows) >= EDGE_ROWS

    def count_error(self, row: Row, status: str) -> None:
        """A failed session, whose status is called so."""
        row.errors += 1
        self.error_statuses[status] = self.error_statuses.get(status, 0) + 1

    def called(self, status: str, room: bool) -> str:
        """Under which name a new status is counted; where there is no `room`, and no such name yet, it is OTHER."""
        status = status[:STATUS_CHARS]
        if status not in self.statuses and not (self.apart < OWN_STATUSES or (room and self.apart < STATUSES)):
            status = OTHER
        self.statuses.setdefault(status, 0)
        return status

    @property
    def apart(self) -> int:
        """Statuses that are told apart."""
        return len(self.statuses) - (OTHER in self.statuses)

    def rest(self) -> Row:
        """The row of what has no row."""
        return self._rows.get(REST) or self.add_row(REST)

    def regroup(self, template: Callable[[str], str]) -> int:
        """`template` answers another one now for some objects of operations: their rows become one. How many rows less."""
        before, rows = len(self._rows), dict[Operation, Row]()
        for operation, row in self._rows.items():
            what = template(operation.what) if operation.what.startswith("/") else operation.what
            if what == OTHER:
                what = operation.what
            key = operation._replace(what=what)
            rows[key] = row if key not in rows else merged(rows[key], row)
        self._rows = rows
        self.forget()
        return before - len(rows)

    def forget(self) -> int:
        """What texts mean; of how many."""
        known = self.rows_ok, self.rows_failed, self.rows_one_way
        self.rows_ok, self.rows_failed, self.rows_one_way = {}, {}, {}
        return sum(map(len, known))

    def merge(self, other: Edge) -> None:
        """Add what `other` has counted, as one row."""
        row = self.rest()
        for each in other.rows().values():
            row.merge(each)
        self.hidden += other.hidden
        if other.slowest is not None and (self.slowest is None or other.slowest.duration_ns > self.slowest.duration_ns):
            self.slowest = other.slowest
        for sizes, others in ((self.request_sizes, other.request_sizes), (self.response_sizes, other.response_sizes)):
            sizes[:] = map(sum, zip(sizes, others, strict=True))
        add_counts(self.statuses, other.statuses)
        add_counts(self.error_statuses, other.error_statuses)


def merged(*rows: Row) -> Row:
    """A new one: who reads now still has the old ones, each by itself."""
    out = Row()
    for row in rows:
        out.merge(row)
    return out


def count(counts: dict[str, int], status: str, by: int = 1) -> None:
    """Bounded in the number of statuses and in their length."""
    if status not in counts:
        status = status[:STATUS_CHARS] if len(counts) < STATUSES else OTHER
    counts[status] = counts.get(status, 0) + by


def add_counts(into: dict[str, int], counts: Mapping[str, int]) -> None:
    """Count all of these, too."""
    for status, number in dict(counts).items():
        count(into, status, number)
