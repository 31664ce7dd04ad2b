"""What begins a Kafka message, and what could: for telling the protocol, and for finding the way back after a loss.

A request shows itself: a sane size, an API and a version that exist, and a client id that is text; and its body has the
layout of that version, as far as it is there. A response has next to nothing of its own (a size and a number), so it is no
evidence alone, only no objection; except one to ApiVersions, the first of most connections, which is unlike anything else.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection
from itertools import islice
from typing import Final

from clovisor_py.protocols import _kafka_layout as layout
from clovisor_py.protocols._api import Evidence
from clovisor_py.protocols._kafka_reading import Misfit, Reading
from clovisor_py.protocols._kafka_schema import APIS
from clovisor_py.protocols._kafka_steps import MAX_TEXT

MAX_REQUEST: Final = 100 * 1024 * 1024
"""Bytes of a request that servers take by default (socket.request.max.bytes); text read as a size is far more."""
MAX_FIRST_RESPONSE: Final = 1 << 24
"""Size from which on bytes are no longer taken for a response that may be Kafka's."""
VERSIONS_AHEAD: Final = 4
"""Versions of an API that may have been added since this was written."""
MAX_SEARCHED: Final = 8
"""Requests, oldest first, whose response is looked for after a loss. A client has five in flight by default."""
ENOUGH: Final = 256
"""Bytes of a larger request that must fit. The first responses of a connection have small correlation ids, and begin like
requests to produce; their bodies do not go on like them."""
MIN_REQUEST: Final = 8
MIN_RESPONSE: Final = 6
"""A correlation id and an error code, or the like."""

