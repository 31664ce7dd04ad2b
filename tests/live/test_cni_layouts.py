"""Pods wired as the usual CNIs wire them, each with real namespaces: their veth is found, and both directions pass ours.

What is written down per CNI is what it runs `ip` with, in the same words: addresses of the host's end, what of the pod's
network is on-link, where the gateway is, which routes and rules the host has. Two pods with both families each.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from clovisor_py.kernel import netns
from clovisor_py.kernel.datapath import Datapath
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.pod_veths import PodVeths
from clovisor_py.kernel.targets import Veth
from tests.support.kernel import bench_settings, check_books, drained, node
from tests.support.netns import require_namespaces

pytestmark = pytest.mark.live

PORT = 8080
SAID = b"one line of the pod's\n"
FROM_POD, TO_POD = Counter.BYTES, Counter.BYTES_TO_POD

UPLINK = """
link add uplink type bridge
addr add 192.0.2.10/24 dev uplink
link set uplink up
route add default via 192.0.2.1 dev uplink
"""
"""The node's own network, without which it answers for no gateway."""
LINK_LOCAL_GATEWAY = """
-n {ns} addr add {v4}/32 dev eth0
-n {ns} addr add {v6}/128 dev eth0 nodad
-n {ns} route add 169.254.1.1 dev eth0 scope link
-n {ns} route add default via 169.254.1.1 dev eth0
-n {ns} -6 route add fe80::1 dev eth0
-n {ns} -6 route add default via fe80::1 dev eth0
addr add fe80::1/64 dev {veth} nodad
"""
BRIDGED = """
link set {veth} master cni0
-n {ns} addr add {v4}/24 dev eth0
-n {ns} addr add {v6}/64 dev eth0 nodad
-n {ns} route add default via 10.88.0.1
-n {ns} -6 route add default via fd00:88::1
"""
BRIDGE = """
link add cni0 type bridge
addr add 10.88.0.1/24 dev cni0
addr add fd00:88::1/64 dev cni0 nodad
link set cni0 up
"""
ROUTED_TO_ITS_VETH = """
route add {v4}/32 dev {veth} scope link
-6 route add {v6}/128 dev {veth}
"""


@dataclass(frozen=True)
class Cni:
    """`host` once, `pod` for each: arguments of `ip`, a line each. `proxies`: the host answers for the pod's gateway."""

    pod: str
    host: str = ""
    veth: str = "veth{number}a7"
    proxies: bool = False


CNIS = {
    "ptp": Cni(  # also GKE's and most of Azure's
        pod="""
addr add 10.88.0.1/32 dev {veth}
addr add fd00:88::1/128 dev {veth} nodad
route add {v4}/32 dev {veth} scope host
-6 route add {v6}/128 dev {veth}
-n {ns} addr add {v4}/24 dev eth0 noprefixroute
-n {ns} addr add {v6}/64 dev eth0 nodad noprefixroute
-n {ns} route add 10.88.0.1 dev eth0 scope link
-n {ns} route add 10.88.0.0/24 via 10.88.0.1 dev eth0
-n {ns} route add default via 10.88.0.1
-n {ns} -6 route add fd00:88::1 dev eth0
-n {ns} -6 route add default via fd00:88::1
"""
    ),
    "bridge": Cni(host=BRIDGE, pod=BRIDGED),
    "calico": Cni(
        veth="cali{number}b2c4d6",
        proxies=True,
        host="route add blackhole 10.88.0.0/26 proto 80\n-6 route add blackhole fd00:88::/122 proto 80",
        pod=LINK_LOCAL_GATEWAY + ROUTED_TO_ITS_VETH,
    ),
    "flannel": Cni(
        host=BRIDGE
        + """
link add flannel.1 type vxlan id 1 dstport 8472 nolearning
addr add 10.89.0.0/32 dev flannel.1
link set flannel.1 up
route add 10.90.1.0/24 via 10.90.1.0 dev flannel.1 onlink
""",
        pod="link set {veth} mtu 1450\n-n {ns} link set eth0 mtu 1450" + BRIDGED,
    ),
    "kindnet": Cni(  # ptp with one gateway address on all veths, and masquerading that is not of interest here
        pod="""
addr add 10.88.0.1/32 dev {veth}
addr add fd00:88::1/128 dev {veth} nodad
route add {v4} dev {veth} scope host
-6 route add {v6} dev {veth} metric 1024
-n {ns} addr add {v4}/24 dev eth0 noprefixroute
-n {ns} addr add {v6}/64 dev eth0 nodad noprefixroute
-n {ns} route add 10.88.0.1 dev eth0 scope link
-n {ns} route add default via 10.88.0.1
-n {ns} -6 route add fd00:88::1 dev eth0
-n {ns} -6 route add default via fd00:88::1
"""
    ),
    "aws vpc": Cni(  # rules lead to the main table for what enters a pod, to a network interface's own for what leaves it
        veth="eni{number}f00d",
        proxies=True,
        pod=LINK_LOCAL_GATEWAY
        + ROUTED_TO_ITS_VETH
        + "rule add to {v4} table main priority 512\n-6 rule add to {v6} table main priority 512",
    ),
    "cilium": Cni(  # with routes to endpoints; its pair on the host leads to no pod
        veth="lxc{number}0a1b2c",
        proxies=True,
        host="""
link add cilium_host type veth peer name cilium_net
addr add 10.88.0.254/32 dev cilium_host
link set cilium_net up
link set cilium_host up
route add 10.88.0.254 dev cilium_host scope link
route add 10.88.0.0/24 via 10.88.0.254 dev cilium_host src 10.88.0.254
""",
        pod=LINK_LOCAL_GATEWAY + ROUTED_TO_ITS_VETH,
    ),
}


