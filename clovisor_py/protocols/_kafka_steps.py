"""Steps: how each kind of field of a Kafka message is read, or stepped over; sinks: where a field that is told goes to.

A step is a function of the reading, the bytes, the position and its own operand and sink. It answers the position behind
what it read (which may lie behind the bytes at hand), or `~position` where it needs the bytes up to there.

Encodings: https://kafka.apache.org/protocol.html#protocol_types; variable lengths and tagged fields: KIP-482.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from clovisor_py.protocols._kafka_reading import Data, Enough, Misfit, Reading, Sink
from clovisor_py.protocols._kafka_records import Context, Records, one_batch

MAX_TEXT: Final = 255
"""Bytes kept of one name. Topics have 249 at most; of a longer client id or group the rest is cut off."""
MAX_NAMES: Final = 8
"""Topics, groups or other names of one message that are told; more are shown as one `…`."""
MAX_ITEMS: Final = 2048
"""Elements of arrays walked in one message: about two milliseconds. The rest of it is only stepped over."""
MAX_TOPIC_IDS: Final = 1024
"""Topic ids of one connection whose names are known; beyond it the oldest is forgotten, and shown as an id."""

Fixed: TypeAlias = "tuple[int, Callable[[Data, int], tuple[Any, ...]], str]"
"""Fields of fixed size: of how many bytes, what unpacks those that are told, and their format."""

_I32 = struct.Struct(">i").unpack_from
_NO_ID = bytes(16)
_NULL_TEXT = 0xFFFF
_LONGEST_TEXT = 0x7FFF


def skip(_reading: Reading, _data: Data, pos: int, size: int, _sink: None) -> int:
    """So many bytes that tell nothing."""
    return pos + size


def take(reading: Reading, data: Data, pos: int, fields: Fixed, sink: Sink) -> int:
    """Fields of fixed size, one of which is told."""
    size, unpack, _ = fields
    after = pos + size
    if after > len(data):
        return ~after
    sink(reading, unpack(data, pos)[0])
    return after


def take_several(reading: Reading, data: Data, pos: int, fields: Fixed, sinks: tuple[Sink, ...]) -> int:
    """Fields of fixed size, some of which are told."""
    size, unpack, _ = fields
    after = pos + size
    if after > len(data):
        return ~after
    for sink, value in zip(sinks, unpack(data, pos)):  # noqa: B905  (compiled to be as many; `strict` costs more than unpacking)
        sink(reading, value)
    return after


def text(reading: Reading, data: Data, pos: int, _operand: None, sink: Sink | None) -> int:
    """A string with a length of 16 bits, -1 for none."""
    start = pos + 2
    if start > len(data):
        return ~start
    size = data[pos] << 8 | data[pos + 1]
    if size > _LONGEST_TEXT:
        if size != _NULL_TEXT:
            raise Misfit("not Kafka: a negative length.")
        return start
    after = start + size
    if sink is None or not size:
        return after
    if size > MAX_TEXT or after > len(data):
        return _text(reading, data, start, size, sink)
    sink(reading, data[start:after].decode("utf-8", "replace"))
    return after


def compact_text(reading: Reading, data: Data, pos: int, _operand: None, sink: Sink | None) -> int:
    """A string or bytes with a variable length, one more than it is, 0 for none."""
    size, start = uvarint(data, pos)
    if size < 2:
        return start or ~(len(data) + 1)
    return start + size - 1 if sink is None else _text(reading, data, start, size - 1, sink)


def octets(_reading: Reading, data: Data, pos: int, _operand: None, _sink: None) -> int:
    """Bytes with a length of 32 bits, -1 for none."""
    start = pos + 4
    if start > len(data):
        return ~start
    return start + _count(data, pos)


def array(reading: Reading, data: Data, pos: int, behind: int, _sink: None) -> int:
    """The beginning of an array whose `again` is step `behind`."""
    start = pos + 4
    if start > len(data):
        return ~start
    count = _I32(data, pos)[0]
    if count > 0:
        reading.counts.append(count)
    else:
        reading.step = behind
    return start


def compact_array(reading: Reading, data: Data, pos: int, behind: int, _sink: None) -> int:
    """The same with a variable count, one more than it is."""
    count, start = uvarint(data, pos)
    if count > 1:
        reading.counts.append(count - 1)
    elif start:
        reading.step = behind
    return start or ~(len(data) + 1)


def again(reading: Reading, _data: Data, pos: int, before: int, _sink: None) -> int:
    """The end of an element: back behind step `before`, unless it was the last."""
    counts = reading.counts
    counts[-1] -= 1
    if counts[-1]:
        reading.items += 1
        if reading.items > MAX_ITEMS:
            raise Enough
        reading.step = before
    else:
        counts.pop()
    return pos


def values(_reading: Reading, data: Data, pos: int, size: int, _sink: None) -> int:
    """An array of elements of `size` bytes that tell nothing."""
    start = pos + 4
    if start > len(data):
        return ~start
    return start + size * _count(data, pos)


def compact_values(_reading: Reading, data: Data, pos: int, size: int, _sink: None) -> int:
    """The same with a variable count, one more than it is."""
    count, start = uvarint(data, pos)
    return start + size * max(count - 1, 0) if start else ~(len(data) + 1)


def tags(reading: Reading, data: Data, pos: int, behind: int, _sink: None) -> int:
    """The beginning of the tagged fields of a structure: how many there are, usually none."""
    if pos < len(data) and not data[pos]:
        reading.step = behind
        return pos + 1
    count, start = uvarint(data, pos)
    return _repeat(reading, start, count, behind) if start else ~(len(data) + 1)


def tag(_reading: Reading, data: Data, pos: int, _operand: None, _sink: None) -> int:
    """One tagged field; none of them tells anything."""
    _number, start = uvarint(data, pos)
    size, start = uvarint(data, start) if start else (0, 0)
    return start + size if start else ~(len(data) + 1)


def maybe(reading: Reading, data: Data, pos: int, behind: int, _sink: None) -> int:
    """Whether a structure is there: -1 says no."""
    if pos >= len(data):
        return ~(pos + 1)
    if data[pos] > 0x7F:
        reading.step = behind
    return pos + 1


def records(reading: Reading, data: Data, pos: int, _operand: None, _sink: None) -> int:
    """The size of a field of record batches, -1 for none."""
    start = pos + 4
    if start > len(data):
        return ~start
    return _open(reading, data, start, _count(data, pos))


def compact_records(reading: Reading, data: Data, pos: int, _operand: None, _sink: None) -> int:
    """The same with a variable size, one more than it is."""
    size, start = uvarint(data, pos)
    return _open(reading, data, start, size - 1) if start else ~(len(data) + 1)


def batches(reading: Reading, data: Data, pos: int, _operand: None, _sink: None) -> int:
    """The batches themselves: done as often as they make progress."""
    assert reading.batches is not None  # the step before this one has opened a field
    inside = reading.batches[-1]
    after = inside.walk(data, pos)
    if inside.left:
        if after == pos:
            return ~(pos + 1)
        reading.step -= 1
    return after


def uvarint(data: Data, pos: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where it ends: 0 where more bytes are needed. Raises Misfit beyond 32 bits."""
    have = len(data)
    if pos < have:
        value = data[pos]
        if value < 0x80:
            return value, pos + 1
    value = 0
    for shift in range(0, 35, 7):
        if pos >= have:
            return 0, 0
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
    raise Misfit("not Kafka: a variable length that does not end.")


