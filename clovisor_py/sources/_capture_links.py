"""Where a packet's IP header begins, for each link type that captures of pods and nodes have.

One answer for all of them: an offset, or -1 where no IP is inside. What lies between link and IP (VLAN tags, MPLS labels,
PPPoE, LLC/SNAP) is stepped over and not remembered: a packet that crosses several tags or interfaces stays one packet.
Functions get a packet's captured bytes; where these end too early they raise struct.error or IndexError, as slicing does
not. https://www.tcpdump.org/linktypes.html
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

NOT_IP: Final = -1
IPV4, IPV6 = 0x0800, 0x86DD
_VLANS: Final = frozenset((0x8100, 0x88A8, 0x9100, 0x9200, 0x9300))
MPLS: Final = frozenset((0x8847, 0x8848))
PPPOE: Final = 0x8864
TRANSPARENT_BRIDGING: Final = 0x6558
PPP_IP: Final = {0x0021: IPV4, 0x0057: IPV6, 0x0281: 0x8847}
LLC_BELOW: Final = 0x0600
"""A smaller ethertype is a length, and LLC follows."""
SNAP: Final = b"\xaa\xaa\x03"

_u16 = struct.Struct(">H").unpack_from
_u32 = struct.Struct(">I").unpack_from
Finder = Callable[[bytes, int], int]


def inside(packet: bytes, ethertype: int, at: int) -> int:
    """The offset of the IP header in what begins at `at` and is of that ethertype."""
    while ethertype in _VLANS:
        (ethertype,) = _u16(packet, at + 2)
        at += 4
    if ethertype in (IPV4, IPV6):
        return at
    if ethertype in MPLS:
        return _mpls(packet, at)
    if ethertype == PPPOE:
        return ppp(packet, at + 6)
    if ethertype < LLC_BELOW and packet[at : at + 3] == SNAP:
        return inside(packet, _u16(packet, at + 6)[0], at + 8)
    return ethernet(packet, at) if ethertype == TRANSPARENT_BRIDGING else NOT_IP


def ethernet(packet: bytes, at: int) -> int:
    """LINKTYPE 1; also inside VXLAN, GENEVE and GRE."""
    return inside(packet, _u16(packet, at + 12)[0], at + 14)


def _mpls(packet: bytes, at: int) -> int:
    """Labels up to the last one; IP follows, or Ethernet behind a control word of zeros (RFC 4448)."""
    while not packet[at + 2] & 1:
        at += 4
    at += 4
    if packet[at] >> 4 in (4, 6):
        return at
    return ethernet(packet, at + 4) if packet[at : at + 2] == b"\0\0" else NOT_IP


def ppp(packet: bytes, at: int) -> int:
    """PPP (RFC 1661), with or without the HDLC address; the protocol's first byte may be left out."""
    if packet[at : at + 2] == b"\xff\x03":
        at += 2
    if packet[at] & 1:
        return inside(packet, PPP_IP.get(packet[at], 0), at + 1)
    return inside(packet, PPP_IP.get(_u16(packet, at)[0], 0), at + 2)


def _hdlc(packet: bytes, at: int) -> int:
    """Cisco's: address, control, ethertype; or PPP in HDLC."""
    return ppp(packet, at) if packet[at] == 0xFF else inside(packet, _u16(packet, at + 2)[0], at + 4)


def _raw(packet: bytes, at: int) -> int:
    return at if packet[at] >> 4 in (4, 6) else NOT_IP


def _loopback(packet: bytes, at: int) -> int:
    """BSD: an address family, in the byte order of the machine that captured. IP says itself which one it is."""
    return _raw(packet, at + 4)


def _cooked(packet: bytes, at: int) -> int:
    return inside(packet, _u16(packet, at + 14)[0], at + 16)


def _cooked2(packet: bytes, at: int) -> int:
    return inside(packet, _u16(packet, at)[0], at + 20)


def _nflog(packet: bytes, at: int) -> int:
    """NFLOG of iptables: attributes of length, type and value, in the byte order of the machine that captured."""
    at += 4
    for order in ("<HH", ">HH"):
        here = at
        while here + 4 <= len(packet):
            length, kind = struct.unpack_from(order, packet, here)
            if length < 4 or kind > 0xFF:
                break
            if kind == 9:
                return _raw(packet, here + 4)
            here += (length + 3) & ~3
    return NOT_IP


LINKS: Final[dict[int, Finder]] = {
    0: _loopback,
    1: ethernet,
    9: ppp,
    12: _raw,
    14: _raw,
    50: ppp,
    51: lambda packet, at: ppp(packet, at + 6),
    101: _raw,
    104: _hdlc,
    108: _loopback,
    113: _cooked,
    228: _raw,
    229: _raw,
    239: _nflog,
    276: _cooked2,
}
