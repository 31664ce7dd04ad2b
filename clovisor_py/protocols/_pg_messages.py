"""Messages of PostgreSQL's protocol 3: their types, how much of each is worth reading, and what that says.

Each message but the first of a client is a type byte, a length (which counts itself, not the type) and a body. Bodies can
have a gigabyte; `CLIENT_MESSAGES` and `SERVER_MESSAGES` say of each type how many bytes of its body the parser reads before
it steps over the rest, and how long it may be at all. What is read here is total: a body that breaks off or makes no sense
gives empty answers, never an exception.

Formats: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols._sql import MAX_STATEMENT

HEADER: Final = Struct(">BI")
"""Type and length of a message."""
HEADER_BYTES: Final = HEADER.size

# Client only, both, server only: a type's meaning depends on who sends it.
QUERY, PARSE, BIND, CALL, TERMINATE, PASSWORD, COPY_FAIL = b"QPBFXpf"
DESCRIBE, EXECUTE, CLOSE, SYNC, FLUSH = b"DECSH"
COPY_DATA, COPY_DONE = b"dc"
DATA_ROW, ERROR, COMPLETE, PARAMETER, COPY_OUT = b"DECSH"
READY, ROWS, COPY_IN, COPY_BOTH, NOTICE, NOTIFICATION, AUTHENTICATION, KEY = b"ZTGWNARK"
PARSED, BOUND, CLOSED, NO_ROWS, PARAMETERS, SUSPENDED, EMPTY, RESULT, VERSION = b"123ntsIVv"

MAX_NAME_BYTES: Final = 256
"""Bytes of the name of a prepared statement or portal (the server's own names have 63); a longer one is not remembered."""
MAX_FAILURE: Final = 1024
"""Bytes of an error that are read: severity and SQLSTATE are its first fields."""
MAX_TAG: Final = 64
"""Bytes of a command tag, as the server has it (COMPLETION_TAG_BUFSIZE)."""
MAX_STARTUP: Final = 10_000
"""Bytes of a startup packet, as the server has it (MAX_STARTUP_PACKET_LENGTH)."""
MAX_LONG: Final = 0x3FFF_FFFF
"""Length of a message, as the server has it (PQ_LARGE_MESSAGE_LIMIT, and one gigabyte of a row)."""
MAX_SHORT: Final = 64 * 1024
"""Length of a message of a type that is never long: Kerberos tickets are the longest."""

Bounds = dict[int, tuple[int, int]]
"""Type to bytes of the body that are read, and greatest length."""

CLIENT_MESSAGES: Final[Bounds] = {
    QUERY: (MAX_STATEMENT + 1, MAX_LONG),
    PARSE: (MAX_NAME_BYTES + MAX_STATEMENT + 2, MAX_LONG),
    BIND: (2 * MAX_NAME_BYTES + 2, MAX_LONG),
    EXECUTE: (MAX_NAME_BYTES + 1, MAX_SHORT),
    DESCRIBE: (MAX_NAME_BYTES + 2, MAX_SHORT),
    CLOSE: (MAX_NAME_BYTES + 2, MAX_SHORT),
    SYNC: (0, 4),
    FLUSH: (0, 4),
    TERMINATE: (0, 4),
    COPY_DATA: (0, MAX_LONG),
    COPY_DONE: (0, 4),
    COPY_FAIL: (0, MAX_SHORT),
    PASSWORD: (0, MAX_SHORT),
    CALL: (4, MAX_LONG),
}
SERVER_MESSAGES: Final[Bounds] = {
    COMPLETE: (MAX_TAG, MAX_TAG + 5),
    READY: (1, 5),
    ERROR: (MAX_FAILURE, MAX_LONG),
    NOTIFICATION: (4 + MAX_NAME_BYTES, MAX_LONG),
    NOTICE: (0, MAX_LONG),
    ROWS: (0, MAX_LONG),
    RESULT: (0, MAX_LONG),
    COPY_OUT: (0, MAX_SHORT),
    COPY_IN: (0, MAX_SHORT),
    COPY_BOTH: (0, MAX_SHORT),
    PARAMETERS: (0, MAX_LONG),
    PARAMETER: (0, MAX_SHORT),
    AUTHENTICATION: (0, MAX_SHORT),
    VERSION: (0, MAX_SHORT),
    KEY: (0, 4 + 4 + 256),
    **dict.fromkeys((COPY_DONE, PARSED, BOUND, CLOSED, NO_ROWS, SUSPENDED, EMPTY), (0, 4)),
}
"""All but DATA_ROW and COPY_DATA, of which nothing is read: they have a loop of their own."""

UNKNOWN: Final = (0, 0)
"""For a type that does not exist: no length will do."""

CANCEL_REQUEST, SSL_REQUEST, GSS_REQUEST = (1234 << 16 | code for code in (5678, 5679, 5680))
"""What stands in place of a version in the first packet of a client."""
MAJOR: Final = 3
NO_CODE: Final = "unknown"
"""What stands for the SQLSTATE of an error that has none, or none that was seen."""

_TAG = re.compile(rb"([A-Z][A-Z_]{1,24})(?: [A-Z]+)*(?: [0-9]+(?= ))?(?: ([0-9]{1,18}))?")
_SQLSTATE = re.compile(rb"[0-9A-Z]{5}")
_ENDS: Final = frozenset((b"FATAL", b"PANIC"))


@dataclass(frozen=True, slots=True)
class Failure:
    """An ErrorResponse. `fatal`: the server ends the connection, so that no ReadyForQuery follows."""

    code: str
    fatal: bool
    text: str


def run(data: bytes | bytearray, pos: int, kind: int) -> tuple[int, int]:
    """Step over messages of one type in a row: where the next begins (maybe beyond the data), and how many they were.

    The hot loop of long results. Raises ProtocolError for a length that none has.
    """
    unpack, last, count = HEADER.unpack_from, len(data) - HEADER_BYTES, 0
    while pos <= last:
        found, length = unpack(data, pos)
        if found != kind:
            break
        if not 4 <= length <= MAX_LONG:
            raise ProtocolError("not PostgreSQL: a row of a length that none has.")
        pos += length + 1
        count += 1
    return pos, count


def string(data: bytes | bytearray, start: int, end: int) -> bytes | None:
    """The string that begins at `start` and whose NUL comes before `end`, or None."""
    if start < end and start < len(data) and not data[start]:
        return b""  # the unnamed statement or portal, as most are
    at = data.find(b"\0", start, end)
    return bytes(data[start:at]) if at >= 0 else None


def pairs(body: bytes) -> dict[str, str]:
    """The parameters of a startup packet, name to value."""
    words = body.decode("utf-8", "replace").split("\0")
    return dict(zip(words[::2], words[1::2], strict=False))


def failure(body: bytes) -> Failure:
    """Read the first MAX_FAILURE bytes of an ErrorResponse: fields of a letter and a string."""
    fields = {part[:1]: part[1:] for part in body.split(b"\0")}
    code = fields.get(b"C", b"")
    severity = fields.get(b"V", fields.get(b"S", b""))  # S may be in any language; V is not there before PostgreSQL 9.6
    return Failure(
        code.decode() if _SQLSTATE.fullmatch(code) else NO_CODE,
        severity in _ENDS,
        fields.get(b"M", b"").decode("utf-8", "replace"),
    )


@lru_cache(maxsize=512)
def tag(body: bytes) -> tuple[str, int]:
    """The verb of a command tag, and its number of rows, or -1: `INSERT 0 5`, `SELECT 2`, `CREATE TABLE`."""
    found = _TAG.match(body)
    if found is None:
        return "", -1
    return found[1].decode(), int(found[2]) if found[2] else -1
