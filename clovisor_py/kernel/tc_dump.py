"""What is attached to interfaces, read over one netlink socket in some 50 µs each: it is asked for all veths all the time.

pyroute2, which changes what is attached, takes a millisecond to decode what it lists. Errors are OSErrors here; whoever asks
knows what they mean.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from clovisor_py.kernel.rtnl import PATIENCE_S, attributes, dump, text

_RTM_NEWQDISC, _RTM_GETQDISC, _RTM_NEWTFILTER, _RTM_GETTFILTER = 36, 38, 44, 46
_TCA_KIND, _TCA_OPTIONS, _TCA_BPF_NAME = 1, 2, 7
_TC: Final = struct.Struct("=BxxxiIII")
"""family, ifindex, handle, parent, info"""


class Filter(NamedTuple):
    """A filter on a hook. `name`: of an eBPF program, else empty."""

    handle: int
    preference: int
    name: str


class TcDump:
    """Asks the kernel about this thread's network namespace. Made by `tc_dump`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def with_clsact(self) -> set[int]:
        """The ifindexes of all interfaces that have this qdisc."""
        bodies = self._dump(_RTM_GETQDISC, _RTM_NEWQDISC, _TC.pack(0, 0, 0, 0, 0))
        return {_TC.unpack_from(body)[1] for body in bodies if _kind(body) == "clsact"}

    def has_clsact(self, ifindex: int) -> bool:
        """Whether this interface has it. The kernel tells of all interfaces whatever is asked; only this one is taken apart."""
        for body in self._dump(_RTM_GETQDISC, _RTM_NEWQDISC, _TC.pack(0, ifindex, 0, 0, 0)):
            if _TC.unpack_from(body)[1] == ifindex and _kind(body) == "clsact":
                return True
        return False

    def filters(self, ifindex: int, parent: int) -> list[Filter]:
        """The filters on one hook, in the order in which they run."""
        found = []
        for body in self._dump(_RTM_GETTFILTER, _RTM_NEWTFILTER, _TC.pack(0, ifindex, 0, parent, 0)):
            _, _, handle, _, info = _TC.unpack_from(body)
            if handle:  # else the head of a preference
                options = attributes(attributes(body[_TC.size :]).get(_TCA_OPTIONS, b""))
                found.append(Filter(handle, info >> 16, text(options.get(_TCA_BPF_NAME, b""))))
        return found

    def _dump(self, request: int, answer: int, body: bytes) -> list[bytes]:
        return dump(self._sock, request, answer, body)


def _kind(body: bytes) -> str:
    return text(attributes(body[_TC.size :]).get(_TCA_KIND, b""))


@contextmanager
def tc_dump() -> Iterator[TcDump]:
    """For the block."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(PATIENCE_S)
        yield TcDump(sock)
