"""The request line of HTTP/1: method, target and version, read into what a session may say of them (RFC 9112, 3).

What is private never enters a Message unless the operator's redaction shows it: query strings and path parameters
(`;jsessionid=…`), and the parts of a path that look like an identifier. A user:password@ is shown by none: it is a login.
Where a target or a host does not follow the grammar, only what surely is none of these is told.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, TypeAlias

from clovisor_py.model.message import CLIENT, AttributeValue
from clovisor_py.protocols import _http_start as start
from clovisor_py.protocols._redaction import Redaction, route

MAX_TEXT: Final = 2048
"""Bytes kept of one path, query, agent or propagation header; the rest is cut, so that a session stays small."""
MAX_AUTHORITY: Final = 300
"""Bytes of a server's name and port: a DNS name has 253 at most. A longer one is left out."""

SHOW_QUERIES: Final = 1
SHOW_COOKIES: Final = 2
SHOW_PATHS: Final = 4
"""What may be told, as bits: a small number, so that who reads can be found by it."""

VERSIONS: Final = {b"1.0": "1.0", b"1.1": "1.1"}
"""Those that there are; what else a line claims is told as it is."""
_QUERY = ord("?")
_LOGIN_SIGN = b"@"

_END_OF_PATH = re.compile(rb"[?#]")
_ABSOLUTE = re.compile(rb"([A-Za-z][0-9A-Za-z+.\-]*)://([^/?#]*)")
_SCHEME = re.compile(rb"[A-Za-z][0-9A-Za-z+.\-]*:")
_PARAMETERS = re.compile(rb";[^/]*")
_USER = re.compile(rb"//[^/]*@")
_END_OF_AUTHORITY = re.compile(rb"[/?#]")
_HOST = re.compile(rb"(?:\[([0-9A-Za-z:.%_~\-]+)\]|([0-9A-Za-z.%_~\x80-\xff\-]+))(?::([0-9]{1,5})\Z)?")
"""A name or an address, and its port; the characters that names have in practice, not all that RFC 3986 lets them have."""


Attributes: TypeAlias = dict[str, AttributeValue]
RequestLine: TypeAlias = tuple[str, str, Attributes, bool]
"""Method, resource, attributes, and whether the target names the server, which outranks the Host header (RFC 9112, 3.2.2).
A plain tuple, because one is made for each request."""


def _attributes(method: str, version: bytes) -> Attributes:
    told = VERSIONS.get(version) or version.decode("ascii")
    return {"http.request.method": method, "url.scheme": "http", "network.protocol.version": told}


_KNOWN = {m.encode() + version: (m, _attributes(m, version)) for m in start.KNOWN_METHODS for version in VERSIONS}
"""Method and version, to what any such request says. Any other method is exported as `_OTHER`."""
_USUAL = {
    (m.encode(), b"HTTP/%b\r" % version): (m, _attributes(m, version)) for m in start.KNOWN_METHODS for version in VERSIONS
}
"""The same, by the first and the last word of a line without its line feed."""


def shown(redaction: Redaction) -> int:
    """What may be told of a head, as SHOW_ bits."""
    return redaction.queries * SHOW_QUERIES | redaction.cookies * SHOW_COOKIES | redaction.paths * SHOW_PATHS


def read_line(show: int, line: bytes) -> RequestLine:
    """Read a request line, without its line feed. Raises ProtocolError if it is none.

    Nearly all have three words and nothing in their path that asks for a closer look: to see that costs a third less.
    """
    words = line.split(b" ")
    if show == SHOW_PATHS and len(words) == 3 and (known := _USUAL.get((words[0], words[2]))) and words[1].isascii():
        target = words[1].decode("ascii")
        path, _, _ = target.partition("?")
        special = "#" in path or ";" in path or "@" in path
        if path[:1] == "/" and target.isprintable() and not special and len(path) <= MAX_TEXT:
            return known[0], path, {**known[1], "url.path": path}, False
    return _read_unusual(show, line + b"\n")


def _read_unusual(show: int, line: bytes) -> RequestLine:
    """Any line, with its end: the other forms of a target (RFC 9112, 3.2), and what may be private in a path."""
    name, target, version = start.match(CLIENT, line).groups(default=b"")
    method, attributes = _begin(name, version)
    absolute = None if target[:1] == b"/" else _ABSOLUTE.match(target)
    if method == "CONNECT" and target[:1] != b"/":  # authority-form: a server, no path
        return method, server(attributes, absolute[2] if absolute else target), attributes, True
    if absolute:  # to a proxy
        attributes["url.scheme"] = text(absolute[1]).lower()
        server(attributes, absolute[2])
        target = target[absolute.end() :]
    elif target[:1] != b"/" and target != b"*" and not (show & SHOW_QUERIES and _LOGIN_SIGN not in target):
        # No form of HTTP's: all after the scheme may be private, or a login.
        target = scheme[0] if (scheme := _SCHEME.match(target)) else b""
    path = target[: found.start() if (found := _END_OF_PATH.search(target)) else len(target)]
    rest = target[len(path) :]
    if user := _USER.match(path):
        path = b"//" + path[user.end() :]
    if not show & SHOW_QUERIES:
        path = _PARAMETERS.sub(b"", path)
    return method, _path(attributes, path, rest, show), attributes, absolute is not None


def _begin(name: bytes, version: bytes) -> tuple[str, Attributes]:
    """The method, and the attributes that any request has."""
    if (known := _KNOWN.get(name + version)) is not None:
        return known[0], known[1].copy()
    method = name.decode("ascii")
    if method in start.KNOWN_METHODS:
        return method, _attributes(method, version)
    return method, _attributes("_OTHER", version) | {"http.request.method_original": method}


def _path(attributes: Attributes, path: bytes, rest: bytes, show: int) -> str:
    """Set path and query; answer the resource. `rest`: the query and the fragment, with their signs."""
    said = path[:MAX_TEXT].decode("utf-8", "replace") or "/"
    if not show & SHOW_PATHS:
        said = route(said)
    attributes["url.path"] = said
    if not (rest and show & SHOW_QUERIES):
        return said
    if rest[0] == _QUERY and (query := rest[1:].partition(b"#")[0]):
        attributes["url.query"] = text(query)
    return said + text(rest)


def server(attributes: Attributes, authority: bytes) -> str:
    """Set `name`, `name:port`, `[v6]`, `[v6]:port`, and answer it; never the user before an `@`."""
    address, port, said = _address(authority) if len(authority) <= MAX_AUTHORITY else ("", 0, "")
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
    return text(found[1] or found[2]), int(found[3] or 0), text(found[0])


def text(value: bytes) -> str:
    """As UTF-8, cut to MAX_TEXT bytes; what is none is replaced."""
    return value[:MAX_TEXT].decode("utf-8", "replace")
