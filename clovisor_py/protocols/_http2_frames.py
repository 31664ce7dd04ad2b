"""Frames of HTTP/2: their header, what is one, and where in bytes of unknown alignment one begins (RFC 9113, 4 and 6).

A frame header has no magic. What tells frames from other bytes is that each says where the next one is: a chain of frames
that all are what their type demands is evidence, a single one hardly. Each frame brings a weight, by how little of it could
be chance (a PING has nine fixed bytes); a chain counts when its weight is enough and nothing contradicts it.

Who sent them only a header block tells: a request begins with `:method` or its kin, a response with `:status`, and the static
table names both by number.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols._api import Evidence

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (RFC 9113, 3.4)."""

HEADER: Final = struct.Struct(">HBBBI")
"""Length (its upper 16 bits, its lower 8), type, flags, stream (31 bits)."""
HEADER_SIZE: Final = 9
STREAM_MASK: Final = 0x7FFF_FFFF

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

ERRORS: Final = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
"""By code (RFC 9113, 7)."""
UNKNOWN_ERROR: Final = "UNKNOWN_ERROR"
"""Any other code; spelled out it would be a status with four billion values."""

SIZES: Final = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
"""Types whose payload has one size only."""
USUAL_FRAME: Final = 16 * 1024
"""Bytes of a payload that everybody must take; larger ones need a setting that nobody changes, except for DATA."""
LARGEST_DATA: Final = 4 * 1024 * 1024
"""Bytes of DATA that are believed without having seen the settings: what gRPC's C core offers."""

_FLAGS: Final = (0x09, 0x2D, 0x00, 0x00, 0x01, 0x0C, 0x01, 0x00, 0x00, 0x04)
"""Flags that a type has."""
_BLOCKS: Final = frozenset((HEADERS, PUSH_PROMISE, CONTINUATION))
"""Types that a header block is made of."""
_CONNECTION: Final = frozenset((SETTINGS, PING, GOAWAY))
"""Types that belong to the connection (stream 0); WINDOW_UPDATE is of either kind, the others belong to a stream."""
_MAX_SETTING: Final = 0x20
"""Identifiers of usual settings; RFC 9113 has six, its neighbours a few more."""
_MAX_STREAM: Final = 1 << 26
"""Streams that a guess believes: a client that opens a hundred a second takes four days to get there."""

_BLOCK: Final = 3
"""Weight of a header block that begins as one must, beyond its frame's."""
_ENOUGH: Final = 3
"""Weight of a chain that is found anywhere."""
_MAX_CANDIDATES: Final = 64
"""Places in one piece of bytes that are followed to the end of the chain that may begin there."""
_MAX_CHAIN: Final = 64
"""Frames of a chain that are looked at; one that goes on longer is no accident."""

_CANDIDATE = re.compile(rb"(?s)(?=\x00[\x00-\x40].[\x00-\x09][\x00-\x2d][\x00-\x03])(?!\x00{6})")
"""The first bytes of a frame that `_fits`, for searching; zeros are no frame, and binary data is full of them."""

_REQUEST_FIELDS: Final = range(1, 8)
_RESPONSE_FIELDS: Final = range(8, 15)
_STATIC: Final = 61
_SHORTEST_REQUEST: Final = 3
"""Bytes of the shortest header block that asks: method, scheme and path by number."""
_MAX_SCANNED: Final = 8
"""Unknown entries at the beginning of a block that are passed in search of one that tells who sent it."""
_LONG: Final = 0x7F
"""A string's length that does not fit into its first byte."""
_NAMES: Final = {
    **dict.fromkeys((b":path", b":method", b":scheme", b":authority", b"te", b"grpc-timeout"), Evidence.REQUEST),
    **dict.fromkeys(
        map(bytes.fromhex, ("b958d33f", "b9495339e4", "b8824e5a4b", "b83b5339ec327d7f", "497f", "9acac8b24d494f6a7f")),
        Evidence.REQUEST,
    ),
    **dict.fromkeys((b":status", b"grpc-status", b"grpc-message"), Evidence.RESPONSE),
    **dict.fromkeys(map(bytes.fromhex, ("b8848d36a3", "9acac8b21234da8f", "9acac8b5254207317f")), Evidence.RESPONSE),
}
"""Names that tell who sent them, plain and in Huffman's code. gRPC's C core spells them out even where a number would do."""
_NONE: Final = (-1, Evidence.NO)


