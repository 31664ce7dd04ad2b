"""Kafka's protocol, 0.8 to 4.2 (and what is newer, as far as its header tells): requests, responses, what is in them.

Every message has its size before it, and a response the correlation id of its request, which says how to read it. So each
direction is between two messages, or inside one of which so many bytes are `left`, and a `Reading` walks its body by its
layout, stepping over what tells nothing. Of a Fetch of 50 MB that is a few hundred bytes to look at. A message that is all at
hand, and as most are, is read in one go (`_kafka_usual`), which costs a third.

A status is told where an error code was found, or where all that could hold one was seen. An API or version that is not
known, a body that does not have its layout or was partly lost, a response without its request: no status, no guess.

Keys and values of records, and everything of SASL, stay unread. After SaslHandshake v0 tokens are exchanged that have a size
and nothing else; they are shown as what replaced them, SaslAuthenticate.
"""

from __future__ import annotations

import struct
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols import _kafka_layout as layout
from clovisor_py.protocols import _kafka_message as messages
from clovisor_py.protocols import _kafka_recognise as evidence
from clovisor_py.protocols._api import Capture, Evidence, Pairing, Protocol, Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._kafka_message import Call
from clovisor_py.protocols._kafka_reading import Misfit, Program, Reading
from clovisor_py.protocols._kafka_records import MAX_BATCHES, MAX_COMPARED, MAX_HEADERS
from clovisor_py.protocols._kafka_schema import PRODUCE, SASL_AUTHENTICATE, SASL_HANDSHAKE
from clovisor_py.protocols._kafka_steps import MAX_ITEMS, MAX_NAMES, MAX_TEXT, MAX_TOPIC_IDS

MAX_SIZE: Final = 1 << 28
"""Bytes of a message: twice what brokers take by default, and less than any text read as a size. Beyond: ProtocolError."""
MAX_VERSION: Final = 63
"""Version of an API: the highest in 2026 is 18. Beyond it: ProtocolError."""
MAX_PENDING: Final = 1024
"""Requests that are remembered until they are answered, and what is told of the responses to older ones is their size."""
MAX_DOUBT: Final = 4096
"""Bytes waited for to tell a token from the request that may come instead."""

_SIZE = struct.Struct(">i")
_REQUEST = struct.Struct(">ihhi")
"""Size, API, version, correlation id."""
_RESPONSE = struct.Struct(">ii")
# What is asked of every message is at hand by one name: Struct.size, and a member of Kind, cost as much as a call.
_SIZE_BYTES: Final = _SIZE.size
_REQUEST_BYTES: Final = _REQUEST.size
_RESPONSE_BYTES: Final = _RESPONSE.size
_read_request: Final = _REQUEST.unpack_from
_read_response: Final = _RESPONSE.unpack_from
_ONE_WAY: Final = Kind.ONE_WAY
_MIN_REQUEST: Final = evidence.MIN_REQUEST
_MIN_RESPONSE = 4
_NOTHING = Program((), False)
_UNKNOWN = -1
_NO_CALL = Call(_UNKNOWN, _UNKNOWN, _UNKNOWN)


class _Half:
    """One direction: between messages (`reading` is None), or inside the one that belongs to `call`."""

    __slots__ = ("call", "left", "passed", "reading", "unread")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.reading: Reading | None = None
        self.call = _NO_CALL
        self.left = 0
        """Bytes of the message behind the cursor."""
        self.unread = 0
        """How many of them the parser has seen, and left there for the next time."""
        self.passed = False
        """A gap took the message's last byte; a skip to it may still be going on."""


