"""Writes what was captured as a pcapng file (`clovisor trace -w FILE`), of which `clovisor replay` makes the same sessions.

A segment becomes a packet of raw IP (LINKTYPE_RAW) with headers made from its fields: the kernel sends no others, so checksums
are 0 and options are absent. Its true length is the packet's; what was not captured is cut. Each veth is an interface with its
pod's name and addresses, each packet says whether it left or entered the pod, and what only the kernel knows of it (turns,
losses, who opened) is a comment, as the engine needs it to come to the same conclusions.

By `struct` alone: scapy's writer would bring 46 MB into the agent. One write for each batch from the ring, so the reader waits
for no disk but a full page cache; where it fails the file ends with its last whole batch, and tracing goes on.

`-` is standard output, for a program that reads captures from a pipe (`wireshark -k -i -`). A file is only replaced where it is
empty or holds a pcapng capture: a mistyped name costs nobody anything else.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import stat
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from clovisor_py import __version__
from clovisor_py.errors import UsageError
from clovisor_py.model.segment import FROM_POD, TCP, Segment
from clovisor_py.sources import _capture_pcapng as blocks
from clovisor_py.sources._capture_flows import MAPPED
from clovisor_py.sources._capture_input import INBOUND, KERNEL, OUTBOUND

MODE: Final = 0o600
"""Of a file that is made: raw payloads are for the operator alone."""
RAW_IP: Final = 101
NANOSECONDS: Final = 9
NAME_BYTES: Final = 255
STDOUT: Final = "-"
OTHER_FILE: Final = "'{}' is there already and is no pcapng capture: remove it, or give -w another name."
TERMINAL: Final = "standard output is a terminal, which shows no capture: write -w - into a pipe (| wireshark -k -i -)."
LONGEST_IP: Final = 0xFFFF

_NO_LENGTH: Final = (1 << 64) - 1
_LEFT: Final = struct.pack("<HHI", blocks.FLAGS, 4, OUTBOUND)
_ENTERED: Final = struct.pack("<HHI", blocks.FLAGS, 4, INBOUND)
_END: Final = bytes(4)
_PACKET = struct.Struct("<IIIIIII").pack
_TRAILER = struct.Struct("<I").pack
_IPV4 = struct.Struct(">BxHxxxxBBxx4s4s").pack
_IPV6 = struct.Struct(">BxxxHBB16s16s").pack
_TCP = struct.Struct(">HHIIBBHxxxx").pack
_UDP = struct.Struct(">HHHxx").pack

_log = logging.getLogger(__name__)


class PcapngWriter:
    """Raises UsageError where `path` cannot be written; `with` closes it. `written` and `lost` are in packets.

    `path` may be `-`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.written = self.lost = 0
        self.gone = False
        """Nobody will ever read it: the reader of a pipe has ended."""
        self.replaced = False
        """There was a capture under that name."""
        self._numbers: dict[int, int] = {}
        self._pending: list[bytes] = [_section()]
        try:
            self._file = self._open()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"cannot write to '{path}' ({why}); give -w a file that you may write to.") from error
        self._whole = 0
        self.regular = stat.S_ISREG(os.fstat(self._file).st_mode)
        self._failed = False

    def add(self, ifindex: int, name: str, addresses: Iterable[str] = ()) -> None:
        """A veth, and whose it is; before its first segment."""
        if ifindex not in self._numbers:
            self._numbers[ifindex] = len(self._numbers)
            self._pending.append(_interface(name, addresses))

    def write(self, batch: Sequence[Segment]) -> None:
        """Append these; never raises. After a failure they are only counted, as `lost`."""
        if not self._failed:
            for segment in batch:
                self.add(segment.interface, f"interface {segment.interface}")
                self._pending.append(_packet(segment, self._numbers[segment.interface]))
            self._flush()
        if self._failed:
            self.lost += len(batch)
        else:
            self.written += len(batch)

    def close(self) -> None:
        """Write what is left; once."""
        self._flush()
        os.close(self._file)

    def __enter__(self) -> PcapngWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self) -> int:
        if self.path == STDOUT:
            if sys.stdout.isatty():
                raise UsageError(TERMINAL)
            return os.dup(sys.stdout.fileno())
        file = Path(self.path)
        if file.is_file() and file.stat().st_size:
            self.replaced = _is_capture(file)
            if not self.replaced:
                raise UsageError(OTHER_FILE.format(self.path))
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._pending.clear()
        if self._failed:
            return
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
            self._whole += len(data)
        except BrokenPipeError:  # who read it has seen enough, which is no reason to warn
            self._failed = self.gone = True
        except OSError as error:
            self._failed = True
            _log.warning(
                "cannot write to '%s' (%s): the capture ends here, tracing goes on; make room and start again.",
                self.path,
                error.strerror,
            )
            if self.regular and self.path != STDOUT:  # what else is in a file of the shell's, nobody knows
                os.ftruncate(self._file, self._whole)


