"""The head of an HTTP/1 message: its start line and headers, read into a Message and the way its body is framed.

A head is never taken apart: one lower-cased copy, and in it one search for each header that matters, anchored at the
beginning of a line. That costs a third less than splitting it, and is linear whatever the bytes are: no pattern here can
match the same byte in two ways.

What is private by default never enters a Message: query strings, path parameters (`;jsessionid=…`), user:password@,
cookies, authorization, bodies. Where a target or a host does not follow the grammar, only what surely is none of these does.
What two servers could read differently (lengths that disagree, white space before a colon) is a violation, never a guess.

Grammar: RFC 9112 (start line, framing), RFC 9110 (methods, statuses).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, PROPAGATION_HEADERS, SERVER, AttributeValue, Kind, Message
from clovisor_py.protocols import _http_start as start

MAX_HEADERS: Final = 2000
"""Lines in one head; Node.js, the most patient server, stops there. Beyond it: ProtocolError."""
MAX_TEXT: Final = 2048
"""Bytes kept of one path, host, agent or propagation header; the rest is cut, so that a session stays small."""
MAX_LENGTH_DIGITS: Final = 18
"""Digits of a Content-Length: what is longer does not fit into 63 bits. Beyond it: ProtocolError."""

NO_BODY: Final = -1
"""Framing: the message ends with its head. A framing of 0 or more is the length of the body."""
CHUNKED: Final = -2
"""Framing: the body is in chunks."""
UNTIL_CLOSE: Final = -3
"""Framing: the body ends with the connection."""
TUNNEL: Final = -4
"""Framing: after this head the connection is no longer HTTP/1, in both directions."""

LENGTH_IGNORED: Final = "clovisor.http.content_length_ignored"
"""Attribute, true where a message had a Content-Length besides its Transfer-Encoding: the mark of request smuggling."""

_COMMA, _SLASH, _COLON, _QUERY, _FRAGMENT, _PARAMETER, _AT = b",/:?#;@"
_INDENT = b" \t"
_METHODS = {method.encode(): method for method in start.KNOWN_METHODS}
"""Any other method is exported as `_OTHER`."""
_VERSIONS = {b"0": "1.0", b"1": "1.1"}
_STATUSES = {b"%d" % code: (code, str(code)) for code in range(100, 1000)}

_CONTEXT = re.compile(b"\n(" + "|".join(sorted(map(re.escape, PROPAGATION_HEADERS))).encode() + b"):")
_ABSOLUTE = re.compile(rb"([A-Za-z][0-9A-Za-z+.\-]*)://([^/?#]*)")
_SCHEME = re.compile(rb"[A-Za-z][0-9A-Za-z+.\-]*:")
_PARAMETERS = re.compile(rb";[^/]*")
_USER = re.compile(rb"//[^/]*@")
_END_OF_AUTHORITY = re.compile(rb"[/?#]")
_HOST = re.compile(rb"(?:\[([0-9A-Za-z:.%_~\-]+)\]|([0-9A-Za-z.%_~\x80-\xff\-]+))(?::([0-9]{1,5})\Z)?")
"""A name or an address, and its port; the characters that names have in practice, not all that RFC 3986 lets them have."""


def request(raw: bytes, lower: bytes) -> Message:
    """The request of which `raw` is the head, with the empty line that ends it; `lower` is `raw` in lower case.

    Raises only what `start.match` does.
    """
    name, target, version = start.match(CLIENT, raw).groups()
    method = _METHODS.get(name)
    attributes: dict[str, AttributeValue] = {
        "http.request.method": method or "_OTHER",
        "url.scheme": "http",
        "network.protocol.version": _VERSIONS[version],
    }
    if method is None:
        attributes["http.request.method_original"] = method = name.decode("ascii")
    resource = _target(attributes, method, target, _first(raw, lower, b"\nhost:"))
    if agent := _first(raw, lower, b"\nuser-agent:"):
        attributes["user_agent.original"] = _text(agent)
    return Message(Kind.REQUEST, method, resource, "", False, attributes, _propagation(raw, lower))


def response(raw: bytes) -> Message:
    """The response of which `raw` is the head. Raises only what `start.match` does.

    `error` is a status of 400 or more, whichever side looks on: to the caller the call failed, and RED counts that.
    Whether a server's span is an error too (OpenTelemetry: only from 500 on) is for the spans to say.
    """
    version, digits = start.match(SERVER, raw).groups()
    code, status = _STATUSES[digits]
    attributes: dict[str, AttributeValue] = {
        "http.response.status_code": code,
        "network.protocol.version": _VERSIONS[version],
    }
    if code >= 500:
        attributes["error.type"] = status
    kind = Kind.RESPONSE if code >= 200 or code == 101 else Kind.INTERIM
    return Message(kind, "", "", status, code >= 400, attributes)


def framing(message: Message, lower: bytes, asked: str = "") -> int:
    """How the body of `message` is framed (RFC 9112, 6.3); `asked` is the method that a response answers ("" if unseen).

    Raises ProtocolError where two readers could come to two answers.
    """
    if 0 in lower:
        raise ProtocolError("not HTTP/1: a zero byte in a head.")
    if len(lower) > MAX_HEADERS and lower.count(b"\n") > MAX_HEADERS:
        raise ProtocolError(f"not HTTP/1: more than {MAX_HEADERS} header lines.")
    status = message.status
    if status == "101" or (asked == "CONNECT" and status[0] == "2"):
        return TUNNEL
    if asked == "HEAD" or status[:1] == "1" or status in ("204", "304"):
        return NO_BODY
    coding, length = lower.find(b"\ntransfer-encoding"), lower.find(b"\ncontent-length")
    if coding >= 0 and (codings := _members(lower, b"\ntransfer-encoding", coding)):
        return _coded(message, codings[-1], length >= 0)
    if length >= 0 and (lengths := _members(lower, b"\ncontent-length", length)):
        return _agreed(lengths)
    return UNTIL_CLOSE if status else NO_BODY


def _coded(message: Message, last_coding: bytes, has_length: bool) -> int:
    """In a transfer coding: it outranks a Content-Length, and only chunks have an end."""
    if has_length:
        message.attributes[LENGTH_IGNORED] = True
    if last_coding == b"chunked":
        return CHUNKED
    if message.kind is Kind.REQUEST:
        raise ProtocolError("not HTTP/1: a request in a transfer coding that has no end.")
    return UNTIL_CLOSE


def _agreed(lengths: list[bytes]) -> int:
    """The Content-Length, said once or several times the same."""
    length = lengths[0]
    if not length.isdigit() or len(length) > MAX_LENGTH_DIGITS:
        raise ProtocolError("not HTTP/1: a content length that is no number.")
    if lengths.count(length) != len(lengths):
        raise ProtocolError("not HTTP/1: content lengths that disagree.")
    return int(length)


def _members(lower: bytes, name: bytes, at: int) -> list[bytes]:
    """Every member of a list header, of all its lines in order, the first at `at` (RFC 9110, 5.3)."""
    members: list[bytes] = []
    while at >= 0:
        colon = at + len(name)
        end = _value_end(lower, colon)
        if lower[colon] == _COLON:
            value = lower[colon + 1 : end].strip()
            members += map(bytes.strip, value.split(b",")) if _COMMA in value else (value,)
        elif lower[colon:end].lstrip()[:1] == b":":
            raise ProtocolError("not HTTP/1: white space between a header's name and its colon.")
        at = lower.find(name, end)
    return members


def _first(raw: bytes, lower: bytes, name: bytes) -> bytes:
    """The value of a header's first line, as it was written; `name` with the line feed before and the colon after it."""
    at = lower.find(name)
    return _written(raw, at + len(name)) if at >= 0 else b""


