"""Conntrack: whom a connection really leads to, where this node's kernel rewrites its addresses (ClusterIP, masquerade…).

A client's veth sees the Service's address, and a server's veth may see the node's; both ends of the truth are in the kernel's
table of connections, which every kube-proxy on netfilter (iptables, nftables, IPVS) works by. One entry is asked for by its
addresses, over netlink (nf_conntrack_netlink, CAP_NET_ADMIN in the host's network namespace): 20 µs, no dump, no
subscription.

Entries outlive their connection by 10 s and more, so a session is still found when it has ended. What is not found was not
translated here, or is in a conntrack zone of its own (Open vSwitch): None, and nothing is guessed.

A question alone would make the kernel load what answers it. So none is asked as long as it tracks no connections (which a look
at /proc tells): then it translates none, and a node that has done without connection tracking goes on doing without. Where it
does, a question may load what only answers: nfnetlink and nf_conntrack_netlink.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from clovisor_py.errors import EnvironmentLacking, KernelRefused
from clovisor_py.kernel.rtnl import ATTRIBUTE, attributes
from clovisor_py.model.workload import Endpoint

_NETLINK_NETFILTER: Final = 12
_CT_NEW, _CT_GET = 1 << 8, 1 << 8 | 1
"""Message types: subsystem ctnetlink, then new (also the answer to a get) and get."""
_REQUEST, _ERROR = 1, 2
_NESTED: Final = 0x8000
_ORIGINAL, _REPLY = 1, 2
_IP, _PROTO = 1, 2
_PROTO_NUMBER, _FROM_PORT, _TO_PORT = 1, 2, 3
_ADDRESSES: Final = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}
"""Attribute types of source and destination."""
_TRANSPORTS: Final = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_HEADER: Final = struct.Struct("=IHHII")
_NFGEN: Final = struct.Struct("=BBH")
_PORT: Final = struct.Struct("!H")
_ANSWER: Final = 8192
"""Bytes: an entry with all that may be attached to it has some hundred."""
_PATIENCE_S: Final = 0.1
"""The kernel answers while it is asked; only a broken socket takes longer."""
LOOK_S: Final = 5.0
"""How old the knowledge may be that connections are tracked, or are not."""
_TRACKED: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")
"""There as long as they are."""
_MISSING: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT})
"""What a kernel answers that has no such subsystem."""


class Entry(NamedTuple):
    """A tracked connection: what its client wrote on its packets, and what its server finds there."""

    client: Endpoint
    called: Endpoint
    """The address that the client called."""
    server: Endpoint
    """Who got it."""
    seen_client: Endpoint
    """Whom the server takes for its client."""


class Conntrack:
    """Knows nothing until it is opened, nor when it is closed. For one thread, and its network namespace.

    `tracks`: whether the kernel tracks connections there; `clock`: monotonic, s.
    """

    def __init__(self, tracks: Callable[[], bool] = _TRACKED.exists, clock: Callable[[], float] = time.monotonic) -> None:
        self._tracks, self._clock = tracks, clock
        self._open = self._tracked = False
        self._next_look = float("-inf")
        self._socket: socket.socket | None = None
        self._number = 0

    def open(self) -> None:
        """Ask from now on, as long as there is something to be asked."""
        self.close()
        self._open = True
        if self._tracking():
            with suppress(OSError):  # the first question tries again, and says it
                self._connected()

    def of_client(self, client: Endpoint, called: Endpoint, transport: str) -> Entry | None:
        """The connection as its client sees it; None where none is tracked.

        Raises EnvironmentLacking where this kernel, or this process, cannot be asked at all; KernelRefused for anything else.
        """
        return self._ask(client, called, transport)

    def of_server(self, seen_client: Endpoint, server: Endpoint, transport: str) -> Entry | None:
        """The connection as its server sees it; the same answers and errors."""
        return self._ask(server, seen_client, transport)  # as its answers travel: the kernel finds both directions

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._open = None, False

    def _ask(self, source: Endpoint, target: Endpoint, transport: str) -> Entry | None:
        number = _TRANSPORTS.get(transport)
        family = socket.AF_INET6 if ":" in source.ip else socket.AF_INET
        if not self._open or number is None or (":" in target.ip) != (family == socket.AF_INET6) or not self._tracking():
            return None
        try:
            body = self._exchange(self._connected(), _NFGEN.pack(family, 0, 0) + _tuple(family, source, target, number))
        except OSError as error:
            raise _refusal(error) from error
        return None if body is None else _entry(body[_NFGEN.size :])

    def _tracking(self) -> bool:
        if (now := self._clock()) >= self._next_look:
            self._next_look, self._tracked = now + LOOK_S, self._tracks()
        return self._tracked

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
            self._socket.settimeout(_PATIENCE_S)
        return self._socket

    def _exchange(self, sock: socket.socket, body: bytes) -> bytes | None:
        """One request and its answer's body; None: there is no such entry."""
        self._number = (self._number + 1) & 0xFFFFFFFF
        sock.send(_HEADER.pack(_HEADER.size + len(body), _CT_GET, _REQUEST, self._number, 0) + body)
        while True:
            answer = sock.recv(_ANSWER)
            length, kind, _, number, _ = _HEADER.unpack_from(answer)
            if number != self._number:
                continue  # what came too late for the one before
            if kind == _CT_NEW:
                return answer[_HEADER.size : length]
            if kind == _ERROR:
                code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
                if code == errno.ENOENT:
                    return None
                raise OSError(code, os.strerror(code))


