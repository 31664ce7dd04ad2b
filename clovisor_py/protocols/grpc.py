"""gRPC over HTTP/2: calls of all four kinds, one session a call (gRPC's own specification, PROTOCOL-HTTP2).

It rides on HTTP/2 (`_http2_streams`): a stream is a call if its content type says so, the request's or, where that is
unknown, the response's. On a connection joined in its middle the type may stay unknown for hours, because it is named by
number only: there a request is a call too if its body begins with a message that fits its frame.

The method is the path. The status is in the trailers, or in the headers of a response that has nothing else, or follows from
how HTTP ended the call: so the specification maps it, and so the client's library reports it.

Messages are counted by their five-byte prefixes, which frames may cut anywhere; what is in them is stepped over unseen.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from clovisor_py.model.message import Message
from clovisor_py.protocols._api import Capture, Pairing, Protocol, Setup
from clovisor_py.protocols._http2_head import Head
from clovisor_py.protocols._http2_streams import NO_MORE, Ride

MAX_TEXT: Final = 1024
"""Bytes kept of a method's name or of a status message; the rest is cut."""

MAX_BELIEVED: Final = 4 * 1024 * 1024
"""Bytes of a message, beyond its first frame, that are believed where only it says that this is a call: gRPC's usual limit."""

STATUSES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""By code (gRPC, statuscodes)."""

REQUESTS: Final = "clovisor.grpc.request.messages"
RESPONSES: Final = "clovisor.grpc.response.messages"
COMPRESSED: Final = "clovisor.grpc.compressed_messages"
TIMEOUT: Final = "clovisor.grpc.timeout_ms"
STATUS_MESSAGE: Final = "clovisor.grpc.status_message"

_BY_CODE: Final = {b"%d" % code: name for code, name in enumerate(STATUSES)}
_BY_HTTP_STATUS: Final = {
    "400": "INTERNAL",
    "401": "UNAUTHENTICATED",
    "403": "PERMISSION_DENIED",
    "404": "UNIMPLEMENTED",
    "429": "UNAVAILABLE",
    "502": "UNAVAILABLE",
    "503": "UNAVAILABLE",
    "504": "UNAVAILABLE",
}
"""Where a proxy answered instead of the server (gRPC, http-grpc-status-mapping); any other is UNKNOWN."""
_BY_RESET: Final = {
    "REFUSED_STREAM": "UNAVAILABLE",
    "CANCEL": "CANCELLED",
    "ENHANCE_YOUR_CALM": "RESOURCE_EXHAUSTED",
    "INADEQUATE_SECURITY": "PERMISSION_DENIED",
    "STREAM_CLOSED": "UNKNOWN",
    "HTTP_1_1_REQUIRED": "UNKNOWN",
    "UNKNOWN_ERROR": "UNKNOWN",
}
"""Where HTTP/2 broke the call off (gRPC, PROTOCOL-HTTP2, "HTTP2 Transport Mapping"); any other is INTERNAL."""

_TYPES: Final = frozenset((b"application/grpc", b"application/grpc+", b"application/grpc;"))
_TYPE_SIZE: Final = max(map(len, _TYPES))
"""Bytes of a content type that tell whether it is gRPC's; what follows them says how messages are encoded."""
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])\Z")
_UNIT_NS: Final = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1_000,
    b"n": 1,
}
_PREFIX: Final = 5
"""Bytes before each message: whether it is compressed, and its length."""


class Counter:
    """The messages of one direction, told by their prefixes."""

    __slots__ = ("broken", "compressed", "messages", "prefix")

    def __init__(self) -> None:
        self.messages = 0
        self.compressed = 0
        self.prefix = b""
        """The beginning of a prefix that a frame has cut."""
        self.broken = False
        """Nobody knows any more where messages begin."""

    def take(self, data: bytes | bytearray, pos: int, end: int) -> int:
        """Count those that begin in `data[pos:end]`; answers how many bytes behind it belong to the last of them."""
        if self.prefix:
            missing = _PREFIX - len(self.prefix)
            self.prefix += bytes(data[pos : min(pos + missing, end)])
            pos += missing
            if pos > end:
                return 0
            pos += self._begin(self.prefix, 0)
            self.prefix = b""
        while end - pos >= _PREFIX:
            pos += _PREFIX + self._begin(data, pos)
        if pos < end:
            self.prefix = bytes(data[pos:end])
            return 0
        return pos - end

    def _begin(self, data: bytes | bytearray, pos: int) -> int:
        """A message begins: its length."""
        flag = data[pos]
        if flag > 1:
            self.broken = True
            return NO_MORE
        self.messages += 1
        self.compressed += flag
        return int.from_bytes(data[pos + 1 : pos + _PREFIX], "big")


