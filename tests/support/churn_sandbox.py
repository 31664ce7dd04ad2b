"""The sandboxes of a churn's pods: network namespaces with a veth, some with somebody else's clsact on it."""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass

from scapy.layers.inet import IP, TCP

from clovisor_py.errors import ClovisorError, TargetGone
from clovisor_py.kernel import netns, pods
from clovisor_py.kernel.links import link_names, netlink
from tests.support.kernel import ETHER, QUESTION


@dataclass
class Sandbox:
    """A pod's network namespace; it has an address of its own, and its pod's object may know an older one for a while."""

    namespace: str
    ifindex: int
    address: str
    foreign_clsact: bool = False
    """Somebody else's agent has put that there, and it must stay."""


def make(namespace: str, address: str, *, foreign_clsact: bool) -> Sandbox:
    """With this one address."""
    netns.create(namespace)
    ifindex = pods.add_pod(namespace, [f"{address}/32"])
    sandbox = Sandbox(namespace, ifindex, address)
    if foreign_clsact:
        with suppress(ClovisorError), netlink("adding somebody else's clsact") as route:
            route.tc("add", "clsact", ifindex)  # refused where ours came first
            sandbox.foreign_clsact = True
    return sandbox


def remove(sandbox: Sandbox) -> None:
    """The veth first, by its number: its name may be another by now."""
    with suppress(TargetGone), netlink("deleting a veth") as route:
        route.link("del", index=sandbox.ifindex)
    netns.delete(sandbox.namespace)


def send(sandbox: Sandbox, port: int) -> None:
    """The beginning of a connection to the pod, out of its veth."""
    flow = ETHER / IP(src="10.92.0.1", dst=sandbox.address)
    name = link_names()[sandbox.ifindex]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((name, 0x0800))
        out.send(bytes(flow / TCP(sport=port, dport=80, flags="S", seq=1)))
        out.send(bytes(flow / TCP(sport=port, dport=80, flags="PA", seq=2, ack=1) / QUESTION))