class KafkaParser:
    """One connection, both directions."""

    __slots__ = ("_halves", "_ids", "_pending", "_raw", "_tokens")

    def __init__(self, setup: Setup) -> None:
        self._halves = (_Half(), _Half())
        self._pending: dict[int, Call] = {}
        self._ids: dict[bytes, str] = setup.memory
        """Names of topics by their ids; Metadata often comes over another connection than the Fetches that need it."""
        self._raw = False
        """The client has asked for a bare SASL exchange, and sent no request since."""
        self._tokens = [0, 0]
        """How many each side has sent in it."""

    def parse(self, sender: int, cursor: Cursor) -> Message | None:
        half = self._halves[sender]
        if half.reading is None:
            message = self._ask(half, cursor) if sender == CLIENT else self._answer(half, cursor)
            if message is not None or half.reading is None:
                return message
        return self._go_on(sender, half, half.reading, cursor)

    def gap(self, sender: int, size: int) -> bool:
        half = self._halves[sender]
        left = half.left - half.unread - size
        if half.reading is None or left < 0:
            return False
        half.reading.give_up()
        half.left, half.unread, half.passed = left, 0, left == 0
        return True

    def end(self, sender: int) -> Message | None:
        half = self._halves[sender]
        reading, passed = half.reading, half.passed
        if reading is None:
            return None
        if not reading.over:
            reading.give_up()
        message = self._close(sender, half, reading)
        message.incomplete = not passed
        return message

    def resync(self, sender: int, data: bytes | bytearray) -> int | None:
        self._halves[sender].reset()
        if sender == CLIENT:
            return evidence.find_request(data)
        return evidence.find_response(data, self._pending)

    # ---- the beginning of a message: the cursor is behind its head then, and its `reading` begun; or the usual one, whole ----

    def _ask(self, half: _Half, cursor: Cursor) -> Message | None:
        data, pos = cursor.data, cursor.pos
        have = len(data) - pos
        if have < _REQUEST_BYTES:
            if have >= _SIZE_BYTES and not self._raw:
                _check(_SIZE.unpack_from(data, pos)[0], _MIN_REQUEST)
            if have < _SIZE_BYTES or not self._raw:
                return None
        if self._raw:
            token = _is_token(data, pos)
            if token:
                self._token(half, cursor, CLIENT)
            if token is not False:
                return None
            self._raw = False
        size, key, version, correlation = _read_request(data, pos)
        if not _MIN_REQUEST <= size <= MAX_SIZE:
            _check(size, _MIN_REQUEST)
        if key < 0 or not 0 <= version <= MAX_VERSION:
            raise ProtocolError("not Kafka: an API or a version that cannot be.")
        if key == SASL_HANDSHAKE and version == 0:
            self._raw = True
        call = Call(key, version, correlation)
        pending = self._pending
        pending[correlation] = call
        if len(pending) > MAX_PENDING:
            del pending[next(iter(pending))]
        program = layout.request(key, version)
        reading = Reading(program, self._ids, key == PRODUCE)
        start, end = pos + _REQUEST_BYTES, pos + _SIZE_BYTES + size
        if end <= len(data) and program.once is not None and program.once(reading, data, start, end):
            cursor.pos = end
            return self._asked(call, reading)
        cursor.pos = start
        half.call, half.reading, half.left = call, reading, end - start
        return None

    def _answer(self, half: _Half, cursor: Cursor) -> Message | None:
        data, pos = cursor.data, cursor.pos
        have = len(data) - pos
        asked, answered = self._tokens
        if asked > answered:
            if have >= _SIZE_BYTES:
                self._token(half, cursor, SERVER)
            return None
        if have < _RESPONSE_BYTES:
            if have >= _SIZE_BYTES:
                _check(_SIZE.unpack_from(data, pos)[0], _MIN_RESPONSE)
            return None
        size, correlation = _read_response(data, pos)
        if not _MIN_RESPONSE <= size <= MAX_SIZE:
            _check(size, _MIN_RESPONSE)
        call = self._pending.pop(correlation, None)
        if call is None:
            if size > _MIN_RESPONSE and have == _RESPONSE_BYTES:
                return None
            if size > _MIN_RESPONSE and data[pos + _RESPONSE_BYTES] not in evidence.LEAD:
                raise ProtocolError("not Kafka: nothing that a response could be.")
            call = Call(_UNKNOWN, _UNKNOWN, correlation)
        start, end = pos + _RESPONSE_BYTES, pos + _SIZE_BYTES + size
        program = layout.response(call.key, call.version)
        if program is None:
            reading = _unread(self._ids)
        else:
            reading = Reading(program, self._ids)
            if end <= len(data) and program.once is not None and program.once(reading, data, start, end):
                cursor.pos = end
                return messages.response(call, reading)
        cursor.pos = start
        half.call, half.reading, half.left = call, reading, end - start
        return None

    def _token(self, half: _Half, cursor: Cursor, sender: int) -> None:
        """A bare SASL token, or the answer to one: a size, and what is nobody's business."""
        size = _SIZE.unpack_from(cursor.data, cursor.pos)[0]
        _check(size, 0)
        cursor.pos += _SIZE_BYTES
        self._tokens[sender] += 1
        call = Call(SASL_AUTHENTICATE, _UNKNOWN, f"token {self._tokens[sender]}")
        half.call, half.reading, half.left = call, _unread(self._ids), size

    # ---- its body and its end ----

    def _go_on(self, sender: int, half: _Half, reading: Reading, cursor: Cursor) -> Message | None:
        data, pos = cursor.data, cursor.pos
        end = pos + half.left
        if not reading.over:
            try:
                pos = reading.walk(data, pos, end)
            except Misfit:
                pos = end  # by its size it ends all the same; what is in it stays untold
        if reading.over:
            pos = end
        cursor.pos = pos
        half.left = end - pos
        if reading.over and end <= len(data):
            return self._close(sender, half, reading)
        half.unread = max(len(data) - pos, 0)
        return None

    def _close(self, sender: int, half: _Half, reading: Reading) -> Message:
        call = half.call
        half.reading, half.unread, half.passed = None, 0, False
        if sender == SERVER:
            return messages.response(call, reading)
        return self._asked(call, reading)

    def _asked(self, call: Call, reading: Reading) -> Message:
        message = messages.request(call, reading)
        if message.kind is _ONE_WAY and isinstance(call.correlation, int):
            self._pending.pop(call.correlation, None)
        return message


