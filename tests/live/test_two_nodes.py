"""Two agents on two nodes: what they export, each by itself, is one trace in Jaeger, and the right one.

Both nodes route to each other, and kube-proxy translates the Services' addresses on the caller's node, so the two ends of a
call see different servers. Nothing tells one agent what the other has seen.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clovisor_py.demo.calls import PORT
from tests.live.test_agent_cluster import Operator
from tests.support.jaeger import Jaeger, jaeger
from tests.support.netns import Pod
from tests.support.servers import Place, Recipe, serving
from tests.support.services import deployment, iptables, run_pods, service, until
from tests.support.two_nodes import NAMESPACE, Agent, Node, two_nodes

pytestmark = [pytest.mark.live, pytest.mark.cluster, pytest.mark.jaeger, pytest.mark.slow]
SHOP = "shop"
REDIS_PORT = 7000
CALLS = {"productpage": ("details", "reviews"), "reviews": ("ratings",), "ratings": (), "details": ()}
WHERE = {"client": 1, "details": 1, "reviews": 1, "productpage": 2, "ratings": 2, "cache": 2}
"""Each Deployment, and its node: every call of the page but that for details crosses from one node to the other."""
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e{:04x}", "00f067aa0ba902b7"
Span = dict[str, Any]


@dataclass
class Town:
    """Six pods on two nodes, and their Services."""

    kubectl: Operator
    store: Jaeger
    nodes: dict[int, Node]
    pods: dict[str, Pod] = field(default_factory=dict)
    cluster_ips: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    def call(self, name: str, ip: str = "", **headers: str) -> str:
        """The client asks a service, by default at its Service's address, for a path that nobody has asked for before."""
        self.asked += 1
        path = f"/{name}/{50 * self.asked}"  # bookinfo's product 0
        where = ip or self.cluster_ips[name]
        assert self.pods["client"].call(lambda: fetch(where, path, headers)) == 200
        return path

    def trace_of(self, path: str, count: int) -> list[Span]:
        """All spans of the one trace that has this path, as soon as there are so many."""
        return self.traces(lambda span: tags(span).get("url.path") == path, count)

    def traces(self, about: Callable[[Span], bool], count: int) -> list[Span]:
        """All spans of all traces with such a span; there is to be one such trace."""

        def look() -> list[list[Span]]:
            ids = set()
            for name in WHERE:
                for trace in self.store.get(f"/api/traces?service={name}&limit=500") or []:
                    ids |= {span["traceID"] for span in trace["spans"] if about(span)}
            return [self.store.spans(int(one, 16)) for one in ids]

        found = self.store.wait(lambda: (them := look()) and sum(map(len, them)) >= count and them)
        assert found and len(found) == 1, f"{found or look()}"
        assert len(found[0]) == count, found[0]
        return list(found[0])

    def agent_pod(self, number: int, *, ready: bool) -> None:
        """What the DaemonSet's controller and the kubelet say of the agent there."""
        said = [{"type": "Ready", "status": str(ready)}]
        patch = json.dumps({"status": {"phase": "Running", "podIP": self.nodes[number].ip, "conditions": said}})
        name = f"clovisor-{number}"
        self.kubectl("patch", "pod", name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", patch)

    @contextmanager
    def agents(self, folder: Path, *schemes: str) -> Iterator[tuple[Agent, Agent]]:
        """One on each node, which export so."""
        with ExitStack() as stack:
            first, second = (
                stack.enter_context(self.nodes[number].agent(folder / str(number), scheme))
                for number, scheme in zip((1, 2), schemes, strict=True)
            )
            yield first, second


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with ExitStack() as stack:
        plane, *nodes = stack.enter_context(two_nodes())
        store = stack.enter_context(jaeger())
        made = Town(Operator(plane), store, dict(enumerate(nodes, start=1)))
        _furnish(made, stack)
        yield made


def _furnish(town: Town, stack: ExitStack) -> None:
    kubectl = town.kubectl
    for node in town.nodes.values():
        kubectl.create("Node", node.name)
        addresses = {"status": {"addresses": [{"type": "InternalIP", "address": node.ip}]}}
        kubectl("patch", "node", node.name, "--subresource=status", "--type=merge", "-p", json.dumps(addresses))
    for namespace in (SHOP, NAMESPACE):
        kubectl.create("Namespace", namespace)
    kubectl("label", "namespace", SHOP, "clovisor.io/trace=true")
    for number, node in town.nodes.items():
        kubectl("create", "-f", "-", given=_agent_pod(number, node.name))
    for name, number in WHERE.items():
        pod = town.pods[name] = stack.enter_context(town.nodes[number].pod(name))
        bodies = [deployment(name, SHOP, f"n{number}")]
        if name == "cache":
            bodies.append(service(name, SHOP, name, REDIS_PORT, 6379))
        elif name in CALLS:
            bodies.append(service(name, SHOP, name, PORT, PORT))
        kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": bodies})
        run_pods(kubectl, SHOP, name, [pod.ipv4])
    listed = json.loads(kubectl("get", "services", "-n", SHOP, "-o", "json"))["items"]
    town.cluster_ips = {one["metadata"]["name"]: one["spec"]["clusterIP"] for one in listed}
    _start_servers(town, stack)
    targets = {f"--to-destination {town.pods[name].ipv4}:" for name in town.cluster_ips}
    for node in town.nodes.values():
        until(
            lambda node=node: node.call(lambda: iptables("-t", "nat", "-S")),
            lambda rules: all(one in rules for one in targets),
        )


def _start_servers(town: Town, stack: ExitStack) -> None:
    stack.enter_context(serving(town.pods["cache"], "redis"))
    for name, callees in CALLS.items():
        peers = [f"--peer={callee}={town.cluster_ips[callee]}" for callee in callees]

        def command(place: Place, name: str = name, peers: list[str] = peers) -> list[str]:
            return [sys.executable, "-m", "clovisor_py.demo.bookinfo", name, *peers]

        stack.enter_context(serving(town.pods[name], Recipe(port=PORT, needs={}, command=command)))


def _agent_pod(number: int, node: str) -> dict[str, Any]:
    """As the DaemonSet of the manifests makes it."""
    metadata = {"name": f"clovisor-{number}", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "clovisor"}}
    spec = {"nodeName": node, "hostNetwork": True, "containers": [{"name": "agent", "image": "none"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def fetch(ip: str, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(ip, PORT, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def ping(ip: str) -> None:
    with socket.create_connection((ip, REDIS_PORT), timeout=10) as connection:
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert connection.recv(100) == b"+PONG\r\n"


def tags(span: Span) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]} | {tag["key"]: tag["value"] for tag in span["process"]["tags"]}


def parent(span: Span) -> str:
    """The id of the span above; empty of a root."""
    above = [one for one in span["references"] if one["refType"] == "CHILD_OF"]
    assert len(above) < 2 and all(one["traceID"] == span["traceID"] for one in above)
    return above[0]["spanID"] if above else ""


def check_call(spans: list[Span], caller: str, called: str, address: str, pod: Pod) -> tuple[Span, Span]:
    """The client's span from its node above the server's from the other, each with the server's address as it is seen there."""
    server, client = sorted(spans, key=lambda one: str(tags(one)["span.kind"]), reverse=True)
    assert [tags(one)["span.kind"] for one in (client, server)] == ["client", "server"]
    assert [one["process"]["serviceName"] for one in (client, server)] == [caller, called]
    assert [tags(one)["k8s.node.name"] for one in (client, server)] == [f"n{WHERE[name]}" for name in (caller, called)]
    assert [tags(one)["server.address"] for one in (client, server)] == [address, pod.ipv4]
    assert tags(client)["service.peer.name"] == called and tags(server)["service.peer.name"] == caller
    assert parent(server) == client["spanID"] != server["spanID"]
    return client, server


@pytest.mark.parametrize("schemes", [("jaeger", "otlp+grpc"), ("otlp+grpc", "jaeger")])
def test_one_request_without_a_context(town: Town, tmp_path: Path, schemes: tuple[str, str]) -> None:
    """Through DNAT and without; whichever way each agent exports, the ids are the same."""
    for number in town.nodes:
        town.agent_pod(number, ready=True)
    server = town.pods["ratings"]
    with town.agents(tmp_path, *schemes):
        for address in (town.cluster_ips["ratings"], server.ipv4):
            path = town.call("ratings", address)
            client, _ = check_call(town.trace_of(path, 2), "client", "ratings", address, server)
            assert parent(client) == ""
