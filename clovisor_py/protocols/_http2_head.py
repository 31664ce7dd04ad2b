"""The head of an HTTP/2 message: a block's headers, read into a Message (RFC 9113, 8.3; RFC 9110).

A head depends on its headers alone, so the decoder remembers heads of blocks that repeat, and a message costs only the copy of
what was read once. Where only the path is new, what else a client says each time is remembered all the same. Method and target
follow the same rules, and the same redaction, as in HTTP/1.

Headers that were put into the table before anybody looked are unknown: they are counted (`UNKNOWN_HEADERS`), never guessed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import PROPAGATION_HEADERS, Kind, Message
from clovisor_py.protocols import _http_start as start
from clovisor_py.protocols import _http_target as target
from clovisor_py.protocols._hpack import Fields
from clovisor_py.protocols._http2_frames import END_STREAM
from clovisor_py.protocols._http_target import Attributes

UNKNOWN_HEADERS: Final = "clovisor.http.unknown_headers"
"""Attribute: headers of the exchange so far whose names or values are only in the connection's unseen past."""
UNKNOWN_METHOD: Final = "unknown"
"""Operation of a request whose method is."""

_REQUEST, _PART, _RESPONSE, _INTERIM = Kind.REQUEST, Kind.PART, Kind.RESPONSE, Kind.INTERIM
_CONTEXT: Final = {name.encode(): name for name in PROPAGATION_HEADERS}
_METHODS: Final = {method.encode(): method for method in start.KNOWN_METHODS}
_CONTEXT_NAMES: Final = frozenset(_CONTEXT)
_PSEUDO: Final = frozenset((b":method", b":path", b":scheme", b":authority"))


_STATUSES: Final = {b"%03d" % code: f"{code:03}" for code in range(1000)}
"""What a status is, on the wire and told."""
_UNUSUAL: Final = re.compile(rb"[\x00-\x20\x7f?#;@]")
"""What in a path asks for a closer look."""
_SLASH: Final = b"/"[0]
_SHOW_PATHS, _MAX_TEXT, _MAX_METHOD = target.SHOW_PATHS, target.MAX_TEXT, start.MAX_METHOD
_MAX_KEPT: Final = target.MAX_AUTHORITY + 1
"""Bytes of an authority that say whether it is too long."""


class Head:
    """One header block: the beginning of a message, or its trailers."""

    __slots__ = ("_asked", "_request", "_show", "asks", "fields", "status", "unknown")

    def __init__(self, show: int, fields: Fields) -> None:
        self._show = show
        known: Any = dict(fields)
        self.fields: dict[bytes, bytes] = known
        """Name (lower case, as on the wire) to value; a trace context's headers that come twice are joined, of others the
        first counts."""
        self.unknown = 0
        if len(known) != len(fields) or None in known:
            known = self._unusual(fields)
        self.asks = not _PSEUDO.isdisjoint(known)
        """It is the head of a request."""
        self.status = _STATUSES.get(known.get(b":status", b""), "")
        """Of a response; empty in trailers, and where it is unknown."""
        self._request: tuple[str, str, Attributes, dict[str, str]] | None = None
        """Operation, resource, attributes and trace context of all requests with this head, from the second one on: most
        heads have one, and it needs no copy."""
        self._asked = False
        """There was one."""

    def _unusual(self, fields: Fields) -> dict[bytes, bytes]:
        """Set, and answer, those of a block in which some are unknown, or come twice."""
        known: dict[bytes, bytes] = {}
        self.fields = known
        for name, value in fields:
            if name is None or value is None:
                self.unknown += 1
            elif name not in known:
                known[name] = value
            elif name in _CONTEXT and len(known[name]) < target.MAX_TEXT:
                known[name] += b"," + value
        return known

    def request(self, stream: int) -> Message:
        """A message that asks this, on that stream."""
        read = self._request
        if read is None:
            operation, resource, attributes, context = read = self._read_request()
            if not self._asked:
                self._asked = True
                return Message(_REQUEST, operation, resource, "", False, attributes, context, stream)
            self._request = read
        operation, resource, attributes, context = read
        return Message(_REQUEST, operation, resource, "", False, attributes.copy(), context.copy() if context else {}, stream)

    def response(self, stream: int, flags: int) -> Message:
        """A message that answers this; a part of it, if more follows. `error` is as in HTTP/1: a status of 400 or more."""
        status = self.status
        kind = _INTERIM if status[:1] == "1" else _RESPONSE if flags & END_STREAM else _PART
        return Message(kind, "", "", status, status >= "400", _answer(status).copy(), {}, stream)

    def _read_request(self) -> tuple[str, str, Attributes, dict[str, str]]:
        fields = self.fields
        get = fields.get
        authority = get(b":authority") or get(b"host", b"")
        operation, server, common = _asked(
            get(b":method", b"")[:_MAX_METHOD],
            get(b":scheme", b"")[:_MAX_METHOD],
            authority[:_MAX_KEPT],
            get(b"user-agent", b"")[:_MAX_TEXT],
        )
        attributes = common.copy()
        path = get(b":path")
        if path and path[0] == _SLASH and self._show & _SHOW_PATHS and _UNUSUAL.search(path) is None:
            attributes["url.path"] = resource = path[:_MAX_TEXT].decode("utf-8", "replace")  # `target.text`, without a call
        else:
            resource = self._target(attributes, server)
        if self.unknown:
            attributes[UNKNOWN_HEADERS] = self.unknown
        if _CONTEXT_NAMES.isdisjoint(fields):
            return operation, resource, attributes, {}
        found = _CONTEXT_NAMES.intersection(fields)
        return operation, resource, attributes, {_CONTEXT[name]: target.text(fields[name]) for name in found}

    def _target(self, attributes: Attributes, server: str) -> str:
        """Set path and query; answer the resource. A path is what it is in HTTP/1; CONNECT names a server only."""
        path = self.fields.get(b":path", b"")
        if not path:
            return server if self.fields.get(b":method") == b"CONNECT" else ""
        try:
            _, resource, told, _ = target.read_line(self._show, b"GET " + path + b" HTTP/1.1\r")
        except ProtocolError:
            return ""  # no path by any grammar, so nothing of it may be told
        for name in ("url.path", "url.query"):
            if name in told:
                attributes[name] = told[name]
        return resource


@lru_cache(maxsize=256)
def _asked(method: bytes, scheme: bytes, authority: bytes, agent: bytes) -> tuple[str, str, Attributes]:
    """Operation, server and attributes of all requests that differ in their paths only: a client's are mostly alike."""
    attributes: Attributes = {}
    server = target.server(attributes, authority)
    operation = _METHODS.get(method, "")
    if method:
        attributes["http.request.method"] = operation or "_OTHER"
    if method and not operation:
        attributes["http.request.method_original"] = operation = target.text(method)
    if scheme:
        attributes["url.scheme"] = target.text(scheme)
    attributes["network.protocol.version"] = "2"
    if agent:
        attributes["user_agent.original"] = target.text(agent)
    return operation or UNKNOWN_METHOD, server, attributes


@lru_cache(maxsize=len(_STATUSES) + 1)
def _answer(status: str) -> Attributes:
    """The attributes of all responses with this status."""
    attributes: Attributes = {"network.protocol.version": "2"}
    if status:
        attributes["http.response.status_code"] = int(status)
        if status >= "500":
            attributes["error.type"] = status
    return attributes
