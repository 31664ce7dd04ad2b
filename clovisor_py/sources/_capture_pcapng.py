"""pcapng files: blocks of sections, of interfaces with their own link type and clock, and of packets; unknown ones are skipped.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html; read by our own loop for the reason that `_capture_pcap`
gives. Interfaces are numbered throughout the file: a section begins again at 0, and one that says the same as an earlier one
is that one (files that were joined).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator
from typing import Final

from clovisor_py.errors import CaptureBroken
from clovisor_py.sources._capture_input import (
    BILLION,
    CUT_OFF,
    DAMAGED,
    INBOUND,
    KERNEL,
    LONGEST,
    OUTBOUND,
    Block,
    Input,
    Interface,
    Mark,
    Packet,
)

SECTION: Final = b"\x0a\x0d\x0d\x0a"
"""The type of a section's header: reads the same in both byte orders."""
SECTION_NUMBER: Final = int.from_bytes(SECTION, "big")
BYTE_ORDER: Final = 0x1A2B3C4D
INTERFACE, OLD_PACKET, SIMPLE_PACKET, STATISTICS, PACKET = 1, 2, 3, 5, 6
APPLICATION: Final = b"clovisor"
"""How the name of the application begins (`shb_userappl`) in files that `trace -w` wrote: their interfaces are pods."""
END_OF_OPTIONS, USER_APPLICATION = 0, 4
NAME, IPV4_ADDRESS, IPV6_ADDRESS, RESOLUTION, OFFSET = 2, 4, 5, 9, 14
FLAGS, DIRECTIONS = 2, 3
COMMENT: Final = 1
SAID: Final = "clovisor"
"""How a comment begins that `trace -w` wrote."""
LOST_HERE, LOST_BEFORE = 5, 7
"""`isb_ifdrop` and `isb_osdrop`: packets that the capturing machine did not write."""

WANTED: Final = frozenset((SECTION_NUMBER, INTERFACE, OLD_PACKET, SIMPLE_PACKET, PACKET))
SMALLEST: Final = 12
MAX_INTERFACES: Final = 4096
"""Different ones in a file; a node has hundreds."""
NAME_CHARS: Final = 256

Clock = tuple[int, int, int, int, int]
"""(number throughout the file, ns, per, offset, snaplen) of an interface; its time stamps mean `ticks * ns // per + offset` ns
since the epoch. A plain tuple because it is unpacked for every packet, and that of a named one takes four times as long."""

_MARKS: Final = {direction: Mark(direction) for direction in (INBOUND, OUTBOUND)}
_NUMBER: Final = re.compile("[0-9]{1,20}")


