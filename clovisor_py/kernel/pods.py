"""Pods without Kubernetes: a bridge for the node, and veths from the host into named network namespaces.

Wired the way a CNI does it, because that is what Clovisor attaches to: the pod's end is `eth0` in its namespace, the
other end is on the host, a port of a bridge or by itself. Deleting what is absent is no error.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from ipaddress import ip_interface
from typing import Final

from clovisor_py.errors import KernelRefused, TargetGone
from clovisor_py.kernel import netns
from clovisor_py.kernel.links import Netlink, link_names, netlink, refusal

POD_INTERFACE: Final = "eth0"

_IFA_F_NODAD: Final = 2
"""An IPv6 address with it is usable at once; without, after a second of asking whether somebody else has it."""


def link_name(namespace: str) -> str:
    """The name of the host's end of a pod's veth: made from the pod's, as CNIs do, since 15 characters are all there is."""
    return "veth" + hashlib.sha256(namespace.encode()).hexdigest()[:8]


def add_bridge(name: str, addresses: Sequence[str]) -> int:
    """Make a bridge with these addresses (`10.0.0.1/24`) on the host, up; returns its ifindex."""
    with netlink(f"making the bridge {name}") as route:
        # A bridge that snoops would hold back neighbour discovery until it has learnt who listens.
        route.link("add", ifname=name, kind="bridge", br_mcast_snooping=0)
        ifindex = _index_of(name)
        netns.enable_ipv6(name)
        route.link("set", index=ifindex, state="up")
        _add_addresses(route, ifindex, addresses)
    return ifindex


def add_pod(
    namespace: str,
    addresses: Sequence[str],
    *,
    gateways: Sequence[str] = (),
    bridge: int | None = None,
    host_addresses: Sequence[str] = (),
) -> int:
    """Give a namespace its `eth0`: returns the ifindex of the host's end, which is called `link_name(namespace)`.

    The host's end is a port of the bridge with that ifindex, or has `host_addresses` of its own.
    """
    name = link_name(namespace)
    try:
        fd = os.open(netns.path_of(namespace), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise refusal(f"opening the network namespace '{namespace}'", error.errno or 0) from error
    try:
        with netlink(f"making a veth for the network namespace '{namespace}'") as route:
            # Both ends in one message: no moment in which the pod's end is on the host.
            route.link("add", ifname=name, kind="veth", peer={"ifname": POD_INTERFACE, "net_ns_fd": fd})
            ifindex = _index_of(name)
            if bridge is not None:
                route.link("set", index=ifindex, master=bridge)
            netns.enable_ipv6(name)
            route.link("set", index=ifindex, state="up")
            _add_addresses(route, ifindex, host_addresses)
    finally:
        os.close(fd)
    netns.call_inside(namespace, lambda: _configure_inside(addresses, gateways))
    return ifindex


def delete_link(name: str) -> None:
    """Delete an interface of the host, with the other half if it is a veth; at once, and no error if it is absent."""
    if name not in link_names().values():
        return
    try:
        with netlink(f"deleting the interface {name}") as route:
            route.link("del", ifname=name)
    except (KernelRefused, TargetGone):
        if name in link_names().values():
            raise  # else its namespace went in between, and took it along


def _configure_inside(addresses: Sequence[str], gateways: Sequence[str]) -> None:
    with netlink(f"configuring {POD_INTERFACE}") as route:
        ifindex = _index_of(POD_INTERFACE)
        route.link("set", index=ifindex, state="up")
        _add_addresses(route, ifindex, addresses)
        for gateway in gateways:
            family = ip_interface(gateway).version
            route.route("add", dst="default", gateway=gateway, oif=ifindex, family=10 if family == 6 else 2)


def _add_addresses(route: Netlink, ifindex: int, addresses: Sequence[str]) -> None:
    for text in addresses:
        interface = ip_interface(text)
        length = interface.network.prefixlen
        flags = {"flags": _IFA_F_NODAD} if interface.version == 6 else {}
        route.addr("add", index=ifindex, address=str(interface.ip), prefixlen=length, **flags)


def _index_of(name: str) -> int:
    """The ifindex of an interface of the calling thread's namespace."""
    for ifindex, known in link_names().items():
        if known == name:
            return ifindex
    raise refusal(f"looking for the interface {name}", errno.ENODEV)
