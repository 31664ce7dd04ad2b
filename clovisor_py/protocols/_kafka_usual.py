"""The usual message of Kafka: all at hand, with one element in each array that tells something, and read in one go.

Clients mostly send to or fetch from one partition of one topic. Then the steps of a program follow each other without a jump,
so that all between two lengths is one struct. What those structs found is looked at when all are read: a count that is not
one, a tagged field, a longer name, or a field behind the message's end make it another message, which is read by its steps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from clovisor_py.protocols import _kafka_steps as steps
from clovisor_py.protocols._kafka_reading import Act, Data, Misfit, Once, Reading, Sink, Step
from clovisor_py.protocols._kafka_records import Context, one_batch, tells_no_context

Unpack: TypeAlias = "Callable[[Data, int], tuple[Any, ...]]"
Leg: TypeAlias = "tuple[Unpack, int, int, int, int, int]"
"""Fields of fixed size, the last of which is a length: what unpacks them, their bytes, the length that stands for nothing, the
greatest, the bytes of each of what it counts, and what is kept of that."""

_NOTHING, _TEXT, _RECORDS, _COMPACT = range(4)
"""What is kept: nothing, the text; of records their size and where they begin, also if that size may have several bytes."""
_ANY: Final = 1 << 31
_ONE_BYTE: Final = 0x7F
"""The greatest variable length that has one byte."""
_START: Final = (0,)
"""What was found before anything was: so there is always something to compare."""


class Usual:
    """`read` is what `usual` made for a program."""

    __slots__ = ("_expected", "_last", "_last_size", "_legs", "_records", "_select", "_tells")

    def __init__(self, plan: _Plan) -> None:
        last = struct.Struct(plan.format)
        self._legs = tuple(plan.legs)
        self._last, self._last_size = last.unpack_from, last.size
        self._select = itemgetter(0, *plan.expected)
        self._expected: Any = (*_START, *plan.expected.values()) if plan.expected else _START[0]
        self._tells = tuple(plan.tells)
        self._records = plan.records

    def read(self, reading: Reading, data: Data, pos: int, end: int) -> bool:
        """Whether the message whose body is `data[pos:end]` is usual; then `reading` is over, else it told nothing."""
        found: tuple[Any, ...] = _START
        try:
            for unpack, size, none, most, each, kept in self._legs:
                found += unpack(data, pos)
                pos += size
                length = found[-1]
                if not kept:
                    if length > none:
                        if length > most:
                            return False
                        pos += (length - none) * each
                    elif length < -1:
                        return False
                elif kept == _TEXT:
                    if not none < length <= most:
                        return False
                    start = pos
                    pos += length - none
                    found += (data[start:pos].decode("utf-8", "replace"),)
                else:
                    length, pos = _records(data, pos, length, kept)
                    found += (length, pos)
                    pos += length
            found += self._last(data, pos)
        except (struct.error, Misfit):
            return False
        if pos + self._last_size > end or self._select(found) != self._expected:
            return False
        at = self._records
        if at and not _counted(reading, data, found[at], found[at - 1]):
            return False
        for sink, at in self._tells:
            sink(reading, found[at])
        reading.over = True
        return True


def _records(data: Data, pos: int, size: int, kept: int) -> tuple[int, int]:
    """Of a field of records: its size, 0 also where there is none, and where it begins. Raises Misfit where that is unknown."""
    if kept == _COMPACT:
        size, pos = steps.uvarint(data, pos - 1)
        size -= 1
    if not pos or size < -1:
        raise Misfit("not Kafka: a size that no field has.")
    return max(size, 0), pos


def _counted(reading: Reading, data: Data, start: int, size: int) -> bool:
    """Whether a field of records is empty, or one batch that one look is enough for."""
    if not size:
        reading.counted = 0
        return True
    context = None
    if reading.wants_context and not tells_no_context(data, start, size):
        context = reading.context = Context()
    count = reading.counted = one_batch(data, start, size, context)
    return count >= 0


def usual(program: Sequence[Step]) -> Once | None:
    """What reads the usual message of a program; None where it has none: a structure that may be absent."""
    plan = _Plan()
    return Usual(plan).read if all(plan.add(step) for step in program) else None


_COUNTS: Final[dict[Act, tuple[str, int]]] = {
    steps.array: ("i", 1),
    steps.compact_array: ("B", 2),
    steps.tags: ("B", 0),
}
"""Steps that only read a count, and what it is as a rule: one element, or no tagged field."""
_LENGTHS: Final[dict[Act, tuple[str, int, int]]] = {
    steps.text: ("h", 0, _ANY),
    steps.compact_text: ("B", 1, _ONE_BYTE),
    steps.octets: ("i", 0, _ANY),
    steps.values: ("i", 0, _ANY),
    steps.compact_values: ("B", 1, _ONE_BYTE),
    steps.records: ("i", 0, _ANY),
    steps.compact_records: ("B", _ANY, _ANY),
}
"""Steps that read a length: its format, what stands for nothing, and the greatest."""
_UNSEEN: Final = frozenset((steps.again, steps.tag, steps.batches))
"""Steps that the usual message has nothing for."""


class _Plan:
    """Of a Usual, made step by step; what is of fixed size is held back until a length follows."""

    def __init__(self) -> None:
        self.legs: list[Leg] = []
        self.format = ">"
        """Of the fields held back."""
        self.expected: dict[int, int] = {}
        """Which of all values that are found must be what."""
        self.tells: list[tuple[Sink, int]] = []
        """Which of them goes where."""
        self.records = 0
        """Which of them says where the records begin; 0: there are none."""
        self._found = len(_START)

    def add(self, step: Step) -> bool:
        """One step more; answers whether the usual message can have it."""
        act, operand, sink, _ = step
        if act in _COUNTS:
            format_, self.expected[self._found] = _COUNTS[act]
            self._fixed(format_, ())
        elif act in _LENGTHS:
            self._length(step)
        elif act is steps.skip:
            self.format += f"{operand}x"
        elif act is steps.take:
            self._fixed(operand[2], (sink,))
        elif act is steps.take_several:
            self._fixed(operand[2], sink)
        else:
            return act in _UNSEEN
        return True

    def _fixed(self, format_: str, sinks: Sequence[Sink]) -> None:
        self.format += format_
        self.tells += [(sink, self._found + at) for at, sink in enumerate(sinks)]
        self._found += len(sinks) or 1

    def _length(self, step: Step) -> None:
        act, operand, sink, _ = step
        format_, none, most = _LENGTHS[act]
        fields = struct.Struct(self.format + format_)
        kept, each = _NOTHING, operand if act in (steps.values, steps.compact_values) else 1
        self._found += 1
        if act in (steps.records, steps.compact_records):
            kept, self.records = _RECORDS if act is steps.records else _COMPACT, self._found + 1
            self._found += 2
        elif sink is not None:
            kept, most = _TEXT, min(most, steps.MAX_TEXT)
            self.tells.append((sink, self._found))
            self._found += 1
        self.legs.append((fields.unpack_from, fields.size, none, most, each, kept))
        self.format = ">"