_HEAD = struct.Struct(">ihhi")
_ANSWER = struct.Struct(">ii")
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,254}")
"""A client id that is believed: nobody's is longer, but letters of a text that are read as its length make it so."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
"""What Kafka lets topics be called."""
LEAD: Final = b"\x00\xff"
"""The first byte behind a correlation id: of a small number, of -1, or of no tagged fields."""
_API_VERSIONS = re.compile(
    rb"\x00[\x00-\xff]{3}[\x00-\x7f][\x00-\xff]{3}\x00\x00(?:\x00\x00\x00[\x01-\xff]|[\x02-\xff]\x01?)"
    rb"\x00\x00\x00[\x00-\x0f]\x00[\x03-\x1f]\x00?\x00\x01\x00[\x00-\x0f]\x00[\x04-\x2f]"
)
"""Size, correlation id, no error, a count, and the versions of Produce and Fetch."""
_NEXT = re.compile(
    rb"(?=[\x00-\x06][\x00-\xff]{3}\x00[\x00-\x7f]\x00[\x00-\x1f][\x00-\x7f][\x00-\xff]{3}\x00[\x01-\xff][\x20-\x7e])"
)
"""What a request in the middle of other bytes looks like: it must have a client id."""


def recognise(data: bytes) -> Evidence:
    """Whether `data`, the first bytes of one direction, are Kafka, and whose."""
    asked = request(data)
    if asked is Evidence.REQUEST:
        return asked
    answered = response(data)
    if answered is Evidence.RESPONSE:
        return answered
    return Evidence.MORE if Evidence.MORE in (asked, answered) else Evidence.NO


def request(data: bytes | bytearray, at: int = 0) -> Evidence:
    """Whether a request begins at `at`: REQUEST, NO, or MORE. Looks at no more than that request."""
    have = len(data) - at
    if have < _HEAD.size:
        return _half_head(bytes(data[at:]))
    size, key, version, correlation = _HEAD.unpack_from(data, at)
    if not (MIN_REQUEST <= size <= MAX_REQUEST and correlation >= 0 and _exists(key, version)):
        return Evidence.NO
    reading = Reading(layout.request(key, version), {})
    try:
        reading.walk(data, at + _HEAD.size, at + 4 + size)
    except Misfit:
        return Evidence.NO
    if reading.over and reading.whole and reading.program.exact and not reading.fits:
        return Evidence.NO
    if not (reading.step or reading.over):
        return _half_client(data, at + _HEAD.size)
    if reading.client and not _PRINTABLE.fullmatch(reading.client):
        return Evidence.NO
    if have < min(4 + size, ENOUGH):
        return Evidence.MORE
    names = (*reading.topics, *reading.groups, *reading.names)
    sure = reading.client or reading.fits or any(map(_NAME.fullmatch, names))
    return Evidence.REQUEST if sure else Evidence.MORE


def response(data: bytes | bytearray) -> Evidence:
    """Whether `data` may be responses: RESPONSE, NO, or MORE, which is as much as most can get."""
    if _API_VERSIONS.match(data):
        return Evidence.RESPONSE
    at, have = 0, len(data)
    while at + 4 <= have:
        size = int.from_bytes(data[at : at + 4], "big")
        if not MIN_RESPONSE <= size < MAX_FIRST_RESPONSE or (have > at + 4 and data[at + 4] > 0x7F):
            return Evidence.NO
        if have > at + 8 and data[at + 8] not in LEAD:
            return Evidence.NO
        at += 4 + size
    return Evidence.NO if at < have and data[at] else Evidence.MORE


def find_request(data: bytes | bytearray) -> int | None:
    """Offset of the first request in `data`, which should begin with one."""
    if request(data) is not Evidence.NO:
        return 0
    for found in _NEXT.finditer(data):
        at = found.start()
        size, key, version, correlation = _HEAD.unpack_from(data, at)
        client = data[at + 14 : at + 14 + data[at + 13]]
        if (
            size >= MIN_REQUEST + 2 + data[at + 13]
            and correlation >= 0
            and _exists(key, version)
            and _PRINTABLE.fullmatch(client.decode("latin-1"))
        ):
            return at
    return None


def find_response(data: bytes | bytearray, waiting: Collection[int]) -> int | None:
    """Offset of the first response in `data`, which should begin with one; `waiting`: correlation ids, oldest first."""
    begins = response(data)
    if begins is not Evidence.NO and (_answers(data, 0, waiting) or 4 + int.from_bytes(data[:4], "big") <= len(data)):
        return 0
    found = [at for at in (_find_answer(data, one, waiting) for one in islice(waiting, MAX_SEARCHED)) if at >= 0]
    return min(found, default=None if begins is Evidence.NO else 0)


def _find_answer(data: bytes | bytearray, correlation: int, waiting: Collection[int]) -> int:
    """Where the size before `correlation` is, or -1."""
    at = data.find(correlation.to_bytes(4, "big", signed=True), 4) - 4
    return at if at >= 0 and _answers(data, at, waiting) and data[at + 8 : at + 9] in (b"", b"\x00", b"\xff") else -1


def _answers(data: bytes | bytearray, at: int, waiting: Collection[int]) -> bool:
    """Whether a response to one of those begins at `at`."""
    if len(data) - at < _ANSWER.size:
        return False
    size, correlation = _ANSWER.unpack_from(data, at)
    return MIN_RESPONSE <= size <= MAX_REQUEST and correlation in waiting


def _exists(key: int, version: int) -> bool:
    api = APIS.get(key)
    return api is not None and 0 <= version <= api.newest + VERSIONS_AHEAD


def _half_head(head: bytes) -> Evidence:
    """Less than a head: NO as soon as it cannot become one."""
    if head[:1] > b"\x06" or (len(head) >= 4 and int.from_bytes(head[:4], "big") < MIN_REQUEST):
        return Evidence.NO
    if len(head) >= 6 and int.from_bytes(head[4:6], "big") not in APIS:
        return Evidence.NO
    if len(head) >= 8 and not _exists(int.from_bytes(head[4:6], "big"), int.from_bytes(head[6:8], "big")):
        return Evidence.NO
    return Evidence.MORE if head[8:9] < b"\x80" else Evidence.NO


def _half_client(data: bytes | bytearray, at: int) -> Evidence:
    """The client id has not come whole."""
    if len(data) < at + 2:
        return Evidence.MORE
    seen = data[at + 2 : at + 2 + MAX_TEXT].decode("latin-1")
    return Evidence.MORE if not seen or _PRINTABLE.fullmatch(seen) else Evidence.NO
