"""Spans in a real Jaeger carry both workloads: the real agent, a real API server, two pods that are namespaces."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_agent_cluster import NODE, Operator, agent, uplink
from tests.live.test_node import on, within
from tests.live.test_trace import fetch
from tests.support.control_plane import control_plane, programs
from tests.support.jaeger import Jaeger, jaeger
from tests.support.kernel import node
from tests.support.netns import pod as sandbox
from tests.support.nginx import nginx_in
from tests.support.services import deployment, forward, run_pods, service, until

pytestmark = [pytest.mark.live, pytest.mark.cluster, pytest.mark.jaeger, pytest.mark.slow]
SHOP = "shop"


@pytest.fixture
def bench() -> Iterator[tuple[Operator, Jaeger, ExitStack]]:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (Debian: util-linux)")
    programs("kubectl", "kube-controller-manager")
    with ExitStack() as stack:
        stack.enter_context(node())
        stack.enter_context(uplink())
        forward()
        store = stack.enter_context(jaeger())
        plane = stack.enter_context(control_plane())
        plane.start_controllers("deployment", "replicaset", "endpointslice")
        kubectl = Operator(plane)
        kubectl.create("Node", NODE)
        kubectl.create("Namespace", SHOP)
        yield kubectl, store, stack


def tags(span: dict[str, Any]) -> dict[str, Any]:
    return {tag["key"]: tag["value"] for tag in span["tags"]}


def test_both_ends_and_the_call_between_them(bench: tuple[Operator, Jaeger, ExitStack], tmp_path: Path) -> None:
    kubectl, store, stack = bench
    web, client = (stack.enter_context(sandbox(name)) for name in ("web", "client"))
    nginx = stack.enter_context(nginx_in(web))
    for body in (deployment("web", SHOP, NODE), deployment("shopper", SHOP, NODE), service("front", SHOP, "web", 80, 80)):
        kubectl("create", "-f", "-", given=body)
    (server_name,) = run_pods(kubectl, SHOP, "web", [web.ipv4])
    (client_name,) = run_pods(kubectl, SHOP, "shopper", [client.ipv4])
    until(lambda: kubectl("get", "endpointslices", "-n", SHOP, "-o", "json"), lambda said: web.ipv4 in said)
    kubectl("label", "namespace", SHOP, "clovisor.io/trace=true")
    with agent(tmp_path, kubectl, "--export", "jaeger://127.0.0.1"):
        within(10, lambda: on(web.ifindex) and on(client.ifindex))
        began = time.time()
        assert client.call(lambda: fetch(nginx.url("/status/404"))) == 404
        ended = time.time()
        spans = store.wait(lambda: _pair(store))
    assert spans, "no trace of the call came"
    by_service = {span["process"]["serviceName"]: span for span in spans}
    assert set(by_service) == {"web", "shopper"}
    server, caller = by_service["web"], by_service["shopper"]
    assert (tags(server)["span.kind"], tags(caller)["span.kind"]) == ("server", "client")
    assert server["references"][0]["spanID"] == caller["spanID"]
    for span in spans:
        assert span["operationName"] == "GET"
        assert 0 < span["duration"] < (ended - began) * 1e6
        assert began * 1e6 - 1e5 < span["startTime"] < ended * 1e6 + 1e5  # of two clocks' reading
    _check_ends(tags(server), server_name, "web", client_name, "shopper")
    _check_ends(tags(caller), client_name, "shopper", server_name, "web")
    assert (tags(server)["service.peer.name"], tags(caller)["service.peer.name"]) == ("shopper", "web")
    assert (tags(server)["k8s.service.name"], tags(caller)["clovisor.peer.k8s.service.name"]) == ("front", "front")


def _pair(store: Jaeger) -> list[dict[str, Any]]:
    """The spans of the trace of the call, once both are there."""
    for trace in store.get("/api/traces?service=web") or []:
        if len(trace["spans"]) == 2:
            return store.spans(int(trace["traceID"], 16))
    return []


def _check_ends(said: dict[str, Any], own: str, owner: str, peer: str, peer_owner: str) -> None:
    for prefix, pod, deployed in (("", own, owner), ("clovisor.peer.", peer, peer_owner)):
        assert said[f"{prefix}k8s.pod.name"] == pod
        assert said[f"{prefix}k8s.namespace.name"] == SHOP
        assert said[f"{prefix}k8s.node.name"] == NODE
        assert said[f"{prefix}k8s.deployment.name"] == deployed
    assert said["service.peer.namespace"] == SHOP
