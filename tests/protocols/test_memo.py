"""What came twice is remembered, once is not, and no sender can make it grow."""

from __future__ import annotations

import pytest

from clovisor_py.protocols._memo import MARKS, MAX_ENTRIES, Memo


class Reader:
    def __init__(self) -> None:
        self.read: list[bytes] = []

    def __call__(self, key: bytes) -> str:
        self.read.append(key)
        if key == b"bad":
            raise ValueError("no")
        return key.decode()


def test_it_is_read_twice_and_then_known() -> None:
    reader = Reader()
    memo = Memo(reader, 10)
    assert [memo[b"a"] for _ in range(5)] == ["a"] * 5
    assert reader.read == [b"a", b"a"]
    assert memo[b"b"] == "b" and list(memo) == [b"a"]


def test_long_keys_are_read_each_time() -> None:
    reader = Reader()
    memo = Memo(reader, 3)
    assert [memo[b"long"] for _ in range(4)] == ["long"] * 4
    assert (len(reader.read), len(memo)) == (4, 0)


def test_what_the_reader_raises_is_raised_each_time() -> None:
    memo = Memo(Reader(), 10)
    for _ in range(4):
        with pytest.raises(ValueError, match="no"):
            memo[b"bad"]
    assert not memo


def test_it_is_bounded() -> None:
    memo = Memo(Reader(), 10)
    for number in range(4 * MAX_ENTRIES):
        key = b"%d" % number
        assert [memo[key], memo[key], memo[key]] == [str(number)] * 3
        assert len(memo) <= MAX_ENTRIES
    assert len(memo._marks) == MARKS and MARKS & (MARKS - 1) == 0


def test_what_never_comes_again_forgets_nothing() -> None:
    memo = Memo(Reader(), 10)
    for _ in range(2):
        memo[b"usual"]
    for number in range(3 * MARKS):
        memo[b"%d" % number]
    assert b"usual" in memo and len(memo) <= 2
