"""Two agents on two nodes: what they export, each by itself, is one trace in Jaeger, and the right one.

Both nodes route to each other, and kube-proxy translates the Services' addresses on the caller's node, so the two ends of a
call see different servers. Nothing tells one agent what the other has seen.
"""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grpc")

from clovisor_py.demo.bookinfo import CALLS, PRODUCTS
from clovisor_py.demo.calls import PORT
from tests.live.test_agent_cluster import Operator
from tests.support.jaeger import Jaeger, jaeger
from tests.support.live_grpc_peer import calls
from tests.support.live_web import module
from tests.support.netns import Pod
from tests.support.servers import Place, Recipe, serving
from tests.support.services import deployment, iptables, run_pods, service, until
from tests.support.two_nodes import NAMESPACE, Node, agents, two_nodes

pytestmark = [pytest.mark.live, pytest.mark.cluster, pytest.mark.jaeger, pytest.mark.slow]
SHOP = "shop"
WHERE = {"client": 1, "details": 1, "reviews": 1, "productpage": 2, "ratings": 2, "cache": 2, "echo": 2}
"""Each Deployment, and its node: every call crosses from one node to the other."""
PORTS = dict.fromkeys(CALLS, (PORT, PORT)) | {"cache": (7000, 6379), "echo": (8202, 8201)}
"""Of each Service, and of the pod behind it."""
PAGES = 8
MOST = 1000
"""Traces that Jaeger is asked for."""
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e{:04x}", "00f067aa0ba902b7"
Span = dict[str, Any]


