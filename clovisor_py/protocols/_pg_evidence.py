"""Whether bytes are PostgreSQL's protocol 3, and who sent them: at the beginning of a connection, or at any message in it.

A client's first packet is unmistakable. All other messages begin with a letter and a length, which says little; so each
message that is whole is checked against its format to the last byte, and is worth as many points as it could not be chance
or somebody else's. ENOUGH points, in messages that follow each other without a byte between them, are a yes. Fewer ask for
more bytes, and so does a message that breaks off: another protocol's length may look like ours until its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.protocols import _pg_messages as pg
from clovisor_py.protocols._api import Evidence
from clovisor_py.protocols._sql_target import VERBS

ENOUGH: Final = 3
WRONG: Final = -1
"""Instead of points: no such message."""
MAX_PLAUSIBLE: Final = 0xFF_FFFF
"""Length of a message that is believed without more: 16 MiB. Beyond it, its bytes are rather text or something else."""
MAX_COLUMNS: Final = 1664
"""Columns of a result, as the server has it (MaxTupleAttributeNumber)."""
_MAX_WALK: Final = 16
"""Messages that are looked at."""

_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1f\x7f]*")
_LETTER = re.compile(rb"[A-Za-z]")
_NAME = re.compile(rb"[^\x00-\x1f\x7f]*")
_TAG = re.compile(b"(?:" + "|".join(sorted(VERBS)).encode() + rb")(?: [A-Z]+)*(?: [0-9]+){0,2}")
_FIELD = re.compile(rb"[A-Za-z][^\0]*")
_KEY = re.compile(rb"[a-z_][a-z_0-9.]+", re.IGNORECASE)

_Check = Callable[[bytes], int]


def recognise(data: bytes) -> Evidence:
    """A packet that opens a connection, or a chain of messages of either end. Total, linear."""
    if not data:
        return Evidence.MORE
    if data[0] == 0:
        return _opening(data)
    if data[:1] in (b"N", b"S", b"G") and (len(data) == 1 or data[1:2] == b"R"):
        data = data[1:]  # a byte that answers an SSLRequest
        if not data:
            return Evidence.MORE
    asked, answered = points(CLIENT, data), points(SERVER, data)
    if asked == answered:
        return Evidence.NO if asked == WRONG else Evidence.MORE
    if max(asked, answered) < ENOUGH:
        return Evidence.MORE
    return Evidence.REQUEST if asked > answered else Evidence.RESPONSE


def points(sender: int, data: bytes | bytearray) -> int:
    """What the messages of `sender` that `data` begins with are worth, or WRONG. The last one may break off."""
    checks = _CHECKS[sender]
    pos, size, total = 0, len(data), 0
    for _ in range(_MAX_WALK):
        if pos == size:
            break
        check = checks.get(data[pos])
        if check is None:
            return WRONG
        if size - pos < pg.HEADER_BYTES:
            break
        length = pg.HEADER.unpack_from(data, pos)[1]
        if not 4 <= length <= MAX_PLAUSIBLE:
            return WRONG
        end = pos + 1 + length
        if end > size:
            break
        worth = check(bytes(data[pos + pg.HEADER_BYTES : end]))
        if worth == WRONG:
            return WRONG
        total += worth
        pos = end
    return total


def _opening(data: bytes) -> Evidence:
    """A startup packet, or a request for encryption or cancellation."""
    if len(data) < 8:
        head = data[:4]
        plausible = len(head) < 4 or 8 <= int.from_bytes(head, "big") <= pg.MAX_STARTUP
        return Evidence.MORE if plausible and data[:2] == bytes(len(data[:2])) else Evidence.NO
    length, version = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    if version in (pg.SSL_REQUEST, pg.GSS_REQUEST):
        return Evidence.REQUEST if length == 8 else Evidence.NO
    if version == pg.CANCEL_REQUEST:
        return Evidence.REQUEST if 16 <= length <= 12 + 256 else Evidence.NO
    if version >> 16 != pg.MAJOR or not 9 <= length <= pg.MAX_STARTUP:
        return Evidence.NO
    return _parameters(data[8:length], len(data) >= length)


def _parameters(body: bytes, whole: bool) -> Evidence:
    """Names and values, of which one must be the user, and an empty name behind them."""
    words = body.split(b"\0")
    names = words[:-1:2] if not whole else words[:-2:2]
    if not all(_KEY.fullmatch(name) for name in names):
        return Evidence.NO
    if not whole:
        return Evidence.MORE
    return Evidence.REQUEST if body.endswith(b"\0") and not words[-2] and b"user" in names else Evidence.NO


def _query(body: bytes) -> int:
    text = body[:-1]
    if body[-1:] != b"\0" or not _TEXT.fullmatch(text):
        return WRONG
    return ENOUGH if _LETTER.search(text) else 0


def _strings(body: bytes, count: int) -> tuple[list[bytes], bytes] | None:
    """So many printable strings, and what follows them."""
    words = body.split(b"\0", count)
    if len(words) <= count or not all(_TEXT.fullmatch(word) for word in words[:count]):
        return None
    return words[:count], words[count]


def _parse(body: bytes) -> int:
    found = _strings(body, 2)
    if found is None:
        return WRONG
    (_, text), rest = found
    whole = len(rest) >= 2 and len(rest) == 2 + 4 * int.from_bytes(rest[:2], "big")
    return (ENOUGH if _LETTER.search(text) else 1) if whole else WRONG


def _bind(body: bytes) -> int:
    found = _strings(body, 2)
    if found is None:
        return WRONG
    rest = found[1]
    at = _after_formats(rest, 0)
    values = int.from_bytes(rest[at : at + 2], "big")
    at = _after_values(rest, at + 2, values)
    return 1 if _after_formats(rest, at) == len(rest) else WRONG


def _after_formats(data: bytes, at: int) -> int:
    return at + 2 + 2 * int.from_bytes(data[at : at + 2], "big") if at + 2 <= len(data) else len(data) + 1


def _after_values(data: bytes, at: int, count: int) -> int:
    """Behind `count` values, each a length (-1: NULL) and its bytes; beyond the end where they are not all there."""
    for _ in range(count):
        if at + 4 > len(data):
            return len(data) + 1
        length = int.from_bytes(data[at : at + 4], "big", signed=True)
        at += 4 + max(length, 0)
    return at


def _named(body: bytes) -> int:
    """Describe and Close: a kind and a name."""
    return 1 if body[:1] in (b"S", b"P") and body[-1:] == b"\0" and _NAME.fullmatch(body[:-1]) else WRONG


def _execute(body: bytes) -> int:
    return 1 if len(body) >= 5 and body[-5] == 0 and body[-4] < 0x80 and _NAME.fullmatch(body[:-5]) else WRONG


def _nothing(body: bytes) -> int:
    return WRONG if body else 1


def _anything(_body: bytes) -> int:
    return 0


def _password(body: bytes) -> int:
    return ENOUGH if body.startswith(b"SCRAM-SHA-256") else 0


def _authentication(body: bytes) -> int:
    code = int.from_bytes(body[:4], "big")
    if len(body) < 4 or code > 12:
        return WRONG
    return ENOUGH if code == 10 and b"SCRAM-" in body else 2


def _parameter(body: bytes) -> int:
    found = _strings(body, 2)
    return 2 if found is not None and not found[1] and _KEY.fullmatch(found[0][0]) else WRONG


def _key(body: bytes) -> int:
    return 1 if 8 <= len(body) <= 4 + 256 else WRONG


def _ready(body: bytes) -> int:
    return 2 if body in (b"I", b"T", b"E") else WRONG


def _complete(body: bytes) -> int:
    return ENOUGH if body[-1:] == b"\0" and _TAG.fullmatch(body[:-1]) else WRONG


def _failure(body: bytes) -> int:
    fields = body[:-2].split(b"\0")
    whole = body[-2:] == b"\0\0" and all(map(_FIELD.fullmatch, fields))
    return ENOUGH if whole and {b"S", b"C", b"M"} <= {part[:1] for part in fields} else WRONG


def _rows(body: bytes) -> int:
    count, at = int.from_bytes(body[:2], "big"), 2
    if len(body) < 2 or count > MAX_COLUMNS:
        return WRONG
    for _ in range(count):
        name = body.find(b"\0", at)
        if name < 0:
            return WRONG
        at = name + 1 + 18
    return WRONG if at != len(body) else ENOUGH if count else 1


def _row(body: bytes) -> int:
    count = int.from_bytes(body[:2], "big")
    if len(body) < 2 or count > MAX_COLUMNS or _after_values(body, 2, count) != len(body):
        return WRONG
    return 2 if count else 1


def _types(body: bytes) -> int:
    return 1 if len(body) >= 2 and len(body) == 2 + 4 * int.from_bytes(body[:2], "big") else WRONG


def _copy(body: bytes) -> int:
    return 1 if body[:1] in (b"\0", b"\1") and _after_formats(body, 1) == len(body) else WRONG


def _notification(body: bytes) -> int:
    found = _strings(body[4:], 2)
    return 2 if found is not None and not found[1] and found[0][0] else WRONG


_CLIENT_CHECKS: Final[dict[int, _Check]] = {
    pg.QUERY: _query,
    pg.PARSE: _parse,
    pg.BIND: _bind,
    pg.DESCRIBE: _named,
    pg.CLOSE: _named,
    pg.EXECUTE: _execute,
    **dict.fromkeys((pg.SYNC, pg.FLUSH, pg.TERMINATE, pg.COPY_DONE), _nothing),
    **dict.fromkeys((pg.COPY_DATA, pg.COPY_FAIL, pg.CALL), _anything),
    pg.PASSWORD: _password,
}
_SERVER_CHECKS: Final[dict[int, _Check]] = {
    pg.AUTHENTICATION: _authentication,
    pg.PARAMETER: _parameter,
    pg.KEY: _key,
    pg.READY: _ready,
    pg.COMPLETE: _complete,
    pg.ERROR: _failure,
    pg.NOTICE: _failure,
    pg.ROWS: _rows,
    pg.DATA_ROW: _row,
    pg.PARAMETERS: _types,
    **dict.fromkeys((pg.COPY_IN, pg.COPY_OUT, pg.COPY_BOTH), _copy),
    pg.NOTIFICATION: _notification,
    **dict.fromkeys(
        (pg.PARSED, pg.BOUND, pg.CLOSED, pg.NO_ROWS, pg.SUSPENDED, pg.EMPTY, pg.COPY_DONE),
        _nothing,
    ),
    **dict.fromkeys((pg.COPY_DATA, pg.RESULT, pg.VERSION), _anything),
}
_CHECKS: Final = (_CLIENT_CHECKS, _SERVER_CHECKS)
"""By sender."""
