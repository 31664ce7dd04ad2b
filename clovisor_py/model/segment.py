"""Segment: one TCP segment or UDP datagram seen at one veth, or a piece of a long one.

Live segments come from the kernel's ring (`sources/live.py`), recorded ones from capture files; nothing above the
sources can tell which. A named tuple because one is made for every packet that carries payload: it is immutable, and the
cheapest object Python makes from unpacked fields.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, NamedTuple

FROM_POD: Final = 0
"""Direction: what leaves the pod (the host veth's ingress)."""
TO_POD: Final = 1
"""Direction: what enters the pod (the host veth's egress)."""

TCP: Final = 6
UDP: Final = 17

FIN: Final = 0x01
SYN: Final = 0x02
RST: Final = 0x04
ACK: Final = 0x10

POD_OPENED: Final = 0x01
"""Segment flag: the kernel saw the pod send this connection's SYN (or receive its SYN-ACK)."""
PEER_OPENED: Final = 0x02
"""Segment flag: the kernel saw the pod receive this connection's SYN (or send its SYN-ACK)."""
TURN: Final = 0x04
"""Segment flag: first payload of this direction after payload of the other."""
RETRANSMITTED: Final = 0x08
"""Segment flag: no byte of it lies beyond what this direction had already sent."""
CONTINUED: Final = 0x10
"""Segment flag: not the first piece of its segment; ledgers count segments by the pieces without it."""
CUT: Final = 0x20
"""Segment flag: the kernel kept back part or all of the payload, on purpose (a budget, a skip)."""


class Segment(NamedTuple):
    """One piece of payload, or a control packet (SYN, FIN, RST) without any.

    `data` is the captured beginning of `length` payload bytes; `len(data) < length` means the rest was not captured.
    Addresses are 16 bytes, IPv4 mapped into IPv6. `flow_id` names the connection: equal for all its segments at one
    veth, and never used again after the connection has ended.
    """

    time_ns: int
    """Wall clock, ns since the epoch, when the packet passed the veth."""
    flow_id: Hashable
    interface: int
    """The veth: its ifindex, or the interface number in a capture file."""
    direction: int
    transport: int
    pod_ip: bytes
    peer_ip: bytes
    pod_port: int
    peer_port: int
    seq: int
    """TCP sequence number of the first byte of `data` (of the SYN or FIN for those)."""
    ack: int
    tcp_flags: int
    window: int
    flags: int
    length: int
    data: bytes
    packets: int = 1
    """How many wire packets the segment stands for (GSO)."""
    turn_age_ns: int = 0
    """ns since the other direction's latest turn began, by the kernel's own memory; 0 where unknown."""
    lost: int = 0
    """How many segments of this flow the kernel could not deliver so far (ring full, budget used up)."""
    rtt_us: int = 0
    """Smoothed round-trip time of the pod's own socket, as last seen; 0 where it was not to be had."""
    cgroup_id: int = 0
    """The sending container's cgroup; 0 where it was not to be had."""
    vlan: int = 0