def _written(raw: bytes, at: int) -> bytes:
    """The value that begins at `at`, in one line."""
    end = raw.find(b"\n", at)
    if raw[end + 1] in _INDENT:
        return b" ".join(raw[at : _value_end(raw, at)].split())
    return raw[at:end].strip()


def _value_end(raw: bytes, at: int) -> int:
    """Offset of the line feed that ends a value. Indented lines continue it: obsolete, and still sent."""
    end = raw.find(b"\n", at)
    while raw[end + 1] in _INDENT:
        end = raw.find(b"\n", end + 1)
    return end


def _propagation(raw: bytes, lower: bytes) -> dict[str, str]:
    """Headers that carry a trace context; one that comes twice is a list."""
    context: dict[str, str] = {}
    found = _CONTEXT.search(lower)
    while found:
        name = found[1].decode("ascii")
        value = _written(raw, found.end())[:MAX_TEXT].decode("latin-1")
        context[name] = f"{context[name]},{value}"[:MAX_TEXT] if name in context else value
        found = _CONTEXT.search(lower, found.end())
    return context


def _target(attributes: dict[str, AttributeValue], method: str, target: bytes, host: bytes) -> str:
    """Set path, scheme and server; answer the resource. Four forms: RFC 9112, 3.2."""
    if method == "CONNECT":  # authority-form: a server, no path
        absolute = _ABSOLUTE.match(target)
        return _server(attributes, absolute[2] if absolute else target)
    if target[0] != _SLASH and target != b"*":
        if absolute := _ABSOLUTE.match(target):  # to a proxy, and it outranks Host
            attributes["url.scheme"] = _text(absolute[1]).lower()
            host, target = absolute[2], target[absolute.end() :]
        else:  # no form of HTTP's: all after the scheme may be private
            target = scheme[0] if (scheme := _SCHEME.match(target)) else b""
    if host:
        _server(attributes, host)
    if _QUERY in target:
        target = target[: target.find(b"?")]
    if _FRAGMENT in target:
        target = target[: target.find(b"#")]
    if _PARAMETER in target:
        target = _PARAMETERS.sub(b"", target)
    if _AT in target and (user := _USER.match(target)):
        target = b"//" + target[user.end() :]
    attributes["url.path"] = path = _text(target) or "/"
    return path


def _server(attributes: dict[str, AttributeValue], authority: bytes) -> str:
    """Set `name`, `name:port`, `[v6]`, `[v6]:port`, and answer it; never the user before an `@`."""
    address, port, said = _address(authority)
    if address:
        attributes["server.address"] = address
    if port:
        attributes["server.port"] = port
    return said


@lru_cache(maxsize=256)
def _address(authority: bytes) -> tuple[str, int, str]:
    """Host, port (0: none) and both as they were written; what is in no host's grammar is left out.

    Kept for the last few servers: on one node, requests go to few, and every one names its own.
    """
    found = _HOST.match(_END_OF_AUTHORITY.split(authority, maxsplit=1)[0].rpartition(b"@")[2])
    if found is None:
        return "", 0, ""
    return _text(found[1] or found[2]), int(found[3] or 0), _text(found[0])


def _text(value: bytes) -> str:
    return value[:MAX_TEXT].decode("utf-8", "replace")
