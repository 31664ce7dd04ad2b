"""Redis (and Valkey, KeyDB, Sentinel): commands in RESP2, RESP3 or lines, and what the server says to them and unasked.

Answers come in the order of the commands. This file keeps the two directions in step: which commands are answered at all
(not after CLIENT REPLY OFF), and which answers matter for what follows. `_redis_requests` reads commands, `_redis_replies`
answers and messages, `_redis_commands` is the table of what commands are made of.

What is private never enters a message: values and scripts where redaction hides them, passwords ever.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.model.message import CLIENT, Kind, Message
from clovisor_py.protocols import _redis_connection as connection
from clovisor_py.protocols import _redis_replies as replies
from clovisor_py.protocols import _redis_requests as requests
from clovisor_py.protocols import _redis_start as start
from clovisor_py.protocols import _resp as resp
from clovisor_py.protocols._api import Capture, Pairing, Protocol, Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._redis_commands import Role

_EVERYTHING: Final = 0
_NOT_THE_NEXT: Final = 1
_NOTHING: Final = 2
"""What the client wants answered."""
_NONE = Role.NONE


class RedisParser:
    """One connection, both directions."""

    __slots__ = ("_replies", "_requests", "_wanted")

    def __init__(self, setup: Setup) -> None:
        self._requests = requests.Requests(setup.redaction)
        self._replies = replies.Replies(setup.redaction.keys, "0" if setup.from_start else "")
        self._wanted = _EVERYTHING

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        if sender != CLIENT:
            return self._replies.read(cursor)
        client = self._requests
        request = client.read(cursor)
        if request is not None:
            if self._wanted or client.command.role is not _NONE:
                self._ask(request)
            else:
                self._replies.asked += 1
        return request

    def gap(self, _sender: int, _size: int) -> bool:
        return False

    def end(self, sender: int) -> Message | None:
        if sender != CLIENT:
            return self._replies.end()
        request = self._requests.end()
        if request is not None:
            self._ask(request)
        return request

    def resync(self, sender: int, data: bytes | bytearray) -> int | None:
        self._replies.namespace = ""  # who knows what was selected meanwhile
        if sender == CLIENT:
            self._requests.reset()
            self._wanted = _EVERYTHING
        else:
            self._replies.reset()
        return start.find(sender, data)

    def _ask(self, request: Message) -> None:
        """Tell the answers' side of a request that will have one."""
        command = self._requests.command
        role = command.role
        if role is not _NONE or self._wanted:
            words = self._requests.words
            if not self._is_answered(role, words[0].upper() if words else ""):
                request.kind = Kind.SILENT
                if role in (Role.SELECT, Role.EXEC):
                    self._replies.namespace = ""
                return
            if role is not _NONE and role is not Role.REPLY:
                argument = words[0] if words and role in (Role.SELECT, Role.HELLO) else ""
                self._replies.mark(role, command.operation, argument, command.arguments)
        self._replies.asked += 1

    def _is_answered(self, role: Role, mode: str) -> bool:
        """Whether the server answers a command, by what CLIENT REPLY (with this `mode`) and RESET said so far."""
        if role is Role.REPLY:
            return self._switched(mode)
        if role is Role.RESET:
            self._wanted = _EVERYTHING
        wanted = self._wanted
        if wanted == _NOT_THE_NEXT:
            self._wanted = _EVERYTHING
        return wanted == _EVERYTHING and role is not Role.UNANSWERED

    def _switched(self, mode: str) -> bool:
        """CLIENT REPLY ON is answered, OFF and SKIP are not, anything else is an error."""
        if mode == "ON":
            self._wanted = _EVERYTHING
        elif mode == "OFF":
            self._wanted = _NOTHING
        elif mode == "SKIP" and self._wanted != _NOTHING:
            self._wanted = _NOT_THE_NEXT
            return False
        return self._wanted == _EVERYTHING


PROTOCOL = Protocol(
    name="redis",
    title="Redis (RESP2, RESP3, inline commands)",
    specification="https://redis.io/docs/latest/develop/reference/protocol-spec/",
    parser=RedisParser,
    recognise=start.recognise,
    pairing=Pairing.FIFO,
    capture=Capture.FULL,
    ports=(6379, 6380, 26379),
    hints=("valkey", "resp", "keydb"),
    attributes=(
        "clovisor.redis.subcommand",
        "db.namespace",
        "db.operation.batch.size",
        "db.operation.name",
        "db.query.text",
        "db.response.status_code",
        "db.system.name",
        "error.type",
    ),
    limits={
        "bytes of an inline command": requests.MAX_INLINE,
        "bytes of an argument that are kept": requests.MAX_ARGUMENT,
        "characters of a query text": requests.MAX_QUERY,
        "streamed values within each other": resp.MAX_DEPTH,
        "commands whose answer matters that wait for it": connection.MAX_MARKS,
    },
)
