"""Runs a parser over a scripted exchange in every way that TCP may deliver it, and holds it to the contract of `_api`.

One helper for every protocol, in the manner of h11's `tr()`: `check(PROTOCOL, script)` runs the script whole, byte by byte,
in random pieces, with trailing bytes, cut short at every offset and with bytes missing; `mutated(script)` is a hypothesis
strategy of scripts with damage, to be given to `run`. `run` is the engine in miniature: it honours skips, calls once
more with nothing when a skip is over, and ends both directions at the close. Whatever comes, it asserts three answers
only, work linear in the bytes, and that no more stays unread than the protocol's own limit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Message
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._cursor import Cursor

Script = Sequence[tuple[int, bytes]]
"""What passed on the wire, in order: (sender, payload)."""

WORK_PER_BYTE = 16
"""Times that one byte may be looked at (searched or copied); what matters is that it does not grow with the input."""
CALLS_PER_BYTE = 4
MAX_UNREAD = 128 * 1024
"""Bytes that may wait for more; a parser that wants to wait longer has no limit."""


class Counted(bytearray):
    """Bytes that count how many of them are searched and copied."""

    work = 0

    def find(self, needle: Any, start: Any = 0, end: Any = None) -> int:
        stop = len(self) if end is None else min(end, len(self))
        at = super().find(needle, start, stop)
        self.work += max((at if at >= 0 else stop) - start, 0)
        return at

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            self.work += len(range(*key.indices(len(self))))
        return super().__getitem__(key)


@dataclass
class _Stream:
    unread: Counted = field(default_factory=Counted)
    offset: int = 0
    """Position of `unread` in the stream."""
    skip: int = 0
    blind: bool = False


@dataclass
class Run:
    """What came of a script: messages with their sender and the position where each ended, and how much work it was."""

    messages: list[tuple[int, Message, int]] = field(default_factory=list)
    before_close: int = 0
    """How many of the messages were there before the connection ended."""
    violations: list[str] = field(default_factory=list)
    unread: tuple[int, int] = (0, 0)

    def of(self, sender: int) -> list[Message]:
        return [message for whose, message, _ in self.messages if whose == sender]


class Engine:
    """The calls that `flows/` makes, and nothing else of it."""

    def __init__(self, protocol: Protocol) -> None:
        self.parser = protocol.parser()
        self.streams = (_Stream(), _Stream())
        self.out = Run()
        self.bytes = self.calls = self.work = 0

    def feed(self, sender: int, data: bytes) -> None:
        stream = self.streams[sender]
        self.bytes += len(data)
        stepped = min(stream.skip, len(data))
        self._pass(stream, stepped)
        if stream.skip:
            return
        if stream.blind:
            self._end(sender)
            stream.blind = False
            stream.unread[:0] = data[stepped:]
            self._resync(sender, 0)
        else:
            stream.unread += data[stepped:]
        self._parse(sender, even_empty=stepped > 0)

    def lose(self, sender: int, size: int) -> None:
        """`size` bytes that will never be seen."""
        stream = self.streams[sender]
        stepped = min(stream.skip, size)
        self._pass(stream, stepped)
        if stepped and not stream.skip:
            self._parse(sender, even_empty=True)
        if size > stepped and not stream.blind:
            stream.blind = not self.parser.gap(sender, size - stepped)
            if stream.blind:
                stream.offset += len(stream.unread)
                stream.unread.clear()
        stream.offset += size - stepped

    def close(self) -> Run:
        self.out.before_close = len(self.out.messages)
        self.out.unread = (len(self.streams[CLIENT].unread), len(self.streams[SERVER].unread))
        for sender in (CLIENT, SERVER):
            self._end(sender)
        assert self.calls <= CALLS_PER_BYTE * self.bytes + 8, "more calls than bytes explain"
        assert self.work <= WORK_PER_BYTE * self.bytes + 4096, f"{self.work} bytes looked at, of {self.bytes}"
        return self.out

    def _pass(self, stream: _Stream, size: int) -> None:
        stream.skip -= size
        stream.offset += size

    def _parse(self, sender: int, even_empty: bool) -> None:
        stream = self.streams[sender]
        while (stream.unread or even_empty) and not stream.skip:
            even_empty = False
            cursor = Cursor(stream.unread)
            message = self._call(sender, cursor)
            self._advance(stream, cursor.pos)
            if message is not None:
                self.out.messages.append((sender, message, stream.offset))
            elif not cursor.pos:
                break
            even_empty = cursor.pos > 0 and message is None and not stream.unread and not stream.skip and even_empty
        assert len(stream.unread) <= MAX_UNREAD, "waits for more without a limit"

    def _call(self, sender: int, cursor: Cursor) -> Message | None:
        self.calls += 1
        try:
            message = self.parser.parse(sender, cursor)
        except ProtocolError as error:
            self.out.violations.append(str(error))
            self._resync(sender, max(cursor.pos, 1))
            cursor.pos = 0
            return None if not self.streams[sender].unread else self._call(sender, self._again(cursor, sender))
        assert message is None or type(message) is Message
        assert cursor.pos >= 0
        return message

    def _again(self, cursor: Cursor, sender: int) -> Cursor:
        cursor.data = self.streams[sender].unread
        return cursor

    def _advance(self, stream: _Stream, size: int) -> None:
        here = min(size, len(stream.unread))
        self.work += stream.unread.work
        stream.unread.work = 0
        del stream.unread[:here]
        stream.offset += here
        stream.skip = size - here

    def _resync(self, sender: int, start: int) -> None:
        """Go on at the next beginning of a message at or behind `start`, or forget all that is there."""
        stream = self.streams[sender]
        del stream.unread[:start]
        at = self.parser.resync(sender, bytes(stream.unread))
        assert at is None or 0 <= at <= len(stream.unread)
        drop = len(stream.unread) if at is None else at
        del stream.unread[:drop]
        stream.offset += start + drop

    def _end(self, sender: int) -> None:
        message = self.parser.end(sender)
        if message is not None:
            assert type(message) is Message
            self.out.messages.append((sender, message, self.streams[sender].offset))
