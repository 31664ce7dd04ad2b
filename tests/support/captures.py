"""Capture files for tests, byte by byte from their specifications, and an HTTP conversation as packets to put into them.

Written apart from `clovisor_py/sources`, so that a mistake there is not made here as well.
"""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from clovisor_py.errors import CaptureBroken
from clovisor_py.sources.pcap import CaptureSource
from tests.support.segments import EPOCH, MS

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
CLIENT6, SERVER6 = "fd00::1", "fd00::2"
CLIENT_PORT, SERVER_PORT = 40000, 8080
REQUEST = b"GET /greet HTTP/1.1\r\nHost: web\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
STEPS = (
    (0, "S", 1000, 0, b""),
    (1, "SA", 5000, 1001, b""),
    (0, "A", 1001, 5001, b""),
    (0, "PA", 1001, 5001, REQUEST),
    (1, "A", 5001, 1001 + len(REQUEST), b""),
    (1, "PA", 5001, 1001 + len(REQUEST), RESPONSE),
    (0, "FA", 1001 + len(REQUEST), 5001 + len(RESPONSE), b""),
    (1, "FA", 5001 + len(RESPONSE), 1002 + len(REQUEST), b""),
)
"""(who, flags, seq, ack, data): a connection with one request; 0 is the client."""
SEGMENTS = 6
"""Of these: the two acknowledgements without payload are none."""


def ethernet(packet):
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet


def tcp(who, flags, seq, ack, data, *, v6=False, options=(), **fields):
    ends = ((CLIENT6, SERVER6) if v6 else (CLIENT, SERVER))[:: -1 if who else 1]
    ports = (CLIENT_PORT, SERVER_PORT)[:: -1 if who else 1]
    layer = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=seq, ack=ack, window=500, options=list(options))
    return (IPv6 if v6 else IP)(src=ends[0], dst=ends[1], **fields) / layer / data


def conversation(wrap=ethernet, steps=STEPS, **how):
    """(time in ns, bytes, bytes on the wire) of each packet, a millisecond apart."""
    packets = [bytes(wrap(tcp(*step, **how))) for step in steps]
    return [(EPOCH + index * MS, data, len(data)) for index, data in enumerate(packets, 1)]


def cut(packets, size):
    """As a snapshot length of `size` leaves them."""
    return [(time_ns, data[:size], wire) for time_ns, data, wire in packets]


def pcap(packets, *, link=1, order="<", nano=False, modified=False):
    magic = 0xA1B2CD34 if modified else 0xA1B23C4D if nano else 0xA1B2C3D4
    unit = 1 if nano else 1000
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, link)]
    for time_ns, data, wire in packets:
        seconds, rest = divmod(time_ns, 1_000_000_000)
        out += [struct.pack(order + "IIII", seconds, rest // unit, len(data), wire), bytes(8 * modified), data]
    return b"".join(out)


def option(code, value, order="<"):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order="<", *options):
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + b"".join(options), order)


def interface(link=1, *options, order="<", snaplen=0):
    return block(1, struct.pack(order + "HHI", link, 0, snaplen) + b"".join(options), order)


def enhanced(packet, *options, number=0, order="<", ns_per_tick=1000):
    time_ns, data, wire = packet
    ticks = time_ns // ns_per_tick
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), wire)
    return block(6, head + data + bytes(-len(data) % 4) + b"".join(options), order)


def pcapng(packets, *, link=1, order="<"):
    return section(order) + interface(link, order=order) + b"".join(enhanced(packet, order=order) for packet in packets)


def read(path, data, udp_ports=(53,)):
    """All segments of a file with these bytes, and its source."""
    path.write_bytes(data)
    with CaptureSource(str(path), udp_ports) as source:
        return [segment for batch in source.batches() for segment in batch], source


def broken(path, data, udp_ports=()):
    """The segments before such a file breaks off, and the sentence that says so."""
    segments = []
    path.write_bytes(data)
    with pytest.raises(CaptureBroken) as said, CaptureSource(str(path), udp_ports) as source:
        for batch in source.batches():
            segments += batch
    return segments, str(said.value)
