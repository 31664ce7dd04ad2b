"""Packets of a capture as Segments: what the kernel's program does at a veth, for any link type, tag, tunnel and fragment.

Almost all packets are TCP in IPv4 behind a link header of known size, of a connection that is known: `segments` unpacks such
a one in a single call, and `_any` takes whatever else there is. Segments are those that the kernel makes: payload, SYN, FIN
and RST. Bare ACKs are not among them: what they tell of lost segments the next payload or FIN tells as well, and where a
capture has them before the bytes that they acknowledge (several queues, one file) they would turn these into a gap.

Every packet ends as a segment, or in `counts`, or among the fragments. `Segment.length` is what IP says, `data` what was
captured of it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Final

from clovisor_py.model.segment import FIN, RST, SYN, TCP, UDP, Segment
from clovisor_py.sources._capture_causes import in_causal_order
from clovisor_py.sources._capture_copies import Copies
from clovisor_py.sources._capture_flows import Connections
from clovisor_py.sources._capture_fragments import Fragments
from clovisor_py.sources._capture_input import Block, Interface, Mark, Packet
from clovisor_py.sources._capture_ip import Carried, carried, tunnelled
from clovisor_py.sources._capture_links import LINKS, NOT_IP

MAX_DEPTH: Final = 8
"""IP in IP in IP: real overlays have two or three."""
REORDER_NS: Final = 100_000_000
"""A time that is so little before its predecessor's comes from several queues in one file, and is put right within a block;
a greater step is the clock's, and the file's order holds."""

ACKS: Final = "bare acknowledgements"
NO_IP: Final = "not IP"
OTHER: Final = "neither TCP nor UDP"
OTHER_UDP: Final = "UDP of other ports"
COPIES: Final = "copies of datagrams on other interfaces"
CUT: Final = "cut within their headers"
MALFORMED: Final = "malformed"
UNKNOWN_LINK: Final = "of an unknown link type"

_SIGNALS: Final = SYN | FIN | RST
_ENDS: Final = FIN | RST
_MORE_OR_OFFSET: Final = 0x3FFF
Seen = tuple[int, int, "Mark | None"]
"""(time in ns, interface, mark) of a packet."""

_TCP = struct.Struct(">4sIIBBH").unpack_from
_UDP = struct.Struct(">4sH").unpack_from
_PORTS = struct.Struct(">HH").unpack
_TIME = itemgetter(0)
_ETHERNET, _COOKED, _COOKED2, _RAW, _LOOPBACK = (
    (layout.size, layout.unpack_from, ethertype, ip)
    for layout, ethertype, ip in (
        (struct.Struct(">12x2sBxHxxHxBxx12sIIBBH"), b"\x08\x00", 14),
        (struct.Struct(">14x2sBxHxxHxBxx12sIIBBH"), b"\x08\x00", 16),
        (struct.Struct(">2s18xBxHxxHxBxx12sIIBBH"), b"\x08\x00", 20),
        (struct.Struct(">0sBxHxxHxBxx12sIIBBH"), b"", 0),
        (struct.Struct(">4x0sBxHxxHxBxx12sIIBBH"), b"", 4),
    )
)
_USUAL: Final = {
    1: _ETHERNET,
    113: _COOKED,
    276: _COOKED2,
    **dict.fromkeys((12, 14, 101, 228), _RAW),
    0: _LOOPBACK,
    108: _LOOPBACK,
}
"""Link type to (bytes of the usual packet's headers, their reader, its ethertype, where IP begins)."""
_PLAIN: Final = 0x45
"""How IPv4 without options begins."""
_HEADERS: Final = tuple((offset >> 2 & 0x3C) + 20 if offset >= 0x50 else 1 << 16 for offset in range(256))
"""By the byte that has TCP's data offset: bytes of both headers. Where that is too small, more than any packet has."""
_NOTHING: Final = Mark(0)
_NONE: Final = (1 << 62, _RAW[1], b"", 0)
"""Of a link type that has none."""


class Decoder:
    """`interfaces` may grow between two blocks. `udp_ports`: datagrams of these ports, at either end, become segments."""

    def __init__(self, interfaces: Sequence[Interface], udp_ports: Collection[int]) -> None:
        self._interfaces = interfaces
        self._udp_ports = frozenset(udp_ports)
        self._connections = Connections(self._udp_ports)
        self._out: list[Segment] = []
        self._copies = Copies()
        self.fragments = Fragments()
        self.counts: Counter[str] = Counter()
        """Packets that became no segment, by reason."""
        self.unknown_links: set[int] = set()
        self.packets = 0

    def segments(self, block: Block) -> list[Segment]:
        """The segments of one block, by time."""
        buffer, packets = block
        self.packets += len(packets)
        out = self._out = list[Segment]()
        append, make, get, open_ = out.append, tuple.__new__, self._connections.young.get, self._connections.entry
        usual = [_USUAL.get(interface.link, _NONE) for interface in self._interfaces]
        acks, latest, (size, unpack, ethertype, ip) = 0, -1, _NONE
        for time_ns, interface, start, end, wire, mark in _in_order(packets):
            if interface != latest:
                latest = interface
                size, unpack, ethertype, ip = usual[interface]
            if end - start >= size and mark is None:
                kind, first, total, place, protocol, key, seq, ack, offset, tcp_flags, window = unpack(buffer, start)
                if kind == ethertype and first == _PLAIN and protocol == TCP and not place & _MORE_OR_OFFSET:
                    headers = _HEADERS[offset]
                    length, signal = total - headers, tcp_flags & _SIGNALS
                    if length > 0 or (signal and not length):
                        entry = None if signal & SYN else get(key)
                        if entry is None:
                            entry = open_(key, 4, TCP, interface, 0, (seq, ack, tcp_flags))
                        at = start + ip + headers
                        stop = at + length
                        # Named one by one: with a star a tuple is made by way of a list, for half as much again.
                        flow_id, where, direction, pod_ip, peer_ip, pod_port, peer_port, flags, _ = entry
                        # fmt: off
                        append(make(Segment, (
                            time_ns, flow_id, where, direction, TCP, pod_ip, peer_ip, pod_port, peer_port,
                            seq, ack, tcp_flags, window, flags, length, buffer[at : stop if stop < end else end],
                            1, 0, 0, 0, 0, 0,
                        )))
                        # fmt: on
                        if signal and signal != SYN:
                            self._connections.end(key, 4, flow_id, tcp_flags)
                        continue
                    if not length:
                        acks += 1
                        continue
            self._any(buffer, (time_ns, interface, start, end, wire, mark))
        self.counts[ACKS] += acks
        if midway := self._connections.opened_midway:
            out = in_causal_order(out, midway)
            midway.clear()
        return out

    def _any(self, buffer: bytes, packet: Packet) -> None:
        """Any packet whatsoever."""
        time_ns, interface, start, end, wire, mark = packet
        link = self._interfaces[interface].link
        find = LINKS.get(link)
        if find is None:
            self.unknown_links.add(link)
            self.counts[UNKNOWN_LINK] += 1
            return
        data = buffer[start:end]
        wire = max(wire, len(data))
        try:
            why = self._ip(data, find(data, 0), wire, (time_ns, interface, mark))
        except (struct.error, IndexError):
            why = CUT if len(data) < wire else MALFORMED
        if why:
            self.counts[why] += 1

    def _ip(self, data: bytes, at: int, wire: int, seen: Seen) -> str:
        """Down to TCP or UDP, through whatever tunnels; answers why there is no segment."""
        for _ in range(MAX_DEPTH):
            found = None if at == NOT_IP else carried(data, at, wire)
            if found is None:
                return NO_IP
            if found.fragment is not None:
                part = data[found.at : min(found.end, len(data))]
                whole = self.fragments.add(found.fragment, part, max(found.end - found.at, 0), seen[0])
                if whole is None:
                    return ""
                self.fragments.joined -= 1  # this one's packet becomes the segment
                data, found = whole[0], found._replace(at=0, end=whole[1])
            if found.protocol == TCP:
                return self._tcp(data, found, seen)
            at = tunnelled(data, found.at, found.protocol)
            if at == NOT_IP:
                return self._udp(data, found, seen) if found.protocol == UDP else OTHER
            wire = found.end
        return NO_IP

    def _tcp(self, data: bytes, found: Carried, seen: Seen) -> str:
        ports, seq, ack, offset, tcp_flags, window = _TCP(data, found.at)
        begin = found.at + (offset >> 2 & 0x3C)
        length = found.end - begin
        if length < 0 or begin < found.at + 20:
            return MALFORMED
        if not (length or tcp_flags & _SIGNALS):
            return ACKS
        return self._add(found, ports, seen, (seq, ack, tcp_flags, window), length, data[begin : begin + length])

    def _udp(self, data: bytes, found: Carried, seen: Seen) -> str:
        ports, size = _UDP(data, found.at)
        if self._udp_ports.isdisjoint(_PORTS(ports)) and not self._interfaces[seen[1]].pod:
            return OTHER_UDP
        begin = found.at + 8
        length = (min(found.end - found.at, size) if size else found.end - found.at) - 8  # 0: a jumbogram
        if length < 0:
            return MALFORMED
        return self._add(found, ports, seen, (0, 0, 0, 0), length, data[begin : begin + length])

    def _add(
        self,
        found: Carried,
        ports: bytes,
        seen: Seen,
        numbers: tuple[int, int, int, int],
        length: int,
        data: bytes,
    ) -> str:
        """A segment; `numbers`: seq, ack, TCP flags, window."""
        time_ns, interface, mark = seen
        protocol, source, target, *_ = found
        key, direction, told = source + target + ports, 0, _NOTHING
        if protocol == UDP:
            key += b"u"
        if mark is not None:
            key += interface.to_bytes(4, "big")
            direction, told = mark.direction, mark
        elif protocol == UDP and self._copies.is_copy(key, data, time_ns, interface, self._interfaces[interface].link):
            return COPIES
        entry = self._connections.entry(key, len(source), protocol, interface, direction, numbers[:3])
        number, where, way, *ends, flags, _ = entry
        fields = (time_ns, number, where, way, protocol, *ends, *numbers, flags | told.flags, length, data, *told[2:])
        self._out.append(Segment._make(fields))
        if protocol == TCP and numbers[2] & _ENDS:
            self._connections.end(key, len(source), number, numbers[2])
        return ""


def _in_order(packets: list[Packet]) -> list[Packet]:
    """By time, but for great steps back."""
    ordered = sorted(packets, key=_TIME)
    if ordered == packets:
        return packets
    steps = [index for index, (a, b) in enumerate(pairwise(packets), 1) if a[0] - b[0] > REORDER_NS]
    if not steps:
        return ordered
    return [packet for a, b in pairwise([0, *steps, len(packets)]) for packet in sorted(packets[a:b], key=_TIME)]
