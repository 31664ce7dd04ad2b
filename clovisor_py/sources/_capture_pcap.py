"""pcap files: a header, then packets, each behind its time and its two lengths; in either byte order, in µs or ns.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html; also the "modified" variant of some old libpcaps, whose
packets say their interface. Read by a loop of our own over `struct`: scapy's raw reader takes three times as long and its
import tens of megabytes; the aim for a whole session, of two to four packets, is 10 µs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from clovisor_py.errors import CaptureBroken
from clovisor_py.sources._capture_input import BILLION, CUT_OFF, DAMAGED, LONGEST, Block, Input, Interface, Packet

HEADER: Final = 24
MICROSECONDS, NANOSECONDS, MODIFIED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
_FORMATS: Final = {MICROSECONDS: ("IIII", 1000), NANOSECONDS: ("IIII", 1), MODIFIED: ("IIII8x", 1000)}
"""Magic to (a packet's header: seconds, their fraction, captured, on the wire; ns of one unit of the fraction)."""
LINK_MASK: Final = 0xFFFF
"""The upper bits of the link type's field say something of checksums."""


def is_pcap(start: bytes) -> bool:
    """Whether a file that begins so is a pcap file."""
    return _layout(start) is not None


class PcapReader:
    """`start`: the first 24 bytes, already read."""

    def __init__(self, source: Input, start: bytes) -> None:
        if len(start) < HEADER:
            raise CaptureBroken("it breaks off in its header; capture again.")
        layout = _layout(start)
        assert layout is not None, "is_pcap was asked"
        order, packet, self._unit_ns = layout
        self._packet = struct.Struct(order + packet)
        self._source = source
        self.interfaces = [Interface(struct.unpack_from(order + "I", start, 20)[0] & LINK_MASK)]

    def blocks(self) -> Iterator[Block]:
        """All packets, in the order of the file. Raises CaptureBroken where it breaks off or is damaged, at last."""
        read, unpack, header, unit = self._source.read, self._packet.unpack_from, self._packet.size, self._unit_ns
        buffer, at, done, billion = b"", 0, HEADER, BILLION
        second = second_ns = 0
        while more := read():
            buffer = buffer[at:] + more
            done += at
            at, size = 0, len(buffer)
            packets: list[Packet] = []
            append, last = packets.append, size - header
            while at <= last:
                seconds, fraction, captured, wire = unpack(buffer, at)
                start = at + header
                end = start + captured
                if end > size:
                    break
                if seconds != second:
                    second, second_ns = seconds, seconds * billion
                append((second_ns + fraction * unit, 0, start, end, wire, None))
                at = end
            yield buffer, packets
            if at + header <= size and captured > LONGEST:
                raise CaptureBroken(DAMAGED.format(done + at))
        if at < len(buffer):
            raise CaptureBroken(CUT_OFF.format(done + at))


def _layout(start: bytes) -> tuple[str, str, int] | None:
    for order in "<>":
        if len(start) >= 4 and (known := _FORMATS.get(struct.unpack_from(order + "I", start)[0])):
            return order, *known
    return None
