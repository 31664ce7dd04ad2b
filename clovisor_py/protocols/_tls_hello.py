"""The two messages of a TLS handshake that anybody may read: what a client offers, and what a server chooses of it.

A client hello that is cut off tells what there is of it, so each is read from its front. Names are told only where they are
names: anything else in their place could be anything.

Of an encrypted client hello (ECH) the outer one is seen, with the name of the front that both agree to show.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols import _tls_tables as tables

MAX_HELLO: Final = 32 * 1024
"""Bytes of a hello: ten times those with post-quantum key shares. Beyond it: ProtocolError."""
MAX_SERVER_NAME: Final = 255
"""Characters of a server's name, as DNS has it; a longer one is no name."""
MAX_PROTOCOLS: Final = 8
"""Protocols told of those that a client offers by ALPN; browsers offer two."""
MAX_PROTOCOL: Final = 32
"""Characters of a protocol's name; a longer one is left out."""

_HOST = re.compile(rb"[0-9A-Za-z_]([0-9A-Za-z._\-]{0,253}[0-9A-Za-z_])?\.?")
_PROTOCOL = re.compile(rb"[!-~]{1,32}")
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random number of a server hello that only asks for another client hello (RFC 8446, 4.1.3)."""
_RANDOM = slice(2, 34)

_Extensions = dict[int, tuple[int, int]]


class ClientHello(NamedTuple):
    """What a client offers."""

    version: int
    """The highest."""
    server_name: str = ""
    """In lower case."""
    protocols: tuple[str, ...] = ()
    early_data: bool = False
    """It may already send data, before the server has said anything."""


class ServerHello(NamedTuple):
    """What a server chose."""

    version: int
    cipher: int
    protocol: str
    """By ALPN; empty where there was none, and in TLS 1.3, where it is encrypted."""
    resumed: bool
    """TLS 1.3: by a key that both had before."""
    retry: bool
    """Nothing yet: the client is to say hello again, with another key."""


def client_hello(body: bytes, whole: bool = True) -> ClientHello:
    """Read the body of a client hello, or as much of it as there is. Raises ProtocolError where it is none."""
    version = _version(body)
    found: _Extensions = {}
    try:
        pos = 35 + body[34]
        pos += 2 + _uint16(body, pos)
        pos += 1 + body[pos]
        if pos < len(body):
            _extensions(body, pos, found)
    except IndexError:
        if whole:
            raise ProtocolError("not TLS: a client hello that ends too soon.") from None
    offered = [n for n in _versions(body, found) if not tables.is_grease(n)]
    return ClientHello(
        max(map(tables.known_version, offered), default=version),
        _server_name(body, found),
        _protocols(body, found),
        tables.EARLY_DATA in found,
    )


def server_hello(body: bytes) -> ServerHello:
    """Read the body of a server hello. Raises ProtocolError where it is none."""
    version = _version(body)
    found: _Extensions = {}
    try:
        short = version == tables.TLS_1_3 and body[0] != 3  # drafts had no session here
        pos = 34 if short else 35 + body[34]
        cipher = _uint16(body, pos)
        pos += 2 if short else 3
        if pos < len(body):
            _extensions(body, pos, found)
        if tables.SUPPORTED_VERSIONS in found:
            version = tables.known_version(_uint16(body, found[tables.SUPPORTED_VERSIONS][0]))
    except IndexError:
        raise ProtocolError("not TLS: a server hello that ends too soon.") from None
    chosen = _protocols(body, found)
    resumed = tables.PRE_SHARED_KEY in found
    return ServerHello(version, cipher, chosen[0] if chosen else "", resumed, body[_RANDOM] == _RETRY)


def old_client_hello(data: bytes) -> ClientHello:
    """The hello of SSL 2, by which old clients offer newer versions (RFC 5246, E.2); `data` begins with its version."""
    return ClientHello(_uint16(data, 0))


def _version(body: bytes) -> int:
    if len(body) < 2:
        raise ProtocolError("not TLS: a hello that ends too soon.")
    version = tables.known_version(_uint16(body, 0))
    if version >> 8 != 3:
        raise ProtocolError("not TLS: a hello of no known version.")
    return version


def _uint16(data: bytes, pos: int) -> int:
    return data[pos] << 8 | data[pos + 1]


def _extensions(body: bytes, pos: int, found: _Extensions) -> None:
    """Add to `found` where the content of each extension begins and ends. Raises IndexError where they end too soon."""
    end = pos + 2 + _uint16(body, pos)
    pos += 2
    while pos < end:
        number = body[pos] << 8 | body[pos + 1]
        length = body[pos + 2] << 8 | body[pos + 3]
        pos += 4
        if pos + length > len(body):
            raise IndexError
        if number in _WANTED:
            found.setdefault(number, (pos, pos + length))
        pos += length


_WANTED: Final = frozenset(
    (tables.SERVER_NAME, tables.NEXT_PROTOCOL, tables.PRE_SHARED_KEY, tables.EARLY_DATA, tables.SUPPORTED_VERSIONS)
)


def _versions(body: bytes, found: _Extensions) -> list[int]:
    """The versions that a client offers."""
    pos, end = found.get(tables.SUPPORTED_VERSIONS, (0, 0))
    return [_uint16(body, at) for at in range(pos + 1, end - 1, 2)]


def _server_name(body: bytes, found: _Extensions) -> str:
    """The first name in the list, which is the only one (RFC 6066, 3), if it is one."""
    pos, end = found.get(tables.SERVER_NAME, (0, 0))
    name = body[pos + 5 : end]
    if not _HOST.fullmatch(name) or body[pos + 2] or _uint16(body, pos + 3) != len(name):
        return ""
    return name.decode("ascii").lower().rstrip(".")


def _protocols(body: bytes, found: _Extensions) -> tuple[str, ...]:
    """The protocols in an ALPN extension (RFC 7301)."""
    pos, end = found.get(tables.NEXT_PROTOCOL, (0, 0))
    pos += 2
    out: list[str] = []
    while pos < end and len(out) < MAX_PROTOCOLS:
        name = body[pos + 1 : min(pos + 1 + body[pos], end)]
        grease = len(name) == 2 and tables.is_grease(_uint16(name, 0))
        if _PROTOCOL.fullmatch(name) and not grease:
            out.append(name.decode("ascii"))
        pos += 1 + body[pos]
    return tuple(out)
