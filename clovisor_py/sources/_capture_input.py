"""The bytes of a capture: a file or standard input, either of them gzip'd, read in chunks of bounded size.

Formats differ, reading does not: a format's reader keeps what it has not used up (less than one packet) and asks for more
behind it. A pipe is read as it fills, so that `tcpdump -w - | clovisor replay -` shows sessions while they happen.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from clovisor_py.errors import CaptureBroken

STANDARD_INPUT: Final = "-"
CHUNK: Final = 64 * 1024
"""Bytes read at once: some 500 packets, enough that a system call does not matter, few enough to stay in a CPU's cache."""
GZIP: Final = b"\x1f\x8b"
LONGEST: Final = 1 << 20
"""Bytes of a packet or block that is believed; GSO packets reach 512 KiB. A longer one is a damaged length."""
CUT_OFF: Final = "it breaks off in the middle of a packet, {0:,} bytes from its beginning; what came before is shown."
DAMAGED: Final = "it is damaged {0:,} bytes from its beginning; what came before is shown."
FAILURES: Final = (EOFError, zlib.error, OSError, ValueError)
"""What opening and reading raise."""
BILLION: Final = 1_000_000_000

INBOUND: Final = 1
OUTBOUND: Final = 2
KERNEL: Final = {"flags": 0, "packets": 1, "turn_age_ns": 0, "lost": 0, "rtt_us": 0, "cgroup_id": 0, "vlan": 0}
"""Fields of a Segment that no packet has, and their defaults; a file of our own tells them beside it."""


class Mark(NamedTuple):
    """What a file says of a packet beside its bytes."""

    direction: int
    """INBOUND or OUTBOUND, as seen from who is behind the interface; 0 where only the rest is told."""
    flags: int = 0
    packets: int = 1
    turn_age_ns: int = 0
    lost: int = 0
    rtt_us: int = 0
    cgroup_id: int = 0
    vlan: int = 0


Packet = tuple[int, int, int, int, int, "Mark | None"]
"""(time in ns, interface, start, end, bytes on the wire, mark) of one packet, a plain tuple because there is one for each;
`start` and `end` lie in the block's buffer, and fewer bytes than on the wire are there where it was cut."""
Block = tuple[bytes, list[Packet]]


class Interface(NamedTuple):
    """Where packets of a capture were seen."""

    link: int
    """Its LINKTYPE (tcpdump.org/linktypes.html)."""
    name: str = ""
    addresses: tuple[str, ...] = ()
    pod: bool = False
    """`name` and `addresses` are a pod's: `clovisor trace -w` wrote them."""


class Input:
    """Raises CaptureBroken for what cannot be opened or read."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._file = _open(path)
            zipped = self._file.peek(2).startswith(GZIP)
        except FAILURES as error:
            raise _said(error) from error
        self._stream = _Unzipped(self._file) if zipped else self._file

    def read(self, size: int = CHUNK) -> bytes:
        """At most `size` bytes: what there is, nothing only at the end."""
        try:
            return self._stream.read1(size)
        except FAILURES as error:
            raise _said(error) from error

    def exactly(self, size: int, begun: bytes = b"") -> bytes:
        """`size` bytes, of which `begun` are there already; fewer only at the end."""
        while len(begun) < size and (more := self.read(size - len(begun))):
            begun += more
        return begun

    @property
    def size(self) -> int | None:
        """Bytes of the file, as it lies on the disk; None for a pipe."""
        status = os.fstat(self._file.fileno())
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    @property
    def position(self) -> int:
        """How many of those have been read."""
        return os.lseek(self._file.fileno(), 0, os.SEEK_CUR)

    def close(self) -> None:
        """Let go of the file; standard input stays open."""
        self._file.close()


class _Unzipped:
    """What is in a gzip'd file, member after member; of one that breaks off all that can be had, which `gzip` would not give.

    Never more than was asked for is unpacked: some bytes may stand for a thousand times as many.
    """

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self._packed = b""
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def read1(self, size: int) -> bytes:
        """Raises EOFError where it breaks off, zlib.error where it is damaged."""
        while True:
            if self._inflate.eof:
                self._packed = self._inflate.unused_data.lstrip(b"\0") or self._file.read1(CHUNK)
                if not self._packed:
                    return b""
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            if data := self._inflate.decompress(self._packed, size):
                self._packed = self._inflate.unconsumed_tail
                return data
            if not self._inflate.eof:
                self._packed = self._inflate.unconsumed_tail or self._file.read1(CHUNK)
                if not self._packed:
                    raise EOFError


def end_standard_input() -> None:
    """Whoever reads it, or waits for it, meets its end. A signal's handler may call this: what waits is woken by the signal.

    The operator's Ctrl-C could otherwise only be heard when whoever writes into the pipe has something to say.
    """
    if sys.stdin is not None and not sys.stdin.closed:
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(nothing, sys.stdin.fileno())
        os.close(nothing)


def _said(error: Exception) -> CaptureBroken:
    """Whatever reading can raise, as one sentence."""
    if isinstance(error, (EOFError, zlib.error)):
        return CaptureBroken("its compressed data break off or are damaged; what came before is shown.")
    why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return CaptureBroken(f"it cannot be read ({why}); give a capture file that you may read.")


def _open(path: str) -> io.BufferedReader:
    if path == STANDARD_INPUT:
        if sys.stdin is None:
            raise ValueError("there is no standard input")
        return io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False), CHUNK)
    return io.BufferedReader(io.FileIO(Path(path)), CHUNK)
