"""Is this DNS? What a header can look like, then whether a question and records follow that fit into the bytes.

The counts are the evidence: a query has one question and no answers, and its class and type are among few of many numbers.
NetBIOS names (port 137) are DNS messages in form; they are told by their names, which are 32 letters from A to P. Asked of a
name server, they are questions like others, and get the answers that name servers give.

Over TCP a message has a length before it, and it must be filled exactly; a long one is believed after BELIEVED bytes.

What can be read as DNS and that nobody should say (reserved flags, a type or class that does not exist, two questions) is no
evidence, and no objection either: on DNS' own port it is somebody's broken client, or a test of the server.
"""

from __future__ import annotations

import re
from typing import Final

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols import _dns_message as dns
from clovisor_py.protocols import _dns_names as names
from clovisor_py.protocols import _dns_records as records
from clovisor_py.protocols import _dns_tables as tables
from clovisor_py.protocols._api import Evidence

BELIEVED: Final = 512
"""Bytes of a message over TCP that must be there, and be DNS, before its end is."""
MAX_CANDIDATES: Final = 64
"""Places that are looked at more closely when the beginning of a message is searched."""
LOOK: Final = 4096
"""Bytes looked at from such a place on: as many as a recogniser gets."""
LEAST_ASKED: Final = 17
"""Bytes of the shortest message with a question: the header, the root's name, type and class."""

_CLASSES = frozenset((1, 3, 4, 254, 255))
"""Internet, Chaos, Hesiod, none, any."""
_UNICAST = 0x7FFF
"""Multicast DNS uses the first bit of a class for something else."""
_RESERVED = 0x0040
_RCODE = 0x000F
_ONLY_RESPONSES = 0x0080 | _RCODE
"""Flags that a request does not have: recursion available, and a response code."""
_AUTHORITATIVE = 0x0400
"""Only responses have it, and notifications."""
_ANNOUNCES = (0x8400, 0x8000)
_NETBIOS = re.compile(rb"\x20[A-P]{32}")
_MESSAGE = re.compile(rb"(?=[\s\S]{4}[\x00-\x07\x20-\x2f\x80-\x87\xa0-\xaf][\x00-\x3b\x80-\xbb]\x00\x01)")
"""Where a message over TCP with one question may begin."""


def datagram(data: bytes) -> Evidence:
    """As `Protocol.recognise_datagram`."""
    if len(data) < dns.HEADER.size:
        return Evidence.NO
    try:
        return _whole(data, exact=False)
    except ProtocolError:
        return _odd(data, exact=False)
    except dns.SHORT:
        return Evidence.NO


def stream(data: bytes) -> Evidence:
    """As `Protocol.recognise`."""
    if len(data) < 2:
        return Evidence.MORE
    size = data[0] << 8 | data[1]
    if size < LEAST_ASKED:
        return Evidence.NO
    body = data[2 : 2 + size]
    try:
        if len(body) == size:
            return _whole(body, exact=True)
        return _begun(body)
    except ProtocolError:
        return _odd(body, exact=True) if len(body) == size else Evidence.NO
    except dns.SHORT:
        return Evidence.NO if len(body) == size else Evidence.MORE


def find(data: bytes) -> int | None:
    """Where in the bytes of a TCP stream a message begins, or None."""
    for number, candidate in enumerate(_MESSAGE.finditer(data)):
        if number == MAX_CANDIDATES:
            break
        evidence = stream(data[candidate.start() : candidate.start() + LOOK])
        if evidence in (Evidence.REQUEST, Evidence.RESPONSE) or (evidence is Evidence.MORE and not candidate.start()):
            return candidate.start()
    return None


def _begun(body: bytes) -> Evidence:
    """Some of a message over TCP. Raises one of SHORT where its question is not whole."""
    evidence = _header(body, exact=True)
    _question(body, 12, multicast=False)
    return evidence if len(body) >= BELIEVED else Evidence.MORE


