"""The cursor: every read is inside the data or answers None and moves nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.protocols._cursor import Cursor


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_reading(kind: type[bytes] | type[bytearray]) -> None:
    cursor = Cursor(kind(b"\x01\x02\x03abc"), pos=1)
    assert cursor.peek(2) == b"\x02\x03"
    assert cursor.uint(2) == 0x0203
    assert (cursor.read(2), cursor.remaining) == (b"ab", 1)
    assert type(cursor.read(1)) is bytes


def test_too_little_moves_nothing() -> None:
    cursor = Cursor(b"abc", pos=1)
    assert cursor.read(3) is cursor.uint(3) is cursor.peek(3) is None
    assert cursor.pos == 1


def test_skip_past_the_end() -> None:
    cursor = Cursor(b"abc")
    cursor.skip(10)
    assert (cursor.pos, cursor.remaining) == (10, 0)
    assert cursor.peek(0) is cursor.read(1) is None
    assert cursor.find(b"a", 100) == -1


@pytest.mark.parametrize(("limit", "at"), [(0, -1), (2, -1), (3, 2), (100, 2)])
def test_find_begins_within_the_limit(limit: int, at: int) -> None:
    assert Cursor(b"xx\r\r\r\n\r\n", pos=2).find(b"\r\n", limit) == at
    assert Cursor(b"ab\n", pos=0).find(b"\n", limit) == at


@given(st.binary(max_size=20), st.integers(0, 30), st.integers(0, 30))
def test_never_outside(data: bytes, pos: int, size: int) -> None:
    cursor = Cursor(data, pos)
    assert cursor.remaining == len(data[pos:])
    chunk = cursor.read(size)
    assert chunk == (data[pos : pos + size] if pos + size <= len(data) else None)
    assert cursor.pos == pos + len(chunk or b"")