def _is_capture(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(blocks.SECTION)) == blocks.SECTION


def _block(kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return b"".join((struct.pack("<II", kind, size), body, _TRAILER(size)))


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) & 3)


def _section() -> bytes:
    application = f"Clovisor {__version__}".encode()
    head = struct.pack("<IHHQ", blocks.BYTE_ORDER, 1, 0, _NO_LENGTH)
    return _block(int.from_bytes(blocks.SECTION, "little"), head + _option(blocks.USER_APPLICATION, application) + _END)


def _interface(name: str, addresses: Iterable[str]) -> bytes:
    options = [
        _option(blocks.NAME, name.encode(errors="replace")[:NAME_BYTES]),
        _option(blocks.RESOLUTION, bytes([NANOSECONDS])),
    ]
    for text in addresses:
        packed = ipaddress.ip_address(text).packed
        if len(packed) == 4:
            options.append(_option(blocks.IPV4_ADDRESS, packed + b"\xff" * 4))
        else:
            options.append(_option(blocks.IPV6_ADDRESS, packed + b"\x80"))
    return _block(blocks.INTERFACE, struct.pack("<HHI", RAW_IP, 0, 0) + b"".join(options) + _END)


def _packet(segment: Segment, number: int) -> bytes:
    headers = _headers(segment)
    captured, wire = len(headers) + len(segment.data), len(headers) + segment.length
    options = (_LEFT if segment.direction == FROM_POD else _ENTERED) + _comment(segment) + _END
    size = 32 + (captured + 3 & ~3) + len(options)
    high, low = segment.time_ns >> 32, segment.time_ns & 0xFFFF_FFFF
    head = _PACKET(blocks.PACKET, size, number, high, low, captured, wire)
    return b"".join((head, headers, segment.data, bytes(-captured & 3), options, _TRAILER(size)))


def _headers(segment: Segment) -> bytes:
    """IP, and TCP or UDP. A length that has no room in 16 bits is 0, as network cards have it: the packet's own counts."""
    there, here = (segment.pod_ip, segment.pod_port), (segment.peer_ip, segment.peer_port)
    (source, source_port), (target, target_port) = (there, here) if segment.direction == FROM_POD else (here, there)
    if segment.transport == TCP:
        numbers = segment.seq, segment.ack, 0x50, segment.tcp_flags, segment.window
        transport = _TCP(source_port, target_port, *numbers)
    else:
        size = 8 + segment.length
        transport = _UDP(source_port, target_port, size if size <= LONGEST_IP else 0)
    size = len(transport) + segment.length
    if source.startswith(MAPPED) and target.startswith(MAPPED):
        total = 20 + size if 20 + size <= LONGEST_IP else 0
        return _IPV4(0x45, total, 64, segment.transport, source[12:], target[12:]) + transport
    return _IPV6(0x60, size if size <= LONGEST_IP else 0, segment.transport, 64, source, target) + transport


def _comment(segment: Segment) -> bytes:
    """What the kernel said of it, as far as it said anything."""
    said = [f"{name}={value}" for name, default in KERNEL.items() if (value := getattr(segment, name)) != default]
    return _option(blocks.COMMENT, " ".join((blocks.SAID, *said)).encode()) if said else b""
