"""Services for live tests: a real kube-proxy that writes a node's rules, Deployments whose pods are network namespaces.

The API server's controllers make ReplicaSets, pods and EndpointSlices of what a test applies; the test plays the kubelet and
gives the pods the addresses of its sandboxes. Programs are those of the lab's build; a test skips where they are absent.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from tests.support.control_plane import ControlPlane, programs

POD_NETWORK = "10.212.0.0/16"
"""Where `netns.pod` finds its addresses."""
PATIENCE_S = 30.0

Kubectl = Callable[..., str]


def iptables(*arguments: str, family: int = 4) -> str:
    """In the calling thread's network namespace; its output."""
    program = programs("iptables", "ip6tables") / ("ip6tables" if family == 6 else "iptables")
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True, timeout=30).stdout


def forward() -> None:
    """The calling thread's network namespace routes between its pods, as every node does."""
    for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", switch).write_text("1")


@contextmanager
def kube_proxy(plane: ControlPlane, node: str, kubeconfig: Path | None = None) -> Iterator[Popen[bytes]]:
    """As on every node, in the calling thread's network namespace; `kubeconfig`: the way to the API server from there."""
    folder = programs("kube-proxy", "iptables")
    forward()
    command = [
        folder / "kube-proxy",
        "--kubeconfig",
        kubeconfig or plane.kubeconfig(),
        "--hostname-override",
        node,
        "--proxy-mode",
        "iptables",
    ]
    command += ["--cluster-cidr", POD_NETWORK, "--conntrack-max-per-core", "0", "--iptables-min-sync-period", "0.1s"]
    with (plane.folder / "kube-proxy.log").open("ab") as log:
        process = Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def deployment(name: str, namespace: str, node: str, replicas: int = 1, **annotations: str) -> dict[str, Any]:
    """Its pods are bound to `node` as soon as they are made; `annotations` are its own."""
    labels = {"app": name}
    container = {"name": "main", "image": "none"}
    template = {"metadata": {"labels": labels}, "spec": {"nodeName": node, "containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def service(name: str, namespace: str, app: str, port: int, target: int, **spec: Any) -> dict[str, Any]:
    """`spec` goes beside its ports."""
    ports = [{"name": "main", "port": port, "targetPort": target}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app}, "ports": ports, **spec},
    }


def run_pods(kubectl: Kubectl, namespace: str, app: str, addresses: Sequence[str]) -> list[str]:
    """As if the kubelet had started all pods of an app, one at each address; their names, in that order."""
    found = until(lambda: _pods(kubectl, namespace, app), lambda names: len(names) == len(addresses))
    for name, address in zip(found, addresses, strict=True):
        become_ready(kubectl, namespace, name, address)
    return found


def become_ready(kubectl: Kubectl, namespace: str, name: str, address: str) -> None:
    """What the kubelet says of a pod that it has started."""
    ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady", "PodScheduled", "Initialized")]
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
    patch = json.dumps({"status": status})
    kubectl("patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


def until(ask: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    """The answer, as soon as it is enough."""
    end = time.monotonic() + PATIENCE_S
    while not enough(answer := ask()):
        assert time.monotonic() < end, answer
        time.sleep(0.1)
    return answer


def _pods(kubectl: Kubectl, namespace: str, app: str) -> list[str]:
    return kubectl("get", "pods", "-n", namespace, "-l", f"app={app}", "-o", "jsonpath={.items[*].metadata.name}").split()
