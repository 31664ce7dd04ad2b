"""Protocol buffers' wire format: just what OTLP's few messages need, written fast and read with care.

Written by hand because a span is made thousands of times a second, and is mostly pieces that were made before: joining bytes
costs half of what building objects of the generated classes does. Tests hold it against opentelemetry-proto.

Specification: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
_WIDTHS: Final = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT: Final = 10

Field: TypeAlias = tuple[int, int | bytes]
"""Number and value: an int for VARINT and the fixed widths, bytes for the others."""


class Malformed(ValueError):
    """These bytes are no message."""


def varint(number: int) -> bytes:
    """`number` from 0 to 2**64 - 1."""
    if number < 0x80:
        return _SHORT[number]
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(field: int, kind: int) -> bytes:
    """What precedes a field's value."""
    return varint(field << 3 | kind)


def sized(field: int, data: bytes) -> bytes:
    """A field of text, bytes, or a message that is encoded already."""
    return b"%b%b%b" % (tag(field, BYTES), varint(len(data)), data)


def fields(data: bytes) -> Iterator[Field]:
    """The fields of a message, in their order. Raises Malformed."""
    pos = 0
    while pos < len(data):
        key, pos = _read_varint(data, pos)
        kind = key & 7
        value: int | bytes
        if kind == VARINT:
            value, pos = _read_varint(data, pos)
        else:
            size, pos = _read_varint(data, pos) if kind == BYTES else (_WIDTHS.get(kind, -1), pos)
            if size < 0 or pos + size > len(data):
                raise Malformed(f"wire type {kind}, {size} bytes")
            piece = data[pos : pos + size]
            value, pos = piece if kind == BYTES else int.from_bytes(piece, "little"), pos + size
        yield key >> 3, value


def _read_varint(data: bytes, pos: int) -> tuple[int, int]:
    out = 0
    for index, byte in enumerate(data[pos : pos + _LONGEST_VARINT]):
        out |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return out & (1 << 64) - 1, pos + index + 1
    raise Malformed("a number without an end")


_SHORT: Final = [bytes([number]) for number in range(0x80)]
