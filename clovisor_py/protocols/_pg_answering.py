"""The server's direction of PostgreSQL's protocol 3: bytes to responses.

Where a response ends is known from its request (`_pg_calls`). Rows are stepped over in a tight loop. After an error the
server skips all requests up to the next Sync without a word: each of them gets a response here, so that order is kept.

Where bytes of a result were not captured, the end of the response is looked for in what comes: a command tag or an error,
and ReadyForQuery. That is done only where the response in question is the only one that can end there.
"""

from __future__ import annotations

import re
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import SERVER, AttributeValue, Kind, Message
from clovisor_py.protocols import _pg_calls as code
from clovisor_py.protocols import _pg_messages as pg
from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._pg_calls import Calls
from clovisor_py.protocols._pg_evidence import WRONG, points

SKIPPED: Final = "skipped"
"""Status of a request that the server did not execute, because one before it failed."""
EXECUTE: Final = "EXECUTE"
"""Operation where neither request nor tag has a verb; a request that has one is shown with its own."""
AFFECTED_ROWS: Final = "clovisor.db.affected_rows"
ERROR_MESSAGE: Final = "clovisor.db.error.message"
MAX_TEXT: Final = 256
"""Characters of an error's message, or of a channel's name."""

_HEADER: Final = pg.HEADER.unpack_from
_HEADER_BYTES: Final = pg.HEADER_BYTES
_UNKNOWN: Final = pg.UNKNOWN
_MANY: Final = code.MANY
_bounds: Final = pg.SERVER_MESSAGES.get
_RESPONSE: Final = Kind.RESPONSE  # looking up a member costs more than a call

_ROWS: Final = (pg.DATA_ROW, pg.COPY_DATA)
_ANSWERS: Final = frozenset((pg.PARSED, pg.BOUND, pg.CLOSED, pg.ROWS, pg.NO_ROWS))
"""Each answers one message of the extended protocol that is no Execute."""
_EXECUTED: Final = frozenset((pg.COMPLETE, pg.SUSPENDED, pg.EMPTY))
_ANY_TIME: Final = frozenset((pg.NOTICE, pg.PARAMETER))
_BEGINNINGS: Final = frozenset(pg.SERVER_MESSAGES) - {pg.READY, pg.COPY_DONE}

_RETURNS: Final = frozenset(("SELECT", "FETCH"))
_ENCRYPTS: Final[dict[bytes, tuple[str, str | None]]] = {b"S": ("ok", "tls"), b"G": ("ok", "gssapi"), b"N": ("refused", None)}
"""What answers an SSLRequest or GSSENCRequest: status, and whose the connection is then."""

_END = re.compile(
    rb"C\x00\x00\x00[\x08-\x45][A-Z][A-Z_]+(?: [A-Z]+){0,4}(?: [0-9]{1,19}){0,2}\0(?=[ZTDCEINSAGH])"
    rb"|E\x00\x00[\x00-\x20].S[^\0]{1,20}\0(?:V[A-Z]+\0)?C[0-9A-Z]{5}\0"
    rb"|s\x00\x00\x00\x04(?=Z\x00\x00\x00\x05)"
    rb"|Z\x00\x00\x00\x05[ITE]",
    re.DOTALL,
)
"""What ends a result: CommandComplete, ErrorResponse, PortalSuspended; where they were not seen either, ReadyForQuery."""
_OVERLAP: Final = 128
"""Bytes kept while looking for it: more than it may span."""
_PATIENCE: Final = 4096
"""Bytes that may leave open whether they begin a response."""


