"""Memo: what a pure function made of bytes, for those bytes that come again and again.

Senders repeat themselves, but not all of them: a head with a request's own id in it never comes again. So the first time
only a mark is left, and the result is kept from the second time on; bytes that never come again cost a hash, not the churn
of a cache. Bounded in entries and in the bytes of a key, whatever is sent. What it answers is shared: never change it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

MAX_ENTRIES: Final = 512
"""Results that are kept; beyond, all are forgotten, and those that matter are back at once: their marks stay."""
MARKS: Final = 1024
"""A power of two. Keys of which it is known that they came before; a later one takes the place of an earlier one."""


class Memo(dict[bytes, T]):
    """`memo[key]` is `read(key)`, raises what that raises, and keeps no key longer than `longest` bytes."""

    __slots__ = ("_longest", "_marks", "_read")

    def __init__(self, read: Callable[[bytes], T], longest: int) -> None:
        super().__init__()
        self._read = read
        self._longest = longest
        self._marks = [0] * MARKS

    def __missing__(self, key: bytes) -> T:
        value = self._read(key)
        if len(key) <= self._longest:
            mark = hash(key)
            slot = mark & (MARKS - 1)
            if self._marks[slot] != mark:
                self._marks[slot] = mark
            else:
                if len(self) >= MAX_ENTRIES:
                    self.clear()
                self[key] = value
        return value
