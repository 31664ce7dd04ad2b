r"""Domain names on the wire, and as text: `shop.default.svc.cluster.local`, `.` for the root, `a\.b.example`, `caf\195\169`.

Text is written as in master files (RFC 1035, 5.1), without the dot at the end, so no byte of a name reaches a terminal as
itself unless it is printable; escaped are, as OpenTelemetry has it, only those that are not, quotes, backslashes, and dots in
a label. A name may end in a pointer to an earlier one (RFC 1035, 4.1.4); each must point further back than all before it, so
there are no loops, and there are at most MAX_HOPS, so there is no long way round either.

All functions take one whole message and raise IndexError where it ends too soon, ProtocolError where it is no name.
"""

from __future__ import annotations

import re
from typing import Final

from clovisor_py.errors import ProtocolError

MAX_NAME: Final = 255
"""Bytes of a name with its length bytes, as RFC 1035 has it; as text at most four times that. Beyond it: ProtocolError."""
MAX_HOPS: Final = 16
"""Pointers in one name. Compression needs one, and servers write no more. Beyond it: ProtocolError."""
ROOT: Final = "."

_ESCAPED = b'".\\'
_TEXT = {
    byte: f"\\{chr(byte)}" if byte in _ESCAPED else chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03d}" for byte in range(256)
}
_SPECIAL = re.compile(rb'[^ -~]|[".\\]')


def read(data: bytes, pos: int) -> tuple[str, int]:
    """The name at `pos` as text, and where the bytes after it begin."""
    labels: list[bytes] = []
    end, ceiling, size, hops = 0, pos, 1, 0
    while length := data[pos]:
        if length < 0x40:
            size += length + 1
            if size > MAX_NAME:
                raise ProtocolError(f"not DNS: a name of more than {MAX_NAME} bytes.")
            labels.append(data[pos + 1 : pos + 1 + length])
            pos += length + 1
            continue
        target = _target(data, pos)
        hops += 1
        if target >= ceiling or hops > MAX_HOPS:
            raise ProtocolError("not DNS: a name that points nowhere.")
        end = end or pos + 2
        ceiling = pos = target
    return text(labels), end or pos + 1


def skip(data: bytes, pos: int) -> int:
    """Where the bytes after the name at `pos` begin."""
    limit = pos + MAX_NAME
    while length := data[pos]:
        if length >= 0x40:
            _target(data, pos)
            return pos + 2
        pos += length + 1
        if pos >= limit:
            raise ProtocolError(f"not DNS: a name of more than {MAX_NAME} bytes.")
    return pos + 1


def text(labels: list[bytes]) -> str:
    """Labels, each at most 63 bytes, in the form of master files."""
    if _SPECIAL.search(b"".join(labels)):
        return ".".join([label.decode("latin-1").translate(_TEXT) for label in labels])
    return b".".join(labels).decode("ascii") or ROOT


def _target(data: bytes, pos: int) -> int:
    if data[pos] < 0xC0:
        raise ProtocolError("not DNS: a label of no known kind.")
    return (data[pos] & 0x3F) << 8 | data[pos + 1]