@dataclass
class Town:
    """Seven pods on two nodes, and their Services."""

    kubectl: Operator
    store: Jaeger
    nodes: dict[int, Node]
    pods: dict[str, Pod] = field(default_factory=dict)
    cluster_ips: dict[str, str] = field(default_factory=dict)
    node_port: int = 0
    """Of ratings, on each node."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, name: str, ip: str = "", port: int = PORT, **headers: str) -> str:
        """The client asks a service, by default at its Service's address, for a path that nobody has asked for before."""
        path = f"/{name}/{PRODUCTS * next(self.numbers)}"  # of product 0
        where = ip or self.cluster_ips[name]
        assert self.pods["client"].call(lambda: fetch(where, port, path, headers)) == 200
        return path

    def trace_of(self, path: str, count: int) -> list[Span]:
        """All spans of the one trace that has this path, as soon as there are so many."""
        (trace,) = self.traces("ratings", lambda span: tags(span).get("url.path") == path, count)
        return trace

    def traces(self, name: str, about: Callable[[Span], bool], count: int) -> list[list[Span]]:
        """The spans, so many in all, of each trace in which the client or this service has such a span."""

        def look() -> list[list[Span]]:
            ids = set()
            for who in ("client", name):
                for trace in self.store.get(f"/api/traces?service={who}&limit={MOST}") or []:
                    ids |= {span["traceID"] for span in trace["spans"] if about(span)}
            return [self.store.spans(int(one, 16)) for one in ids]

        self.store.wait(lambda: sum(map(len, look())) >= count)
        found = look()
        assert sum(map(len, found)) == count, found
        return found

    def agent_pod(self, number: int, *, ready: bool) -> None:
        """What the DaemonSet's controller and the kubelet say of the agent there."""
        said = [{"type": "Ready", "status": str(ready)}]
        patch = json.dumps({"status": {"phase": "Running", "podIP": self.nodes[number].ip, "conditions": said}})
        name = f"clovisor-{number}"
        self.kubectl("patch", "pod", name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", patch)

    def agents(self, folder: Path, *schemes: str) -> AbstractContextManager[None]:
        """One on each node, which export so."""
        return agents(folder, *zip(self.nodes.values(), schemes, strict=True))


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
        town.agent_pod(number, ready=True)
    for name, number in WHERE.items():
        pod = town.pods[name] = stack.enter_context(town.nodes[number].pod(name))
        bodies = [deployment(name, SHOP, f"n{number}")]
        if name in PORTS:
            bodies.append(service(name, SHOP, name, *PORTS[name], type="NodePort" if name == "ratings" else "ClusterIP"))
        kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": bodies})
        run_pods(kubectl, SHOP, name, [pod.ipv4])
    specs = {name: json.loads(kubectl("get", "service", name, "-n", SHOP, "-o", "json"))["spec"] for name in PORTS}
    town.cluster_ips = {name: spec["clusterIP"] for name, spec in specs.items()}
    town.node_port = specs["ratings"]["ports"][0]["nodePort"]
    _start_servers(town, stack)
    targets = {f"--to-destination {town.pods[name].ipv4}:" for name in town.cluster_ips}
    for node in town.nodes.values():
        until(
            lambda node=node: node.call(lambda: iptables("-t", "nat", "-S")),
            lambda rules: all(one in rules for one in targets),
        )


def _start_servers(town: Town, stack: ExitStack) -> None:
    stack.enter_context(serving(town.pods["cache"], "redis"))
    stack.enter_context(serving(town.pods["echo"], module("tests.support.live_grpc_peer", "server"), port=PORTS["echo"][1]))
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


def fetch(ip: str, port: int, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(ip, port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def ping(ip: str) -> None:
    with socket.create_connection((ip, PORTS["cache"][0]), timeout=10) as connection:
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert connection.recv(100) == b"+PONG\r\n"


def tags(span: Span) -> dict[str, Any]:
    """What it says, and (of the spans of `Jaeger.spans`) what its resource says."""
    both = [*span["tags"], *span.get("process", {}).get("tags", ())]
    return {tag["key"]: tag["value"] for tag in both}


def parent(span: Span) -> str:
    """The id of the span above; empty of a root."""
    above = [one for one in span["references"] if one["refType"] == "CHILD_OF"]
    assert len(above) < 2 and all(one["traceID"] == span["traceID"] for one in above)
    return above[0]["spanID"] if above else ""


def check_call(spans: list[Span], caller: str, called: str, address: str, pod: Pod) -> tuple[Span, Span]:
    """The client's span above the server's, each from its own node; `address` was called, and `pod` is where it called from."""
    server, client = sorted(spans, key=lambda one: str(tags(one)["span.kind"]), reverse=True)
    assert [tags(one)["span.kind"] for one in (client, server)] == ["client", "server"]
    assert [one["process"]["serviceName"] for one in (client, server)] == [caller, called]
    assert [tags(one)["k8s.node.name"] for one in (client, server)] == [f"n{WHERE[name]}" for name in (caller, called)]
    assert [tags(one)["network.peer.address"] for one in (client, server)] == [address, pod.ipv4]
    assert tags(client)["service.peer.name"] == called and tags(server)["service.peer.name"] == caller
    assert parent(server) == client["spanID"] != server["spanID"]
    return client, server


@pytest.mark.parametrize("schemes", [("jaeger", "otlp+grpc"), ("otlp+grpc", "jaeger")])
def test_one_request_without_a_context(town: Town, tmp_path: Path, schemes: tuple[str, str]) -> None:
    """Through DNAT and without; whichever way each agent exports, the ids are the same."""
    with town.agents(tmp_path, *schemes):
        for address in (town.cluster_ips["ratings"], town.pods["ratings"].ipv4):
            path = town.call("ratings", address)
            client, _ = check_call(town.trace_of(path, 2), "client", "ratings", address, town.pods["client"])
            assert parent(client) == ""


def test_protocols_without_a_context(town: Town, tmp_path: Path) -> None:
    """A command of Redis, and all kinds of gRPC calls, many at once on one connection: two spans each, and no others."""
    client, redis, grpc = town.pods["client"], town.cluster_ips["cache"], town.cluster_ips["echo"]
    with town.agents(tmp_path, "otlp+grpc", "jaeger"):
        client.call(lambda: ping(redis))
        made = {one["method"] for one in client.call(lambda: calls((grpc, PORTS["echo"][0]), "usual"))}
        (pinged,) = town.traces("cache", lambda span: tags(span).get("db.operation.name") == "PING", 2)
        called = town.traces("echo", lambda span: "rpc.method" in tags(span), 2 * len(made))
    for name, address, spans in (("cache", redis, pinged), *(("echo", grpc, each) for each in called)):
        above, _ = check_call(spans, "client", name, address, client)
        assert parent(above) == ""
    assert {"/" + str(tags(spans[0])["rpc.method"]) for spans in called} == made


def test_a_context_that_three_services_forward(town: Town, tmp_path: Path) -> None:
    """None of them makes spans, so each call's context is the one that the client sent. Several pages at once."""
    traces = [TRACE.format(number) for number in range(1, PAGES + 1)]
    with town.agents(tmp_path, "jaeger", "otlp+grpc"):
        with ThreadPoolExecutor(PAGES) as pool:
            list(pool.map(lambda trace: town.call("productpage", traceparent=f"00-{trace}-{PARENT}-01"), traces))
        for trace in traces:
            town.store.wait(lambda trace=trace: len(town.store.spans(int(trace, 16))) >= 8)
            check_page(town, town.store.spans(int(trace, 16)))


def check_page(town: Town, spans: list[Span]) -> None:
    """A call and what it led to, by the services' own plan; the client's span hangs where its context says."""
    assert len({span["spanID"] for span in spans}) == len(spans) == 8
    above: dict[str, str] = {}
    for caller, called in (("client", "productpage"), *((one, each) for one, several in CALLS.items() for each in several)):
        pair = [one for one in spans if {tags(one)["service.peer.name"], one["process"]["serviceName"]} == {caller, called}]
        client, server = check_call(pair, caller, called, town.cluster_ips[called], town.pods[caller])
        assert parent(client) == above.get(caller, PARENT)
        assert tags(client).get("clovisor.unlinked") == (None if caller in above else "none")
        above[called] = server["spanID"]


def test_a_masqueraded_caller(town: Town, tmp_path: Path) -> None:
    """A port of either node is called in that node's name: the ids cannot be the same, so nobody claims to know the other's."""
    with town.agents(tmp_path, "jaeger", "otlp+grpc"):
        paths = [town.call("ratings", node.ip, town.node_port) for node in town.nodes.values()]
        context = {"traceparent": f"00-{TRACE.format(PAGES + 1)}-{PARENT}-01"}
        with_context = town.call("ratings", town.nodes[2].ip, town.node_port, **context)
        for path in paths:
            traces = town.traces("ratings", lambda span, path=path: tags(span).get("url.path") == path, 2)
            assert [parent(span) for spans in traces for span in spans] == ["", ""]
            assert len(traces) == 2
        assert [parent(span) for span in town.trace_of(with_context, 2)] == [PARENT, PARENT]


def test_the_other_nodes_agent_is_away_starts_and_is_ready(town: Town, tmp_path: Path) -> None:
    """A span that nobody will send is nobody's parent; both agents' spans are one trace all the same."""
    first, second = town.nodes[1], town.nodes[2]
    town.agent_pod(1, ready=False)
    with agents(tmp_path, (second, "otlp+grpc")):
        (server,) = town.trace_of(town.call("ratings"), 1)
        assert (tags(server)["span.kind"], parent(server)) == ("server", "")
        (server,) = town.trace_of(town.call("ratings", traceparent=f"00-{TRACE.format(PAGES + 2)}-{PARENT}-01"), 1)
        assert (tags(server)["span.kind"], parent(server)) == ("server", PARENT)
        with agents(tmp_path, (first, "otlp+grpc")):
            assert {parent(span) for span in town.trace_of(town.call("ratings"), 2)} == {""}
            town.agent_pod(1, ready=True)
            until(lambda: town.trace_of(town.call("ratings"), 2), lambda spans: any(map(parent, spans)))
            path = town.call("ratings")
            check_call(town.trace_of(path, 2), "client", "ratings", town.cluster_ips["ratings"], town.pods["client"])