class PcapngReader:
    """`start`: the beginning of the file, already read."""

    def __init__(self, source: Input, start: bytes) -> None:
        self._source = source
        self._buffer = start
        self._at = 0
        self._before = 0
        """Bytes of the file in front of the buffer."""
        self._skip = 0
        """Bytes that are still to come of a block that nobody wants."""
        self._begin("<")
        self._ours = False
        self._last_ns = 0
        self._clocks: list[Clock] = []
        self._known: dict[Interface, int] = {}
        self._lost: dict[int, int] = {}
        self.interfaces: list[Interface] = []

    @property
    def lost(self) -> int:
        """Packets that the capturing machine says it did not write."""
        return sum(self._lost.values())

    def blocks(self) -> Iterator[Block]:
        """All packets, in the order of the file. Raises CaptureBroken where it breaks off or is damaged, at last."""
        while more := self._source.read():
            if self._skip:
                skipped = min(self._skip, len(more))
                self._skip -= skipped
                self._before += skipped
                more = more[skipped:]
            self._buffer = self._buffer[self._at :] + more
            self._before += self._at
            self._at = 0
            packets: list[Packet] = []
            try:
                self._walk(packets)
            except (CaptureBroken, struct.error):
                yield self._buffer, packets
                raise CaptureBroken(DAMAGED.format(self._before + self._at)) from None
            yield self._buffer, packets
        if self._skip or self._at < len(self._buffer):
            raise CaptureBroken(CUT_OFF.format(self._before + self._at))

    def _walk(self, packets: list[Packet]) -> None:
        """All blocks that are whole in the buffer."""
        buffer, at, size = self._buffer, self._at, len(self._buffer)
        append, packet = packets.append, self._packet
        head, word = struct.Struct(self._order + "II").unpack_from, struct.Struct(self._order + "I").unpack_from
        while at + SMALLEST <= size:
            self._at = at
            kind, total = head(buffer, at)
            if kind == SECTION_NUMBER:
                self._begin(_order(buffer, at))
                head, word = struct.Struct(self._order + "II").unpack_from, struct.Struct(self._order + "I").unpack_from
                kind, total = head(buffer, at)
            stop = at + total
            if total < SMALLEST or total & 3:
                raise CaptureBroken
            if stop > size:
                if total > LONGEST:
                    self._step_over(kind, stop)
                return
            if word(buffer, stop - 4)[0] != total:
                raise CaptureBroken
            if kind == PACKET:
                append(packet(buffer, at, stop))
            else:
                self._other(kind, buffer, at, stop, packets)
            at = stop
        self._at = at

    def _begin(self, order: str) -> None:
        """A section, in its byte order."""
        self._order = order
        self._packet_head = struct.Struct(order + "IIIII").unpack_from

    def _step_over(self, kind: int, stop: int) -> None:
        """A block that is longer than anything that is wanted."""
        if kind in WANTED:
            raise CaptureBroken
        self._skip, self._at = stop - len(self._buffer), len(self._buffer)

    def _packet(self, buffer: bytes, at: int, stop: int) -> Packet:
        number, high, low, captured, wire = self._packet_head(buffer, at + 8)
        start = at + 28
        options = start + (captured + 3 & ~3)
        if options > stop - 4 or number >= len(self._clocks):
            raise CaptureBroken
        interface, ns, per, offset, _ = self._clocks[number]
        ticks = high << 32 | low
        self._last_ns = time_ns = ticks * ns + offset if per == 1 else ticks * ns // per + offset
        mark = self._mark(buffer, options, stop - 4) if stop - 4 - options >= 8 else None
        return time_ns, interface, start, start + captured, wire, mark

    def _mark(self, buffer: bytes, at: int, end: int) -> Mark | None:
        """Its direction, and in files of our own what the kernel said of it."""
        direction, said = 0, {}
        for code, value in self._options(buffer, at, end):
            if code == FLAGS and len(value) == 4:
                direction = struct.unpack(self._order + "I", value)[0] & DIRECTIONS
            elif code == COMMENT and self._ours:
                said = _said(value)
        if direction in (INBOUND, OUTBOUND):
            return Mark(direction, **said) if said else _MARKS[direction]
        return None

    def _other(self, kind: int, buffer: bytes, at: int, stop: int, packets: list[Packet]) -> None:
        if kind == SECTION_NUMBER:
            application = dict(self._options(buffer, at + 24, stop - 4)).get(USER_APPLICATION, b"")
            self._ours = application.lower().startswith(APPLICATION)
            self._clocks = []
        elif kind == INTERFACE:
            self._interface(buffer, at, stop)
        elif kind == SIMPLE_PACKET:
            packets.append(self._simple(buffer, at, stop))
        elif kind == OLD_PACKET:
            packets.append(self._old(buffer, at, stop))
        elif kind == STATISTICS:
            self._statistics(buffer, at, stop)

    def _simple(self, buffer: bytes, at: int, stop: int) -> Packet:
        """A packet without a time, of the section's first interface: its predecessor's stands for it."""
        (wire,) = struct.unpack_from(self._order + "I", buffer, at + 8)
        if not self._clocks:
            raise CaptureBroken
        interface, *_, snaplen = self._clocks[0]
        captured = min(wire, snaplen or wire, stop - at - 16)
        return self._last_ns, interface, at + 12, at + 12 + captured, wire, None

    def _old(self, buffer: bytes, at: int, stop: int) -> Packet:
        """As it was before 2009: the interface has 16 bits, and the number of lost packets follows it."""
        (number,) = struct.unpack_from(self._order + "H", buffer, at + 8)
        wide = struct.pack(self._order + "I", number)
        time_ns, interface, start, end, wire, mark = self._packet(
            wide.join((buffer[at : at + 8], buffer[at + 12 : stop])), 0, stop - at
        )
        return time_ns, interface, start + at, end + at, wire, mark

    def _interface(self, buffer: bytes, at: int, stop: int) -> None:
        link, _, snaplen = struct.unpack_from(self._order + "HHI", buffer, at + 8)
        name, addresses, ns, per, offset = "", [], 1000, 1, 0
        for code, value in self._options(buffer, at + 16, stop - 4):
            if code == NAME:
                name = value.decode(errors="replace")[:NAME_CHARS]
            elif code in (IPV4_ADDRESS, IPV6_ADDRESS) and len(value) in (8, 17):
                addresses.append(ipaddress.ip_address(value[: len(value) & ~7 if code == IPV6_ADDRESS else 4]).compressed)
            elif code == RESOLUTION and value:
                ns, per = _resolution(value[0])
            elif code == OFFSET and len(value) == 8:
                offset = struct.unpack(self._order + "q", value)[0] * BILLION
        found = Interface(link, name, tuple(addresses), self._ours)
        number = self._known.setdefault(found, len(self.interfaces))
        if number == len(self.interfaces):
            self.interfaces.append(found)
        if max(number, len(self._clocks)) >= MAX_INTERFACES:
            raise CaptureBroken
        self._clocks.append((number, ns, per, offset, snaplen))

    def _statistics(self, buffer: bytes, at: int, stop: int) -> None:
        """Totals so far, of one interface; the last ones count."""
        (number,) = struct.unpack_from(self._order + "I", buffer, at + 8)
        options = dict(self._options(buffer, at + 20, stop - 4))
        if number < len(self._clocks):
            counts = [options[code] for code in (LOST_HERE, LOST_BEFORE) if len(options.get(code, b"")) == 8]
            interface = self._clocks[number][0]
            self._lost[interface] = sum(struct.unpack(self._order + "Q", count)[0] for count in counts)

    def _options(self, buffer: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
        while at + 4 <= end:
            code, size = struct.unpack_from(self._order + "HH", buffer, at)
            if code == END_OF_OPTIONS or at + 4 + size > end:
                return
            yield code, buffer[at + 4 : at + 4 + size]
            at += 4 + (size + 3 & ~3)


def is_pcapng(start: bytes) -> bool:
    """Whether a file that begins so is a pcapng file."""
    return start.startswith(SECTION)


def _order(buffer: bytes, at: int) -> str:
    for order in "<>":
        magic, major = struct.unpack_from(order + "IH", buffer, at + 8) if at + 14 <= len(buffer) else (BYTE_ORDER, 1)
        if magic == BYTE_ORDER and major == 1:
            return order
    raise CaptureBroken


def _said(comment: bytes) -> dict[str, int]:
    """`clovisor lost=3 turn_age_ns=1200`: the fields, as far as they are ours."""
    first, *pairs = comment.decode("ascii", "replace").split(" ")
    fields = [pair.partition("=") for pair in pairs if first == SAID]
    return {name: int(value) for name, _, value in fields if name in KERNEL and _NUMBER.fullmatch(value)}


def _resolution(value: int) -> tuple[int, int]:
    """Of `if_tsresol`: ns of how many ticks, and how many these are."""
    if value & 0x80:
        return BILLION, 1 << (value & 0x7F)
    return (10 ** (9 - value), 1) if value <= 9 else (1, 10 ** (value - 9))
