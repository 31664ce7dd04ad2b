"""Which connection a packet of a capture belongs to, and which of its ends stands for the pod.

**Identity** is transport, addresses and ports: not the interface, the VLAN or the tunnel. A node's capture shows one packet
on several of them (veth, bridge, overlay, `-i any`), and a tap has one interface for each direction: as one flow, copies are
retransmissions, which the engine passes over; apart, they would be sessions that nobody had, or halves of flows. Where the
file says of each packet which way it went at its interface (`clovisor trace -w` does), an interface is an observation point
like a veth, and part of the identity.

A SYN with another sequence number than the last one is a new connection, on the same addresses or not; a repeated one is not.

**The pod** is the end that packets marked outbound come from. Where they are not marked it is the server, so that sessions
say side `server`: the SYN tells who that is; without one it is the end with the lower port, of equal ports the one that was
spoken to first. Who really is the server is decided from evidence by the engine.

**Bounded**: of the connections that were silent longest, all beyond GENERATION to twice as many are forgotten; if they speak
again they are new ones, seen from their middle. Those that ended are remembered for their latecomers, the latest ENDED of them.
"""

from __future__ import annotations

import struct
from itertools import islice
from typing import Final

from clovisor_py.model.segment import ACK, FROM_POD, PEER_OPENED, POD_OPENED, RST, SYN, TCP, TO_POD
from clovisor_py.sources._capture_input import OUTBOUND

MAX_OPEN: Final = 131_072
"""Connections of a capture that are followed at once: more than one node has. The engine is given the same limit."""
GENERATION: Final = 2 * MAX_OPEN
"""Directions that are remembered at least."""
ENDED: Final = 8192
"""Directions of ended connections that are remembered, or up to an eighth less: what still comes of them comes within some
thousand packets."""

ADDRESSES: Final = 4096
"""Addresses that all connections of one share; of more than a cluster has pods, some are there twice."""
MAPPED: Final = bytes(10) + b"\xff\xff"
SEQ_MASK: Final = 0xFFFF_FFFF
UNKNOWN: Final = -1

Entry = tuple[int, int, int, bytes, bytes, int, int, int, int]
"""What all segments of one direction have in common, in the order of Segment's fields from `flow_id` to `peer_port`, but for
`transport`; then its flags, and the direction's first sequence number, UNKNOWN where nothing tells it. Flat and without what
a packet says itself, as there may be GENERATION of them."""
Numbers = tuple[int, int, int]
"""(sequence number, acknowledgement, flags) of a TCP packet."""

_ports = struct.Struct(">HH").unpack


