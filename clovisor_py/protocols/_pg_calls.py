"""What a PostgreSQL client waits for: one byte for each request that is not answered yet, shared by both directions.

An answer cannot be delimited without its question. A simple query's ends with ReadyForQuery; in the extended protocol each
of Parse, Bind, Describe, Close and Execute has an answer of its own, and a ReadyForQuery comes for each Sync only, however
many Executes were sent before it. So each request leaves a code: how many answers it waits for, and whether a Sync followed.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.model.message import AttributeValue

UNTIL_READY: Final = 0
"""Answered by all that comes, up to ReadyForQuery."""
ANSWERS: Final = 0x1F
"""Mask: so many messages that end something are the answer."""
MANY: Final = 0x1F
"""More of them than a code can count: the answer ends with that to the Execute."""
SYNCED: Final = 0x20
"""A Sync follows: ReadyForQuery belongs to the answer."""
BARE: Final = 0x40
"""Nothing but a Sync, or the end of an answer that was returned already: no session."""
ALONE: Final = BARE | SYNCED
LOGIN: Final = 0x80
"""A startup packet: ReadyForQuery ends it, and so does any error."""
ENCRYPTION: Final = 0x81
"""An SSLRequest or GSSENCRequest: one byte answers it."""
MAX_WAITING: Final = 16 * 1024
"""Requests whose codes are kept. More than any client pipelines; reached where the responses are never seen, and then the
oldest matter least. The engine's own queue is shorter, and counts."""


class Calls:
    """The requests of one connection that wait, oldest first, and what all its sessions have in common."""

    __slots__ = ("base", "spoken", "waiting")

    def __init__(self) -> None:
        self.waiting = bytearray()
        self.spoken = False
        """A request came since this was last set to False."""
        self.base: dict[str, AttributeValue] = {"db.system.name": "postgresql"}
        """Attributes of every session."""

    def ask(self, code: int) -> None:
        """A request was sent."""
        self.waiting.append(code)
        self.spoken = True
        if len(self.waiting) > MAX_WAITING:
            del self.waiting[:1]

    def sync(self) -> None:
        """A Sync was sent: it belongs to the newest request, if that is of the extended protocol and has none yet."""
        waiting = self.waiting
        if waiting and waiting[-1] & ANSWERS and waiting[-1] < SYNCED:
            waiting[-1] |= SYNCED
        else:
            self.ask(ALONE)

    def forget_sync(self) -> None:
        """The oldest asks for rows of a COPY: the server ignores the Sync that the client sent before it knew."""
        if self.waiting and self.waiting[0] < BARE:
            self.waiting[0] &= ANSWERS
