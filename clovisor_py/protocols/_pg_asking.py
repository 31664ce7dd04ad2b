"""The client's direction of PostgreSQL's protocol 3: bytes to requests.

A request is a simple Query, or in the extended protocol an Execute with the Parse, Bind and Describe in front of it and the
Sync or Flush behind it; what a Sync or Flush ends without an Execute is a request of its own (preparing takes time, and may
fail). Statements and portals have names, so their text is kept until they are used. A COPY FROM STDIN lasts until its last
row. Passwords and all that a client says while it logs in are stepped over unread.

Bytes that belong to no request (a login's answers, a lone Sync) end as INTERIM messages, so that they are not taken for the
beginning of the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import Kind, Message
from clovisor_py.protocols import _pg_calls as code
from clovisor_py.protocols import _pg_messages as pg
from clovisor_py.protocols import _sql
from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._pg_calls import Calls
from clovisor_py.protocols._pg_names import MAX_PORTALS, MAX_STATEMENTS, Names, recall, remember

STATEMENT: Final = "clovisor.db.statement"
"""Attribute, NOT_SEEN where an Execute names a statement that was prepared unseen."""
NOT_SEEN: Final = "not seen"
USER: Final = "clovisor.db.user"
MAX_TEXT: Final = 128
"""Characters of the name of a user or database that are told (the server's own have 63)."""

_HEADER: Final = pg.HEADER.unpack_from
_HEADER_BYTES: Final = pg.HEADER_BYTES
_UNKNOWN: Final = pg.UNKNOWN
_bounds: Final = pg.CLIENT_MESSAGES.get
_DESCRIBE: Final = pg.DESCRIBE
_NO_CONTEXT: Final[dict[str, str]] = {}
_REQUEST: Final = Kind.REQUEST  # looking up a member costs more than a call
_OPENING = Struct(">II")
"""Length and version of a packet without a type."""
_ENCRYPTION: Final = {pg.SSL_REQUEST: "SSLRequest", pg.GSS_REQUEST: "GSSENCRequest"}

_WHOLE: Final[frozenset[int]] = frozenset()
_AFTER_EXECUTE: Final = frozenset((pg.SYNC, pg.FLUSH))
_COPYING: Final = frozenset((pg.COPY_DATA, pg.COPY_DONE, pg.COPY_FAIL, pg.SYNC, pg.FLUSH))
"""Types of the messages that belong to a request which is held back, if they follow it."""

_UNNAMED: Final = b"\0\0"
"""The unnamed portal of the unnamed statement."""
_USUAL_END: Final = b"D\0\0\0\6P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\4"
"""Describe and Execute the unnamed portal, and Sync: how most drivers end what they began with Bind."""

_COPY_END = re.compile(
    rb"c\x00\x00\x00\x04(?=S\x00\x00\x00\x04|\Z)|f\x00\x00[\x00-\x03].[^\0]{0,1023}\0(?=S\x00\x00\x00\x04|\Z)", re.DOTALL
)
"""CopyDone or CopyFail, and behind it a Sync or nothing: rows of a COPY may hold all else."""
_OVERLAP: Final = 1100
"""Bytes kept while looking for it: more than it may span."""


class Asking:
    """One connection's client."""

    __slots__ = (
        "_base", "_calls", "_extended", "_follows", "_half", "_held", "_hunting", "_need", "_opening", "_portals",
        "_propagation", "_read", "_shows_user", "_statement", "_statements", "_verb",
    )  # fmt: skip

    def __init__(self, setup: Setup, calls: Calls) -> None:
        self._calls = calls
        self._base = calls.base
        self._read = _sql.reader(_sql.Dialect.POSTGRESQL, setup.redaction)
        self._shows_user = setup.redaction.users
        self._opening = True
        """The next message may be a packet without a type."""
        self._statements: Names = {}
        self._portals: Names = {}
        self._half = bytearray()
        """Copy of a Query that is not whole yet, for `end`, which is given no bytes."""
        self.reset()

    def reset(self) -> None:
        """At the beginning of a request, nothing of it read."""
        self._held: Message | None = None
        """A request that is known, and behind which `_follows` may come; _WHOLE: as soon as the engine has stepped over it."""
        self._follows = _WHOLE
        self._hunting = False
        """Unseen bytes hid where the messages of a COPY begin."""
        self._half.clear()
        self._new_group()

    def _new_group(self) -> None:
        self._need = 0
        """Messages of the extended protocol that were sent since the latest request, each with an answer of its own."""
        self._verb = ""
        """What they ask for, if no Execute follows."""
        self._statement: _sql.Statement | None = None
        self._propagation = _NO_CONTEXT

    def parse(self, cursor: Cursor) -> Message | None:
        if self._opening and cursor.remaining:
            if cursor.data[cursor.pos] == 0:
                return self._open(cursor)
            self._opening = False
        if self._held is not None and self._follows is _WHOLE:
            return self._release()
        if self._hunting and not self._find_copy_end(cursor):
            return None if self._hunting else self._release()
        return self._go_on(cursor)

    def gap(self) -> bool:
        """Only the rows of a COPY can be missed: their end is found again."""
        self._hunting = self._follows is _COPYING and bool(self._calls.waiting)
        return self._hunting

    def end(self) -> Message | None:
        message = self._held
        if self._half:
            known, _, _ = bytes(self._half[pg.HEADER_BYTES :]).rpartition(b" ")  # half a word is another word
            message = self._query(known) or self._held
        if message is not None:
            message.incomplete = self._follows is not _AFTER_EXECUTE
        self.reset()
        self._portals.clear()
        self._statements.pop(b"", None)  # unseen, it may have changed; no other name is given twice without a Close
        return None if message is None or message.kind is Kind.INTERIM else message

    # ---- before the first query ----

    def _open(self, cursor: Cursor) -> Message | None:
        """A packet without a type: startup, or a request for encryption or cancellation."""
        head = cursor.peek(_OPENING.size)
        if head is None:
            return None
        length, version = _OPENING.unpack(head)
        if not _OPENING.size <= length <= pg.MAX_STARTUP:
            raise ProtocolError("not PostgreSQL: a first packet of a length that none has.")
        if version >> 16 != pg.MAJOR and version not in (*_ENCRYPTION, pg.CANCEL_REQUEST):
            raise ProtocolError("not PostgreSQL 3: a first packet of another version.")
        packet = cursor.read(length)
        if packet is None:
            return None
        if version in _ENCRYPTION:
            self._calls.ask(code.ENCRYPTION)
            return self._message(_ENCRYPTION[version])
        self._opening = False
        if version == pg.CANCEL_REQUEST:
            message = self._message("cancel")
            message.kind = Kind.ONE_WAY
            return message
        return self._start(pg.pairs(packet[_OPENING.size :]))

    def _start(self, parameters: dict[str, str]) -> Message:
        user = parameters.get("user", "")[:MAX_TEXT]
        database = parameters.get("database", "")[:MAX_TEXT]
        if self._shows_user:
            database = database or user  # which is the server's rule, too
            if user:
                self._base[USER] = user
        if database:
            self._base["db.namespace"] = database
        self._calls.ask(code.LOGIN)
        message = self._message("connect")
        message.resource = database
        return message

    # ---- messages ----

    def _go_on(self, cursor: Cursor) -> Message | None:
        """Read messages until one completes a request."""
        data, pos = cursor.data, cursor.pos
        size = len(data)
        last = size - _HEADER_BYTES
        while pos <= last:
            kind, length = _HEADER(data, pos)
            wanted, longest = _bounds(kind, _UNKNOWN)
            if not 4 <= length <= longest:
                cursor.pos = pos
                raise ProtocolError("not PostgreSQL: a type or a length that no message of a client has.")
            start, end = pos + _HEADER_BYTES, pos + 1 + length
            if size < end and size - start < wanted:
                if kind == pg.QUERY and self._held is None:
                    self._half += data[pos + len(self._half) :]
                break
            if self._held is None:
                if kind == _DESCRIBE and data.startswith(_USUAL_END, pos) and (message := self._end_as_usual()):
                    cursor.pos = pos + len(_USUAL_END)
                    return message
                message = _READ[kind](self, data, start, end)
            elif kind in self._follows:
                message = self._follow(kind)
                if kind == pg.COPY_DATA:
                    end = pg.run(data, pos, kind)[0]
            else:
                cursor.pos = pos
                return self._release()
            pos = end
            if message is not None:
                cursor.pos = pos
                if pos <= size:
                    return message
                self._held, self._follows = message, _WHOLE
                return None
        cursor.pos = pos
        return None

    def _release(self) -> Message | None:
        message, self._held = self._held, None
        self._follows = _WHOLE
        return message

    def _follow(self, kind: int) -> Message | None:
        """A message behind a request that is held back."""
        if self._follows is _AFTER_EXECUTE:
            if kind == pg.SYNC:
                self._calls.sync()
            return self._release()
        if kind == pg.SYNC and self._extended:
            self._calls.sync()
        elif kind in (pg.COPY_DONE, pg.COPY_FAIL):
            if not self._extended:
                return self._release()
            self._follows = _AFTER_EXECUTE
        return None

    def _find_copy_end(self, cursor: Cursor) -> bool:
        """Whether messages can be read again from the cursor on. Stops `_hunting` also where the server has answered."""
        if not self._calls.waiting:
            self._hunting = False
            return False
        found = _COPY_END.search(cursor.data, cursor.pos)
        if found is None:
            cursor.pos = max(cursor.pos, len(cursor.data) - _OVERLAP)
            return False
        cursor.pos = found.start()
        self._hunting = False
        return True

    def _simple(self, data: bytes | bytearray, start: int, end: int) -> Message | None:
        if self._half:
            self._half.clear()
        return self._query(bytes(data[start : min(end - 1, start + _sql.MAX_STATEMENT)]))

    def _query(self, text: bytes) -> Message | None:
        """The request that this text is, or None: then it is held until its rows have passed."""
        statement = self._read(text)
        self._calls.ask(code.UNTIL_READY)
        self._new_group()
        message = self._message(statement.operation or "QUERY", statement)
        if statement.propagation:
            message.propagation = statement.propagation.copy()
        if not statement.copies_in:
            return message
        self._hold(message, _COPYING, extended=False)
        return None

    def _parse(self, data: bytes | bytearray, start: int, end: int) -> None:
        name = pg.string(data, start, min(end, start + pg.MAX_NAME_BYTES))
        self._need += 1
        self._verb = "PREPARE"
        if name is None:
            self._statement = None
            return
        begins = start + len(name) + 1
        limit = min(end, begins + _sql.MAX_STATEMENT)
        ends = data.find(b"\0", begins, limit)
        statement = self._read(bytes(data[begins : ends if ends >= 0 else limit]))
        self._statement = statement
        self._propagation = statement.propagation
        remember(self._statements, name, statement, MAX_STATEMENTS)

    def _bind(self, data: bytes | bytearray, start: int, end: int) -> None:
        self._need += 1
        self._verb = self._verb or "BIND"
        portal = b""
        name: bytes | None = b""
        if end - start < len(_UNNAMED) or not data.startswith(_UNNAMED, start):
            found = pg.string(data, start, min(end, start + pg.MAX_NAME_BYTES))
            if found is None:
                return
            portal, begins = found, start + len(found) + 1
            name = pg.string(data, begins, min(end, begins + pg.MAX_NAME_BYTES))
        statement = self._statement = recall(self._statements, name)
        if statement is None:
            self._portals.pop(portal, None)
        else:
            remember(self._portals, portal, statement, MAX_PORTALS)

    def _describe(self, data: bytes | bytearray, start: int, end: int) -> None:
        self._need += 1
        self._verb = self._verb or "DESCRIBE"
        names = self._statements if data[start : start + 1] == b"S" else self._portals
        name = pg.string(data, start + 1, min(end, start + 1 + pg.MAX_NAME_BYTES))
        self._statement = recall(names, name) or self._statement

    def _close(self, data: bytes | bytearray, start: int, end: int) -> None:
        self._need += 1
        self._verb = self._verb or "CLOSE"
        names = self._statements if data[start : start + 1] == b"S" else self._portals
        name = pg.string(data, start + 1, min(end, start + 1 + pg.MAX_NAME_BYTES))
        if name is not None:
            self._statement = names.pop(name, None) or self._statement

    def _execute(self, data: bytes | bytearray, start: int, end: int) -> None:
        portal = pg.string(data, start, min(end, start + pg.MAX_NAME_BYTES))
        statement = self._portals.get(portal) if portal is not None else None
        need = self._need + 1
        self._calls.ask(need if need < code.MANY else code.MANY)
        message = self._executed(statement)
        copies = statement is not None and statement.copies_in
        self._hold(message, _COPYING if copies else _AFTER_EXECUTE, extended=True)

    def _end_as_usual(self) -> Message | None:
        """What _USUAL_END asks for; None where that is a COPY, whose rows come before the Sync counts."""
        statement = self._portals.get(b"")
        if statement is not None and statement.copies_in:
            return None
        need = self._need + 2
        self._calls.ask((need if need < code.MANY else code.MANY) | code.SYNCED)
        return self._executed(statement)

    def _executed(self, statement: _sql.Statement | None) -> Message:
        """The request of an Execute, with which a new group begins; None: of a statement that was not seen."""
        if statement is None:
            message = Message(_REQUEST, attributes={**self._base, STATEMENT: NOT_SEEN})
        else:
            message = self._message(statement.operation or "EXECUTE", statement)
        if self._propagation and statement is not None and statement.propagation is self._propagation:
            message.propagation = self._propagation.copy()
        self._new_group()
        return message

    def _sync(self, _data: bytes | bytearray, _start: int, _end: int) -> Message:
        prepared = self._flush(_data, _start, _end)
        self._calls.sync()
        return prepared

    def _flush(self, _data: bytes | bytearray, _start: int, _end: int) -> Message:
        """What was sent without an Execute is a request of its own."""
        if not self._need:
            return Message(Kind.INTERIM)
        self._calls.ask(min(self._need, code.MANY))
        message = self._message(self._verb, self._statement)
        message.attributes["db.operation.name"] = self._verb
        self._new_group()
        return message

    def _call(self, data: bytes | bytearray, start: int, _end: int) -> Message:
        self._calls.ask(code.UNTIL_READY)
        message = self._message("FUNCTION")
        message.resource = str(int.from_bytes(data[start : start + 4], "big"))
        return message

    def _copy(self, _data: bytes | bytearray, _start: int, _end: int) -> None:
        """Rows of a COPY that nobody was seen to ask for."""
        self._hold(Message(Kind.INTERIM), _COPYING, extended=False)

    def _step_over(self, _data: bytes | bytearray, _start: int, _end: int) -> Message:
        return Message(Kind.INTERIM)

    def _terminate(self, _data: bytes | bytearray, _start: int, _end: int) -> None:
        """Nothing follows."""

    def _hold(self, message: Message, follows: frozenset[int], extended: bool) -> None:
        self._held, self._follows, self._extended = message, follows, extended

    def _message(self, operation: str, statement: _sql.Statement | None = None) -> Message:
        if statement is None:
            return Message(_REQUEST, operation, attributes=self._base.copy())
        return Message(_REQUEST, operation, statement.resource, "", False, self._base | statement.attributes, {})


_READ: Final[dict[int, Callable[[Asking, bytes | bytearray, int, int], Message | None]]] = {
    pg.QUERY: Asking._simple,
    pg.PARSE: Asking._parse,
    pg.BIND: Asking._bind,
    pg.DESCRIBE: Asking._describe,
    pg.EXECUTE: Asking._execute,
    pg.CLOSE: Asking._close,
    pg.SYNC: Asking._sync,
    pg.FLUSH: Asking._flush,
    pg.CALL: Asking._call,
    pg.COPY_DATA: Asking._copy,
    pg.COPY_DONE: Asking._step_over,
    pg.COPY_FAIL: Asking._step_over,
    pg.PASSWORD: Asking._step_over,
    pg.TERMINATE: Asking._terminate,
}
"""By type: reads a message whose body lies from `start` to `end` (or beyond the data), where no request is held back."""