def error_name(code: int) -> str:
    return ERRORS[code] if code < len(ERRORS) else UNKNOWN_ERROR


def unwrap(kind: int, flags: int, payload: bytes) -> tuple[bytes, int]:
    """The part of a header block in a frame, without padding and priority, and the stream that it promises (0: none).

    Raises ProtocolError where there is less than that.
    """
    at = pad = promised = 0
    if kind == CONTINUATION:
        return payload, 0
    if flags & PADDED and payload:
        at, pad = 1, payload[0]
    if kind == PUSH_PROMISE:
        promised = int.from_bytes(payload[at : at + 4], "big") & STREAM_MASK
        at += 4
    elif flags & HAS_PRIORITY:
        at += 5
    if at + pad > len(payload):
        raise ProtocolError("not HTTP/2: headers shorter than what comes with them.")
    return payload[at : len(payload) - pad], promised


def recognise(data: bytes) -> Evidence:
    """The preface is a client's; later in a connection, a chain of frames with a header block in it tells who sent it."""
    if data[:1] == PREFACE[:1]:
        if data.startswith(PREFACE):
            return Evidence.REQUEST
        return Evidence.MORE if PREFACE.startswith(data) else Evidence.NO
    return _chain(data, 0, USUAL_FRAME)[1]


def find(data: bytes | bytearray) -> int | None:
    """Offset of the first frame in bytes that may begin inside of one, or None. Linear: few places are followed."""
    raw = bytes(data)
    if raw.startswith(PREFACE):
        return 0
    if _chain(raw, 0, LARGEST_DATA)[0] > 0:  # the usual case: a segment begins with a frame
        return 0
    for tried, found in enumerate(_CANDIDATE.finditer(raw, 1)):
        if tried >= _MAX_CANDIDATES:
            break
        if _chain(raw, found.start(), USUAL_FRAME)[0] >= _ENOUGH:
            return found.start()
    return None


def find_on(data: bytes | bytearray, streams: Iterable[int]) -> int | None:
    """Offset of the first frame on one of these streams, known to be open; or None. Linear, as `find`.

    A frame that names such a stream is no accident even if it is alone, as it is in a piece of a long body.
    """
    raw = bytes(data)
    best = len(raw)
    for stream in streams:
        named, found = stream.to_bytes(4, "big"), 0
        for _ in range(_MAX_CANDIDATES):
            found = raw.find(named, found + 1, best + HEADER_SIZE)
            at = found + 4 - HEADER_SIZE
            if found < 0 or at >= best:
                break
            if at >= 0 and _chain(raw, at, USUAL_FRAME)[0] > 0:
                best = at
                break
    return best if best < len(raw) else None


def _chain(data: bytes, at: int, largest: int) -> tuple[int, Evidence]:
    """Weight of the frames from `at` on, the last of which may be cut short, and who sent them (NO: they are none)."""
    weight, sender, block = 0, Evidence.MORE, -1
    for _ in range(_MAX_CHAIN):
        added, says, end, block = _link(data, at, largest, block)
        if added < 0 or (not added and weight < _ENOUGH and end < len(data)):
            return _NONE
        weight += added
        if says is not Evidence.MORE:
            sender, largest = says, LARGEST_DATA
        if end >= len(data):
            break
        at = end
    return weight, sender


def _link(data: bytes, at: int, largest: int, block: int) -> tuple[int, Evidence, int, int]:
    """Weight of the frame at `at` (-1: it is none), who sent it, where it ends, and the stream whose header block goes on.

    A type of an extension's, or less than a header, weighs nothing. `block` is that of the frame before, -1: nobody knows.
    """
    if len(data) - at < HEADER_SIZE:
        return 0 if _half_fits(data[at:], largest) else -1, Evidence.MORE, len(data), 0
    high, low, kind, flags, stream = HEADER.unpack_from(data, at)
    size = high << 8 | low
    payload, end = at + HEADER_SIZE, at + HEADER_SIZE + size
    seen = min(end, len(data))
    if (
        not _fits(kind, size, flags, stream, largest)
        or (kind == SETTINGS and not _settings_fit(data, payload, seen))
        or (block >= 0 and block != (stream if kind == CONTINUATION else 0))
    ):
        return -1, Evidence.NO, end, 0
    weight, says = _weight(kind, size), Evidence.MORE
    if kind == HEADERS:
        says = _sender(data, payload, seen, flags)
        if says is Evidence.NO or (says is Evidence.REQUEST and (not stream & 1 or size < _SHORTEST_REQUEST)):
            return -1, Evidence.NO, end, 0
        if seen < end or not flags & END_HEADERS:
            says = Evidence.MORE
        weight += 0 if says is Evidence.MORE else _BLOCK
    return weight, says, end, stream if kind in _BLOCKS and not flags & END_HEADERS else 0


