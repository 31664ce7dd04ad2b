"""Records: how many there are in a field of record batches, and the trace context that all of them carry in their headers.

Nothing is read but heads. A batch (magic 2, Kafka 0.11 and later) says how many records it has, compressed or not; before
that (magic 0 and 1) every message has a head of its own, and a compressed one hides how many it wraps: then nobody knows.
What lies between heads is stepped over, so that megabytes cost no more than a few bytes each, seen or not.

Keys and values of records are never looked at. Headers can be read only where the batch is not compressed. A producer puts
records of many callers into one message: then it has no context of its own, and says so. Where the first record carries none,
no other is looked at.

Formats: https://kafka.apache.org/documentation/#messageformat
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from clovisor_py.model.message import PROPAGATION_HEADERS

Data: TypeAlias = "bytes | bytearray"

MAX_BATCHES: Final = 4096
"""Batches (or old messages) counted in one field; a broker sends 50 MB at most by default. Beyond it the count is unknown."""
MAX_COMPARED: Final = 256
"""Records of one message whose contexts are compared, a millisecond at most; more than a producer's usual 16 kB hold. Beyond it
nobody knows that all are alike: they count as `several`."""
MAX_HEADERS: Final = 4096
"""Bytes of a record's headers that are read (and waited for); what a trace needs comes in a few hundred."""
MAX_VALUE: Final = 2048
"""Bytes kept of one header that carries a trace context."""

_BATCH = struct.Struct(">8xi9xh34xi")
"""Length of what follows it, attributes, records: the head of a batch."""
_OLD = struct.Struct(">8xi5xB")
"""Length of what follows it, attributes: the head of a message of Kafka 0.8 to 0.10."""
_AFTER_LENGTH = 12
"""Bytes before what a length counts."""
_MAGIC_AT = 16
_MAGIC = 2
_TWO_BYTES = 1 << 14
"""From here on a number has three bytes."""
_ATTRIBUTES_AT = 22
"""The lower byte of them."""
_SHORTEST = 6
"""Bytes of a record with nothing in it, behind its length."""
_MORE = 0x80
"""Set in a byte of a number that has another."""
_COMPRESSED, _CONTROL = 0x07, 0x20
_MAX_VARINT = 10
_RECORD_HEAD = 3 * _MAX_VARINT + 1
"""Length, attributes, time and offset deltas, length of the key: at most so many bytes of a record (deltas have 5 or 10)."""
_CONTEXT = {name.encode(): name for name in PROPAGATION_HEADERS}
_LONGEST_NAME = max(map(len, _CONTEXT))

_BATCH_HEAD, _RECORD, _VALUE, _HEADERS = range(4)
"""What is next: the head of a batch, or a part of a record."""

SEVERAL: Final = "several"
COMPRESSED: Final = "compressed"
PARTLY_SEEN: Final = "partly seen"
"""Why a message has no context of its own."""


class Context:
    """The trace headers that all records of one message carry."""

    __slots__ = ("_first", "_looked_at", "headers", "why_not")

    def __init__(self) -> None:
        self._looked_at = 0
        self._first = b""
        """All headers of the first record, as they were written: most of the others end with the same bytes."""
        self.headers: dict[str, str] = {}
        self.why_not = ""
        """Why there are none though there may be; empty where the records carry none, or these."""

    @property
    def wanted(self) -> bool:
        """Whether the next record matters."""
        return not self.why_not and bool(self.headers or not self._looked_at)

    def again(self, data: Data, pos: int, end: int) -> bool:
        """Whether the next record, whose content is `data[pos:end]`, has the headers of the first, which is cheap to see."""
        alike = bool(self.headers) and end <= len(data) and data.endswith(self._first, pos, end)
        if alike:
            self.add(self.headers)
        return alike

    def add(self, headers: dict[str, str], raw: bytes = b"") -> None:
        """Those of the next record, as they were written."""
        if not self._looked_at:
            self.headers, self._first = headers, raw
        elif headers != self.headers or self._looked_at >= MAX_COMPARED:
            self.lack(SEVERAL)
        self._looked_at += 1

    def lack(self, why: str) -> None:
        """Nobody can say that all have the same."""
        self.headers, self.why_not = {}, why


