"""RESP2 and RESP3, the values that Redis sends: where each ends, without keeping any of it.

A value is a line (`+OK`, `:1`), or so many bytes (`$5`), or so many values (`*2`). `Walk` steps over one of them, however
nested and in however many segments it comes: to know where the whole ends it is enough to count the values that are still
due, so no depth of nesting costs anything; only aggregates that do not say how long they are (`*?`, `$?`) need a stack.

Specifications: https://redis.io/docs/latest/develop/reference/protocol-spec/ and, for streamed values,
https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md
"""

from __future__ import annotations

import re
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols._cursor import Cursor

MAX_DIGITS: Final = 10
"""Digits of a length or a count: 512 MB and 2^31 are what Redis takes, 10 GB more than a connection carries in one value."""
MAX_NUMBER: Final = 40
"""Bytes of a number. Only big numbers (`(`) may be longer."""
MAX_DEPTH: Final = 64
"""Streamed aggregates within each other. No server sends them at all yet. Beyond it: ProtocolError."""
MAX_WORD: Final = 256
"""Bytes of one of the first elements of an aggregate (`words`) that are looked at: a channel's name."""
MAX_SURVEY: Final = 64
"""Values that `survey` looks at."""

_DIGITS = b"%d" % MAX_DIGITS
_NUMBER = b"%d" % MAX_NUMBER
COUNTED: Final = re.compile(rb"([*$%~>|=!;])(-1|\?|[0-9]{1," + _DIGITS + rb"})\r\n|(\.)\r\n")
"""What says how much follows, and the end of a streamed aggregate."""
LINE: Final = re.compile(
    rb"(?:[+\-]([^\r\n]*)|:([+\-]?[0-9]{1," + _NUMBER + rb"})|,[0-9A-Za-z.+\-]{1," + _NUMBER + rb"}|\([+\-]?[0-9]+|#[tf]|_)\r\n"
)
"""A value in one line; its text or its integer."""
HALF: Final = re.compile(
    rb"(?:[*$%~>|=!;](?:-1?|\?|[0-9]{1," + _DIGITS + rb"})?|\.|[+\-][^\r\n]*|:[+\-]?[0-9]{0," + _NUMBER + rb"}"
    rb"|,[0-9A-Za-z.+\-]{0," + _NUMBER + rb"}|\([+\-]?[0-9]*|#[tf]?|_)\r?\Z"
)
"""What could become one of these."""

_DOLLAR = b"$"[0]
_CR = b"\r"[0]
COUNTS: Final = b"*$%~>|=!;."
"""Kinds whose first line says how much follows."""
_BYTES = b"$=!"
_LONG = b"+-("
"""Lines of any length: not kept until they are whole."""
_CLOSED = 3 + MAX_DIGITS


class Walk:
    """Steps over so many values, as their bytes come."""

    __slots__ = ("_due", "_in_line", "_outer")

    def __init__(self, values: int = 1) -> None:
        self._due = values
        """Values still to come, on all levels up to the innermost streamed one."""
        self._in_line = False
        """In the middle of a long line."""
        self._outer: list[tuple[int, bool]] = []
        """For each streamed value that is open: what is due around it, and whether it is a string."""

    def over(self, cursor: Cursor) -> bool:
        """Go on from the cursor; whether the last byte has passed. Raises ProtocolError where no value begins."""
        data, pos = cursor.data, cursor.pos
        size = len(data)
        if self._in_line:
            pos = self._line(data, pos)
        while pos < size and (self._due or self._outer) and not self._in_line:
            if data[pos] == _DOLLAR and not self._outer:
                pos, self._due = over_strings(data, pos, self._due)
            at = self._value(data, pos) if pos < size and (self._due or self._outer) else pos
            if at == pos:
                break
            pos = at
        cursor.pos = pos
        return pos <= size and not (self._due or self._outer or self._in_line)

    def _value(self, data: bytes | bytearray, pos: int) -> int:
        """Where to go on behind the value's first line; `pos` if that has not come yet."""
        found = COUNTED.match(data, pos)
        if found is not None:
            return found.end() + self._enter(found)
        found = LINE.match(data, pos)
        if found is not None:
            self._done()
            return found.end()
        raise_unless_half(data, pos)
        if data[pos] in _LONG:
            self._in_line = True
            self._done()
            return self._line(data, pos + 1)
        return pos

    def _line(self, data: bytes | bytearray, pos: int) -> int:
        """Step over a line as far as it is there."""
        end = data.find(b"\r\n", pos)
        if end >= 0:
            self._in_line = False
            return end + 2
        return max(len(data) - (data[-1:] == b"\r"), pos)

    def _done(self) -> None:
        """One value less is due: that is, it has begun."""
        if self._due:
            self._due -= 1
        elif self._outer and self._outer[-1][1]:
            raise ProtocolError("not RESP: something else than a chunk in a streamed string.")

    def _enter(self, found: re.Match[bytes]) -> int:
        """Take note of what a first line says; how many bytes are to be stepped over."""
        kind, count, _ = found.groups()
        if kind is None or kind == b";":
            return self._streamed(count)
        if kind != b"|":  # attributes come in front of a value and are none
            self._done()
        if count == b"?":
            if len(self._outer) >= MAX_DEPTH:
                raise ProtocolError(f"not RESP: more than {MAX_DEPTH} streamed values within each other.")
            self._outer.append((self._due, kind in _BYTES))
            self._due = 0
            return 0
        size = int(count)
        if size < 0:
            return 0
        if kind in _BYTES:
            return size + 2
        self._due += 2 * size if kind in b"%|" else size
        return 0

    def _streamed(self, count: bytes | None) -> int:
        """A chunk of a streamed string, or the end of a streamed aggregate (None)."""
        if self._due or not self._outer or self._outer[-1][1] != (count is not None) or count in (b"-1", b"?"):
            raise ProtocolError("not RESP: a chunk or an end where nothing is streamed.")
        if count is not None and (size := int(count)):
            return size + 2
        self._due = self._outer.pop()[0]
        return 0