def _fits(kind: int, size: int, flags: int, stream: int, largest: int) -> bool:
    """Whether a header could be one, told from nothing else."""
    if kind > CONTINUATION:
        return size <= USUAL_FRAME
    if flags & ~_FLAGS[kind] or stream >= _MAX_STREAM:
        return False
    if kind in _CONNECTION:
        if stream:
            return False
    elif not stream and kind != WINDOW_UPDATE:
        return False
    if kind == SETTINGS:
        return size % 6 == 0 and size <= 6 * _MAX_SETTING and not (flags and size)
    if kind == GOAWAY:
        return 8 <= size <= USUAL_FRAME
    if kind in SIZES:
        return size == SIZES[kind]
    if kind == DATA:
        return size <= largest and (size > 0 or flags == END_STREAM)
    return 0 < size <= USUAL_FRAME


def _weight(kind: int, size: int) -> int:
    """How little of a header that fits could be chance."""
    if kind > CONTINUATION:
        return 0
    if kind in _CONNECTION:
        return 3 if size else 1
    return 2 if kind in SIZES else 1


def _half_fits(rest: bytes, largest: int) -> bool:
    """Whether less than a header could become one."""
    if rest and rest[0] > largest >> 16:
        return False
    if len(rest) > 1 and rest[0] << 8 | rest[1] > largest >> 8:
        return False
    return len(rest) <= 3 or (rest[3] <= CONTINUATION and (len(rest) == 4 or not rest[4] & ~_FLAGS[rest[3]]))


def _settings_fit(data: bytes, at: int, end: int) -> bool:
    """Extensions have identifiers of their own, but nobody sends nothing else."""
    names = [data[one] << 8 | data[one + 1] for one in range(at, end - 1, 6)]
    return all(names) and (not names or min(names) <= _MAX_SETTING)


def _sender(data: bytes, at: int, end: int, flags: int) -> Evidence:
    """Who sent the header block in `data[at:end]`; MORE where it does not say, NO where it cannot be one."""
    at += bool(flags & PADDED) + (5 if flags & HAS_PRIORITY else 0)
    while at < end and data[at] & 0xE0 == 0x20:  # a new size of the table
        at += 1
        if data[at - 1] == 0x3F:
            while at < end and data[at] >= 0x80:
                at += 1
            at += 1
    for _ in range(_MAX_SCANNED):
        if at >= end:
            return Evidence.MORE
        byte = data[at]
        index = byte & 0x7F if byte >= 0x80 else byte & 0x3F if byte >= 0x40 else byte & 0x0F
        if index in _REQUEST_FIELDS:
            return Evidence.REQUEST
        if index in _RESPONSE_FIELDS:
            return Evidence.RESPONSE
        if byte < 0x80 and index == 0:
            says, at = _spelled(data, at, end)
            if says is not Evidence.MORE:
                return says
            continue
        if byte < 0x80:  # any other name, and a value
            return Evidence.MORE
        if index == 0:
            return Evidence.NO
        if index <= _STATIC or index == 0x7F:
            return Evidence.MORE
        at += 1
    return Evidence.MORE


def _spelled(data: bytes, at: int, end: int) -> tuple[Evidence, int]:
    """What a field whose name is spelled out at `at` tells of its sender, and where the next one begins (or `end`)."""
    at += 1
    if at >= end:
        return Evidence.MORE, end
    size = data[at] & 0x7F
    if not size:
        return Evidence.NO, end
    says = _NAMES.get(bytes(data[at + 1 : at + 1 + size]), Evidence.MORE)
    at += 1 + size
    if size == _LONG or at >= end or data[at] & 0x7F == _LONG:
        return says, end
    return says, at + 1 + (data[at] & 0x7F)
