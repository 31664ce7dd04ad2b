"""What a Redis server sends: answers in the order of the commands, and in between what nobody asked for.

An answer is one value, but for a SUBSCRIBE's, which is one for each channel. What comes unasked are RESP3's pushes, in RESP2
the messages to a connection that has subscriptions, and what a MONITOR shows. The usual small answer takes a short path
(`read`), any other is looked at by its first line or words (`_begin`) and walked (`_resp.Walk`), in however many segments
it comes. `Connection` keeps count of the requests, and what their answers change.
"""

from __future__ import annotations

import re
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import AttributeValue, Kind, Message
from clovisor_py.protocols import _redis_start as start
from clovisor_py.protocols import _resp as resp
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._redis_commands import Role
from clovisor_py.protocols._redis_connection import DOLLAR, NO_MARK, PUSH, STAR, Connection, Mark

MAX_STATUS: Final = 32
"""Bytes of a status or of an error's prefix that are looked at; the longest prefix of Redis, MASTERDOWN, has 10."""

_RESPONSE, _ONE_WAY = Kind.RESPONSE, Kind.ONE_WAY  # looking up a member costs more than a call
_USUAL = re.compile(rb"(?:\$([0-9]{1,10})|:-?[0-9]{1,20}|\$-1|\+(?!QUEUED\r)[^\r\n]{0,64}|\*([0-9]{1,10}))\r\n")
"""Answers that are over with their line, or by a length, or by a number of strings."""
_SIMPLE = re.compile(rb"[+\-]([^\r\n]{0,%d})(\r\n)?" % MAX_STATUS)
_PREFIX = re.compile(rb"[A-Z][A-Z0-9_]+(?= |\Z)")
_MONITORED = re.compile(rb"[0-9]{1,12}\.[0-9]{6} \[")
_ATTRIBUTES, _PLUS, _MINUS, _BANG, _LF = b"|+-!\n"
_ERRORS, _AGGREGATES, _ONLY_RESP3 = b"-!", b"*>", b"%~>|=!,#(_"
_SUBSCRIPTIONS = (Role.SUBSCRIBE, Role.UNSUBSCRIBE)