class Answering:
    """One connection's server."""

    __slots__ = (
        "_aborted", "_affected", "_calls", "_completed", "_copies_out", "_due", "_ends_before", "_failure",
        "_hunting", "_lost", "_need", "_open", "_owned", "_returned", "_rows", "_shows_text", "_skipping", "_told", "_verb",
        "_waiting",
    )  # fmt: skip

    def __init__(self, setup: Setup, calls: Calls) -> None:
        self._calls = calls
        self._waiting = calls.waiting
        self._shows_text = setup.redaction.literals and setup.redaction.values
        self.reset()

    def reset(self) -> None:
        """At the beginning of a message, nothing of a response read, and nothing known of what it may answer."""
        self._due: Message | None = None
        """A response that is complete as soon as the engine has stepped over its last bytes."""
        self._skipping = False
        """The server ignores what it is sent until the next Sync."""
        self._aborted = False
        """Because of an error."""
        self._hunting = False
        self._ends_before = False
        """The message that is returned ends before the one that showed its end."""
        self._new()

    def _new(self) -> None:
        self._open = False
        self._owned = False
        """It answers the oldest of the calls; else a request that was not seen."""
        self._need = 0
        """Answers that are still to come, in the extended protocol."""
        self._told = False
        """The latest message said how a statement ended; what is missing, if anything, is ReadyForQuery."""
        self._rows = 0
        """Rows since the latest statement ended."""
        self._copies_out = False
        self._returned = -1
        self._affected = -1
        self._completed = 0
        self._verb = ""
        self._failure: pg.Failure | None = None
        self._lost = False
        """Bytes of it were not seen."""

    # ---- the contract ----

    def parse(self, cursor: Cursor) -> Message | None:
        if self._due is not None:
            message, self._due = self._due, None
            return message
        if self._waiting and self._waiting[0] == code.ENCRYPTION:
            return self._encryption(cursor)
        if self._hunting:
            return self._hunt(cursor)
        return self._go_on(cursor)

    def gap(self) -> bool:
        """Whether the end of the response can be found again: if it is known to be under way, and no other ends there."""
        if self._hunting:
            return not self._calls.spoken
        first = self._waiting[0] if self._owned else code.UNTIL_READY
        alone = len(self._waiting) == self._owned
        if self._told or not self._open or not alone or not (first == code.UNTIL_READY or code.SYNCED < first < code.BARE):
            return False
        self._hunting = self._lost = True
        self._calls.spoken = False
        self._need = code.MANY if self._need else 0
        return True

    def end(self) -> Message | None:
        message = self._due
        if message is None and self._open:
            message = self._close()
        self.reset()
        self._waiting.clear()
        return None if message is None or message.kind is Kind.INTERIM else message

    # ---- messages ----

    def _encryption(self, cursor: Cursor) -> Message | None:
        """One byte answers; an old server, which does not know the question, sends an error."""
        answer = cursor.peek(1)
        if answer is None:
            return None
        if answer == b"E":
            self._waiting[0] = code.LOGIN
            return self._go_on(cursor)
        if answer not in _ENCRYPTS:
            raise ProtocolError("not PostgreSQL: no answer to an SSLRequest.")
        cursor.pos += 1
        del self._waiting[:1]
        status, hands_to = _ENCRYPTS[answer]
        return Message(_RESPONSE, status=status, hands_to=hands_to)

    def _go_on(self, cursor: Cursor) -> Message | None:
        """Read messages until one completes a response."""
        data, pos = cursor.data, cursor.pos
        size = len(data)
        last = size - _HEADER_BYTES
        while pos <= last:
            kind, length = _HEADER(data, pos)
            if kind in _ROWS:
                if not self._open:
                    self._begin()
                pos, count = pg.run(data, pos, kind)
                self._rows += count
                self._told = False
                continue
            wanted, longest = _bounds(kind, _UNKNOWN)
            if not 4 <= length <= longest:
                cursor.pos = pos
                raise ProtocolError("not PostgreSQL: a type or a length that no message of a server has.")
            start, end = pos + _HEADER_BYTES, pos + 1 + length
            if kind in _ANSWERS:  # `_take` would do the same; most of them end nothing
                if not self._open:
                    self._begin()
                need = self._need
                if not need or 1 < need < _MANY:
                    self._told = False
                    self._need = need and need - 1
                    pos = end
                    continue
            if size < end and size - start < wanted:
                break
            message = (self._take if self._open else self._first)(kind, data, start, end)
            if message is not None:
                return self._deliver(message, cursor, pos, end)
            pos = end
        cursor.pos = pos
        return None

    def _deliver(self, message: Message, cursor: Cursor, pos: int, end: int) -> Message | None:
        if self._ends_before:
            self._ends_before = False
            end = pos
        cursor.pos = end
        if end <= len(cursor.data):
            return message
        self._due = message
        return None

    def _first(self, kind: int, data: bytes | bytearray, start: int, end: int) -> Message | None:
        """A message where no response is open: it begins one, unless it belongs to none."""
        waiting = self._waiting
        if kind == pg.NOTIFICATION:
            return self._notification(data, start, end)
        if kind == pg.READY:
            if self._skipping:
                return self._skip()
            if waiting and waiting[0] == code.ALONE:
                del waiting[:1]
            return Message(Kind.INTERIM)
        if kind in _ANY_TIME and (self._skipping or not waiting):
            return Message(Kind.INTERIM)
        self._begin()
        return self._take(kind, data, start, end)

    def _begin(self) -> None:
        self._open = True
        self._skipping = False
        if self._waiting:
            self._owned = True
            first = self._waiting[0]
            self._need = first & code.ANSWERS if first < code.BARE else 0

    def _take(self, kind: int, data: bytes | bytearray, start: int, end: int) -> Message | None:
        """A message of the open response; answers the response, if that ends here."""
        if kind == pg.COMPLETE:
            self._complete(bytes(data[start : end - 1]))
            return self._step(True) if self._need else None
        if kind == pg.READY:
            return self._ready()
        if kind in _ANSWERS:
            self._told = False
            return self._step(False) if self._need else None
        if kind == pg.ERROR:
            return self._fail(pg.failure(bytes(data[start : min(end, start + pg.MAX_FAILURE)])))
        if kind in _EXECUTED:
            if self._rows and not self._lost:
                self._returned = max(self._returned, 0) + self._rows
            self._rows = 0
            self._told = True
            return self._step(True)
        if kind == pg.NOTIFICATION and self._told and self._owned:  # sent between statements only: this one is over
            self._ends_before = True
            return self._close(ready_follows=True)
        if kind == pg.COPY_OUT:
            self._copies_out = True
        elif kind in (pg.COPY_IN, pg.COPY_BOTH) and self._owned:
            self._calls.forget_sync()
        return None

    def _complete(self, body: bytes) -> None:
        """Count what a command tag says."""
        verb, number = pg.tag(body)
        rows, self._rows = self._rows, 0
        self._told = True
        self._completed += 1
        self._verb = self._verb or verb
        if verb == "COPY":
            rows, number = (number, -1) if self._copies_out else (-1, number)
        elif verb in _RETURNS and (number < 0 or rows == number or self._lost):
            rows, number = (number if self._lost else rows), -1
        elif not rows:
            rows = -1
        if rows >= 0:
            self._returned = max(self._returned, 0) + rows
        if number >= 0:
            self._affected = max(self._affected, 0) + number

    def _step(self, executed: bool) -> Message | None:
        """Something that the client asked for is answered: perhaps the last thing of its request."""
        need = self._need
        if not need or (need == code.MANY and not executed):
            return None
        self._need = need = 0 if need == code.MANY else need - 1
        if need:
            return None
        self._told = True
        return None if self._waiting[0] & code.SYNCED else self._close()

    def _fail(self, failure: pg.Failure) -> Message | None:
        self._failure = failure
        self._told = True
        self._need = 0
        first = self._waiting[0] if self._owned else code.UNTIL_READY
        if failure.fatal or first == code.LOGIN:
            return self._close()
        if not 0 < first < code.SYNCED:
            return None
        self._skipping = self._aborted = True
        return self._close()

    def _ready(self) -> Message:
        """ReadyForQuery: of the request, or of those behind it, up to one with a Sync; they were not answered then."""
        if not self._lost and not self._need:
            self._told = True
        if self._owned and 0 < self._waiting[0] < code.SYNCED:
            self._ends_before = self._skipping = True
            self._aborted = False
        return self._close()

    def _skip(self) -> Message:
        """The next request up to the Sync that this ReadyForQuery answers."""
        waiting = self._waiting
        if not waiting:
            self._skipping = False
            return Message(Kind.INTERIM)
        first = waiting.pop(0)
        self._skipping = self._ends_before = first < code.SYNCED and len(waiting) > 0
        if first == code.ALONE:
            return Message(Kind.INTERIM)
        if not self._aborted:
            return Message(_RESPONSE, incomplete=True)
        return Message(_RESPONSE, EXECUTE, status=SKIPPED, error=True, attributes={"error.type": SKIPPED})

    def _close(self, ready_follows: bool = False) -> Message:
        """The response ends; a ReadyForQuery that belongs to it may still follow."""
        alone = False
        if self._owned:
            alone = self._waiting[0] == code.ALONE
            if ready_follows:
                self._waiting[0] = code.ALONE
            else:
                del self._waiting[:1]
        message = Message(Kind.INTERIM) if alone else self._response()
        self._new()
        return message

    def _response(self) -> Message:
        attributes: dict[str, AttributeValue] = {}
        if self._returned >= 0:
            attributes["db.response.returned_rows"] = self._returned
        if self._affected >= 0:
            attributes[AFFECTED_ROWS] = self._affected
        if self._completed > 1:
            attributes["db.operation.batch.size"] = self._completed
        failure = self._failure
        status = "ok" if self._told else ""
        if failure is not None:
            status = failure.code
            attributes["db.response.status_code"] = attributes["error.type"] = status
            if self._shows_text and failure.text:
                attributes[ERROR_MESSAGE] = failure.text[:MAX_TEXT]
        verb = self._verb or (EXECUTE if self._owned else "")
        return Message(_RESPONSE, verb, "", status, failure is not None, attributes, {}, None, not self._told)

    def _notification(self, data: bytes | bytearray, start: int, end: int) -> Message:
        """What another session NOTIFYs: its process, the channel, a payload that is nobody's business."""
        channel = pg.string(data, start + 4, min(end, start + 4 + pg.MAX_NAME_BYTES)) or b""
        return Message(
            Kind.ONE_WAY,
            "NOTIFY",
            channel.decode("utf-8", "replace")[:MAX_TEXT],
            attributes={**self._calls.base, "db.operation.name": "NOTIFY"},
        )

    # ---- behind unseen bytes ----

    def _hunt(self, cursor: Cursor) -> Message | None:
        """Look for the end of the response, and go on from there; or give it up, where another has begun."""
        data, pos = cursor.data, cursor.pos
        if self._calls.spoken and pos < len(data):
            worth = points(SERVER, data[pos : pos + _PATIENCE]) if data[pos] in _BEGINNINGS else WRONG
            if worth > 0:  # the client asked again, and here is the answer
                self._hunting = False
                return self._close()
            if worth == 0 and len(data) - pos < _PATIENCE:
                return None
        at = _find_end(data, pos)
        if at < 0:
            cursor.pos = max(pos, len(data) - _OVERLAP)
            return None
        cursor.pos = at
        self._hunting = False
        return self._go_on(cursor)


def _find_end(data: bytes | bytearray, pos: int) -> int:
    """Where behind `pos` the end of a result begins, or -1."""
    for found in _END.finditer(data, pos):
        at = found.start()
        if data[at] != pg.COMPLETE or data[at + 4] == found.end() - at - 1:  # else a tag of another length: somebody's text
            return at
    return -1
