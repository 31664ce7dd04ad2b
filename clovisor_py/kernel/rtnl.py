"""Netlink dumps, asked for and taken apart by hand: what a node's agent looks at every few seconds must cost microseconds.

pyroute2, which changes what is there, decodes all that the kernel tells of an object, in a third of a millisecond and more.
Errors are OSErrors here; who asks knows what they mean.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

PATIENCE_S: Final = 5.0
"""The kernel answers within microseconds; a longer silence is an error, not a wait."""
ATTEMPTS: Final = 5
"""A dump during which the table changed is asked for again so often; the last answer is taken as it is."""
ATTRIBUTE: Final = struct.Struct("=HH")
"""Length and type of an attribute."""

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLM_F_DUMP_INTR: Final = 0x10
_RECEIVE: Final = 64 * 1024
"""Bytes of one read: the kernel fills at most 32 KiB of a dump into one datagram."""
_HEADER: Final = struct.Struct("=IHHII")


def dump_message(request: int, body: bytes) -> bytes:
    """A request for all objects of a kind; `body`: its own header and attributes."""
    return _HEADER.pack(_HEADER.size + len(body), request, _NLM_F_REQUEST_DUMP, 1, 0) + body


def dump(sock: socket.socket, request: int, answer: int, body: bytes) -> list[bytes]:
    """The bodies of all `answer` messages; asked for again while the table changes under it, up to ATTEMPTS times."""
    bodies: list[bytes] = []
    for _ in range(ATTEMPTS):
        sock.send(dump_message(request, body))
        bodies, whole = collect(sock, answer)
        if whole:
            break
    return bodies


def collect(sock: socket.socket, answer: int) -> tuple[list[bytes], bool]:
    """Read one dump to its end; False when the kernel said that the table changed meanwhile."""
    bodies: list[bytes] = []
    whole = True
    while True:
        data = sock.recv(_RECEIVE)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
            body = data[at + _HEADER.size : at + length]
            whole = whole and not flags & _NLM_F_DUMP_INTR
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                code = struct.unpack_from("=i", body)[0]
                if code:
                    raise OSError(-code, os.strerror(-code))
                return bodies, whole
            if kind == answer:
                bodies.append(body)
            at += max(_HEADER.size, (length + 3) & ~3)


def attributes(data: bytes) -> dict[int, bytes]:
    """Attribute type to value; of two with one type the first."""
    found: dict[int, bytes] = {}
    at = 0
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        found.setdefault(kind & 0x3FFF, data[at + ATTRIBUTE.size : at + length])
        at += max(ATTRIBUTE.size, (length + 3) & ~3)
    return found


def text(value: bytes) -> str:
    """A name, which the kernel ends with a zero; as somebody else wrote it."""
    return value.rstrip(b"\0").decode(errors="replace")
