"""One direction of a TLS connection: its hello, which may be cut into records and segments at any byte, and what is owed of it.

Bytes of a hello are taken as they come, so nothing waits unread and what was seen of one that never ends can be told.
"""

from __future__ import annotations

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import Message
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._tls_hello import MAX_HELLO


class Half:
    """One direction: before its hello, in it (`left` bytes of a record are part of it), or behind it."""

    __slots__ = ("body", "done", "left", "owed")

    def __init__(self) -> None:
        self.done = False
        self.body = bytearray()
        """The hello, with its header, as far as it has come."""
        self.left = 0
        self.owed: Message | None = None
        """A message that is to be returned when the rest of its record has passed."""

    def wanted(self) -> int:
        """Bytes that the hello lacks, or its header. Raises ProtocolError beyond MAX_HELLO."""
        body = self.body
        if len(body) < 4:
            return 4 - len(body)
        size = int.from_bytes(body[1:4], "big")
        if size > MAX_HELLO:
            raise ProtocolError(f"not TLS: a hello of more than {MAX_HELLO} bytes.")
        return 4 + size - len(body)

    def take(self, cursor: Cursor) -> bytes | None:
        """Read on in the record of a hello; answers its body when it is whole."""
        if not self.body:
            body = self._at_once(cursor)
            if body is not None:
                return body
        while size := min(self.wanted(), self.left, cursor.remaining):
            self.body += cursor.data[cursor.pos : cursor.pos + size]
            cursor.pos += size
            self.left -= size
        if len(self.body) < 4 or self.wanted():
            return None
        return self._finish()

    def _at_once(self, cursor: Cursor) -> bytes | None:
        """The usual case: the whole hello is there, in one record."""
        start = cursor.pos + 4
        end = start + int.from_bytes(cursor.data[start - 3 : start], "big")
        if end > len(cursor.data) or end - cursor.pos > self.left:
            return None
        self.left -= end - cursor.pos
        cursor.pos = end
        self.done = True
        return bytes(cursor.data[start:end])

    def give_up(self) -> bytes:
        """What has come of the body; no more will."""
        self.left = 0
        return self._finish()

    def reset(self) -> None:
        """Forget what is half read."""
        self.left = 0
        self.owed = None
        self.body.clear()

    def stepped(self, cursor: Cursor, message: Message) -> Message | None:
        """The message, if all of its bytes have come; else it is owed."""
        if cursor.pos <= len(cursor.data):
            return message
        self.owed = message
        return None

    def _finish(self) -> bytes:
        body = bytes(self.body[4:])
        self.body.clear()
        self.done = True
        return body
