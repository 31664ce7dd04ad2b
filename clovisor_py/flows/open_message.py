"""OpenMessage: what the engine knows of the message that a direction is in the middle of: where and when it began, when its
latest byte passed, its first bytes, and how much of it was lost. The parser knows none of that (`model/message.py`).

Offsets count a direction's bytes from its first. Times are ns since the epoch.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.flows.stream import SEQ_MASK
from clovisor_py.model.message import HEAD_BYTES, Message

MAX_MARKS: Final = 1024
"""Segments told apart in the unread bytes; beyond it times are those of the latest."""
NO_MARKS: Final[list[tuple[int, int]]] = []
"""Of all messages without unread bytes; never added to."""


class OpenMessage:
    """No message is open while `start_ns` is 0."""

    __slots__ = ("_head", "_head_left", "gap", "latest_ns", "marks", "start", "start_ns")

    def __init__(self) -> None:
        self.marks = NO_MARKS
        """(offset, time) of each segment of the unread bytes; the first covers the first unread byte. A list,
        because an idle flow may have two, and a deque takes 600 bytes."""
        self.start = 0
        self.forget()

    def forget(self) -> None:
        """None is open."""
        self.start_ns = 0
        self.latest_ns = 0
        self.gap = 0
        self._head = b""
        self._head_left = HEAD_BYTES

    def begin(self, offset: int, time_ns: int) -> None:
        """A message is open from here on, if none was."""
        if not self.start_ns:
            self.start, self.start_ns = offset, time_ns
        self.latest_ns = max(self.latest_ns, time_ns)

    def only_mark(self, offset: int, time_ns: int) -> None:
        """All unread bytes are one segment's."""
        self.marks = [(offset, time_ns)]

    def mark(self, offset: int, time_ns: int) -> None:
        """Another segment's bytes follow the unread ones."""
        if not self.marks:
            self.only_mark(offset, time_ns)
        elif len(self.marks) < MAX_MARKS:
            self.marks.append((offset, time_ns))
        else:
            self.marks[-1] = (self.marks[-1][0], time_ns)

    def consume(self, data: bytes | bytearray, pos: int, at: int, base: int) -> None:
        """The parser read or skipped `data[pos:at]` (`at` may lie past the end); `data[0]` has the offset `base`."""
        marks = self.marks
        if not self.start_ns:
            self.start, self.start_ns = base + pos, marks[0][1]
        self.extend_head(data, pos, at)
        latest = marks[0][1]
        while len(marks) > 1 and marks[1][0] <= base + at:
            marks.pop(0)
            if marks[0][0] < base + at:
                latest = max(latest, marks[0][1])
        self.latest_ns = max(self.latest_ns, latest)

    def pass_over(self, offset: int) -> None:
        """None is open any more; what begins at `offset` is the next."""
        self.forget()
        marks = self.marks
        while len(marks) > 1 and marks[1][0] <= offset:
            marks.pop(0)

    def extend_head(self, data: bytes | bytearray, pos: int, at: int) -> None:
        """The next bytes of the message, as far as its first HEAD_BYTES go."""
        if self._head_left:
            part = bytes(data[pos : min(at, pos + self._head_left)])
            self._head += part
            self._head_left -= len(part)

    def pass_seen(self, data: bytes, pos: int, at: int, time_ns: int) -> None:
        """Bytes that nobody needs, if they belong to a message."""
        if self.start_ns:
            self.extend_head(data, pos, at)
            self.latest_ns = max(self.latest_ns, time_ns)

    def pass_unseen(self, size: int, time_ns: int, lost: bool) -> None:
        """Bytes that nobody saw, if they belong to a message."""
        if self.start_ns:
            self._head_left = 0  # what follows is not the head's continuation
            self.latest_ns = max(self.latest_ns, time_ns)
            self.gap += size if lost else 0

    def close(self, message: Message, end: int, origin: int) -> None:
        """It ends at offset `end`: fill in the engine's half. `origin` is the sequence number of offset 0."""
        self.describe(message, end, origin)
        self.forget()

    def describe(self, message: Message, end: int, origin: int) -> None:
        """Fill in the engine's half of what is known up to offset `end`."""
        if not self.start_ns:
            self.start, self.start_ns = end, self.marks[0][1] if self.marks else self.latest_ns
        message.start_ns = self.start_ns
        message.end_ns = max(self.latest_ns, self.start_ns)
        message.size = end - self.start
        message.seq = (origin + self.start) & SEQ_MASK
        message.head = self._head
        message.gap_bytes = self.gap


CLOSED: Final = OpenMessage()
"""Of all directions that are between two messages; never written to."""