class Connections:
    """Entries by key: source, target, their ports, as on the wire, and what else is part of the identity.

    `young` may be read directly by whoever is in a hurry; `entry` takes every case.
    """

    def __init__(self, udp_ports: frozenset[int]) -> None:
        self.young: dict[bytes, Entry] = {}
        self._old: dict[bytes, Entry] = {}
        self._ended: dict[bytes, Entry] = {}
        self._half_closed: set[int] = set()
        self._addresses: dict[bytes, bytes] = {}
        self._udp_ports = udp_ports
        self._opened = 0
        self.opened_midway: set[int] = set()
        """TCP connections whose beginning was not seen, since somebody last emptied this."""

    def entry(self, key: bytes, size: int, transport: int, interface: int, direction: int, numbers: Numbers) -> Entry:
        """The entry of a packet's connection in the packet's direction.

        `size`: bytes of an address in the key; `direction`: INBOUND or OUTBOUND where the file says so, else 0.
        """
        entry = self.young.get(key) or (self._remembered(key, size) if self._old or self._ended else None)
        if entry is not None and not (numbers[2] & SYN and self._another(key, size, entry, numbers)):
            return entry
        return self._open(key, size, transport, interface, direction, numbers)

    def _remembered(self, key: bytes, size: int) -> Entry | None:
        for past in (self._old, self._ended):
            if (entry := past.pop(key, None)) is not None:
                back = _back(key, size)
                if (other := past.pop(back, None)) is not None:
                    self._keep(key, back, entry, other)
                    return entry
        return None

    def end(self, key: bytes, size: int, number: int, tcp_flags: int) -> None:
        """A FIN or RST passed. After the second FIN, or a RST, little more will come of this connection."""
        if not tcp_flags & RST and number not in self._half_closed:
            self._half_closed.add(number)
            return
        self._half_closed.discard(number)
        for one in (key, _back(key, size)):
            entry = self.young.pop(one, None)
            if entry is not None:
                self._ended[one] = entry
        if len(self._ended) > ENDED:  # many at once: a dictionary looks for its first key among all that were deleted
            for one in tuple(islice(self._ended, len(self._ended) - ENDED * 7 // 8)):
                del self._ended[one]

    def _open(self, key: bytes, size: int, transport: int, interface: int, direction: int, numbers: Numbers) -> Entry:
        self._opened = number = self._opened + 1
        seq, ack, tcp_flags = numbers
        known, source, target = self._addresses, key[:size], key[size : 2 * size]
        source, target = known.get(source) or self._learn(source), known.get(target) or self._learn(target)
        here, there = _ports(key[2 * size : 2 * size + 4])
        if self._pod_is_source(here, there, transport, direction, tcp_flags):
            way, pod, peer, pod_port, peer_port = FROM_POD, source, target, here, there
        else:
            way, pod, peer, pod_port, peer_port = TO_POD, target, source, there, here
        flags, first, answer = 0, UNKNOWN, UNKNOWN
        if transport == TCP:
            first = seq if tcp_flags & SYN else (seq - 1) & SEQ_MASK
            answer = (ack - 1) & SEQ_MASK if tcp_flags & ACK else UNKNOWN
            if not tcp_flags & SYN:
                self.opened_midway.add(number)
        if tcp_flags & SYN:
            flags = POD_OPENED if (way == FROM_POD) != bool(tcp_flags & ACK) else PEER_OPENED
        entry = number, interface, way, pod, peer, pod_port, peer_port, flags, first
        other = number, interface, 1 - way, pod, peer, pod_port, peer_port, flags, answer
        self._keep(key, _back(key, size), entry, other)
        return entry

    def _learn(self, wire: bytes) -> bytes:
        """An address as a Segment has it: kept once, as a server's is that of thousands of connections."""
        if len(self._addresses) >= ADDRESSES:
            self._addresses.clear()
        self._addresses[wire] = address = MAPPED + wire if len(wire) == 4 else wire
        return address

    def _another(self, key: bytes, size: int, entry: Entry, numbers: Numbers) -> bool:
        """Whether this SYN belongs to another connection than the entry, on the same addresses."""
        seq, ack, tcp_flags = numbers
        if entry[-1] != UNKNOWN:
            return entry[-1] != seq
        self.young[key] = *entry[:-1], seq
        return bool(tcp_flags & ACK) and self.young[_back(key, size)][-1] not in (UNKNOWN, (ack - 1) & SEQ_MASK)

    def _keep(self, key: bytes, back: bytes, entry: Entry, other: Entry) -> None:
        young = self.young
        if len(young) >= GENERATION:
            self._old = young.copy()
            young.clear()
            self._half_closed.clear()  # of those that go on, the next FIN counts as the first
        if (past := young.get(key)) is not None:
            self._half_closed.discard(past[0])
        young[key] = entry
        young[back] = other

    def _pod_is_source(self, here: int, there: int, transport: int, direction: int, tcp_flags: int) -> bool:
        """`here`, `there`: the ports of who sent this packet, and of the other end."""
        if direction:
            return direction == OUTBOUND
        if transport == TCP and tcp_flags & SYN:
            return bool(tcp_flags & ACK)
        if transport != TCP and (here in self._udp_ports) != (there in self._udp_ports):
            return here in self._udp_ports
        return here < there


def _back(key: bytes, size: int) -> bytes:
    """The key of the other direction."""
    ports = 2 * size
    return key[size:ports] + key[:size] + key[ports + 2 : ports + 4] + key[ports : ports + 2] + key[ports + 4 :]
