"""A reading: one Kafka message on its way through the steps of its layout, and what was found in it.

It can stop at any step and go on when more bytes are there. So a body of any size is walked without being kept: what tells
nothing is stepped over, whether it was seen or not, and no more is waited for than one name, or one record's headers.

`Misfit` says that a body does not have its layout: nothing of it is told then, for all of it may mean something else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols._kafka_records import Context, Records

Data: TypeAlias = "bytes | bytearray"
Sink: TypeAlias = "Callable[[Reading, Any], None]"
Act: TypeAlias = "Callable[[Reading, Data, int, Any, Any], int]"
Step: TypeAlias = "tuple[Act, Any, Any, bool]"
"""What is done, its operand, its sink, and whether it jumps: it may set `Reading.step`, behind which the next one is then."""
Once: TypeAlias = "Callable[[Reading, Data, int, int], bool]"
"""Reads a message that is all at hand, from its position to its end, if it is as most are; answers whether it did."""


class Program(NamedTuple):
    """A layout compiled for one version."""

    steps: tuple[Step, ...]
    exact: bool
    """The message ends where the steps end; otherwise more follows that is not read."""
    naming: int = -1
    """The last step that finds a topic, a group or another name."""
    depth: int = 0
    """In how many arrays that step is."""
    once: Once | None = None
    """What the steps do, for the usual message."""


class Misfit(ProtocolError):
    """The body does not have the layout of its version."""


class Enough(Exception):
    """More elements than are looked at."""


class Reading:
    """`walk` until `over`. What was not found, or is not there, is empty, or -1."""

    # Not slots: most of these stay what they are here, and a reading is made for every message.
    step = 0
    items = 0
    """Elements walked so far."""
    known = ""
    """The topic that was named last, whose id may follow."""
    over = False
    fits = False
    """`walk` ended exactly where the message's fields do. Some servers write more, and clients do not mind."""
    whole = True
    """Nothing was left out: what was not found is not there."""
    client: str | None = None
    topics: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    partitions = 0
    """How many there are; `partition` and `offset` are of the last."""
    partition = -1
    offset = -1
    acks = -1
    counted = -1
    """Records of all fields that are one batch, which was at hand."""
    error = 0
    """The first error code that is not 0."""
    batches: list[Records] | None = None
    """All other fields of record batches."""
    context: Context | None = None
    """That of all batches, where it is wanted and there are any."""

    def __init__(self, program: Program, ids: dict[bytes, str], wants_context: bool = False) -> None:
        """`ids`: names of topics by their ids, read and added to. `wants_context`: read the trace headers of records."""
        self.program = program
        self.ids = ids
        self.wants_context = wants_context
        self.counts: list[int] = []
        """Elements to come of each array that is open."""

    def walk(self, data: Data, pos: int, end: int) -> int:
        """Go on at `pos` in a message that ends at `end`; answers where to go on next time, or `end` when it is over.

        Both may lie behind the bytes at hand. Raises Misfit; the reading is over then, too.
        """
        steps, at = self.program.steps, self.step
        last = len(steps)
        try:
            while at < last:
                act, operand, sink, jumps = steps[at]
                if jumps:
                    self.step = at
                after = act(self, data, pos, operand, sink)
                if not 0 <= after <= end:
                    self.step = at
                    if after < 0 and ~after <= end:
                        return pos
                    raise Misfit("not Kafka: a field behind the end of its message.")
                pos = after
                at = self.step + 1 if jumps else at + 1
            self.step = at
        except Enough:
            self.whole = False
        except Misfit:
            self.disown()
            raise
        self.over = True
        self.fits = self.program.exact and self.whole and pos == end
        return end

    @property
    def named(self) -> bool:
        """Though the rest is lost, no name is: the last step that finds one was taken, and for the last time."""
        program = self.program
        return self.step > program.naming and all(count == 1 for count in self.counts[: program.depth])

    def give_up(self) -> None:
        """Read no further: the rest is lost, or nobody knows how to read it."""
        self.over = True
        self.whole = False

    def disown(self) -> None:
        """Give up, and take back what was found: it may have meant something else."""
        self.give_up()
        self.topics = self.groups = self.names = ()
        self.batches = None
        self.counted = -1
        self.partitions = self.error = 0
        self.acks = -1

    @property
    def records(self) -> int:
        """Records in all batches, or -1 where that is unknown: not every batch was seen, or could be counted."""
        if not self.over or not self.whole:
            return -1
        if self.batches is None:
            return max(self.counted, 0)
        count = max(self.counted, 0)
        for batches in self.batches or ():
            if batches.count < 0:
                return -1
            count += batches.count
        return count
