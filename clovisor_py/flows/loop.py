"""Loop: feeds a parser with one direction's bytes, as `protocols/_api.py` says, and outlives what it answers.

`run` is the short form for the usual segment (a message begins with it, nothing waits before it): the parser reads the
segment's own bytes, no copy, no bookkeeping. The long form knows unread bytes, a pending skip and the open message.
`reader` adds what is not bytes: holes, turns, ends.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.errors import ClovisorError, ProtocolError
from clovisor_py.flows.connection import NOT_AS_TAKEN
from clovisor_py.flows.control import Control
from clovisor_py.flows.ledger import BUFFERED_BYTES, Ledger
from clovisor_py.flows.open_message import CLOSED, NO_MARKS, OpenMessage
from clovisor_py.flows.pairing import Pairing
from clovisor_py.flows.stream import SEQ_MASK, Piece
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
MAX_EMPTY: Final = 16 * 1024
"""Messages in a row that take no bytes before the parser is taken for broken: one byte may answer all that was pipelined."""
SKIP_WORTH: Final = 64 * 1024
"""Bytes still to be skipped from which on the kernel is told: rare enough to be cheaper than the copies it saves."""

READING: Final = 0
BLIND: Final = 1
SEEKING: Final = 2
STALLED: Final = 3


class GivenUp(ClovisorError):
    """The flow cannot be read as its protocol; the text is the reason that the ledger counts."""


class Handover(Exception):
    """The connection belongs to another protocol from here on (`Message.hands_to`); `rest` is what is left of these bytes."""

    def __init__(self, name: str, rest: Piece) -> None:
        super().__init__(name)
        self.name = name
        self.rest = rest


class Loop:
    """`run` may be called while `fast`. Offsets count the direction's bytes from its first.

    `direction`: as `control` knows it. There are two of these for each open connection, so what
    may be shared (a parser's method, an empty buffer) is not kept here.
    """

    __slots__ = (
        "_accounted", "_age_ns", "_buffer", "_control", "_cursor", "_direction", "_ledger", "_missed", "_origin", "_pairing",
        "_parser", "_sought", "end", "fast", "fresh", "open", "sender", "skip", "state", "violations",
    )  # fmt: skip

    def __init__(
        self,
        parser: Parser,
        sender: int,
        pairing: Pairing,
        cursor: Cursor,
        ledger: Ledger,
        control: Control,
        direction: int,
    ) -> None:
        self._parser = parser
        self.sender = sender
        self._pairing = pairing
        self._cursor = cursor
        self._ledger = ledger
        self._control = control
        self._direction = direction
        self.state = READING
        self.fast = True
        self.fresh = False
        """The next message is the first after a beginning in the middle, or after a resynchronisation."""
        self.violations = 0
        self.end = 0
        """Offset of the end of what was handed over."""
        self._origin = 0
        """Sequence number of offset 0; kept while not `fast`."""
        self.open = CLOSED
        self._buffer: bytes | bytearray = b""
        """Unread bytes; a bytearray where there are any."""
        self._accounted = 0
        """How many of them are in the ledger's sum."""
        self.skip = 0
        """Bytes to come that the parser does not want."""
        self._sought = 0
        self._missed = False
        """Seeking, and bytes of this turn went by."""
        self._age_ns = 0

    def run(self, data: bytes, time_ns: int, seq: int) -> None:
        """Parse a segment with whose first byte a message begins. The hot path."""
        size = len(data)
        self.end += size
        cursor = self._cursor
        cursor.data = data
        cursor.pos = pos = 0
        cursor.dropped, cursor.opened = -1, None
        cursor.start_ns = cursor.end_ns = time_ns
        parser, sender = self._parser, self.sender
        try:
            while True:
                message = parser.parse(sender, cursor)
                at = cursor.pos
                if message is None or at > size or at <= pos:
                    break
                if cursor.dropped >= 0:
                    pos, cursor.dropped = min(cursor.dropped, at), -1
                message.start_ns = message.end_ns = time_ns
                message.size = at - pos
                message.seq = (seq + pos) & SEQ_MASK
                message.head = data[pos : at if at - pos < HEAD_BYTES else pos + HEAD_BYTES]
                self._pairing.take(message, sender)
                if message.hands_to is not None:
                    self._origin = seq + size - self.end
                    raise Handover(message.hands_to, self._piece(data, at, time_ns))
                if at == size:
                    self.violations = 0
                    return
                pos = at
        except ProtocolError:
            self._origin = seq + size - self.end
            self._wake()
            self._violated(data, pos)
            return
        self._origin = seq + size - self.end
        self._wake()
        self.open.only_mark(self.end - size + pos, time_ns)
        self._loop(data, pos, message)
        self._rest()

    def _wake(self) -> None:
        """The short form does not do: there is more to know of what is open. Whoever comes in another way calls this first."""
        if self.open is CLOSED:
            self.open = OpenMessage()

    def _rest(self) -> None:
        """And this last: nearly all connections are between two messages, and remember nothing of any."""
        if self.fast:
            self.open = CLOSED

    def _parse(self, data: bytes | bytearray, pos: int) -> None:
        cursor, marks = self._cursor, self.open.marks
        cursor.data, cursor.pos, cursor.dropped, cursor.opened = data, pos, -1, None
        cursor.start_ns, cursor.end_ns = marks[0][1], marks[-1][1]
        try:
            message = self._parser.parse(self.sender, cursor)
        except ProtocolError:
            self._violated(data, pos)
        else:
            self._loop(data, pos, message)

    def _loop(self, data: bytes | bytearray, pos: int, message: Message | None) -> None:
        """Go on from the answer `message` that the parser gave at `pos` until it wants more than there is."""
        cursor, size = self._cursor, len(data)
        empty = 0
        try:
            while True:
                at, moved = cursor.pos, cursor.pos > pos
                if cursor.dropped >= 0:
                    pos = self._drop_read(pos)
                if at < pos:
                    raise RuntimeError("the parser moved its cursor backwards")
                if at > pos:
                    self.open.consume(data, pos, at, self.end - size)
                if cursor.opened is not None:
                    self._begun(cursor.opened, self.end + min(at - size, 0))
                if message is not None:
                    empty = empty + 1 if at == pos else 0
                    if empty > MAX_EMPTY:
                        raise RuntimeError("the parser returns messages without end")
                    self._complete(message, self.end + at - size)
                    if message.hands_to is not None:
                        raise Handover(message.hands_to, self._piece(data, at, cursor.end_ns))
                elif not moved:
                    break
                pos = at
                if pos > size or (message is not None and pos == size):
                    break
                cursor.start_ns = self.open.marks[0][1]
                message = self._parser.parse(self.sender, cursor)
        except ProtocolError:
            self._violated(data, pos)
            return
        self._keep(data, pos)

    def _begun(self, request: Message, end: int) -> None:
        self._cursor.opened = None
        self.open.describe(request, end, self._origin)
        self._pairing.opened(request)

    def _drop_read(self, pos: int) -> int:
        """Up to where the parser said so, what it read belongs to no message; answers where the next one begins."""
        cursor = self._cursor
        dropped, cursor.dropped = cursor.dropped, -1
        self.open.pass_over(self.end - len(cursor.data) + dropped)
        return max(dropped, pos)

    def _piece(self, data: bytes | bytearray, at: int, time_ns: int) -> Piece:
        """`data[at:]`, which ends where everything that was handed over ends."""
        rest = bytes(memoryview(data)[at:])
        return Piece((self._origin + self.end - len(rest)) & SEQ_MASK, time_ns, len(rest), rest)

    def leftover(self) -> Piece:
        """What waits for more bytes; empty where nothing does."""
        return self._piece(self._buffer, 0, self.open.marks[0][1] if self.open.marks else 0)

    def _complete(self, message: Message, end: int, broken: Outcome | None = None) -> None:
        """The open message ends at offset `end`."""
        self.open.close(message, end, self._origin)
        fresh, self.fresh = self.fresh, False
        self.violations = 0
        self._pairing.take(message, self.sender, fresh, self._age_ns, broken)

    def _keep(self, data: bytes | bytearray, pos: int) -> None:
        """Remember what the parser left unread, or how much of what follows it does not want."""
        size = len(data)
        if pos >= size:
            self._drop_unread()
            self.skip = pos - size
            if self.skip > SKIP_WORTH:
                seq = (self._origin + self.end + self.skip) & SEQ_MASK
                self._control.skip_until(self._pairing.flow_id, self._direction, seq)
        elif isinstance(data, bytearray):
            del data[:pos]  # it is the buffer
        else:
            self._buffer = bytearray(memoryview(data)[pos:])
        if self._buffer:
            self.account()
            if len(self._buffer) > BUFFER_BYTES or self._ledger.buffered > BUFFERED_BYTES:
                self._ledger.buffer_overflows += 1
                self._violated(b"", 0)
        self.fast = not (self._buffer or self.skip or self.open.start_ns or self.fresh or self.state)

    def _open_unread(self, time_ns: int) -> None:
        """A message is open, if none was: from the first unread byte on, or from what comes next."""
        unread = self._buffer
        if unread:
            self.open.begin(self.end - len(unread), self.open.marks[0][1])
            self.open.extend_head(unread, 0, len(unread))
        else:
            self.open.begin(self.end, time_ns)

    def _blind(self) -> None:
        self.state, self.fast, self.skip = BLIND, False, 0
        self._drop_unread()

    def _violated(self, data: bytes | bytearray, pos: int) -> None:
        """Not this protocol. By-id messages pair wherever reading goes on; others only from the next turn on."""
        self._ledger.violations += 1
        self.violations += 1
        if self.violations >= MAX_VIOLATIONS:
            raise GivenUp(NOT_AS_TAKEN)
        cursor = self._cursor
        rest = bytes(memoryview(data)[cursor.pos if cursor.pos > pos else pos + 1 :])
        if self._pairing.in_order:
            self.open.begin(self.end - len(data) + pos if data else self.end - len(self._buffer), cursor.start_ns)
            self._blind()
            return
        self.open.forget()
        self._drop_unread()
        self.state, self.fast, self.skip = SEEKING, False, 0
        if rest:
            self.open.only_mark(self.end - len(rest), cursor.end_ns)
            self._seek(rest)

    def _seek(self, data: bytes) -> None:
        """Look for the beginning of a message; without one these bytes are nobody's."""
        at = self._parser.resync(self.sender, data)
        if at is None or not 0 <= at < len(data):
            self._sought += len(data)
            self._miss(self.end - len(data), self.open.marks[0][1])
            self.violations += self._pairing.in_order
            if self._sought > SEEK_BYTES or self.violations >= MAX_VIOLATIONS:
                raise GivenUp("no message begins where one should")
            return
        self._ledger.resyncs += 1
        self.state, self.fresh, self._missed, self._sought = READING, True, False, 0
        self._parse(data, at)

    def _miss(self, offset: int, time_ns: int) -> None:
        """Bytes went by while seeking. Where order matters, what follows them in this turn has unknown predecessors."""
        self._missed = True
        if self._pairing.in_order:
            self.open.forget()
            self.open.begin(offset, time_ns)
            self._blind()

    def _drop_unread(self) -> None:
        if self._buffer:
            self._buffer = b""
            self.account()
        self.open.marks = NO_MARKS

    def account(self) -> None:
        """Keep the sum over all flows."""
        self._ledger.buffered += len(self._buffer) - self._accounted
        self._accounted = len(self._buffer)

    def dismiss(self) -> None:
        """The flow is followed no more."""
        self._drop_unread()
