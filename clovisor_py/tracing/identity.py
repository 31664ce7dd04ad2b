"""A workload as attributes of a span, with OpenTelemetry's names (`k8s.pod.name`, `k8s.deployment.name`…).

OpenTelemetry names one end, the one that a span is told by, and of the other only its service (`service.peer.name`). So the
other end's names are the same ones, in a namespace of our own: `clovisor.peer.k8s.pod.name`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from clovisor_py.model.workload import Workload

PEER: Final = "clovisor.peer."
OWNERS: Final = frozenset({"deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob"})
"""Kinds of owners that have an attribute; a custom one has none."""
REMEMBERED: Final = 2048
"""Workloads whose attributes are kept, at 1 kB each: those of a node and of whom they talk to."""


@lru_cache(REMEMBERED)
def of_own(own: Workload) -> Mapping[str, str]:
    """Of the end that tells the span; only what is known."""
    return _known({"service.namespace": own.namespace} | _kubernetes(own))


@lru_cache(REMEMBERED)
def of_peer(other: Workload) -> Mapping[str, str]:
    """Of the other end; only what is known."""
    named = {"service.peer.name": other.title, "service.peer.namespace": other.namespace}
    return _known(named | {PEER + key: value for key, value in _kubernetes(other).items()})


def _kubernetes(workload: Workload) -> dict[str, str]:
    """Only a workload with a namespace is a pod or a Service; the others are nodes, or what the operator named."""
    if not workload.namespace:
        return {"k8s.node.name": workload.node}
    pod = workload.name if workload.kind != "service" else ""
    attributes = {
        "k8s.namespace.name": workload.namespace,
        "k8s.node.name": workload.node,
        "k8s.pod.name": pod,
        "k8s.pod.uid": workload.uid,
        "k8s.container.name": workload.container,
        "k8s.service.name": workload.service,
    }
    kind, _, name = workload.owner.partition("/")
    if kind in OWNERS:
        attributes[f"k8s.{kind}.name"] = name
    return attributes


def _known(attributes: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({key: value for key, value in attributes.items() if value})
