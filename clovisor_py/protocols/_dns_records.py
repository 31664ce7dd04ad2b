"""Resource records: what an answer says as text, and where the next record begins. One table, type to reader.

Told are addresses and names, which are what was asked for and no secrets; of other data nothing, and texts (TXT), which
people put tokens and keys into, only where `Redaction.values` are told.

All functions take one whole message, and raise IndexError or struct.error where it ends too soon, ProtocolError where it is
no DNS.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final, NamedTuple

from clovisor_py.protocols import _dns_names as names
from clovisor_py.protocols import _dns_tables as tables
from clovisor_py.protocols._memo import Memo

MAX_ANSWERS: Final = 16
"""Answers told of one response; the rest are counted. Services with more endpoints than that are asked for by their IP."""
MAX_TEXT: Final = 256
"""Characters told of one TXT or CAA record."""

FIXED: Final = struct.Struct(">HHIH")
"""Type, class, time to live, length of the data: what follows the owner's name."""
_SOA_SERIAL: Final = struct.Struct(">I")
_OPTION: Final = struct.Struct(">HH")
_EXTENDED_ERROR: Final = 15
"""The EDNS option of RFC 8914."""


class Options(NamedTuple):
    """What an OPT record (RFC 6891) adds to the header; `error` is "" where there is none."""

    rcode: int = 0
    """Bits 4 to 11 of the response code, in place."""
    error: str = ""


def skip_many(data: bytes, pos: int, count: int) -> int:
    """Where the bytes after `count` records begin."""
    for _ in range(count):
        pos = pos + 2 if data[pos] >= 0xC0 else names.skip(data, pos)
        pos += 10 + FIXED.unpack_from(data, pos)[3]
    if pos > len(data):
        raise IndexError
    return pos


def answers(data: bytes, pos: int, count: int, values: bool, told: list[str]) -> int:
    """Append the texts of the first records to `told`; answers where the bytes after all of them begin."""
    size, unpack = len(data), FIXED.unpack_from
    for number in range(count):
        pos = pos + 2 if data[pos] >= 0xC0 else names.skip(data, pos)
        kind, _class, _ttl, length = unpack(data, pos)
        pos += 10
        end = pos + length
        if end > size:
            raise IndexError
        if number < MAX_ANSWERS and (reader := (_READERS if values else _DEFAULT_READERS).get(kind)) is not None:
            told.append(reader(data, pos, end))
        pos = end
    return pos


def options(data: bytes, pos: int, count: int) -> Options:
    """What the first OPT among `count` records says."""
    for _ in range(count):
        pos = names.skip(data, pos)
        kind, _class, flags, length = FIXED.unpack_from(data, pos)
        pos += 10
        if kind == tables.OPT:
            return Options(flags >> 24 << 4, _extended_error(data[pos : pos + length]) if length else "")
        pos += length
    return Options()


def serials(data: bytes, pos: int, count: int) -> list[int | None]:
    """For each of `count` records the serial number, if it is a SOA, else None."""
    out: list[int | None] = []
    for _ in range(count):
        pos = names.skip(data, pos)
        kind, _class, _ttl, length = FIXED.unpack_from(data, pos)
        pos += 10
        out.append(_serial(data, pos) if kind == tables.SOA else None)
        pos += length
    return out


def _serial(data: bytes, pos: int) -> int:
    serial: int = _SOA_SERIAL.unpack_from(data, names.skip(data, names.skip(data, pos)))[0]
    return serial


def _extended_error(data: bytes) -> str:
    pos = 0
    while pos + 4 <= len(data):
        code, length = _OPTION.unpack_from(data, pos)
        if code == _EXTENDED_ERROR and pos + 6 <= len(data):
            return tables.extended_error(data[pos + 4] << 8 | data[pos + 5])
        pos += 4 + length
    return ""


def _ipv4(data: bytes, pos: int, _end: int) -> str:
    return "%d.%d.%d.%d" % (data[pos], data[pos + 1], data[pos + 2], data[pos + 3])  # noqa: UP031 half the time of an f-string


def _ipv6_text(packed: bytes) -> str:
    return IPv6Address(packed).compressed if len(packed) == 16 else packed.hex()


_ipv6_texts: Final = Memo(_ipv6_text, 16)


def _ipv6(data: bytes, pos: int, end: int) -> str:
    return _ipv6_texts[data[pos : min(end, pos + 16)]]


def _name(data: bytes, pos: int, _end: int) -> str:
    return names.read(data, pos)[0]


def _soa(data: bytes, pos: int, _end: int) -> str:
    return f"{names.read(data, pos)[0]} {_serial(data, pos)}"


def _numbers_and_name(count: int) -> Callable[[bytes, int, int], str]:
    numbers = struct.Struct(f">{count}H")

    def read(data: bytes, pos: int, _end: int) -> str:
        name = names.read(data, pos + numbers.size)[0]
        return " ".join([*map(str, numbers.unpack_from(data, pos)), name])

    return read


def _caa(data: bytes, pos: int, end: int) -> str:
    """Flags, tag, value (RFC 8659): who may issue certificates, which is meant to be read."""
    tag_end = min(pos + 2 + data[pos + 1], end)
    return f'{data[pos]} {_quoted(data[pos + 2 : tag_end])} "{_quoted(data[tag_end:end])}"'


def _strings(data: bytes, pos: int, end: int) -> str:
    """Strings, each with its length, put together as their readers do (RFC 7208, 3.3)."""
    whole = b""
    while pos < end and len(whole) < MAX_TEXT:
        whole += data[pos + 1 : min(pos + 1 + data[pos], end)]
        pos += 1 + data[pos]
    return _quoted(whole)


def _quoted(data: bytes) -> str:
    text = data[:MAX_TEXT].decode("latin-1")
    return "".join([char if " " <= char <= "~" and char not in '\\"' else f"\\{ord(char):03d}" for char in text])


_DEFAULT_READERS: Final[dict[int, Callable[[bytes, int, int], str]]] = {
    tables.A: _ipv4,
    tables.NS: _name,
    tables.CNAME: _name,
    tables.SOA: _soa,
    tables.PTR: _name,
    tables.MX: _numbers_and_name(1),
    tables.AAAA: _ipv6,
    tables.SRV: _numbers_and_name(3),
    tables.DNAME: _name,
    tables.SVCB: _numbers_and_name(1),
    tables.HTTPS: _numbers_and_name(1),
    tables.CAA: _caa,
}
_READERS: Final = {**_DEFAULT_READERS, tables.TXT: _strings, tables.SPF: _strings}