@dataclass(frozen=True)
class Made:
    """A pod: its namespace, the name of its host veth, its addresses."""

    namespace: str
    veth: str
    v4: str
    v6: str


def run(lines: str, **names: object) -> None:
    for line in filter(None, lines.splitlines()):
        words = line.format(**names).split()
        done = netns.call_inside(words[1], partial(_ip, words[2:])) if words[0] == "-n" else _ip(words)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def _ip(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Not `ip -n`: it makes / private, which in a chroot is no mount."""
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)


@contextmanager
def made_by(cni: Cni) -> Iterator[list[Made]]:
    """A node with two of its pods."""
    require_namespaces()
    with ExitStack() as undo:
        undo.enter_context(node())
        run("link set lo up\n" + UPLINK + cni.host)
        _sysctl("ipv4/ip_forward")
        pods = []
        for number in (5, 6):
            pod = Made(f"cvt{os.getpid()}-{number}", cni.veth.format(number=number), f"10.88.0.{number}", f"fd00:88::{number}")
            netns.create(pod.namespace)
            undo.callback(netns.delete, pod.namespace)
            run(
                "link add {veth} type veth peer name eth0 netns {ns}\n"
                "-n {ns} link set lo up\n-n {ns} link set eth0 up\nlink set {veth} up\n" + cni.pod,
                ns=pod.namespace,
                veth=pod.veth,
                v4=pod.v4,
                v6=pod.v6,
            )
            if cni.proxies:
                _sysctl(f"ipv4/conf/{pod.veth}/proxy_arp")
            pods.append(pod)
        yield pods


def _sysctl(name: str) -> None:
    """On, in the network namespace of this thread: /proc/sys shows the reader's own."""
    Path(f"/proc/sys/net/{name}").write_text("1", encoding="ascii")


def ask(pod: Made, address: str) -> bytes:
    """What a server in the pod says to the host."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        netns.call_inside(pod.namespace, lambda: socket.create_server((address, PORT), family=family)) as server,
        socket.create_connection((address, PORT), timeout=5) as client,
    ):
        served, _ = server.accept()
        with served:
            client.sendall(SAID)
            said = served.recv(100)
            served.sendall(said * 2)
        return client.recv(100)


@pytest.mark.parametrize("name", CNIS)
def test_its_pods_are_found_and_both_directions_are_seen(name: str) -> None:
    with made_by(CNIS[name]) as pods, Datapath(bench_settings("-cni")) as datapath:
        veths = PodVeths()
        for pod in pods:
            found = veths.of([pod.v4, pod.v6]) if veths.veths_by_address() else ""
            assert isinstance(found, Veth), found
            assert (found.name, found.peer_name) == (pod.veth, "eth0")
            datapath.attach(found.ifindex)
        try:
            for pod in pods:
                _seen_both_ways(datapath, pod)
        finally:
            datapath.remove()


def _seen_both_ways(datapath: Datapath, pod: Made) -> None:
    ifindex = socket.if_nametoindex(pod.veth)
    for address in (pod.v4, pod.v6):
        before = datapath.stats(ifindex)
        assert before is not None
        assert ask(pod, address) == SAID * 2
        drained(datapath, ifindex)
        stats = datapath.stats(ifindex)
        assert stats is not None
        passed = stats.since(before)
        assert (passed[TO_POD], passed[FROM_POD]) == (len(SAID), 2 * len(SAID))
        check_books(stats)