def over_strings(data: bytes | bytearray, pos: int, due: int) -> tuple[int, int]:
    """Step over `due` strings one behind the other, of which most replies consist: where that ended, and how many are left."""
    size, find = len(data), data.find
    while due and pos < size and data[pos] == _DOLLAR:
        end = find(b"\r\n", pos + 1, pos + _CLOSED)
        if end < 0 or not (digits := data[pos + 1 : end]).isdigit():
            break
        pos = end + 4 + int(digits)
        due -= 1
    return pos, due


def raise_unless_half(data: bytes | bytearray, pos: int) -> None:
    """Raise ProtocolError if the bytes from `pos` to the end cannot become a value's first line."""
    if HALF.match(data, pos) is None:
        raise ProtocolError("not RESP: bytes that begin no value where one is due.")


def words(data: bytes | bytearray, pos: int, wanted: int) -> list[bytes] | None:
    """The first `wanted` elements (fewer, if there are not so many) of the aggregate at `pos`, nested ones in their order.

    Each is cut to MAX_WORD bytes, and the one behind a longer one is not waited for. None: more bytes are needed.
    Raises ProtocolError where no value begins.
    """
    found: list[bytes] = []
    due = 1
    while due > 0 and len(found) < wanted:
        if pos >= len(data):
            return None
        due -= 1
        counted = COUNTED.match(data, pos)
        line = counted or LINE.match(data, pos)
        if line is None:
            raise_unless_half(data, pos)
            if len(data) - pos <= MAX_WORD:
                return None
            return [*found, bytes(data[pos + 1 : pos + MAX_WORD])]
        pos = line.end()
        size = int(line[2]) if counted and line[2] and line[2].isdigit() else -1
        if size < 0:
            found.append(b"" if counted else bytes(line[1] or line[2] or b"")[:MAX_WORD])
        elif line[1] not in _BYTES:
            due += size
        elif pos + min(size, MAX_WORD) > len(data):
            return None
        else:
            found.append(bytes(data[pos : pos + min(size, MAX_WORD)]))
            if size > MAX_WORD:
                break
            pos += size + 2
    return found


def survey(data: bytes) -> bytes | None:
    """The first bytes of the values that `data` begins with, aggregates and their elements alike: `*$$:`; `_` for a null.

    Of at most MAX_SURVEY values, and only of those whose every byte is there. None: it is not RESP. Strict where `Walk`
    is quick: what follows a string must be a line's end.
    """
    kinds = bytearray()
    pos = 0
    while pos < len(data) and len(kinds) < MAX_SURVEY:
        found = COUNTED.match(data, pos) or LINE.match(data, pos)
        if found is None:
            return bytes(kinds) if HALF.match(data, pos) else None
        kind = data[pos : pos + 1]
        pos = found.end()
        if kind in _BYTES + b";" and found[2].isdigit() and found[0] != b";0\r\n":
            pos += int(found[2])
            if not b"\r\n".startswith(data[pos : pos + 2]):
                return None
            pos += 2
            if pos > len(data):
                break
        kinds += b"_" if found.re is COUNTED and found[2] == b"-1" else kind
    return bytes(kinds)