def _whole(data: bytes, exact: bool) -> Evidence:
    """All of a message; `exact`: it has nothing behind its last record."""
    evidence = _header(data, exact)
    ident, _flags, asked, answered, authorities, extras = dns.HEADER.unpack_from(data)
    pos = 12
    for _ in range(asked):
        pos = _question(data, pos, multicast=not ident)
    if exact or not asked:
        pos = records.skip_many(data, pos, answered + authorities + extras)
        if pos != len(data):
            return Evidence.NO
    return evidence


def _odd(data: bytes, exact: bool) -> Evidence:
    """Of a whole message that is not as it should be: MORE, where it has a question, and `exact`ly the records it says.

    One without a question must have something else to say: it answers, or asks with a record (an inverse query, RFC 1035).
    """
    try:
        dns.check(data)
        _ident, flags, asked, answered, authorities, extras = dns.HEADER.unpack_from(data)
        if exact and (not asked or _NETBIOS.match(data, 12)):
            return Evidence.NO
        if not asked:
            says = flags & dns.IS_RESPONSE or answered
            fills = says and records.skip_many(data, 12, answered + authorities + extras) == len(data)
            return Evidence.MORE if fills else Evidence.NO
        pos = dns.question(data)[1]
        for _ in range(1, asked):
            pos = names.skip(data, pos) + 4
        if exact:
            pos = records.skip_many(data, pos, answered + authorities + extras)
    except (*dns.SHORT, ProtocolError):
        return Evidence.NO
    return Evidence.MORE if pos == len(data) or (pos < len(data) and not exact) else Evidence.NO


def _header(data: bytes, exact: bool) -> Evidence:
    """What the header says. Raises ProtocolError where it cannot be one, and one of SHORT."""
    ident, flags, asked, answered, authorities, extras = dns.HEADER.unpack_from(data)
    opcode = flags >> 11 & 15
    is_response = flags & dns.IS_RESPONSE
    multicast = not exact and not ident
    usual = (
        opcode in (tables.QUERY, tables.NOTIFY, tables.UPDATE)
        and not flags & _RESERVED
        and flags & _RCODE <= max(tables.RCODES)
    )
    if multicast and not asked:
        sane = flags in _ANNOUNCES and answered > 0
    elif is_response:
        sane = asked == 1
    else:
        only = _ONLY_RESPONSES if opcode == tables.NOTIFY else _ONLY_RESPONSES | _AUTHORITATIVE
        sane = not flags & only and (multicast or _asks(opcode, (asked, answered, authorities, extras)))
    if not (usual and sane):
        raise ProtocolError("not DNS: no header looks like that.")
    return Evidence.RESPONSE if is_response else Evidence.REQUEST


def _asks(opcode: int, counts: tuple[int, int, int, int]) -> bool:
    """Whether a request may have so many records; an update has any number of them."""
    asked, answered, authorities, extras = counts
    return asked == 1 and (
        opcode == tables.UPDATE or (answered <= (opcode == tables.NOTIFY) and authorities <= 1 and extras <= 3)
    )


def _question(data: bytes, pos: int, multicast: bool) -> int:
    """Where the bytes behind the question at `pos` begin. Raises ProtocolError where it is none, and one of SHORT."""
    if pos == 12:
        found, end = dns.question(data)
        kind = found.number
    else:
        end = names.skip(data, pos) + 4
        kind = data[end - 4] << 8 | data[end - 3]
    group = data[end - 2] << 8 | data[end - 1]
    known = kind in tables.TYPES or kind in tables.PRIVATE_TYPES
    if not known or (group & _UNICAST if multicast else group) not in _CLASSES:
        raise ProtocolError("not DNS: nobody asks for such a type or class.")
    if kind in (tables.NB, tables.SRV) and _NETBIOS.match(data, pos):
        raise ProtocolError("not DNS: a NetBIOS name.")
    return end
