"""A cluster's objects as an API server sends them, as long as real ones are: what the node's agent has to read and to keep."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, Final

from tests.support.apiserver import ApiServer, Json

NODE: Final = "bench-1"
PER_NODE: Final = 110
"""Pods that a kubelet takes, by default."""
REPLICAS: Final = 10
"""Pods behind one Service."""
TIME: Final = "2026-01-01T00:00:00Z"
_IMAGE: Final = "registry.example/shop/server@sha256:" + "0" * 64
_CONDITIONS: Final = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
_TOLERATION: Final = {
    "key": "node.kubernetes.io/not-ready",
    "operator": "Exists",
    "effect": "NoExecute",
    "tolerationSeconds": 300,
}
_MANAGED_KEYS: Final = 24
"""Fields in the bookkeeping of one writer, which is a third of most objects."""


def fill(api: ApiServer, addresses: Iterable[str], others: int, services: int) -> None:
    """The node with a traced pod for each address, so many pods of other nodes, and Services for those."""
    api.put("nodes", {"metadata": {"name": NODE}, "status": {"addresses": [{"type": "InternalIP", "address": "10.1.0.1"}]}})
    api.put("namespaces", {"metadata": {"name": "shop"}})
    for number, address in enumerate(addresses):
        api.put("pods", pod(f"here-{number}", NODE, address, trace=True))
    for number in range(others):
        api.put("pods", pod(f"there-{number}", f"other-{number // PER_NODE}", _ip(number)))
    for number in range(services):
        app = f"app-{number}"
        behind = [_ip(number * REPLICAS + one) for one in range(REPLICAS)]
        api.put("services", _service(app, number))
        api.put("endpointslices", _slice(app, behind))
        api.put("replicasets", {"metadata": _metadata(f"{app}-7d9f", app) | {"ownerReferences": [_owner("Deployment", app)]}})
        api.put("deployments", {"metadata": _metadata(app, app)})


def pod(name: str, node: str, address: str, *, trace: bool = False) -> Json:
    """A running pod of a Deployment: some 4 kB."""
    number = int(name.rpartition("-")[2])
    app = f"app-{number // REPLICAS}"
    metadata = _metadata(name, app) | {"ownerReferences": [_owner("ReplicaSet", f"{app}-7d9f")]}
    metadata["labels"] |= {"pod-template-hash": "7d9f"} | ({"clovisor.io/trace": "true"} if trace else {})
    return {
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [_container(app)], "tolerations": [_TOLERATION] * 2},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": one, "status": "True", "lastTransitionTime": TIME} for one in _CONDITIONS],
            "containerStatuses": [{"name": app, "containerID": f"containerd://{number:064x}", "image": _IMAGE, "ready": True}],
        },
    }


def _metadata(name: str, app: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "shop",
        "uid": f"{zlib.crc32(name.encode()):08x}-0000-4000-8000-000000000000",
        "creationTimestamp": TIME,
        "labels": {"app": app, "app.kubernetes.io/name": app},
        "annotations": {"kubectl.kubernetes.io/restartedAt": TIME},
        "managedFields": [_managed("kubelet"), _managed("kube-controller-manager")],
    }


def _managed(manager: str) -> Json:
    fields = {f"f:field{number}": {"f:value": {}} for number in range(_MANAGED_KEYS)}
    return {"manager": manager, "operation": "Update", "apiVersion": "v1", "time": TIME, "fieldsV1": {"f:status": fields}}


def _owner(kind: str, name: str) -> Json:
    return {"apiVersion": "apps/v1", "kind": kind, "name": name, "controller": True, "blockOwnerDeletion": True}


def _container(app: str) -> Json:
    return {
        "name": app,
        "image": _IMAGE,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "env": [{"name": f"SETTING_{number}", "value": f"value of setting {number}"} for number in range(12)],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "terminationMessagePath": "/dev/termination-log",
    }


def _service(app: str, number: int) -> Json:
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    spec = {"type": "ClusterIP", "clusterIPs": [f"10.96.{number // 250}.{number % 250 + 1}"], "ports": ports}
    return {"metadata": _metadata(app, app), "spec": spec}


def _slice(app: str, addresses: Iterable[str]) -> Json:
    metadata = _metadata(f"{app}-x7k2p", app)
    metadata["labels"] |= {"kubernetes.io/service-name": app}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    endpoints = [{"addresses": [one], "conditions": {"ready": True}} for one in addresses]
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}


def _ip(number: int) -> str:
    """Of the pods of other nodes."""
    return f"10.20.{number // 250}.{number % 250 + 1}"
