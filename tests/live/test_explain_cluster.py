"""`clovisor explain` and `trace pod/…` against a real API server, and Events where `kubectl describe` shows them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_agent_cluster import Operator, agent, operator, shop, web
from tests.live.test_node import off, on, within
from tests.live.test_trace import fetch
from tests.support.nginx import Nginx
from tests.support.trace import CLOVISOR, PATIENCE_S, Trace

__all__ = ["operator", "shop", "web"]
pytestmark = [pytest.mark.live, pytest.mark.cluster]


def own(operator: Operator, kind: str, name: str, namespace: str, owner: dict[str, Any] | None) -> dict[str, Any]:
    """A Deployment or ReplicaSet; what its pods refer to it by."""
    pods = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "x", "image": "none"}]}}
    metadata = {"name": name, "namespace": namespace, "ownerReferences": [owner] if owner else []}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": pods}
    operator("create", "-f", "-", given={"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec})
    uid = operator("get", kind, name, "-n", namespace, "-o", "jsonpath={.metadata.uid}")
    return {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": True}


def test_what_others_say_of_a_pod(operator: Operator, shop: str, web: Nginx, tmp_path: Path) -> None:
    """The label that decided is named with its place; a wrong one is an Event there, which `kubectl describe` shows."""
    deployment = own(operator, "Deployment", "cart", shop, None)
    replicas = own(operator, "ReplicaSet", "cart-1", shop, deployment)
    patch = json.dumps({"metadata": {"ownerReferences": [replicas]}})
    operator("patch", "pod", "web", "-n", shop, "--type=merge", "-p", patch)
    with agent(tmp_path, operator) as running:

        def explained(words: str) -> None:
            within(5, lambda: words in running.asked("explain", f"{shop}/web"))

        operator("label", "deployment", "cart", "-n", shop, "clovisor.io/trace=maybe")
        within(10, lambda: "BadTraceSetting" in operator("describe", "deployment", "cart", "-n", shop))
        explained("no label clovisor.io/trace")
        operator("label", "namespace", shop, "clovisor.io/trace=perhaps")
        uid = operator("get", "namespace", shop, "-o", "jsonpath={.metadata.uid}")
        selector = f"--field-selector=involvedObject.uid={uid}"
        within(10, lambda: "BadTraceSetting" in operator("get", "events", "-A", selector))
        operator("label", "namespace", shop, "clovisor.io/trace=true", "--overwrite")
        explained(f"✓ selected       label clovisor.io/trace=true on namespace/{shop}")
        operator("label", "deployment", "cart", "-n", shop, "clovisor.io/trace=false", "--overwrite")
        explained("✗ selected       label clovisor.io/trace=false on deployment/cart")
        operator("label", "pod", "web", "-n", shop, "clovisor.io/trace=true")
        explained("✓ selected       label clovisor.io/trace=true on pod/web")
        done = running.asked("trace", f"deploy/{shop}/cart", "--duration", "100ms")
        assert f"tracing pod {shop}/web (" in done


def test_pods_of_other_nodes_and_of_none(operator: Operator, shop: str, web: Nginx, tmp_path: Path) -> None:
    with agent(tmp_path, operator) as running:
        for name, spec in (("far", {"nodeName": "n9"}), ("new", {"schedulerName": "nobody"})):
            operator.create("Pod", name, shop, {**spec, "containers": [{"name": "x", "image": "none"}]})
        within(5, lambda: "✗ node           it runs on n9, and this is n1" in running.asked("explain", f"{shop}/far"))
        within(5, lambda: "no node has been chosen for it" in running.asked("explain", f"{shop}/new"))
        assert f"pod/{shop}/far runs on node n9, and this is n1" in running.asked("trace", f"pod/{shop}/far")
        assert f"no node has been chosen yet for pod/{shop}/new" in running.asked("trace", f"pod/{shop}/new")


def test_a_pod_that_nobody_enabled(operator: Operator, shop: str, web: Nginx, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    with agent(tmp_path, operator) as running, out.open("wb") as stdout, err.open("wb") as stderr:
        assert off(web.pod.ifindex)
        command = [CLOVISOR, "trace", f"pod/{shop}/web", "-o", "json", "--socket", str(running.socket)]
        trace = Trace(subprocess.Popen(command, stdout=stdout, stderr=stderr), out, err)
        try:
            within(PATIENCE_S, lambda: on(web.pod.ifindex) and "Ctrl-C" in trace.remarks())
            fetch(web.url("/status/404"))
            (session,) = trace.wait_for(1)
            assert session["server"]["workload"]["namespace"] == shop
        finally:
            trace.stop()
        within(2, lambda: off(web.pod.ifindex))
        assert running.sessions() == []
    assert "not enabled (no label clovisor.io/trace" in trace.remarks()
