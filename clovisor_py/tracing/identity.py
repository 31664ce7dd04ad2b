"""A workload as attributes of a span, with OpenTelemetry's names (`k8s.pod.name`, `k8s.deployment.name`…).

OpenTelemetry names one end, the one that a span is told by, and of the other only its service (`service.peer.name`). So the
other end's names are the same ones, in a namespace of our own: `clovisor.peer.k8s.pod.name`.

`k8s.service.name` is the Service that was called: a pod behind two has one in one span and the other in the next. So it is of
the span, never of the Resource: a pod is one Resource, whoever calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from clovisor_py.model.session import Session, Side
from clovisor_py.model.workload import Workload

PEER: Final = "clovisor.peer."
INSTANCE: Final = "service.instance.id"
SERVICE: Final = "k8s.service.name"
OWNERS: Final = frozenset({"deployment", "replicaset", "statefulset", "daemonset", "job", "cronjob"})
"""Kinds of owners that have an attribute; a custom one has none."""
REMEMBERED: Final = 2048
"""Workloads whose attributes are kept, at 1 kB each: those of a node and of whom they talk to."""


def observed(session: Session) -> Workload | None:
    """The workload of the observed end, where it is known: who tells the span."""
    return session.client_workload if session.side is Side.CLIENT else session.server_workload


@lru_cache(REMEMBERED)
def of_own(own: Workload) -> Mapping[str, str]:
    """Of the end that tells the span; only what is known."""
    named = {"service.namespace": own.namespace, INSTANCE: _instance(own), "service.version": own.service_version}
    return _known(named | _kubernetes(own))


def of_resource(own: Workload) -> Mapping[str, str]:
    """What of that holds for all of its spans."""
    return {key: value for key, value in of_own(own).items() if key != SERVICE}


@lru_cache(REMEMBERED)
def of_peer(other: Workload) -> Mapping[str, str]:
    """Of the other end; only what is known."""
    named = {"service.peer.name": other.called, "service.peer.namespace": other.namespace}
    return _known(named | {PEER + key: value for key, value in _kubernetes(other).items()})


def _instance(workload: Workload) -> str:
    """As the OpenTelemetry operator makes it: `namespace.pod.container`; outside of Kubernetes the name that was given.

    It tells replicas of one service apart; empty for a Service, which is none.
    """
    if not workload.namespace:
        return workload.name
    if workload.kind == "service":
        return ""
    return ".".join(part for part in (workload.namespace, workload.name, workload.container) if part)


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
        SERVICE: workload.service,
    }
    kind, _, name = workload.owner.partition("/")
    if kind in OWNERS:
        attributes[f"k8s.{kind}.name"] = name
    return attributes


def _known(attributes: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({key: value for key, value in attributes.items() if value})
