"""IP headers, and what else may lie between them and TCP or UDP: extension headers, and tunnels with another IP inside.

Functions get a packet's captured bytes and raise struct.error or IndexError where these end too early. Lengths are those
that the headers tell, so Ethernet's padding is no payload, and what was not captured still counts; a length of 0 is left to
the network card (segmentation offload, jumbograms): the packet's own length stands for it then.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from clovisor_py.model.segment import UDP
from clovisor_py.sources._capture_links import IPV4, IPV6, MPLS, NOT_IP, TRANSPARENT_BRIDGING, inside, ppp

VXLAN_PORTS: Final = frozenset((4789, 8472))
"""IANA's, and the one that Linux had before (flannel and Cilium still use it)."""
GENEVE_PORT: Final = 6081
IPIP, IPV6_IN, GRE, FRAGMENT, AUTHENTICATION = 4, 41, 47, 44, 51
EXTENSIONS: Final = frozenset((0, 43, FRAGMENT, AUTHENTICATION, 60, 135, 139, 140))
MAX_EXTENSIONS: Final = 16
"""Each kind comes at most once or twice (RFC 8200, 4.1); a longer chain is hostile."""
ERSPAN, ERSPAN_III, GRE_PPP = 0x88BE, 0x22EB, 0x880B

_IPV4 = struct.Struct(">BxHHHxB2x4s4s").unpack_from
_IPV6 = struct.Struct(">4xHBx16s16s").unpack_from
_GRE = struct.Struct(">HH").unpack_from
_u16 = struct.Struct(">H").unpack_from


class Fragment(NamedTuple):
    """Which part of a datagram this is."""

    identity: tuple[bytes, bytes, int, int]
    offset: int
    more: bool


class Carried(NamedTuple):
    """What an IP header carries: `data[at:end]` of the packet, where `end` may lie beyond what was captured."""

    protocol: int
    source: bytes
    target: bytes
    at: int
    end: int
    fragment: Fragment | None


def carried(data: bytes, at: int, wire: int) -> Carried | None:
    """Read the header at `at`, of a packet of `wire` bytes; None where there is none."""
    version = data[at] >> 4
    if version == 4:
        return _carried4(data, at, wire)
    return _carried6(data, at, wire) if version == 6 else None


def _carried4(data: bytes, at: int, wire: int) -> Carried | None:
    first, total, number, place, protocol, source, target = _IPV4(data, at)
    if first & 15 < 5:
        return None
    fragment = None
    if place & 0x3FFF:
        fragment = Fragment((source, target, number, protocol), (place & 0x1FFF) * 8, bool(place & 0x2000))
    return Carried(protocol, source, target, at + (first & 15) * 4, at + total if total else wire, fragment)


def _carried6(data: bytes, at: int, wire: int) -> Carried | None:
    total, protocol, source, target = _IPV6(data, at)
    at += 40
    end = at + total if total else wire
    fragment = None
    for _ in range(MAX_EXTENSIONS):
        if protocol not in EXTENSIONS:
            return Carried(protocol, source, target, at, end, fragment)
        if protocol == FRAGMENT:
            place, number = struct.unpack_from(">HI", data, at + 2)
            if place & 0xFFF9:  # not an atomic one (RFC 6946)
                fragment = Fragment((source, target, number, FRAGMENT), place & 0xFFF8, bool(place & 1))
                if fragment.offset:
                    return Carried(data[at], source, target, at + 8, end, fragment)
        size = 8 if protocol == FRAGMENT else (data[at + 1] + 2) * 4 if protocol == AUTHENTICATION else (data[at + 1] + 1) * 8
        protocol = data[at]
        at += size
    return None


def tunnelled(data: bytes, at: int, protocol: int) -> int:
    """The offset of the IP header inside what begins at `at`, where that is a tunnel of a known kind; NOT_IP otherwise."""
    if protocol in (IPIP, IPV6_IN):
        return at
    if protocol == GRE:
        return _gre(data, at)
    return _over_udp(data, at) if protocol == UDP else NOT_IP


def _gre(data: bytes, at: int) -> int:
    """RFC 2784 and 2890 (and 2637 for PPP): optional words in front of the payload, each announced by a bit."""
    flags, ethertype = _GRE(data, at)
    at += 4 * (1 + bool(flags & 0xC000) + bool(flags & 0x2000) + bool(flags & 0x1000) + bool(flags & 0x0080))
    if ethertype in (IPV4, IPV6, TRANSPARENT_BRIDGING) or ethertype in MPLS:
        return inside(data, ethertype, at)
    if ethertype == ERSPAN:
        return inside(data, TRANSPARENT_BRIDGING, at + 8 if flags & 0x1000 else at)
    if ethertype == ERSPAN_III:
        return inside(data, TRANSPARENT_BRIDGING, at + 20 if data[at + 11] & 1 else at + 12)
    return ppp(data, at) if ethertype == GRE_PPP else NOT_IP


def _over_udp(data: bytes, at: int) -> int:
    """VXLAN (RFC 7348) and GENEVE (RFC 8926), by port and by a header that is valid and has IP behind it."""
    (port,) = _u16(data, at + 2)
    if port != GENEVE_PORT and port not in VXLAN_PORTS:
        return NOT_IP
    try:
        if port != GENEVE_PORT:
            valid = data[at + 8] & 0x08 and not data[at + 15]
            inner = inside(data, TRANSPARENT_BRIDGING, at + 16) if valid else NOT_IP
        else:
            inner = NOT_IP if data[at + 8] >> 6 else inside(data, _u16(data, at + 10)[0], at + 16 + (data[at + 8] & 0x3F) * 4)
        return inner if inner != NOT_IP and data[inner] >> 4 in (4, 6) else NOT_IP
    except (struct.error, IndexError):
        return NOT_IP  # shorter than a tunnel's: somebody's datagram on that port
