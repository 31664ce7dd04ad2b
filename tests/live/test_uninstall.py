"""Uninstalling, as manifests/uninstall says it, on a real node: the agent first, then what it left for a successor.

Seen by an operator: after `kubectl delete -k` links, maps and pins stayed on every node, and `clovisor` was gone with its pods.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clovisor_py.kernel.probe import DEFAULT_PINS
from tests.support.real_node import RealNode, real_node, uninstallation, within

pytestmark = [pytest.mark.live, pytest.mark.cluster, pytest.mark.slow]
NAMESPACE = "clovisor-uninstall"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("base", "uninstall")}


@pytest.fixture(scope="module")
def node(folders: dict[str, Path]) -> Iterator[RealNode]:
    with real_node(folders["base"], "ptp") as running:
        yield running


def test_beside_a_running_agent_it_waits_and_then_nothing_is_left(node: RealNode, folders: dict[str, Path]) -> None:
    web = node.names("app=web")[0]
    node.label(web, "clovisor.io/trace=true")
    within(lambda: node.attached(web)[0] == [1, 1])
    (folders["uninstall"] / "kustomization.yaml").write_text(json.dumps(uninstallation(folders["uninstall"])))

    node.kubectl("apply", "-k", folders["uninstall"])
    logs = ("-n", NAMESPACE, "logs", f"daemonset/{NAMESPACE}", "-c", "detach")
    within(lambda: "stop it first" in node.kubectl(*logs, check=False))
    assert node.attached(web)[0] == [1, 1], "refused as a whole"

    node.kubectl("delete", "-k", folders["base"], "--wait=true")
    assert node.attached(web)[0] == [1, 1], "left for a successor"
    node.kubectl("-n", NAMESPACE, "rollout", "restart", f"daemonset/{NAMESPACE}")  # or it would wait to be tried again
    node.kubectl("-n", NAMESPACE, "rollout", "status", f"daemonset/{NAMESPACE}", "--timeout=90s")
    assert "Nothing of Clovisor is left on this node." in node.kubectl(*logs)
    assert node.attached(web) == ([0, 0], [])
    assert DEFAULT_PINS.name not in node.inside("ls", DEFAULT_PINS.parent)
    node.call("client", f"http://{node.address(web)}/still-there")
    assert "/still-there" in node.served(web)

    node.kubectl("delete", "-k", folders["uninstall"])
    assert "clovisor" not in node.kubectl("get", "all,ns,clusterroles,clusterrolebindings", "-A", "-o", "name")