def _tuple(family: int, source: Endpoint, target: Endpoint, transport: int) -> bytes:
    from_type, to_type = _ADDRESSES[socket.AddressFamily(family)]
    ips = _attribute(from_type, socket.inet_pton(family, source.ip)) + _attribute(to_type, socket.inet_pton(family, target.ip))
    proto = _attribute(_PROTO_NUMBER, bytes([transport]))
    proto += _attribute(_FROM_PORT, _PORT.pack(source.port)) + _attribute(_TO_PORT, _PORT.pack(target.port))
    return _attribute(_ORIGINAL | _NESTED, _attribute(_IP | _NESTED, ips) + _attribute(_PROTO | _NESTED, proto))


def _attribute(kind: int, value: bytes) -> bytes:
    size = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(size, kind) + value + bytes(-size & 3)


def _entry(data: bytes) -> Entry | None:
    said = attributes(data)
    original, reply = _ends(said.get(_ORIGINAL, b"")), _ends(said.get(_REPLY, b""))
    return None if original is None or reply is None else Entry(original[0], original[1], reply[0], reply[1])


def _ends(data: bytes) -> tuple[Endpoint, Endpoint] | None:
    """Source and destination of one direction."""
    said = attributes(data)
    ips, ports = attributes(said.get(_IP, b"")), attributes(said.get(_PROTO, b""))
    for family, types in _ADDRESSES.items():
        if all(kind in ips for kind in types) and _FROM_PORT in ports and _TO_PORT in ports:
            source, target = (socket.inet_ntop(family, ips[kind]) for kind in types)
            return Endpoint(source, _PORT.unpack(ports[_FROM_PORT])[0]), Endpoint(target, _PORT.unpack(ports[_TO_PORT])[0])
    return None


def _refusal(error: OSError) -> EnvironmentLacking | KernelRefused:
    if error.errno in (errno.EPERM, errno.EACCES):
        return EnvironmentLacking("connections may not be looked up; run Clovisor with CAP_NET_ADMIN on the host's network.")
    if error.errno in _MISSING:
        return EnvironmentLacking(
            "this kernel cannot look up connections; load nf_conntrack_netlink to see whom Services lead to."
        )
    return KernelRefused(f"asking for a connection failed ({error}); `clovisor doctor` shows what lacks here.")
