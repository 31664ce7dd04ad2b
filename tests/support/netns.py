"""Pods for live tests: a network namespace with an `eth0`, and the host's end of its veth with addresses of its own.

Names carry the pid, so that two test runs on one machine do not meet. Without root the test is skipped, saying so.
"""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from subprocess import Popen
from typing import Any, Final, TypeVar

import pytest

from clovisor_py.kernel import netns, pods
from clovisor_py.kernel.links import netlink, networks_here

T = TypeVar("T")

ALONE: Final = ("unshare", "--mount", "--propagation", "unchanged", "sh", "-c")
"""What follows is a script, in a mount namespace of its own; it begins with PRIVATE."""
PRIVATE: Final = "{ mount --make-rprivate / 2>/dev/null || mount --make-rprivate /sys; }"
"""Nothing that is mounted from here on is seen outside (unshare would do it, but fails in a chroot, whose / is no mount)."""


@dataclass(frozen=True)
class Pod:
    """A pod on a veth of its own; `host_…` are the addresses of the host's end, from which the host reaches it."""

    namespace: str
    veth: str
    ifindex: int
    ipv4: str
    ipv6: str
    host_ipv4: str
    host_ipv6: str

    def spawn(self, *command: str, **sinks: Any) -> Popen[bytes]:
        """Start a command inside; the caller ends it (`netns.end`)."""
        return netns.spawn(self.namespace, command, **sinks)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function inside."""
        return netns.call_inside(self.namespace, function)


def require_namespaces() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes network namespaces and veths")


@contextmanager
def pod(name: str = "pod") -> Iterator[Pod]:
    """A pod with IPv4 and IPv6, gone when the block ends."""
    require_namespaces()
    namespace = f"cvt{os.getpid()}-{name}"
    ipv4, ipv6 = _free_networks(namespace)
    try:
        netns.create(namespace)
        ifindex = pods.add_pod(
            namespace,
            [f"{ipv4[2]}/24", f"{ipv6[2]}/64"],
            gateways=[str(ipv4[1]), str(ipv6[1])],
            host_addresses=[f"{ipv4[1]}/24", f"{ipv6[1]}/64"],
        )
        own = [str(ipv4[2]), str(ipv6[2]), str(ipv4[1]), str(ipv6[1])]
        yield Pod(namespace, pods.link_name(namespace), ifindex, *own)
    finally:
        pods.delete_link(pods.link_name(namespace))
        netns.delete(namespace)


@contextmanager
def uplink() -> Iterator[None]:
    """A default route, without which an API server does not start: it leads nowhere."""
    ifindex = pods.add_bridge("cvt-up", ["192.0.2.1/24"])
    try:
        with netlink("making a default route") as ip:
            ip.route("add", dst="default", gateway="192.0.2.254", oif=ifindex)
        yield
    finally:
        pods.delete_link("cvt-up")


def listens(address: str, port: int) -> bool:
    """Whether the host reaches a server there."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def _free_networks(seed: str) -> tuple[IPv4Network, IPv6Network]:
    """Different pods start looking at different places: two runs at once seldom want the same."""
    taken = networks_here()
    first = zlib.crc32(seed.encode())
    for number in ((first + step) % 256 for step in range(256)):
        ipv4, ipv6 = IPv4Network(f"10.212.{number}.0/24"), IPv6Network(f"fd00:c10:100:{number:x}::/64")
        if ipv4 not in taken and ipv6 not in taken:
            return ipv4, ipv6
    raise AssertionError("no free network in 10.212.0.0/16")
