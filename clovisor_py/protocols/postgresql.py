"""PostgreSQL's frontend/backend protocol 3.0 to 3.2: one session a statement.

`_pg_asking` reads the client's direction, `_pg_answering` the server's; what they share is `_pg_calls`, the requests that
wait. A simple query is a session (with several statements it is one still), and so is each Execute of the extended protocol,
from its Parse or Bind on; a Parse without an Execute (PREPARE), a login (connect), a request for encryption, and what NOTIFY
sends. Rows, parameters and the data of a COPY are stepped over; passwords are not even looked at.

Of an Execute whose statement was prepared before anybody looked, the verb is taken from the answer; its text stays unknown,
and attribute `clovisor.db.statement` says so.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.model.message import CLIENT, SERVER, Message
from clovisor_py.protocols import _pg_answering as answering
from clovisor_py.protocols import _pg_asking as asking
from clovisor_py.protocols import _pg_evidence as evidence
from clovisor_py.protocols import _pg_messages as pg
from clovisor_py.protocols import _pg_names, _sql
from clovisor_py.protocols._api import Capture, Evidence, Pairing, Protocol, Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._pg_calls import MAX_WAITING, Calls

_LOOK: Final = 4096
"""Bytes of a new turn that show whether a message begins with it."""


class PostgresParser:
    """One connection, both directions."""

    __slots__ = ("_answering", "_asking", "_parse")

    def __init__(self, setup: Setup) -> None:
        calls = Calls()
        self._asking = asking.Asking(setup, calls)
        self._answering = answering.Answering(setup, calls)
        self._parse = (self._asking.parse, self._answering.parse)

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        return self._parse[sender](cursor)

    def gap(self, sender: int, _size: int) -> bool:
        return self._half(sender).gap()

    def end(self, sender: int) -> Message | None:
        return self._half(sender).end()

    def resync(self, sender: int, data: bytes | bytearray) -> int | None:
        """A message begins with a turn or nowhere: behind bytes that make no sense, whose answer is whose is unknown."""
        self._half(sender).reset()
        if not data:
            return None
        look = bytes(data[:_LOOK])
        if look[0] == 0:
            return 0 if sender == CLIENT and evidence.recognise(look) is not Evidence.NO else None
        worth = evidence.points(sender, look)
        rows = sender == SERVER and look[0] in (pg.DATA_ROW, pg.COPY_DATA)
        return 0 if worth > 0 or (worth == 0 and not rows) else None

    def _half(self, sender: int) -> asking.Asking | answering.Answering:
        return self._asking if sender == CLIENT else self._answering


PROTOCOL = Protocol(
    name="postgresql",
    title="PostgreSQL protocol 3",
    specification="https://www.postgresql.org/docs/current/protocol.html",
    parser=PostgresParser,
    recognise=evidence.recognise,
    pairing=Pairing.FIFO,
    capture=Capture.FULL,
    ports=(5432, 6432),
    hints=("postgres", "pgsql", "pg"),
    attributes=(
        "db.system.name",
        "db.namespace",
        *_sql.ATTRIBUTES,
        "db.operation.batch.size",
        "db.response.status_code",
        "db.response.returned_rows",
        "error.type",
        answering.AFFECTED_ROWS,
        answering.ERROR_MESSAGE,
        asking.STATEMENT,
        asking.USER,
    ),
    limits={
        "bytes of a statement that are read": _sql.MAX_STATEMENT,
        "prepared statements remembered for a connection": _pg_names.MAX_STATEMENTS,
        "portals remembered for a connection": _pg_names.MAX_PORTALS,
        "bytes of the name of one": pg.MAX_NAME_BYTES,
        "bytes of an error that are read": pg.MAX_FAILURE,
        "bytes of a startup packet": pg.MAX_STARTUP,
        "requests followed that wait for an answer": MAX_WAITING,
    },
)
