"""Links and addresses, read over netlink: what interfaces are here, and which addresses lie behind a veth.

The reason for a module of its own: a pod's end of a veth is in another network namespace, and the kernel tells about it
without anybody entering it. `IFLA_LINK_NETNSID` names that namespace, and a dump with a target namespace id
lists its addresses (CAP_NET_ADMIN, strict checking on). pyroute2 lists what is here; it cannot send that attribute
with an address dump, so those messages are put together below. No netlink exception gets out of here.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from clovisor_py.errors import ClovisorError, EnvironmentLacking, KernelRefused, TargetGone

Netlink: TypeAlias = Any
"""A pyroute2 IPRoute (the library has no types)."""
Message: TypeAlias = Any
"""One of its messages: a dict of the header's fields, and `get_attr`."""

PAIRS: Final = frozenset({"veth", "netkit"})
"""Kinds of link that are one half of a pair, the other half being the pod's."""

_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST_DUMP: Final = 0x301
_NLM_F_DUMP_INTR: Final = 0x10
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12
_IFLA_IFNAME, _IFLA_TARGET_NETNSID = 3, 46
_IFA_ADDRESS, _IFA_LOCAL, _IFA_TARGET_NETNSID = 1, 2, 10
_SCOPE_GLOBAL: Final = 0
_UNASSIGNED: Final = 0xFFFFFFFF
_RECEIVE: Final = 64 * 1024
"""Bytes of one read: the kernel fills at most 32 KiB of a dump into one datagram."""
_ATTEMPTS: Final = 5
"""A dump during which the table changed is asked for again so often; the last answer is taken as it is."""
_PATIENCE_S: Final = 5.0
"""The kernel answers within microseconds; a longer silence is an error, not a wait."""

_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Link:
    """One interface of this namespace. `netnsid` names the namespace of its other half (None: here, or it has none)."""

    ifindex: int
    name: str
    kind: str
    """The driver's word (`veth`, `bridge`, …); empty for a physical one."""
    peer_ifindex: int
    """The other half's ifindex in its own namespace, 0 where there is none."""
    netnsid: int | None
    loopback: bool = False


def refusal(doing: str, code: int, said: str = "") -> ClovisorError:
    """The error for an errno that the kernel gave while `doing` (a present participle with its object)."""
    reason = said or os.strerror(code)
    if code in (errno.EPERM, errno.EACCES):
        return EnvironmentLacking(
            f"{doing} was not permitted ({reason}); run it as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN."
        )
    if code == errno.ENODEV:
        return TargetGone(f"{doing} failed, the interface is gone ({reason}); `ip link` shows what is there.")
    if code == errno.EOPNOTSUPP:
        return EnvironmentLacking(f"{doing} is not supported by this kernel ({reason}); load the module or use another kernel.")
    return KernelRefused(f"{doing} failed: {reason} (errno {code}); `clovisor doctor` shows what lacks here.")


@contextmanager
def netlink(doing: str) -> Iterator[Netlink]:
    """A pyroute2 IPRoute of the calling thread's namespace; its errors come out as ours."""
    try:
        with IPRoute() as route:
            yield route
    except NetlinkError as error:
        raise refusal(doing, error.code) from error
    except OSError as error:
        raise refusal(doing, error.errno or 0, str(error)) from error


def links() -> list[Link]:
    """Every interface of this namespace, by ifindex."""
    with netlink("listing the interfaces") as route:
        return sorted((_as_link(message) for message in route.get_links()), key=lambda link: link.ifindex)


def link_names() -> dict[int, str]:
    """Ifindex to name of every interface here, without a netlink dump's cost."""
    return dict(socket.if_nameindex())


def link_exists(ifindex: int) -> bool:
    try:
        socket.if_indextoname(ifindex)
    except (OSError, OverflowError):
        return False
    return True


def netnsid_of(fd: int) -> int | None:
    """The id by which this namespace knows the one open as `fd`; None where no link leads there."""
    with netlink("asking for a namespace's id") as route:
        netnsid = int(route.get_netnsid(fd=fd)["nsid"])
    return None if netnsid == _UNASSIGNED else netnsid


