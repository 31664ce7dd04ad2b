"""The head of an HTTP/2 message: a block's headers, read into a Message (RFC 9113, 8.3; RFC 9110).

A head depends on its headers alone, so the decoder remembers heads of blocks that repeat, and a message costs only the copy of
what was read once. Method and target follow the same rules, and the same redaction, as in HTTP/1.

Headers that were put into the table before anybody looked are unknown: they are counted (`UNKNOWN_HEADERS`), never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import PROPAGATION_HEADERS, AttributeValue, Kind, Message
from clovisor_py.protocols import _http_start as start
from clovisor_py.protocols import _http_target as target
from clovisor_py.protocols._hpack import Fields
from clovisor_py.protocols._http2_frames import END_STREAM

UNKNOWN_HEADERS: Final = "clovisor.http.unknown_headers"
"""Attribute: headers of the exchange so far whose names or values are only in the connection's unseen past."""
UNKNOWN_METHOD: Final = "unknown"
"""Operation of a request whose method is."""

_REQUEST, _PART, _RESPONSE, _INTERIM = Kind.REQUEST, Kind.PART, Kind.RESPONSE, Kind.INTERIM
_CONTEXT: Final = {name.encode(): name for name in PROPAGATION_HEADERS}
_METHODS: Final = {method.encode(): method for method in start.KNOWN_METHODS}
_CONTEXT_NAMES: Final = frozenset(_CONTEXT)
_PSEUDO: Final = frozenset((b":method", b":path", b":scheme", b":authority"))


@dataclass(slots=True, eq=False)
class _Request:
    """What all messages made from one head share."""

    operation: str
    resource: str
    attributes: dict[str, AttributeValue]
    propagation: dict[str, str]


class Head:
    """One header block: the beginning of a message, or its trailers."""

    __slots__ = ("_request", "_response", "_show", "asks", "fields", "status", "unknown")

    def __init__(self, fields: Fields, show: int) -> None:
        self._show = show
        self.fields: dict[bytes, bytes] = {}
        """Name (lower case, as on the wire) to value; a trace context's headers that come twice are joined, of others the
        first counts."""
        self.unknown = 0
        known = self.fields
        for name, value in fields:
            if name is None or value is None:
                self.unknown += 1
            elif name not in known:
                known[name] = value
            elif name in _CONTEXT and len(known[name]) < target.MAX_TEXT:
                known[name] += b"," + value
        self.asks = not _PSEUDO.isdisjoint(known)
        """It is the head of a request."""
        status = known.get(b":status", b"")
        self.status = status.decode("ascii") if len(status) == 3 and status.isdigit() else ""
        """Of a response; empty in trailers, and where it is unknown."""
        self._request: _Request | None = None
        self._response: dict[str, AttributeValue] | None = None

    def request(self, stream: int) -> Message:
        """A message that asks this, on that stream."""
        read = self._request
        if read is None:
            read = self._request = self._read_request()
        return Message(
            _REQUEST,
            read.operation,
            read.resource,
            "",
            False,
            read.attributes.copy(),
            read.propagation.copy() if read.propagation else {},
            stream,
        )

    def response(self, stream: int, flags: int) -> Message:
        """A message that answers this; a part of it, if more follows. `error` is as in HTTP/1: a status of 400 or more."""
        read = self._response
        if read is None:
            read = self._response = self._read_response()
        status = self.status
        kind = _INTERIM if status[:1] == "1" else _RESPONSE if flags & END_STREAM else _PART
        return Message(kind, "", "", status, status >= "400", read.copy(), {}, stream)

    def _read_request(self) -> _Request:
        fields = self.fields
        attributes: dict[str, AttributeValue] = {}
        resource = self._target(attributes, fields.get(b":authority") or fields.get(b"host", b""))
        method = fields.get(b":method", b"")
        operation = _METHODS.get(method, "")
        if method and not operation:
            attributes["http.request.method_original"] = operation = target.text(method[: start.MAX_METHOD])
        if method:
            attributes["http.request.method"] = "_OTHER" if method not in _METHODS else operation
        if scheme := fields.get(b":scheme"):
            attributes["url.scheme"] = target.text(scheme[: start.MAX_METHOD])
        attributes["network.protocol.version"] = "2"
        if agent := fields.get(b"user-agent"):
            attributes["user_agent.original"] = target.text(agent)
        if self.unknown:
            attributes[UNKNOWN_HEADERS] = self.unknown
        found = () if _CONTEXT_NAMES.isdisjoint(fields) else _CONTEXT_NAMES.intersection(fields)
        context = {_CONTEXT[name]: target.text(fields[name]) for name in found}
        return _Request(operation or UNKNOWN_METHOD, resource, attributes, context)

    def _target(self, attributes: dict[str, AttributeValue], authority: bytes) -> str:
        """Set path, query and server; answer the resource. A path is what it is in HTTP/1; CONNECT names a server only."""
        server = target.server(attributes, authority)
        path = self.fields.get(b":path", b"")
        if not path:
            return server if self.fields.get(b":method") == b"CONNECT" else ""
        try:
            _, resource, said, _ = target.read_line(self._show, b"GET " + path + b" HTTP/1.1\r\n")
        except ProtocolError:
            return ""  # no path by any grammar, so nothing of it may be told
        for name in ("url.path", "url.query"):
            if name in said:
                attributes[name] = said[name]
        return resource

    def _read_response(self) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {"network.protocol.version": "2"}
        if self.status:
            attributes["http.response.status_code"] = int(self.status)
            if self.status >= "500":
                attributes["error.type"] = self.status
        return attributes