def _check(size: int, least: int) -> None:
    """Raise ProtocolError for a size that no message has."""
    if not least <= size <= MAX_SIZE:
        raise ProtocolError("not Kafka: a size that no message has.")


def _unread(ids: dict[bytes, str]) -> Reading:
    """Of a message that nobody knows how to read."""
    reading = Reading(_NOTHING, ids)
    reading.give_up()
    return reading


def _is_token(data: bytes | bytearray, pos: int) -> bool | None:
    """Whether what comes is a bare token rather than a request; None: more bytes are needed to say."""
    verdict = evidence.request(data, pos)
    if verdict is Evidence.MORE:
        have, size = len(data) - pos, _SIZE.unpack_from(data, pos)[0]
        return None if have < min(_SIZE_BYTES + size, MAX_DOUBT) else False
    return verdict is Evidence.NO


PROTOCOL = Protocol(
    name="kafka",
    title="Apache Kafka",
    specification="https://kafka.apache.org/protocol.html",
    parser=KafkaParser,
    recognise=evidence.recognise,
    pairing=Pairing.BY_ID,
    capture=Capture.FULL,
    ports=(9092, 9093, 9094, 19092, 29092),
    attributes=messages.ATTRIBUTES,
    limits={
        "bytes of a message": MAX_SIZE,
        "bytes of a name, a topic or a client id": MAX_TEXT,
        "topics or groups told of a message": MAX_NAMES,
        "elements of arrays looked at in a message": MAX_ITEMS,
        "record batches counted in a partition": MAX_BATCHES,
        "records whose trace contexts are compared": MAX_COMPARED,
        "bytes of a record's headers": MAX_HEADERS,
        "requests remembered until they are answered": MAX_PENDING,
        "topics known by their ids": MAX_TOPIC_IDS,
    },
)