def addresses(netnsid: int | None) -> dict[int, tuple[str, ...]]:
    """Ifindex to its global addresses (text, IPv4 first) in the namespace with that id; None is this one."""
    found: dict[int, list[str]] = {}
    for body in _dump(_RTM_GETADDR, _RTM_NEWADDR, _ADDRESS.pack(0, 0, 0, 0, 0), _IFA_TARGET_NETNSID, netnsid):
        _, _, _, scope, ifindex = _ADDRESS.unpack_from(body)
        attributes = _attributes(body[_ADDRESS.size :])
        address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
        if scope == _SCOPE_GLOBAL and address:
            found.setdefault(ifindex, []).append(str(ip_address(address)))
    return {ifindex: tuple(sorted(texts, key=lambda text: ":" in text)) for ifindex, texts in found.items()}


def names_behind(netnsid: int | None) -> dict[int, str]:
    """Ifindex to interface name in the namespace with that id; None is this one."""
    bodies = _dump(_RTM_GETLINK, _RTM_NEWLINK, _LINK.pack(0, 0, 0, 0, 0), _IFLA_TARGET_NETNSID, netnsid)
    names = {_LINK.unpack_from(body)[2]: _attributes(body[_LINK.size :]).get(_IFLA_IFNAME, b"") for body in bodies}
    return {ifindex: name.rstrip(b"\0").decode(errors="replace") for ifindex, name in names.items()}


def networks_here() -> list[IPv4Network | IPv6Network]:
    """Every destination that this namespace has a route for, other than the default routes."""
    with netlink("listing the routes") as route:
        routes = [(message.get_attr("RTA_DST"), message["dst_len"]) for message in route.get_routes()]
    return [ip_network(f"{destination}/{length}", strict=False) for destination, length in routes if destination and length]


def _as_link(message: Message) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    netnsid = message.get_attr("IFLA_LINK_NETNSID")
    return Link(
        ifindex=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=(info.get_attr("IFLA_INFO_KIND") or "") if info else "",
        peer_ifindex=message.get_attr("IFLA_LINK") or 0,
        netnsid=None if netnsid in (None, _UNASSIGNED, -1) else netnsid,
        loopback=bool(message["flags"] & 0x8),
    )


def _dump(request: int, answer: int, header: bytes, target: int, netnsid: int | None) -> list[bytes]:
    """The bodies of a dump's `answer` messages, asked for in another namespace where `netnsid` is given."""
    attribute = b"" if netnsid is None else _ATTRIBUTE.pack(8, target) + struct.pack("=i", netnsid)
    message = header + attribute
    message = _HEADER.pack(_HEADER.size + len(message), request, _NLM_F_REQUEST_DUMP, 1, 0) + message
    doing = "listing the addresses behind a veth" if request == _RTM_GETADDR else "listing the links behind a veth"
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.settimeout(_PATIENCE_S)
            sock.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            bodies: list[bytes] = []
            for _ in range(_ATTEMPTS):
                sock.send(message)
                bodies, whole = _collect(sock, answer)
                if whole:
                    break
            return bodies
    except OSError as error:
        raise refusal(doing, error.errno or errno.ETIMEDOUT) from error


def _collect(sock: socket.socket, answer: int) -> tuple[list[bytes], bool]:
    """Read one dump to its end; False when the kernel said that the table changed meanwhile."""
    bodies: list[bytes] = []
    whole = True
    while True:
        data = sock.recv(_RECEIVE)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, flags, _, _ = _HEADER.unpack_from(data, at)
            body = data[at + _HEADER.size : at + length]
            whole = whole and not flags & _NLM_F_DUMP_INTR
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                code = struct.unpack_from("=i", body)[0]
                if code:
                    raise OSError(-code, os.strerror(-code))
                return bodies, whole
            if kind == answer:
                bodies.append(body)
            at += max(_HEADER.size, (length + 3) & ~3)


def _attributes(data: bytes) -> dict[int, bytes]:
    """Attribute type to value; of two with one type the first."""
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        found.setdefault(kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length])
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return found
