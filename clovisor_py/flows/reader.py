"""Reader: one direction of one flow, as its parser sees it: unread bytes, a pending skip, what was not seen, and when.

This is the loop of `protocols/_api.py`. `run` is its short form for the usual segment (a message begins with it, nothing
waits before it): the parser reads the segment's own bytes, no copy, no bookkeeping. Everything else goes through `read`
and `unseen`, which know where the open message began, when each byte of it passed, and how much of it was lost.

A reader is READING, or BLIND (unseen bytes hid where messages begin; only counts, until the turn is over), or SEEKING (a
new turn: the parser is asked where in its bytes a message begins). Offsets count the direction's bytes from the first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from clovisor_py.errors import ClovisorError, ProtocolError
from clovisor_py.flows.ledger import Ledger
from clovisor_py.flows.pairing import Pairing
from clovisor_py.flows.stream import SEQ_MASK
from clovisor_py.model.message import HEAD_BYTES, Message
from clovisor_py.model.session import Outcome
from clovisor_py.protocols._api import Parser
from clovisor_py.protocols._cursor import Cursor

BUFFER_BYTES: Final = 256 * 1024
"""Unread bytes kept for a parser that wants more: four times the longest head anyone sends. Beyond: a violation."""
SEEK_BYTES: Final = 256 * 1024
"""Bytes searched in vain for the beginning of a message before the flow is given up."""
MAX_VIOLATIONS: Final = 8
"""Violations in a row before the flow is given up: one may be a lost byte, eight are another protocol."""
MAX_EMPTY: Final = 64
"""Messages in a row that take no bytes before the parser is taken for broken."""
MAX_MARKS: Final = 1024
"""Segments told apart in the unread bytes; beyond it times are those of the latest."""
SKIP_WORTH: Final = 64 * 1024
"""Bytes still to be skipped from which on the kernel is told: rare enough to be cheaper than the headers it saves."""

READING: Final = 0
BLIND: Final = 1
SEEKING: Final = 2


class GivenUp(ClovisorError):
    """The flow cannot be read as its protocol; the text is the reason that the ledger counts."""


class Reader:
    """`run` may be called while `fast`; otherwise `read`. All times are ns since the epoch."""

    __slots__ = (
        "_age_ns",
        "_buffer",
        "_cursor",
        "_gap",
        "_head",
        "_head_left",
        "_ledger",
        "_marks",
        "_missed",
        "_origin",
        "_pairing",
        "_parser",
        "_skip",
        "_skip_until",
        "_sought",
        "_start",
        "end",
        "fast",
        "fresh",
        "latest_ns",
        "parse",
        "sender",
        "start_ns",
        "state",
        "take",
        "violations",
    )

    def __init__(
        self,
        parser: Parser,
        sender: int,
        pairing: Pairing,
        cursor: Cursor,
        ledger: Ledger,
        skip_until: Callable[[int], None],
    ) -> None:
        self._parser = parser
        self.parse = parser.parse
        self.sender = sender
        self._pairing = pairing
        self.take = pairing.take
        self._cursor = cursor
        self._ledger = ledger
        self._skip_until = skip_until
        self.state = READING
        self.fast = True
        self.fresh = False
        """The next message is the first after a beginning in the middle, or after a resynchronisation."""
        self.violations = 0
        self.end = 0
        """Offset of the end of what was handed over."""
        self._origin = 0
        """Sequence number of offset 0."""
        self._buffer = bytearray()
        self._marks: deque[tuple[int, int]] = deque()
        """(offset, time) of each segment of the unread bytes; the first covers the first unread byte."""
        self._skip = 0
        self._sought = 0
        self._missed = False
        """Seeking, and bytes of this turn went by."""
        self._start = 0
        self.start_ns = 0
        """When the open message began; 0 where none is open."""
        self.latest_ns = 0
        """When the latest byte of the open message passed."""
        self._head = b""
        self._head_left = HEAD_BYTES
        self._gap = 0
        self._age_ns = 0

    def begin(self, mid_stream: bool, aligned: bool) -> None:
        """Before the first byte: whether it may lie in the middle of the flow, and whether a message begins with it."""
        self.fresh = mid_stream
        self.state = READING if aligned else SEEKING
        self.fast = aligned and not mid_stream

    # ---- bytes ----

    def run(self, data: bytes, time_ns: int, seq: int) -> None:
        """Parse a segment with whose first byte a message begins. The hot path."""
        size = len(data)
        self._origin = seq - self.end
        self.end += size
        cursor = self._cursor
        cursor.data = data
        cursor.pos = pos = 0
        cursor.start_ns = cursor.end_ns = time_ns
        parse = self.parse
        sender = self.sender
        try:
            while True:
                message = parse(sender, cursor)
                at = cursor.pos
                if message is None or at > size or at <= pos:
                    break
                message.start_ns = message.end_ns = time_ns
                message.size = at - pos
                message.seq = (seq + pos) & SEQ_MASK
                message.head = data[pos : at if at - pos < HEAD_BYTES else pos + HEAD_BYTES]
                self.take(message, sender)
                if at == size:
                    self.violations = 0
                    return
                pos = at
        except ProtocolError:
            self._begin(data, pos, time_ns)
            self._violated(data, pos)
            return
        self._begin(data, pos, time_ns)
        self._loop(data, pos, message)

    def read(self, data: bytes, time_ns: int, seq: int, turn_age_ns: int = 0) -> None:
        """Take the next bytes in order, whatever the state."""
        self._origin = seq - self.end
        self.end += len(data)
        if self.state == BLIND:
            self.latest_ns = max(self.latest_ns, time_ns)
            return
        if self.state == SEEKING:
            self._begin(data, 0, time_ns)
            self._seek(data)
            return
        skipped = min(self._skip, len(data))
        if skipped:
            self._step(data, 0, skipped, time_ns)
            if self._skip:
                return
        if self._buffer:
            self._mark(self.end - len(data), time_ns)
            self._buffer += data
            self._parse(self._buffer, 0)
        else:
            if not self.start_ns:
                self._age_ns = turn_age_ns
            self._marks.clear()
            self._marks.append((self.end - len(data), time_ns))
            self._parse(data, skipped)

    def unseen(self, size: int, time_ns: int, seq: int, lost: bool) -> None:
        """Take `size` bytes that will never be seen, lost or left out on purpose."""
        self._origin = seq - self.end
        if self.state == SEEKING:
            self.end += size
            self._missed = True
            return
        if self._skip and self.state == READING:
            covered = min(self._skip, size)
            self._pass_unseen(covered, time_ns, lost)
            self._skip -= covered
            size -= covered
            if not self._skip:
                self._marks.clear()
                self._marks.append((self.end, time_ns))
                self._parse(b"", 0)
        if size:
            self._step_over(size, time_ns, lost)

    def over(self, now_ns: int) -> None:
        """The other direction speaks: this turn is over, and with it what could not be seen of it."""
        if self.state == BLIND:
            self._end()
            self._pairing.lose(self.sender, now_ns)
        elif self._missed:
            self._pairing.lose(self.sender, now_ns)
            self.violations += 1
            if self.violations >= MAX_VIOLATIONS:
                raise GivenUp("no message begins where one should")
        self._missed = False
        self.state = SEEKING

    def quiet(self, now_ns: int, alone: bool) -> None:
        """Nothing came for a while: report what is open and unseen. The turn may still go on, unless nobody answers."""
        self._end()
        self._pairing.lose(self.sender, now_ns)
        if alone:
            self.state = SEEKING

    def blindfold(self, time_ns: int) -> None:
        """Read no more of this turn: what it answers is not known."""
        if self.state == READING:
            self._open(time_ns)
            self._blind()

    def finish(self, outcome: Outcome, now_ns: int) -> None:
        """No byte will follow. A message that this cuts short ends as `outcome`, unless it was cut short by us."""
        if self.state != SEEKING:
            self._end(outcome if self.state == READING else None)
        if self.state == BLIND or self._missed:
            self._pairing.lose(self.sender, now_ns)
        self._drop_unread()
        self.state, self._skip, self._missed = READING, 0, False

    def settle(self) -> None:
        """A datagram is over, and with it every message in it."""
        if not self.fast:
            if self.start_ns or self._buffer:
                self._end()
            self._drop_unread()
            self.state, self._skip, self._missed = READING, 0, False
            self.fast = not self.fresh
        self.end = 0

    # ---- the loop ----

    def _parse(self, data: bytes | bytearray, pos: int) -> None:
        cursor = self._cursor
        cursor.data = data
        cursor.pos = pos
        cursor.start_ns = self._marks[0][1]
        cursor.end_ns = self._marks[-1][1]
        try:
            message = self.parse(self.sender, cursor)
        except ProtocolError:
            self._violated(data, pos)
        else:
            self._loop(data, pos, message)

    def _loop(self, data: bytes | bytearray, pos: int, message: Message | None) -> None:
        """Go on from the answer `message` that the parser gave at `pos` until it wants more than there is."""
        cursor, parse, sender = self._cursor, self.parse, self.sender
        size = len(data)
        empty = 0
        try:
            while True:
                at = cursor.pos
                if at > pos:
                    self._consume(data, pos, at)
                elif at < pos:
                    raise RuntimeError("the parser moved its cursor backwards")
                if message is not None:
                    empty = empty + 1 if at == pos else 0
                    if empty > MAX_EMPTY:
                        raise RuntimeError("the parser returns messages without end")
                    self._complete(message, at - size)
                elif at == pos:
                    break
                pos = at
                if pos > size or (message is not None and pos == size):
                    break
                cursor.start_ns = self._marks[0][1]
                message = parse(sender, cursor)
        except ProtocolError:
            self._violated(data, pos)
            return
        self._keep(data, pos)

    def _consume(self, data: bytes | bytearray, pos: int, at: int) -> None:
        """The open message (it begins here if none is) has the bytes from `pos` to `at`, which may lie past the end."""
        base = self.end - len(data)
        marks = self._marks
        if not self.start_ns:
            self._start = base + pos
            self.start_ns = marks[0][1]
        self._extend_head(data, pos, at)
        latest = marks[0][1]
        upto = base + at
        while len(marks) > 1 and marks[1][0] <= upto:
            marks.popleft()
            if marks[0][0] < upto:
                latest = max(latest, marks[0][1])
        self.latest_ns = max(self.latest_ns, latest)

    def _complete(self, message: Message, beyond: int, broken: Outcome | None = None) -> None:
        """The open message ends `beyond` bytes after `end` (mostly before it: negative)."""
        if not self.start_ns:
            self._start = self.end + beyond
            self.start_ns = self._marks[0][1] if self._marks else self.latest_ns
        message.start_ns = self.start_ns
        message.end_ns = max(self.latest_ns, self.start_ns)
        message.size = self.end + beyond - self._start
        message.seq = (self._origin + self._start) & SEQ_MASK
        message.head = self._head
        message.gap_bytes = self._gap
        fresh, age_ns = self.fresh, self._age_ns
        self._forget()
        self.fresh = False
        self.violations = 0
        self.take(message, self.sender, fresh, age_ns, broken)

    def _keep(self, data: bytes | bytearray, pos: int) -> None:
        """Remember what the parser left unread, or how much of what follows it does not want."""
        size = len(data)
        if pos >= size:
            self._drop_unread()
            self._skip = pos - size
            if self._skip > SKIP_WORTH:
                self._skip_until((self._origin + self.end + self._skip) & SEQ_MASK)
        elif data is self._buffer:
            del self._buffer[:pos]
        else:
            self._buffer = bytearray(memoryview(data)[pos:])
        if len(self._buffer) > BUFFER_BYTES:
            self._ledger.buffer_overflows += 1
            self._violated(b"", 0)
        self.fast = not (self._buffer or self._skip or self.start_ns or self.fresh or self.state)

    # ---- what was not seen, and what was not understood ----

    def _step(self, data: bytes, pos: int, at: int, time_ns: int) -> None:
        """Bytes at hand that a skip covers."""
        self._skip -= at - pos
        if self.start_ns:
            self._extend_head(data, pos, at)
            self.latest_ns = max(self.latest_ns, time_ns)

    def _pass_unseen(self, size: int, time_ns: int, lost: bool) -> None:
        self.end += size
        if self.start_ns:
            self._head_left = 0  # what follows is not the head's continuation
            self.latest_ns = max(self.latest_ns, time_ns)
            self._gap += size if lost else 0

    def _step_over(self, size: int, time_ns: int, lost: bool) -> None:
        """Unseen bytes that no skip covers: the parser can do without them, or this direction goes blind."""
        self._open(time_ns)
        if self.state == READING and not self._parser.gap(self.sender, size):
            self._blind()
        self._drop_unread()
        self._pass_unseen(size, time_ns, lost)
        self.fast = False

    def _blind(self) -> None:
        self.state = BLIND
        self.fast = False
        self._skip = 0
        self._drop_unread()

    def _end(self, broken: Outcome | None = None) -> None:
        """Make the parser give up the open message, and pass it on if it is worth telling."""
        if self._buffer:
            self._open(self._marks[-1][1])
        try:
            message = self._parser.end(self.sender)
        except ProtocolError:
            self._ledger.violations += 1
            message = None
        if message is not None:
            self._complete(message, 0, broken if message.incomplete else None)
        self._forget()

    def _violated(self, data: bytes | bytearray, pos: int) -> None:
        """Not this protocol. By-id messages pair wherever reading goes on; others only from the next turn on."""
        self._ledger.violations += 1
        self.violations += 1
        if self.violations >= MAX_VIOLATIONS:
            raise GivenUp("not what it was taken for")
        at = self._cursor.pos
        rest = bytes(memoryview(data)[at if at > pos else pos + 1 :])
        if self._pairing.in_order:
            if not self.start_ns and data is not self._buffer:
                self._start, self.start_ns = self.end - len(data) + pos, self._cursor.end_ns
            self._open(self._cursor.end_ns)
            self._blind()
            return
        self._forget()
        self._drop_unread()
        self._skip = 0
        self.fast = False
        self.state = SEEKING
        if rest:
            self._marks.append((self.end - len(rest), self._cursor.end_ns))
            self._seek(rest)

    def _seek(self, data: bytes) -> None:
        """Look for the beginning of a message; without one these bytes are nobody's."""
        at = self._parser.resync(self.sender, data)
        if at is None or not 0 <= at < len(data):
            self._missed = True
            self._sought += len(data)
            if self._sought > SEEK_BYTES:
                raise GivenUp("no message begins anywhere")
            self._forget()
            self._marks.clear()
            return
        self._ledger.resyncs += 1
        self._sought = 0
        self.state = READING
        self.fresh = True
        self._forget()
        self._parse(data, at)

    # ---- small change ----

    def _begin(self, data: bytes, pos: int, time_ns: int) -> None:
        """`data` is one segment's, and a message begins at `pos`."""
        self._marks.clear()
        self._marks.append((self.end - len(data) + pos, time_ns))
        self.latest_ns = 0

    def _mark(self, offset: int, time_ns: int) -> None:
        if len(self._marks) < MAX_MARKS:
            self._marks.append((offset, time_ns))
        else:
            self._marks[-1] = (self._marks[-1][0], time_ns)

    def _open(self, time_ns: int) -> None:
        """A message is open from here on, if none was: with the first unread byte, or the first unseen one."""
        unread = self._buffer
        if not self.start_ns:
            self._start = self.end - len(unread)
            self.start_ns = self._marks[0][1] if unread else time_ns
        self._extend_head(unread, 0, len(unread))
        self.latest_ns = max(self.latest_ns, self._marks[-1][1] if unread else time_ns)

    def _extend_head(self, data: bytes | bytearray, pos: int, at: int) -> None:
        if self._head_left:
            part = bytes(data[pos : min(at, pos + self._head_left)])
            self._head += part
            self._head_left -= len(part)

    def _forget(self) -> None:
        """No message is open."""
        self.start_ns = 0
        self.latest_ns = 0
        self._head = b""
        self._head_left = HEAD_BYTES
        self._gap = 0

    def _drop_unread(self) -> None:
        if self._buffer:
            self._buffer = bytearray()
        self._marks.clear()
