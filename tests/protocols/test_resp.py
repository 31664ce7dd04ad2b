"""RESP values: each ends where it ends, however nested, streamed and cut."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols import _resp as resp
from clovisor_py.protocols._cursor import Cursor

LINES = st.sampled_from([b"+OK\r\n", b"-ERR no\r\n", b":-42\r\n", b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b",1.5e3\r\n"])
BIG = st.integers().map(lambda number: b"(%d\r\n" % number)
BLOBS = st.tuples(st.sampled_from([b"$", b"!", b"="]), st.binary(max_size=40)).map(
    lambda v: b"%s%d\r\n%s\r\n" % (v[0], len(v[1]), v[1])
)
CHUNKS = st.lists(st.binary(min_size=1, max_size=9), max_size=4).map(
    lambda parts: b"$?\r\n" + b"".join(b";%d\r\n%s\r\n" % (len(part), part) for part in parts) + b";0\r\n"
)


def aggregates(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    values = st.lists(inner, max_size=4)
    pairs = st.lists(st.tuples(inner, inner).map(b"".join), max_size=3)
    return st.one_of(
        values.map(lambda v: b"*%d\r\n" % len(v) + b"".join(v)),
        values.map(lambda v: b"~%d\r\n" % len(v) + b"".join(v)),
        pairs.map(lambda v: b"%%%d\r\n" % len(v) + b"".join(v)),
        values.map(lambda v: b"*?\r\n" + b"".join(v) + b".\r\n"),
        pairs.map(lambda v: b"%?\r\n" + b"".join(v) + b".\r\n"),
        st.tuples(pairs, inner).map(lambda v: b"|%d\r\n" % len(v[0]) + b"".join(v[0]) + v[1]),
    )


VALUES = st.recursive(st.one_of(LINES, BIG, BLOBS, CHUNKS), aggregates, max_leaves=12)


def ends(data: bytes, sizes: list[int]) -> int | None:
    """Where the value that `data` begins with is over, delivered in pieces of these sizes, then byte by byte."""
    walk, cursor, given, offset = resp.Walk(), Cursor(b""), 0, 0
    while True:
        if walk.over(cursor):
            return offset + cursor.pos
        if given >= len(data):
            return None
        size = sizes.pop(0) if sizes else 1
        given = min(given + size, len(data))
        offset += cursor.pos
        cursor = Cursor(data[offset:given], 0) if offset <= given else Cursor(b"", offset - given)
        offset = min(offset, given)


@settings(max_examples=300, deadline=None)
@given(VALUES, st.lists(st.integers(1, 30), max_size=8), st.binary(max_size=5))
def test_a_value_is_over_at_its_last_byte(value: bytes, sizes: list[int], behind: bytes) -> None:
    cursor = Cursor(value + behind)
    assert resp.Walk().over(cursor) and cursor.pos == len(value)
    assert ends(value, list(sizes)) == len(value)
    assert ends(value[:-1], list(sizes)) is None
    assert resp.survey(value) is not None


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=80)
    | st.lists(st.sampled_from([b"*1\r\n", b"$?\r\n", b";1\r\n", b".\r\n", b"$1\r\na\r\n"]), max_size=9).map(b"".join)
)
def test_any_bytes_are_walked_surveyed_or_refused(data: bytes) -> None:
    for act in (lambda: resp.Walk().over(Cursor(data)), lambda: resp.words(data, 0, 3) if data else None):
        with suppress(ProtocolError):
            act()
    resp.survey(data)


def test_depth_costs_nothing() -> None:
    cursor = Cursor(b"*1\r\n" * 50_000 + b":1\r\n")
    assert resp.Walk().over(cursor) and cursor.remaining == 0


def test_streams_within_streams_are_bounded() -> None:
    assert resp.Walk().over(Cursor(b"*?\r\n" * resp.MAX_DEPTH + b".\r\n" * resp.MAX_DEPTH))
    with pytest.raises(ProtocolError):
        resp.Walk().over(Cursor(b"*?\r\n" * (resp.MAX_DEPTH + 1)))


NO_VALUES = [
    *(b"x", b"$a\r\n", b"$1a\r\n", b":x\r\n", b"#x\r\n", b"+a\nb\r\n", b".\r\n", b";1\r\n"),
    *(b"$?\r\n+a\r\n", b"$?\r\n.\r\n", b"*?\r\n*1\r\n.\r\n", b"*-2\r\n"),
]


@pytest.mark.parametrize("data", NO_VALUES)
def test_what_is_no_value(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        resp.Walk().over(Cursor(data))


def test_a_long_line_is_not_kept() -> None:
    cursor = Cursor(b"+" + b"x" * 5000 + b"\r")
    walk = resp.Walk()
    assert not walk.over(cursor) and cursor.remaining == 1
    assert walk.over(Cursor(b"\r\n"))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"*3\r\n$3\r\nabc\r\n:12\r\n$1\r\nx\r\n", [b"abc", b"12", b"x"]),
        (b">2\r\n$1\r\na\r\n*1\r\n$1\r\nb\r\n", [b"a", b"b"]),
        (b"*2\r\n$-1\r\n+text\r\n", [b"", b"text"]),
        (b"*1\r\n$1\r\na\r\n", [b"a"]),
        (b"*0\r\n", []),
        (b"*2\r\n$9999\r\n" + b"y" * 300, [b"y" * 256]),
        (b"*2\r\n+" + b"y" * 300, [b"y" * 255]),
        (b"*2\r\n$9999\r\n" + b"y" * 200, None),
        (b"*2\r\n$1\r\n", None),
        (b"*", None),
    ],
)
def test_the_first_words_of_an_aggregate(data: bytes, found: list[bytes] | None) -> None:
    assert resp.words(data, 0, 3) == found


@pytest.mark.parametrize(
    ("data", "kinds"),
    [(b"*2\r\n$1\r\na\r\n:", b"*$"), (b"$3\r\nab", b""), (b"$3\r\nabcd\r\n", None), (b"*1\r\n$-1\r\n", b"*_"), (b"abc", None)],
)  # fmt: skip
def test_survey_is_strict(data: bytes, kinds: bytes | None) -> None:
    assert resp.survey(data) == kinds