def one_batch(data: Data, start: int, size: int, context: Context | None) -> int:
    """How many records there are in a field that is one batch and at hand, which is the usual one; -1: `Records` has to see.

    As for the context, only what needs one look is looked at: no record, or a first one without headers.
    """
    end = start + size
    if size < _BATCH.size or end > len(data) or data[start + _MAGIC_AT] != _MAGIC:
        return -1
    length, attributes, count = _BATCH.unpack_from(data, start)
    if length != size - _AFTER_LENGTH or count < 0:
        return -1
    if count and context is not None and context.wanted:
        if attributes & _COMPRESSED:
            context.lack(COMPRESSED)
        elif _has_no_headers(data, start + _BATCH.size, end):
            context.add({})
        else:
            return -1
    return 0 if attributes & _CONTROL else count


def tells_no_context(data: Data, start: int, size: int) -> bool:
    """Whether a field of records at hand is a batch whose first record surely has no headers: the usual one, seen fast.

    Its size and that of its value have two bytes at most, and all other numbers one.
    """
    at = start + _BATCH.size
    if size < _BATCH.size + _SHORTEST + 1 or data[start + _ATTRIBUTES_AT] & _COMPRESSED:
        return False
    record = data[at]
    if record >= _MORE:
        at += 1
        record += data[at] - 1 << 7
    last = at + (record >> 1)
    key = data[at + 4]
    if record & 1 or record >= _TWO_BYTES or last >= start + size:
        return False
    if data[at + 2] >= _MORE or data[at + 3] >= _MORE or key >= _MORE:
        return False
    at += 5 if key & 1 else 5 + (key >> 1)
    if at + 1 >= last:
        return at + 1 == last and data[at] < 2 and not data[last]
    value = data[at]
    if value >= _MORE:
        at += 1
        value += data[at] - 1 << 7
    return value < _TWO_BYTES and not data[last] and at + 1 + (0 if value & 1 else value >> 1) == last


def _has_no_headers(data: Data, at: int, end: int) -> bool:
    """Whether the record at `at`, in a batch that ends at `end` and is at hand, surely ends with a count of 0 headers."""
    size, at = _varint(data, at, end)
    last = at + size - 1
    if size < _SHORTEST or last >= end or data[last] or data[at + 1] >= _MORE or data[at + 2] >= _MORE:
        return False  # the deltas of a first record are a byte each
    key, at = _varint(data, at + 3, last)
    value, at = _varint(data, at + max(key, 0), last)
    return at + max(value, 0) == last