def _count(data: Data, pos: int) -> int:
    """A number of 32 bits; -1 stands for nothing."""
    count: int = _I32(data, pos)[0]
    return max(count, 0)


def _text(reading: Reading, data: Data, start: int, size: int, sink: Sink) -> int:
    after = start + size
    cut = after if size <= MAX_TEXT else start + MAX_TEXT
    if cut > len(data):
        return ~after
    sink(reading, data[start:cut].decode("utf-8", "replace"))
    return after


def _repeat(reading: Reading, start: int, count: int, behind: int) -> int:
    if count > 0:
        reading.counts.append(count)
    else:
        reading.step = behind
    return start


def _open(reading: Reading, data: Data, start: int, size: int) -> int:
    if reading.wants_context and reading.context is None:
        reading.context = Context()
    count = one_batch(data, start, size, reading.context)
    if count >= 0:
        reading.counted = max(reading.counted, 0) + count
        reading.step += 1  # there is no need to walk them
        return start + size
    if reading.batches is None:
        reading.batches = []
    reading.batches.append(Records(max(size, 0), reading.context))
    return start


# ---- sinks: what a field that is told goes to ----


def client(reading: Reading, value: str) -> None:
    reading.client = value


def topic(reading: Reading, value: str) -> None:
    reading.topics = _with(reading.topics, value) if reading.topics else (value,)


def topic_id(reading: Reading, value: bytes) -> None:
    """By its name where that is known; otherwise as Kafka prints it."""
    if value != _NO_ID:
        topic(reading, reading.ids.get(value) or urlsafe_b64encode(value).rstrip(b"=").decode("ascii"))


def group(reading: Reading, value: str) -> None:
    reading.groups = _with(reading.groups, value)


def name(reading: Reading, value: str) -> None:
    reading.names = _with(reading.names, value)


def partition(reading: Reading, value: int) -> None:
    reading.partition = value
    reading.partitions += 1


def offset(reading: Reading, value: int) -> None:
    reading.offset = value


def acks(reading: Reading, value: int) -> None:
    reading.acks = value


def error(reading: Reading, value: int) -> None:
    if value and not reading.error:
        reading.error = value


def known(reading: Reading, value: str) -> None:
    reading.known = value


def id(reading: Reading, value: bytes) -> None:
    """The id of the topic that was named last."""
    ids = reading.ids
    if value != _NO_ID and reading.known and value not in ids:
        if len(ids) >= MAX_TOPIC_IDS:
            del ids[next(iter(ids))]
        ids[value] = reading.known
    reading.known = ""


def _with(names: tuple[str, ...], value: str) -> tuple[str, ...]:
    return names if len(names) > MAX_NAMES or value in names else (*names, value)


JUMPING: Final = frozenset((array, compact_array, again, tags, maybe, records, compact_records, batches))
"""Steps that set `Reading.step`."""
