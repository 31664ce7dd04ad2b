"""Cursor: bounds-checked reading from the unread bytes of a stream.

A parser never indexes past what is there: every read answers None where more bytes are needed, and moves nothing then.
`skip` is the one exception, by design: it may go past the end, and the engine then steps over bytes that it may never
see (a body whose length is known needs no copy).
"""

from __future__ import annotations

from clovisor_py.model.message import Message


class Cursor:
    """`data[pos:]` is unread. `start_ns` is when the byte at the first `pos` passed, `end_ns` when the last byte did."""

    __slots__ = ("data", "dropped", "end_ns", "opened", "pos", "start_ns")

    def __init__(self, data: bytes | bytearray, pos: int = 0, start_ns: int = 0, end_ns: int = 0) -> None:
        self.data = data
        self.pos = pos
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.dropped = -1
        """Up to where the bytes are nobody's, if `drop` was called; the engine takes note and resets it."""
        self.opened: Message | None = None
        """A request whose head was read, and that will be returned when its end is: set where `parse` returns None, and where
        it carries a trace context, as its server may act on it before. The engine takes note and resets it."""

    @property
    def remaining(self) -> int:
        """Unread bytes at hand; never negative, also after a skip past the end."""
        return max(len(self.data) - self.pos, 0)

    def peek(self, size: int) -> bytes | None:
        """The next `size` bytes without reading them, or None."""
        end = self.pos + size
        return bytes(self.data[self.pos : end]) if end <= len(self.data) else None

    def read(self, size: int) -> bytes | None:
        """The next `size` bytes, or None."""
        chunk = self.peek(size)
        if chunk is not None:
            self.pos += size
        return chunk

    def uint(self, size: int) -> int | None:
        """A big-endian unsigned integer of `size` bytes, or None."""
        chunk = self.read(size)
        return None if chunk is None else int.from_bytes(chunk, "big")

    def find(self, needle: bytes, limit: int) -> int:
        """Bytes from `pos` to the first `needle` that begins within the next `limit` bytes, or -1."""
        at = self.data.find(needle, self.pos, self.pos + limit + len(needle) - 1)
        return -1 if at < 0 else at - self.pos

    def drop(self) -> None:
        """What was read or skipped up to here belongs to no message (an empty line, a ping): the next one begins here.

        Without this a message begins with the first byte that was read since the last one ended.
        """
        self.dropped = self.pos

    def skip(self, size: int) -> None:
        """Step over `size` bytes, whether they are here, come later, or never."""
        self.pos += size