class Records:
    """One field of record batches. `walk` until `left` is 0; then `count` is their number, or -1 where that is unknown."""

    __slots__ = ("_batch_end", "_batches", "_next", "_passed", "_record_end", "_size", "context", "count", "left")

    def __init__(self, size: int, context: Context | None = None) -> None:
        """`size` bytes; `context`, if it is wanted, is that of all fields of a message."""
        self.left = self._size = size
        self.count = 0
        self.context = context
        self._batches = 0
        self._next = _BATCH_HEAD
        self._passed = 0
        self._batch_end = self._record_end = 0
        """Offsets in the field, as `_passed`."""

    def walk(self, data: Data, pos: int) -> int:
        """Go on at `pos` as far as `data` goes; answers where to go on next time, which may lie behind its end."""
        have = len(data)
        start = pos - self._passed
        end = pos + self.left
        while pos < end and pos <= have:
            step = self._next
            after = _PARTS[step](self, data, pos, start)
            if after == pos and self._next == step:
                break
            pos = after
        self._passed = pos - start
        self.left = end - pos
        return pos

    # ---- each reads what is next and answers where to go on, or `pos` for more bytes; the field begins at `start` ----

    def batch(self, data: Data, pos: int, start: int) -> int:
        have, end = len(data), start + self._size
        if end - pos < _OLD.size:
            return end  # the end of a batch that did not fit into the response
        if have - pos < _OLD.size:
            return pos
        magic = data[pos + _MAGIC_AT]
        self._batches += 1
        if magic > 2 or self._batches > MAX_BATCHES:
            return self._lose_count(end)
        if magic < 2:
            return self._old(data, pos, end)
        if end - pos < _BATCH.size:
            return end
        if have - pos < _BATCH.size:
            self._batches -= 1
            return pos
        return self._new(data, pos, start, end)

    def _new(self, data: Data, pos: int, start: int, end: int) -> int:
        length, attributes, count = _BATCH.unpack_from(data, pos)
        after: int = pos + length + _AFTER_LENGTH
        if after < pos + _BATCH.size or count < 0:
            return self._lose_count(end)
        if after > end:
            return end
        if not attributes & _CONTROL:
            self.count += count
        if self.context is None or not count or not self.context.wanted:
            return after
        if attributes & _COMPRESSED:
            self.context.lack(COMPRESSED)
            return after
        self._batch_end = after - start
        self._next = _RECORD
        return self.record(data, pos + _BATCH.size, start)

    def _old(self, data: Data, pos: int, end: int) -> int:
        length, attributes = _OLD.unpack_from(data, pos)
        after: int = pos + length + _AFTER_LENGTH
        if after < pos + _OLD.size or attributes & _COMPRESSED:
            return self._lose_count(end)
        if after > end:
            return end
        self.count += 1
        return after

    def _lose_count(self, end: int) -> int:
        self.count = -1
        return end

    # ---- a record, as far as its headers; each goes straight on with what is at hand ----

    def record(self, data: Data, pos: int, start: int) -> int:
        stop = min(pos + _RECORD_HEAD, start + self._batch_end)
        if len(data) < stop:
            return pos
        size, at = _varint(data, pos, stop)
        self._record_end = at + size - start
        if self.context is not None and self._record_end <= self._batch_end and self.context.again(data, at, at + size):
            return self._next_record(start)
        _, at = _varint(data, at + 1, stop)  # behind the attributes
        _, at = _varint(data, at, stop)
        key, at = _varint(data, at, stop)
        if at > stop or not at <= start + self._record_end <= start + self._batch_end:
            return self._leave(start)
        return self._behind(data, at + max(key, 0), start, _VALUE)

    def value(self, data: Data, pos: int, start: int) -> int:
        stop = min(pos + _MAX_VARINT, start + self._record_end)
        if len(data) < stop:
            return pos
        value, at = _varint(data, pos, stop)
        return self._leave(start) if at > stop else self._behind(data, at + max(value, 0), start, _HEADERS)

    def headers(self, data: Data, pos: int, start: int) -> int:
        stop = min(pos + MAX_HEADERS, start + self._record_end)
        if len(data) < stop:
            return pos
        if self.context is not None:
            self.context.add(_read_headers(data, pos, stop), bytes(data[pos:stop]))
        return self._next_record(start)

    def _behind(self, data: Data, after: int, start: int, part: int) -> int:
        """Go on at `after` with `part`, if that lies in the record at all."""
        if after > start + self._record_end:
            return self._leave(start)
        self._next = part
        return _PARTS[part](self, data, after, start)

    def _next_record(self, start: int) -> int:
        if self.context is None or not self.context.wanted or self._record_end >= self._batch_end:
            return self._leave(start)
        self._next = _RECORD
        return start + self._record_end

    def _leave(self, start: int) -> int:
        """To the end of the batch: its records have told all that they could."""
        self._next = _BATCH_HEAD
        return start + self._batch_end


_PARTS = (Records.batch, Records.record, Records.value, Records.headers)


def _read_headers(data: Data, pos: int, stop: int) -> dict[str, str]:
    context: dict[str, str] = {}
    count, pos = _varint(data, pos, stop)
    while count > 0:
        count -= 1
        size, pos = _varint(data, pos, stop)
        name = _CONTEXT.get(bytes(data[pos : pos + size]).lower()) if 0 < size <= _LONGEST_NAME else None
        size, pos = _varint(data, pos + max(size, 0), stop)
        after = pos + max(size, 0)
        if after > stop:
            break
        if name is not None:
            context[name] = bytes(data[pos : min(after, pos + MAX_VALUE)]).decode("latin-1")
        pos = after
    return context


def _varint(data: Data, pos: int, stop: int) -> tuple[int, int]:
    """A zigzag-encoded number and where it ends; behind `stop` where it is not whole or longer than any."""
    if pos < stop:
        value = data[pos]
        if value < 0x80:
            return (value >> 1) ^ -(value & 1), pos + 1
    value = shift = 0
    for at in range(pos, min(stop, pos + _MAX_VARINT)):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at + 1
        shift += 7
    return 0, stop + 1
