"""Is this TLS? A hello is at its eleventh byte; anything else only where records follow on one another.

In the middle of a connection all is encrypted, and nothing tells who sent it. What is first seen of a connection that was
open before is most often a request, because connections rest between an answer and the next request.
"""

from __future__ import annotations

import struct
from typing import Final

from clovisor_py.protocols import _tls_tables as tables
from clovisor_py.protocols._api import Evidence

HEADER: Final = struct.Struct(">BBBH")
SURE: Final = 11
"""Bytes of a hello up to its version: what random bytes are not in a hundred lives."""
CHAINED: Final = 2
"""Whole records that are believed where a third is not whole."""
LEAST_DATA: Final = 9
"""Bytes of the shortest encrypted record: its type and the shortest of all tags."""
_LENGTHS = {
    tables.CHANGE_CIPHER_SPEC: (1, 1),
    tables.ALERT: (1, tables.MAX_RECORD),
    tables.HANDSHAKE: (1, tables.MAX_RECORD),
    tables.DATA: (LEAST_DATA, tables.MAX_RECORD),
}
"""The least and the most bytes of a record."""
_NONE = (1, 0)
OLD_HEADER: Final = 11
"""Bytes of a hello of SSL 2 up to its ciphers: length, type, version, and three lengths."""
_OLD = struct.Struct(">HBBBHHH")
_OLD_MARK = 0x8000
MAX_OLD: Final = 1024
"""Bytes of a hello of SSL 2; they have 50 to 200."""


def recognise(data: bytes) -> Evidence:
    """As `Protocol.recognise`."""
    if data and data[0] & 0x80:
        return _old(data)
    pos = records = 0
    sender = Evidence.MORE
    while pos < len(data):
        if not plausible(data, pos):
            return Evidence.NO
        if len(data) - pos < tables.HEADER:
            break
        if not records:
            sender = _sender(data)
            if sender is not Evidence.MORE or data[0] == tables.HANDSHAKE:
                return sender
        pos += tables.HEADER + (data[pos + 3] << 8 | data[pos + 4])
        records += pos <= len(data)
    return Evidence.EITHER if records and (pos == len(data) or records >= CHAINED) else Evidence.MORE


def plausible(data: bytes | bytearray, pos: int) -> bool:
    """Whether a record can begin at `pos`, as far as its header is there."""
    if len(data) - pos < tables.HEADER:
        header = data[pos : pos + tables.HEADER]
        return header[0] in tables.RECORDS and header[1:2] in (b"", b"\3") and header[2:3] <= b"\4"
    kind, major, minor, length = HEADER.unpack_from(data, pos)
    least, most = _LENGTHS.get(kind, _NONE)
    return bool(major == 3 and minor <= tables.MAX_MINOR and least <= length <= most)


def old_size(data: bytes | bytearray, pos: int) -> int:
    """The size of the SSL 2 hello that begins at `pos`, if its first 11 bytes are those of one, else 0."""
    mark, kind, major, minor, ciphers, session, challenge = _OLD.unpack_from(data, pos)
    size = mark & ~_OLD_MARK
    fits = size == OLD_HEADER - 2 + ciphers + session + challenge
    usual = ciphers and not ciphers % 3 and session in (0, 16) and 16 <= challenge <= 32
    known = mark & _OLD_MARK and kind == tables.CLIENT_HELLO and major == 3 and minor <= tables.MAX_MINOR
    return size + 2 if known and fits and usual and size <= MAX_OLD else 0


def _old(data: bytes) -> Evidence:
    if len(data) >= OLD_HEADER:
        return Evidence.REQUEST if old_size(data, 0) else Evidence.NO
    begins = data[:1] <= b"\x83" and data[2:4] in (b"", b"\1", b"\1\3")
    return Evidence.MORE if begins else Evidence.NO


def _sender(data: bytes) -> Evidence:
    """Who sent the first record; MORE where that cannot be told, or not yet."""
    if data[0] == tables.HANDSHAKE:
        return _handshake(data)
    if data[0] == tables.ALERT and data[3:5] == b"\0\2":
        if len(data) < 7:
            return Evidence.MORE
        known = data[5] in (tables.WARNING, tables.FATAL) and data[6] in tables.ALERTS
        return Evidence.NO if not known else Evidence.RESPONSE if len(data) == 7 else Evidence.MORE
    return Evidence.MORE


def _handshake(data: bytes) -> Evidence:
    """A handshake message is told by its own header, inside the record's."""
    length = data[3] << 8 | data[4]
    start = data[5:SURE] if length >= SURE - tables.HEADER else _pieced(data)
    if start[1:2] > b"\0":
        return Evidence.NO  # longer than any, or encrypted
    if len(start) < SURE - 5:
        return Evidence.MORE
    kind, size = start[0], start[2] << 8 | start[3]
    if kind in (tables.CLIENT_HELLO, tables.SERVER_HELLO):
        fits = size >= 38 and tables.known_version(start[4] << 8 | start[5]) >> 8 == 3
        return Evidence.NO if not fits else Evidence.REQUEST if kind == tables.CLIENT_HELLO else Evidence.RESPONSE
    if size + 4 > length:
        return Evidence.NO
    if kind in tables.SAID_BY_SERVERS:
        return Evidence.RESPONSE
    return Evidence.REQUEST if kind in tables.SAID_BY_CLIENTS else Evidence.NO


def _pieced(data: bytes) -> bytes:
    """As many bytes as are looked at of a handshake message whose first record is shorter than they are."""
    start = b""
    pos = 0
    while len(start) < SURE - tables.HEADER and len(data) - pos > tables.HEADER and data[pos] == tables.HANDSHAKE:
        behind = pos + tables.HEADER + (data[pos + 3] << 8 | data[pos + 4])
        start += data[pos + tables.HEADER : behind]
        pos = behind
    return start[: SURE - tables.HEADER]