class Call:
    """One call: a `Ride`."""

    __slots__ = ("_counters", "_http_status", "_request", "_values")

    def __init__(self, request: Head | None, values: bool) -> None:
        self._request = request
        """What nobody has told yet that this is a call."""
        self._values = values
        self._counters = (Counter(), Counter())
        self._http_status = ""

    def request(self, head: Head, message: Message) -> None:
        _tell(head, message)
        self._request = None

    def response(self, head: Head, message: Message) -> None:
        message.protocol = PROTOCOL.name
        message.status = ""  # HTTP's is not the call's
        self._http_status = head.status

    def data(self, sender: int, data: bytes | bytearray, pos: int, end: int) -> int:
        return self._counters[sender].take(data, pos, end)

    def lost(self, sender: int) -> None:
        self._counters[sender].broken = True

    def finish(self, message: Message, trailers: Head | None, reset: str) -> None:
        attributes = message.attributes
        if self._request is not None:
            _tell(self._request, message)
        message.protocol = PROTOCOL.name
        message.status = status = self._status(trailers, reset)
        if status:
            attributes["rpc.response.status_code"] = status
            message.error = status != "OK"
            if message.error:
                attributes["error.type"] = status
        asked, answered = self._counters
        if not asked.broken:
            attributes[REQUESTS] = asked.messages
        if not answered.broken:
            attributes[RESPONSES] = answered.messages
        if compressed := asked.compressed + answered.compressed:
            attributes[COMPRESSED] = compressed
        if self._values and trailers is not None and (text := trailers.fields.get(b"grpc-message")):
            attributes[STATUS_MESSAGE] = unquote(_text(text), errors="replace")

    def _status(self, trailers: Head | None, reset: str) -> str:
        """Its name, by what is known of the end; empty where it was said and nobody could read it."""
        if trailers is not None and (code := trailers.fields.get(b"grpc-status")) is not None:
            return _BY_CODE.get(code, "UNKNOWN")
        if reset:
            return _BY_RESET.get(reset, "INTERNAL")
        if not self._http_status or (trailers is not None and trailers.unknown):
            return ""
        return _BY_HTTP_STATUS.get(self._http_status, "UNKNOWN")


def _tell(head: Head, message: Message) -> None:
    """Say which call it is; its path is a name, not an address, so none of it is private."""
    attributes = message.attributes
    attributes["rpc.system.name"] = message.protocol = PROTOCOL.name
    path = _text(head.fields.get(b":path", b"").partition(b"?")[0])
    if path:
        message.resource = attributes["url.path"] = path
        message.operation = attributes["rpc.method"] = path.lstrip("/")
    said = head.fields.get(b"grpc-timeout")
    if said and (timeout := _TIMEOUT.match(said)):
        attributes[TIMEOUT] = int(timeout[1]) * _UNIT_NS[timeout[2]] / 1e6


def _text(value: bytes) -> str:
    return value[:MAX_TEXT].decode("utf-8", "replace")


class GrpcRider:
    """Knows its streams by their content type; gRPC-Web has another, and keeps its trailers elsewhere."""

    __slots__ = ("_values",)

    def __init__(self, setup: Setup) -> None:
        self._values = setup.redaction.values

    def claim(self, request: Head | None, response: Head | None) -> Ride | None:
        head = response or request
        if head is None:
            return None
        known = head.fields
        kind = known.get(b"content-type")
        if (kind and kind[:_TYPE_SIZE].lower() in _TYPES) or (response is not None and b"grpc-status" in known):
            return Call(request, self._values)
        return None

    def claim_data(self, request: Head, prefix: bytes, size: int, ends: bool) -> Ride | None:
        """A POST whose body begins with a message's prefix that fits: how a call looks on a connection joined in its middle."""
        if len(prefix) < _PREFIX or prefix[0] > 1 or request.fields.get(b":method", b"POST") != b"POST":
            return None
        beyond = int.from_bytes(prefix[1:], "big") + _PREFIX - size
        fits = beyond == 0 or (0 < beyond <= MAX_BELIEVED and not ends)
        return Call(request, self._values) if fits and b"content-type" not in request.fields else None


PROTOCOL = Protocol(
    name="grpc",
    title="gRPC over HTTP/2",
    specification="https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md",
    pairing=Pairing.BY_ID,
    capture=Capture.FULL,
    over="http2",
    rider=GrpcRider,
    attributes=(
        "rpc.system.name",
        "rpc.method",
        "rpc.response.status_code",
        REQUESTS,
        RESPONSES,
        COMPRESSED,
        TIMEOUT,
        STATUS_MESSAGE,
        "url.path",
        "error.type",
    ),
    limits={"bytes of a method's name": MAX_TEXT, "bytes of a status message": MAX_TEXT},
)
