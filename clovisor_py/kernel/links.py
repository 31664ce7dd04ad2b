"""Links and addresses, read over netlink: what interfaces are here, and which addresses lie behind a veth.

The reason for a module of its own: a pod's end of a veth is in another network namespace, and the kernel tells about it
without anybody entering it. `IFLA_LINK_NETNSID` names that namespace, and a dump with a target namespace id
lists its addresses (CAP_NET_ADMIN, strict checking on). pyroute2 cannot send that attribute with an address dump, and a
node has hundreds of links, so those messages are put together and read below. No netlink exception gets out of here.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from clovisor_py.errors import ClovisorError, EnvironmentLacking, KernelRefused, TargetGone
from clovisor_py.kernel.rtnl import ATTRIBUTE, PATIENCE_S, attributes, dump, text

Netlink: TypeAlias = Any
"""A pyroute2 IPRoute (the library has no types)."""
Message: TypeAlias = Any
"""One of its messages: a dict of the header's fields, and `get_attr`."""

PAIRS: Final = frozenset({"veth", "netkit"})
"""Kinds of link that are one half of a pair, the other half being the pod's."""

_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_LINK_NETNSID, _IFLA_TARGET_NETNSID = 3, 5, 18, 37, 46
_IFLA_INFO_KIND: Final = 1
_IFF_LOOPBACK: Final = 0x8
_IFA_ADDRESS, _IFA_LOCAL, _IFA_TARGET_NETNSID = 1, 2, 10
_SCOPE_GLOBAL: Final = 0
_UNASSIGNED: Final = 0xFFFFFFFF
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")


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
    """Every interface of this namespace, by ifindex. pyroute2 would decode all that the kernel tells: 0.3 ms a link."""
    bodies = _dump(_RTM_GETLINK, _RTM_NEWLINK, _LINK.pack(0, 0, 0, 0, 0), _IFLA_TARGET_NETNSID, None)
    return sorted(map(_as_link, bodies), key=lambda link: link.ifindex)


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
        said = attributes(body[_ADDRESS.size :])
        address = said.get(_IFA_LOCAL) or said.get(_IFA_ADDRESS)
        if scope == _SCOPE_GLOBAL and address:
            found.setdefault(ifindex, []).append(str(ip_address(address)))
    return {ifindex: tuple(sorted(texts, key=lambda text: ":" in text)) for ifindex, texts in found.items()}


def names_behind(netnsid: int | None) -> dict[int, str]:
    """Ifindex to interface name in the namespace with that id; None is this one."""
    bodies = _dump(_RTM_GETLINK, _RTM_NEWLINK, _LINK.pack(0, 0, 0, 0, 0), _IFLA_TARGET_NETNSID, netnsid)
    names = {_LINK.unpack_from(body)[2]: attributes(body[_LINK.size :]).get(_IFLA_IFNAME, b"") for body in bodies}
    return {ifindex: text(name) for ifindex, name in names.items()}


def networks_here() -> list[IPv4Network | IPv6Network]:
    """Every destination that this namespace has a route for, other than the default routes."""
    with netlink("listing the routes") as route:
        routes = [(message.get_attr("RTA_DST"), message["dst_len"]) for message in route.get_routes()]
    return [ip_network(f"{destination}/{length}", strict=False) for destination, length in routes if destination and length]


def _as_link(body: bytes) -> Link:
    """One message of a dump of links."""
    _, _, ifindex, flags, _ = _LINK.unpack_from(body)
    said = attributes(body[_LINK.size :])
    netnsid = _number(said.get(_IFLA_LINK_NETNSID))
    return Link(
        ifindex=ifindex,
        name=text(said.get(_IFLA_IFNAME, b"")),
        kind=text(attributes(said.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b"")),
        peer_ifindex=_number(said.get(_IFLA_LINK)) or 0,
        netnsid=None if netnsid in (None, _UNASSIGNED) else netnsid,
        loopback=bool(flags & _IFF_LOOPBACK),
    )


def _number(value: bytes | None) -> int | None:
    return int.from_bytes(value, sys.byteorder) if value else None


def _dump(request: int, answer: int, header: bytes, target: int, netnsid: int | None) -> list[bytes]:
    """The bodies of a dump's `answer` messages, asked for in another namespace where `netnsid` is given."""
    attribute = b"" if netnsid is None else ATTRIBUTE.pack(8, target) + struct.pack("=i", netnsid)
    doing = "listing the addresses behind a veth" if request == _RTM_GETADDR else "listing the links behind a veth"
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.settimeout(PATIENCE_S)
            sock.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            return dump(sock, request, answer, header + attribute)
    except OSError as error:
        raise refusal(doing, error.errno or errno.ETIMEDOUT) from error
