"""Two nodes of one cluster on this machine, each with a network namespace, a bpffs and an agent of its own.

    with two_nodes() as (plane, first, second): ...

Both are on one network, through which they reach each other's pods (routes, no tunnel) and the test's own namespace, where the
API server and Jaeger are. Those listen on loopback, as they do for every test: what the nodes send to ENTRY is led there. On
each node kube-proxy translates the Services' addresses; pods are namespaces, and the test plays the kubelet for them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Final, TypeVar

import pytest

from clovisor_py.kernel import netns, pods
from clovisor_py.kernel.links import link_names, netlink
from tests.live.test_node import on, within
from tests.support.control_plane import ControlPlane, control_plane, programs
from tests.support.kernel import node as own_namespace
from tests.support.netns import Pod, uplink
from tests.support.services import PATIENCE_S, forward, iptables, kube_proxy
from tests.support.trace import CLOVISOR

T = TypeVar("T")

ENTRY: Final = "192.0.2.1"
"""Where nodes find the API server and Jaeger: the test's own end of their network, `netns.uplink`."""
UPLINK: Final = "cvt-up"
JAEGER: Final = {"jaeger": ("udp", 6831), "otlp+grpc": ("tcp", 4317)}
"""Scheme of an exporter's URL to where it is taken in."""
NAMESPACE: Final = "clovisor"
"""Of the agents' pods, as the manifests have it."""
_POD_BITS: Final = 20
_RUN: Final = 'mount -t bpf bpf /sys/fs/bpf && exec "$@"'


@dataclass
class Node:
    """One of them; `number` is 1 or 2. Everything of it is in the namespace `namespace`."""

    number: int
    namespace: str
    kubeconfig: Path
    pods: list[Pod] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def ip(self) -> str:
        return f"192.0.2.{10 + self.number}"

    @property
    def network(self) -> str:
        """Of its pods."""
        return f"10.212.{16 * self.number}.0/{_POD_BITS}"

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on it."""
        return netns.call_inside(self.namespace, function)

    @contextmanager
    def pod(self, name: str) -> Iterator[Pod]:
        """A pod on a veth of its own; `ifindex` and `veth` are the node's."""
        namespace, net = f"{self.namespace}-{name}", 16 * self.number + len(self.pods)
        ipv4, host4, ipv6, host6 = f"10.212.{net}.2", f"10.212.{net}.1", f"fd00:c10:200:{net}::2", f"fd00:c10:200:{net}::1"
        try:
            netns.create(namespace)
            inside, outside = [f"{ipv4}/24", f"{ipv6}/64"], [f"{host4}/24", f"{host6}/64"]
            ifindex = self.call(lambda: pods.add_pod(namespace, inside, gateways=[host4, host6], host_addresses=outside))
            made = Pod(namespace, pods.link_name(namespace), ifindex, ipv4, ipv6, host4, host6)
            self.pods.append(made)
            yield made
        finally:
            netns.delete(namespace)  # and both ends of the veth with it


class Agent:
    """A running `clovisor agent` on a node; `scheme`: how it exports to Jaeger. Its log is in `folder`."""

    def __init__(self, node: Node, folder: Path, scheme: str) -> None:
        self._node, self._log = node, folder / f"{node.name}.log"
        command = [CLOVISOR, "agent", "--kubeconfig", str(node.kubeconfig), "--node", node.name]
        command += ["--socket", str(folder / f"{node.name}.sock"), "--export", f"{scheme}://{ENTRY}"]
        with self._log.open("ab") as log:
            alone = ("unshare", "--mount", "sh", "-c", _RUN, "sh")
            self.process: Popen[bytes] = netns.spawn(node.namespace, [*alone, *command], stdout=log, stderr=log)

    def wait(self) -> None:
        """Until all pods of the node are traced."""
        within(PATIENCE_S, lambda: self._says("pods of this node are traced"))
        within(PATIENCE_S, lambda: self._node.call(lambda: all(on(pod.ifindex) for pod in self._node.pods)))

    def _says(self, text: str) -> bool:
        said = self._log.read_text()
        assert self.process.poll() is None, said
        return text in said


@contextmanager
def agents(folder: Path, *plan: tuple[Node, str]) -> Iterator[None]:
    """One on each of these nodes, which exports to Jaeger by that scheme; all tracing when the block begins."""
    running: list[Agent] = []
    try:
        for node, scheme in plan:
            running.append(Agent(node, folder, scheme))
        for one in running:
            one.wait()
        yield
    finally:
        netns.end([one.process for one in running], patience_s=10)  # SIGTERM, and the kubelet's grace


@contextmanager
def two_nodes() -> Iterator[tuple[ControlPlane, Node, Node]]:
    """Up, with kube-proxy on both, and the controllers of Deployments and EndpointSlices; no Node object exists yet."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (Debian: util-linux)")
    programs("kubectl", "kube-controller-manager", "kube-proxy", "iptables")
    with ExitStack() as stack:
        stack.enter_context(own_namespace())
        stack.enter_context(uplink())
        forward()
        plane = stack.enter_context(control_plane())
        _let_in(plane)
        first, second = (stack.enter_context(_node(number, plane)) for number in (1, 2))
        for one, other in ((first, second), (second, first)):
            with netlink("routing to a node's pods") as ip:
                ip.route("add", dst=one.network, gateway=one.ip)
            one.call(lambda other=other: _route(other.network, other.ip))
        plane.start_controllers("deployment", "replicaset", "endpointslice")
        for one in (first, second):
            stack.enter_context(_proxy(one, plane))
        yield plane, first, second


@contextmanager
def _node(number: int, plane: ControlPlane) -> Iterator[Node]:
    namespace = f"cvt{os.getpid()}-n{number}"
    config = plane.folder / f"n{number}.conf"
    config.write_text(plane.kubeconfig().read_text().replace("127.0.0.1", ENTRY))
    made = Node(number, namespace, config)
    bridge = next(ifindex for ifindex, name in link_names().items() if name == UPLINK)
    try:
        netns.create(namespace)
        pods.add_pod(namespace, [f"{made.ip}/24"], gateways=[ENTRY], bridge=bridge)
        made.call(forward)
        yield made
    finally:
        netns.delete(namespace)
        pods.delete_link(pods.link_name(namespace))


@contextmanager
def _proxy(node: Node, plane: ControlPlane) -> Iterator[Popen[bytes]]:
    """kube-proxy on that node: started by a thread that is there, and ended by this one."""
    running = kube_proxy(plane, node.name, node.kubeconfig)
    process = node.call(running.__enter__)
    try:
        yield process
    finally:
        running.__exit__(None, None, None)


def _let_in(plane: ControlPlane) -> None:
    """What nodes send to ENTRY reaches who listens on this namespace's loopback."""
    Path("/proc/sys/net/ipv4/conf", UPLINK, "route_localnet").write_text("1")
    for transport, port in (("tcp", plane.port), *JAEGER.values()):
        where = ("-i", UPLINK, "-d", ENTRY, "-p", transport, "--dport", str(port))
        iptables("-t", "nat", "-A", "PREROUTING", *where, "-j", "DNAT", "--to-destination", f"127.0.0.1:{port}")


def _route(network: str, gateway: str) -> None:
    with netlink("routing to the other node's pods") as ip:
        ip.route("add", dst=network, gateway=gateway)
