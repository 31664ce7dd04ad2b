"""Attributes as OTLP's KeyValues, most of them encoded once and remembered.

A span has some thirty attributes, and nearly all say what others said before: the same pods, ports and methods. So each
encoded attribute is kept by its key and value, a bounded number of values a key; looking one up costs a tenth of encoding it.
Whoever says something new each time (a path, a duration) pays for that alone.

Specification: https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/common/v1/common.proto
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from clovisor_py.exporters import _bounds
from clovisor_py.exporters._otlp_wire import BYTES, FIXED64, VARINT, sized, tag, varint
from clovisor_py.model.message import AttributeValue

KEYS: Final = 512
"""Names whose values are remembered; more than any protocol has. Beyond it all are forgotten, and it begins anew."""
VALUES: Final = 256
"""Of one name, with the same end."""
MEMO_CHARS: Final = 128
"""What is longer is seldom said twice. KEYS x VALUES of the longest are 50 MB; ordinary traffic fills less than 1 MB."""
SPAN_FIELD: Final = 9
"""`attributes` of a Span."""
RESOURCE_FIELD: Final = 1
"""`attributes` of a Resource."""

_U64: Final = (1 << 64) - 1
_DOUBLE: Final = struct.Struct("<d")
_STRING, _BOOL, _INT, _DOUBLE_TAG = tag(1, BYTES), tag(2, VARINT), tag(3, VARINT), tag(4, FIXED64)
_ARRAY_FIELD: Final = 5
_VALUE: Final = tag(2, BYTES)
_DROPPED: Final = tag(10, VARINT)
"""`dropped_attributes_count` of a Span."""
_NOTHING: Final = object()
_SPAN_TAG: Final = tag(SPAN_FIELD, BYTES)


class _Unusual(Exception):
    """A key or value that has to be made sayable first."""


class Attributes:
    """The `attributes` fields of spans."""

    def __init__(self) -> None:
        self._texts = _Keys(_string)
        self._numbers = _Keys(_integer)

    def encode(
        self, attributes: Mapping[str, AttributeValue], elsewhere: Mapping[str, AttributeValue], elsewhere_bytes: int
    ) -> list[bytes]:
        """Fields of a Span: one an attribute, save those that `elsewhere` says alike, and how many were left out.

        What is said elsewhere counts for ATTRIBUTES_BYTES, too, so that every exporter leaves out the same.
        """
        try:
            parts = self._parts(attributes.items(), elsewhere)
        except _Unusual:
            return self._cleaned(attributes, elsewhere)
        size = elsewhere_bytes + sum(map(len, parts)) + _bounds.ATTRIBUTE_BYTES * len(attributes)
        return parts if size <= _bounds.ATTRIBUTES_BYTES else self._cleaned(attributes, elsewhere)

    def _cleaned(self, attributes: Mapping[str, AttributeValue], elsewhere: Mapping[str, AttributeValue]) -> list[bytes]:
        said = _bounds.clean(attributes)
        parts = [encode(SPAN_FIELD, key, value) for key, value in said.items() if elsewhere.get(key) != value]
        if isinstance(dropped := said.get(_bounds.DROPPED), int):
            parts.append(_DROPPED + varint(dropped))
        return parts

    def _parts(self, attributes: Iterable[tuple[str, AttributeValue]], elsewhere: Mapping[str, AttributeValue]) -> list[bytes]:
        parts = []
        texts, numbers, said = self._texts, self._numbers, elsewhere.get
        for key, value in attributes:
            if said(key, _NOTHING) == value:
                continue
            kind = type(value)
            if kind is str:
                parts.append(texts[key][value])  # type: ignore[index]
            elif kind is int:
                parts.append(numbers[key][value])  # type: ignore[index]
            else:
                parts.append(encode(SPAN_FIELD, key, value))
        return parts


class _Keys(dict[str, "_Values"]):
    """Name to the values that were said with it."""

    def __init__(self, encoder: Callable[..., bytes]) -> None:
        self._encoder = encoder

    def __missing__(self, key: str) -> _Values:
        if len(key) > _bounds.NAME_CHARS or not key.isascii():
            raise _Unusual
        if len(self) >= KEYS:
            self.clear()
        found = self[key] = _Values(sized(1, key.encode()), self._encoder)
        return found


class _Values(dict["str | int", bytes]):
    """Value to its whole field; `key` is encoded."""

    def __init__(self, key: bytes, encoder: Callable[..., bytes]) -> None:
        self._key = key
        self._encoder = encoder

    def __missing__(self, value: str | int) -> bytes:
        said = self._encoder(value)
        pair = b"%b%b%b%b" % (self._key, _VALUE, varint(len(said)), said)
        encoded = b"%b%b%b" % (_SPAN_TAG, varint(len(pair)), pair)
        if len(said) <= MEMO_CHARS:
            if len(self) >= VALUES:
                self.clear()
            self[value] = encoded
        return encoded


def encode(field: int, key: str, value: AttributeValue) -> bytes:
    """A whole field of one attribute; what cannot be said is said otherwise (`_bounds.plain`)."""
    return sized(field, sized(1, _bounds.text(key, _bounds.NAME_CHARS).encode()) + sized(2, _any(_bounds.plain(value))))


def _any(value: AttributeValue) -> bytes:
    """An AnyValue, of what `_bounds.plain` answers."""
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool):
        return _BOOL + varint(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return _DOUBLE_TAG + _DOUBLE.pack(value)
    return sized(_ARRAY_FIELD, b"".join(sized(1, _string(each)) for each in value))


def _string(value: str) -> bytes:
    if len(value) > _bounds.TEXT_CHARS:
        raise _Unusual
    try:
        data = value.encode()
    except UnicodeEncodeError as error:
        raise _Unusual from error
    return b"%b%b%b" % (_STRING, varint(len(data)), data)


def _integer(value: int) -> bytes:
    if not -_bounds.LONG <= value < _bounds.LONG:
        raise _Unusual
    return _INT + varint(value & _U64)
