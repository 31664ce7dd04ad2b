"""Capture files with a known number of sessions, made from nothing but counters: the same bytes on every machine.

Here are the packets: each connection has its handshake, its sequence numbers and timestamps, a bare acknowledgement for each
turn (or two full segments), and its end. What is said on it is in `talks`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

CLIENT: Final = 0
SERVER: Final = 1
EPOCH_S: Final = 1_767_323_045
STEP_US: Final = 40
"""Between two packets: some 6,000 requests a second."""
MSS: Final = 1448
Turns = list[tuple[int, bytes]]
"""(who sends, what) one after the other."""
Exchange = tuple[int, Turns]
"""Sessions that it makes, and what is said."""


class Kind(NamedTuple):
    """A protocol: its server's port, and what a connection of that number says, without end; first its opening."""

    name: str
    port: int
    talk: Callable[[int], Iterator[Exchange]]
    each: int = 1
    """Sessions of an exchange, the opening's aside."""


class Shape(NamedTuple):
    """`rounds` exchanges on each of `connections`, of which `at_once` are open together and take turns."""

    connections: int
    rounds: int
    at_once: int = 50


_HEADER = struct.Struct("<IHHiIII")
_PACKET = struct.Struct("<IIII")
_HEADERS = struct.Struct(">6s6sH BBHHHBBH4s4s HHIIBBHHHBBBBII")
"""Ethernet, IPv4, TCP with timestamps."""
_SYN, _FIN, _ACK, _PUSH = 2, 1, 16, 8
_ACK_EVERY = 2 * MSS


class Capture:
    """A pcap file that is written packet by packet; `packets` counts them."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=1 << 20)
        self._file.write(_HEADER.pack(0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        self.packets = 0

    @property
    def now_s(self) -> int:
        """The capture's clock, s since the epoch."""
        return EPOCH_S + self.packets * STEP_US // 1_000_000

    def add(self, ends: tuple[bytes, bytes], ports: tuple[int, int], seq: int, ack: int, flags: int, data: bytes = b"") -> None:
        """One TCP segment from the first of the ends to the second."""
        size = _HEADERS.size + len(data)
        clock = self.packets * STEP_US
        # fmt: off
        headers = _HEADERS.pack(
            b"\x02\0\0" + ends[1][1:], b"\x02\0\0" + ends[0][1:], 0x0800,
            0x45, 0, size - 14, self.packets & 0xFFFF, 0x4000, 64, 6, 0, *ends,
            *ports, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 0x80, flags, 502, 0, 0, 1, 1, 8, 10, clock // 1000, clock // 1000,
        )
        # fmt: on
        self._file.write(_PACKET.pack(EPOCH_S + clock // 1_000_000, clock % 1_000_000, size, size))
        self._file.write(headers)
        self._file.write(data)
        self.packets += 1

    def close(self) -> None:
        """Write the rest."""
        self._file.close()


class Connection:
    """One client's connection to the server; every method writes what passes."""

    def __init__(self, capture: Capture, number: int, kind: Kind) -> None:
        client = bytes((10, 1 + (number >> 14), number >> 6 & 0xFF, 1 + (number & 0x3F)))
        self._ends = (client, bytes((10, 0, 0, 2))), (bytes((10, 0, 0, 2)), client)
        port = 32768 + number * 7 % 28000
        self._ports = (port, kind.port), (kind.port, port)
        self._next = [number * 7919 + 1, number * 104729 + 1]
        self._talk = kind.talk(number)
        self._capture = capture

    def open(self) -> None:
        """SYN, SYN-ACK, ACK."""
        self._send(CLIENT, _SYN)
        self._send(SERVER, _SYN | _ACK)
        self._send(CLIENT, _ACK)

    def exchange(self) -> int:
        """The next of its exchanges; answers how many sessions that made."""
        sessions, turns = next(self._talk)
        for who, data in turns:
            for begin in range(0, len(data), MSS):
                self._send(who, _PUSH | _ACK, data[begin : begin + MSS])
                if begin % _ACK_EVERY:
                    self._send(1 - who, _ACK)
            if len(data) % _ACK_EVERY <= MSS:
                self._send(1 - who, _ACK)
        return sessions

    def close(self) -> None:
        """FIN from both ends."""
        self._send(CLIENT, _FIN | _ACK)
        self._send(SERVER, _FIN | _ACK)
        self._send(CLIENT, _ACK)

    def _send(self, who: int, flags: int, data: bytes = b"") -> None:
        ack = self._next[1 - who] if flags & _ACK else 0
        self._capture.add(self._ends[who], self._ports[who], self._next[who], ack, flags, data)
        self._next[who] += len(data) + bool(flags & (_SYN | _FIN))


def write(path: Path, kind: Kind, shape: Shape) -> tuple[int, int]:
    """Make the file; answers (sessions, packets) in it."""
    capture = Capture(path)
    sessions = 0
    for begin in range(0, shape.connections, shape.at_once):
        numbers = range(begin, min(begin + shape.at_once, shape.connections))
        group = [Connection(capture, number, kind) for number in numbers]
        for connection in group:
            connection.open()
        for _ in range(shape.rounds + 1):  # the first is the opening
            sessions += sum(connection.exchange() for connection in group)
        for connection in group:
            connection.close()
    capture.close()
    return sessions, capture.packets
