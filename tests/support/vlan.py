"""Pods whose packets carry a VLAN tag on their host veths, on kernels without VLAN devices too.

Two pods are ports of a plain bridge, which forwards tagged frames as they are. Inside each, an eBPF program of three
instructions tags what leaves `eth0`, and one takes the tag off what arrives: between the two, on the veths that Clovisor
watches, every frame is tagged, in both directions, and neither pod's stack nor the host's knows of it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from clovisor_py.kernel import bpf, netns, pods
from clovisor_py.kernel.links import netlink
from tests.support.netns import Pod, _free_networks, require_namespaces

VID: Final = 42

_EGRESS, _INGRESS = "ffff:fff3", "ffff:fff2"
_ETH_P_8021Q: Final = 0x8100
_ETH_P_ALL: Final = 0x0003
_PROG_LOAD, _SCHED_CLS = 5, 3
_VLAN_PUSH, _VLAN_POP = 18, 19
"""Helpers, by their numbers in linux/bpf.h."""
_PASS: Final = -1


@contextmanager
def bridged_pods(*names: str) -> Iterator[list[Pod]]:
    """Pods on one bridge, which reach each other and the host, untagged until `tag` is called."""
    require_namespaces()
    bridge = f"cvb{os.getpid()}"
    ipv4, ipv6 = _free_networks(bridge)
    host = str(ipv4[1]), str(ipv6[1])
    with ExitStack() as undo:
        undo.callback(pods.delete_link, bridge)
        index = pods.add_bridge(bridge, [f"{host[0]}/24", f"{host[1]}/64"])
        made = []
        for number, name in enumerate(names, start=2):
            namespace = f"cvt{os.getpid()}-{name}"
            undo.callback(netns.delete, namespace)
            undo.callback(pods.delete_link, pods.link_name(namespace))
            netns.create(namespace)
            own = str(ipv4[number]), str(ipv6[number])
            ifindex = pods.add_pod(namespace, [f"{own[0]}/24", f"{own[1]}/64"], bridge=index)
            made.append(Pod(namespace, pods.link_name(namespace), ifindex, *own, *host))
        yield made


def tag(pod: Pod, vid: int = VID) -> None:
    """From now on the pod's frames are tagged outside it. Only pods with the same tag reach each other; the host does not."""
    push, pop = _load(_push(vid)), _load(_call(_VLAN_POP))
    try:
        pod.call(lambda: _attach(push, pop))
    finally:
        os.close(push)
        os.close(pop)


def _attach(push: int, pop: int) -> None:
    """In the pod's namespace: the filters keep the programs."""
    index = socket.if_nametoindex(pods.POD_INTERFACE)
    with netlink("tagging a pod's frames") as route:
        route.tc("add", "clsact", index)
        for fd, parent in ((push, _EGRESS), (pop, _INGRESS)):
            fields = {"fd": fd, "name": "vlan", "parent": parent, "prio": 1, "protocol": _ETH_P_ALL, "direct_action": True}
            route.tc("add-filter", "bpf", index, 1, **fields)


def _instruction(code: int, registers: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, registers, 0, immediate)


def _call(helper: int) -> bytes:
    """helper(skb, …); return TC_ACT_UNSPEC."""
    return _instruction(0x85, 0, helper) + _instruction(0xB7, 0, _PASS) + _instruction(0x95)


def _push(vid: int) -> bytes:
    """bpf_skb_vlan_push(skb, htons(ETH_P_8021Q), vid)"""
    return _instruction(0xB7, 2, socket.htons(_ETH_P_8021Q)) + _instruction(0xB7, 3, vid) + _call(_VLAN_PUSH)


def _load(code: bytes) -> int:
    """An fd of the SCHED_CLS program."""
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Apache-2.0")
    addresses = ctypes.addressof(instructions), ctypes.addressof(licence)
    return bpf._bpf(_PROG_LOAD, struct.pack("=IIQQ", _SCHED_CLS, len(code) // 8, *addresses))