class Replies(Connection):
    """One server's answers and messages."""

    __slots__ = ("_kind", "_mark", "_open", "_tells_keys", "_text", "_values", "_walk")

    def __init__(self, tells_keys: bool, namespace: str) -> None:
        super().__init__(namespace)
        self._tells_keys = tells_keys
        self.reset()

    def reset(self) -> None:
        """Expect the beginning of a value."""
        self._open: Message | None = None
        self._walk: resp.Walk | None = None
        """On its way through the open message, or through attributes in front of one."""
        self._mark = NO_MARK
        self._kind, self._text = 0, b""
        """First line of the open answer."""
        self._values = 1
        """How many the open message still consists of, with the one that is being walked."""

    def read(self, cursor: Cursor) -> Message | None:
        """At most one message at the cursor, by the contract of `Parser.parse`."""
        answered = self.answered + 1
        if self._walk is None and self._open is None and not self.unasked and self.next_mark != answered <= self.asked:
            usual = _USUAL.match(cursor.data, cursor.pos)
            if usual is not None:
                end, due = usual.end(), 0
                if usual.lastindex == 1:
                    end += int(usual[1]) + 2
                elif usual.lastindex:
                    end, due = resp.over_strings(cursor.data, end, int(usual[2]))
                if end <= len(cursor.data) and not due:
                    self.answered = answered
                    cursor.pos = end
                    namespace = self.namespace
                    return Message(_RESPONSE, "", "", "OK", False, {"db.namespace": namespace} if namespace else {})
        return self._read(cursor)

    def end(self) -> Message | None:
        """No more will come of the open message: what is known of it, or None. Requests that wait are given up."""
        message = self._open
        self.reset()
        self.give_up()
        if message is not None:
            message.incomplete = True
        return message

    def _read(self, cursor: Cursor) -> Message | None:
        """Any message, however cut."""
        while True:
            if self._walk is None:
                begun = self._begin(cursor) if self._open is None else self._confirm(cursor)
                if begun is None:
                    return None
                self._walk = begun
            if not self._walk.over(cursor):
                return None
            self._walk = None
            if self._open is not None:
                self._values -= 1
                if self._values <= 0:
                    return self._close()

    def _begin(self, cursor: Cursor) -> resp.Walk | None:
        """Open the message at the cursor, or step into the attributes in front of it. None: more bytes are needed."""
        data, pos = cursor.data, cursor.pos
        if pos >= len(data):
            return None
        mark, kind = self.due(), data[pos]
        if mark.role is Role.SYNC and kind in (_LF, DOLLAR):
            return self._snapshot(cursor)
        if kind in _ONLY_RESP3:
            self.version = 3
        if kind == _ATTRIBUTES:
            return _attributes(cursor)
        if kind == PUSH or (kind == STAR and self._may_be_unasked(mark)):
            return self._pushed(data, pos, mark)
        line = _first_line(data, pos)
        if line is None:
            return None
        if kind == _PLUS and _MONITORED.match(line) and self.monitored:
            self.monitors()
            return self._tell(_ONE_WAY, "monitor", "")
        return self._answer(mark, kind, line)

    def _may_be_unasked(self, mark: Mark) -> bool:
        """Whether an array may be a message or a confirmation: in RESP2 those look like any other."""
        return self.version < 3 and (self.unasked or self.answered >= self.asked or mark.role in _SUBSCRIPTIONS)

    def _pushed(self, data: bytes | bytearray, pos: int, mark: Mark) -> resp.Walk | None:
        """An array or a push that may be a message, a confirmation or an answer: its first words say."""
        words = resp.words(data, pos, 2)
        word = words[0].lower() if words else b""
        confirms = word in start.CONFIRMATIONS
        if confirms or word == b"pmessage":
            words = resp.words(data, pos, 3)
        if words is None:
            return None
        name = _text(word)
        if confirms:
            self.confirm(name.upper(), words[-1])
        if confirms and self.answered < self.asked and name.upper() != mark.operation:
            return self._tell(Kind.INTERIM, name, "")  # its request was lost, or ended more subscriptions than were known
        if not confirms and (data[pos] == PUSH or word in start.PUSHES):
            self.delivered(name)
            at = 2 if word == b"pmessage" else 1
            return self._tell(_ONE_WAY, name, _text(words[at]) if self._tells_keys and at < len(words) else "")
        return self._answer(mark, data[pos], _first_line(data, pos) or b"")

    def _tell(self, kind: Kind, operation: str, resource: str) -> resp.Walk:
        """Open a message that ends no request."""
        attributes: dict[str, AttributeValue] = {"db.system.name": "redis", "db.operation.name": operation}
        self._open = Message(kind, operation, resource, "", False, attributes)
        return resp.Walk()

    def _answer(self, mark: Mark, kind: int, text: bytes) -> resp.Walk:
        """Open an answer; `text` is its first line, or the beginning of it, without the first byte."""
        attributes: dict[str, AttributeValue] = {"db.namespace": self.namespace} if self.namespace else {}
        failed = kind in _ERRORS
        status = "QUEUED" if kind == _PLUS and text == b"QUEUED" else "OK"
        if failed:
            prefix = _PREFIX.match(text)
            status = prefix[0].decode("ascii") if prefix else "ERR"
            attributes["db.response.status_code"] = attributes["error.type"] = status
        self._open = Message(_RESPONSE, "", "", status, failed, attributes)
        self._mark, self._kind, self._text = mark, kind, text
        self.answer(mark)
        if mark.role in _SUBSCRIPTIONS and kind in _AGGREGATES:
            self._values = self.confirmations(mark)
        return resp.Walk()

    def _confirm(self, cursor: Cursor) -> resp.Walk | None:
        """The next value of an open answer, which is one more confirmation; else the answer was over without it."""
        if cursor.pos >= len(cursor.data):
            return None
        if cursor.data[cursor.pos] in _AGGREGATES:
            words = resp.words(cursor.data, cursor.pos, 3)
            if words is None:
                return None
            if words and words[0].upper() == self._mark.operation.encode():
                self.confirm(self._mark.operation, words[-1])
                return resp.Walk()
        self._values = 1
        return resp.Walk(0)

    def _snapshot(self, cursor: Cursor) -> resp.Walk | None:
        """The answer to SYNC, a snapshot without a status line; line feeds keep the connection up until it is ready."""
        data, pos = cursor.data, cursor.pos
        while pos < len(data) and data[pos] == _LF:
            pos += 1
        if pos > cursor.pos:
            cursor.pos = pos
            cursor.drop()
        if pos >= len(data):
            return None
        if data[pos] != DOLLAR:
            return self._begin(cursor)
        self._answer(self.due(), DOLLAR, b"")
        cursor.pos = pos + 1
        return resp.Walk(0)

    def _close(self) -> Message | None:
        """The open message is complete, and what it changes comes into force."""
        message = self._open
        if message is not None:
            self.apply(self._mark, self._kind, self._text, message)
        self.reset()
        return message


def _attributes(cursor: Cursor) -> resp.Walk | None:
    """Step into the attributes at the cursor: pairs, in front of the value that they are of."""
    found = resp.COUNTED.match(cursor.data, cursor.pos)
    if found is None:
        resp.raise_unless_half(cursor.data, cursor.pos)
        return None
    if not found[2].isdigit():
        raise ProtocolError("not RESP: attributes without a number.")
    cursor.pos = found.end()
    return resp.Walk(2 * int(found[2]))


def _first_line(data: bytes | bytearray, pos: int) -> bytes | None:
    """The first line of the value at `pos`, or its first MAX_STATUS bytes, without its kind; of a blob error, its text.

    Only as far as a status or a count is in it; None: more bytes are needed.
    """
    kind = data[pos]
    if kind in (_PLUS, _MINUS):
        found = _SIMPLE.match(data, pos)
        if found is None or found[2] or len(found[1]) == MAX_STATUS:
            return bytes(found[1]) if found else None
        resp.raise_unless_half(data, pos)
        return None
    found = resp.COUNTED.match(data, pos)
    if found is None:
        if resp.LINE.match(data, pos) is None:
            resp.raise_unless_half(data, pos)
        return b"" if kind not in resp.COUNTS else None
    if kind == _BANG and found[2].isdigit():
        end = found.end() + min(int(found[2]), MAX_STATUS)
        return bytes(data[found.end() : end]) if end <= len(data) else None
    return bytes(found[2] or b"")


def _text(word: bytes) -> str:
    return word.decode("utf-8", "replace")
