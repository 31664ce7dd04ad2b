"""Raw JSON of the API server to the small tuples of objects.py: what is not used is dropped here, at once.

Every function is total: whatever JSON it is given, it returns a tuple. A field that is absent, or that is not what it should
be, is empty. Ten thousand pods must fit into a few megabytes, so what many objects have in common (labels of replicas,
their owner, their ports, names of nodes and namespaces) is one object, by bounded memories of what was read last: a list
comes sorted by name, replicas beside each other. Nothing is interned for good: names come and go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final

from clovisor_py.kube.objects import SERVICE_NAME, SERVICE_VERSION, Json, Owner, Pod, Port, Ref, Service, Slice

PREFIX: Final = "clovisor.io/"
"""Of the labels and annotations that are ours: of annotations, and of most owners' labels, only these are kept."""
SHARED: Final = 2048
"""Values that each memory holds: more than a cluster has nodes and namespaces, less than a megabyte."""

AGENT: Final = ("app.kubernetes.io/name", "clovisor")
"""The label of an agent's pod: its DaemonSet in the manifests selects by it."""

_OF_PODS: Final = (PREFIX, SERVICE_NAME, SERVICE_VERSION)
"""Annotations of pods that are kept."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_KEEP_ALL_LABELS: Final = frozenset({"Namespace", "Node"})
"""Owners that are few, and selected by labels that are not ours."""
_CLUSTER_SCOPED: Final = frozenset({"Namespace", "Node"})
_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
_STATUSES: Final = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


def pod(json: Json) -> Pod:
    """A pod, with all that the node's agent wants to know of it."""
    meta, spec, status = _map(json, "metadata"), _map(json, "spec"), _map(json, "status")
    ref = _ref("Pod", meta)
    return Pod(
        ref,
        uid=_text(meta, "uid"),
        node=_common(_text(spec, "nodeName")),
        ips=_addresses(status, "podIPs", "podIP"),
        host_network=spec.get("hostNetwork") is True,
        phase=_common(_text(status, "phase")),
        created=_text(meta, "creationTimestamp"),
        deleted=bool(_text(meta, "deletionTimestamp")),
        owner=_controller(meta, ref.namespace),
        labels=_strings(meta, "labels"),
        annotations=_strings(meta, "annotations", _OF_PODS),
        ports=_shared_ports(tuple(_container_ports(spec))),
        containers=dict(_containers(status)),
        only_container=_only_container(spec),
        agent=_is_agent(meta, spec, status),
    )


def peer(json: Json) -> Pod:
    """A pod of any node: without its containers, which only matter to its own node's agent."""
    return pod(json)._replace(containers=_NOTHING, only_container="")


def service(json: Json) -> Service:
    """A Service, of any type."""
    spec = _map(json, "spec")
    balancer = _map(_map(json, "status"), "loadBalancer")
    ips = _addresses(spec, "clusterIPs", "clusterIP")
    ips += _addresses(spec, "externalIPs", "") + _addresses(balancer, "ingress", "")
    ports = _maps(spec, "ports")
    return Service(
        _ref("Service", _map(json, "metadata")),
        kind=_common(_text(spec, "type")) or "ClusterIP",
        ips=tuple(dict.fromkeys(ips)),
        ports=_shared_ports(tuple(_ports(ports, "port"))),
        node_ports=tuple(number for one in ports if (number := _number(one, "nodePort"))),
        external_name=_text(spec, "externalName"),
    )


def slice_(json: Json) -> Slice:
    """An EndpointSlice. Addresses that are not ready are behind the Service too: readiness is no identity."""
    meta = _map(json, "metadata")
    addresses: dict[str, None] = {}
    if _text(json, "addressType") != "FQDN":
        for endpoint in _maps(json, "endpoints"):
            addresses.update(dict.fromkeys(_addresses(endpoint, "addresses", "")))
    return Slice(
        _ref("EndpointSlice", meta),
        service=_text(_map(meta, "labels"), "kubernetes.io/service-name"),
        addresses=tuple(addresses),
        ports=_shared_ports(tuple(_ports(_maps(json, "ports"), "port"))),
    )


def owner(kind: str, json: Json) -> Owner:
    """An owner, a Namespace or a Node; `kind` because the items of a list do not say it."""
    meta = _map(json, "metadata")
    ref = _ref(kind, meta)
    return Owner(
        ref,
        owner=_controller(meta, ref.namespace),
        labels=_strings(meta, "labels", "" if kind in _KEEP_ALL_LABELS else PREFIX),
        annotations=_strings(meta, "annotations", PREFIX),
        ips=_addresses(_map(json, "status"), "addresses", "") if kind == "Node" else (),
        uid=_text(meta, "uid"),
    )


def _ref(kind: str, meta: Mapping[str, Any]) -> Ref:
    namespace = "" if kind in _CLUSTER_SCOPED else _common(_text(meta, "namespace"))
    return Ref(kind, namespace, _text(meta, "name"))


def _controller(meta: Mapping[str, Any], namespace: str) -> Ref | None:
    """The one owner that answers for it; others only want to be asked before it goes."""
    for one in _maps(meta, "ownerReferences"):
        kind, name = _text(one, "kind"), _text(one, "name")
        if one.get("controller") is True and kind and name:
            return _shared_ref(kind, "" if kind in _CLUSTER_SCOPED else namespace, name)
    return None


def _is_agent(meta: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    """Of ours, ready, and not about to end. Others may carry the label, but are not on the host's network."""
    label, value = AGENT
    if _map(meta, "labels").get(label) != value or spec.get("hostNetwork") is not True or _text(meta, "deletionTimestamp"):
        return False
    return any(_text(one, "type") == "Ready" and _text(one, "status") == "True" for one in _maps(status, "conditions"))


def _containers(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in _STATUSES:
        for one in _maps(status, key):
            if identity := _text(one, "containerID").rpartition("://")[2]:
                yield identity, _common(_text(one, "name"))


def _only_container(spec: Mapping[str, Any]) -> str:
    """Also one that has ended, or is to be started for debugging, makes two."""
    names = [_text(one, "name") for key in _CONTAINERS for one in _maps(spec, key)]
    return _common(names[0]) if len(names) == 1 else ""


def _container_ports(spec: Mapping[str, Any]) -> Iterator[Port]:
    for key in ("containers", "initContainers"):  # a sidecar is an init container that stays
        for container in _maps(spec, key):
            yield from _ports(_maps(container, "ports"), "containerPort")


def _ports(items: list[Mapping[str, Any]], key: str) -> Iterator[Port]:
    for one in items:
        if number := _number(one, key):
            protocol = _common(_text(one, "protocol")) or "TCP"
            yield Port(number, _common(_text(one, "name")), protocol, _common(_text(one, "appProtocol")))


def _addresses(json: Mapping[str, Any], many: str, single: str) -> tuple[str, ...]:
    """Texts of a list of addresses, or of objects that have one under `ip` or `address`, or of the older single field."""
    items = json.get(many)
    found = [_address(one) for one in items] if isinstance(items, list) else []
    if not any(found) and single:
        found = [_address(json.get(single))]
    return tuple(dict.fromkeys(filter(None, found)))


def _address(item: object) -> str:
    """In the spelling that sessions have; empty for what is no address (`None` of a headless Service, a host name)."""
    if isinstance(item, dict):
        item = item.get("ip", item.get("address"))
    if not isinstance(item, str):
        return ""
    try:
        return str(ip_address(item))
    except ValueError:
        return ""


def _strings(json: Mapping[str, Any], key: str, prefix: str | tuple[str, ...] = "") -> Mapping[str, str]:
    """A map of texts; only the keys with this prefix, or one of these."""
    pairs = _map(json, key).items()
    kept = [(name, value) for name, value in pairs if isinstance(value, str) and str(name).startswith(prefix)]
    return _shared_strings(tuple(sorted(kept))) if kept else _NOTHING


@lru_cache(SHARED)
def _shared_strings(pairs: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return MappingProxyType({_common(key): _common(value) for key, value in pairs})


@lru_cache(SHARED)
def _shared_ports(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    return ports


@lru_cache(SHARED)
def _shared_ref(kind: str, namespace: str, name: str) -> Ref:
    return Ref(kind, namespace, name)


@lru_cache(SHARED)
def _common(text: str) -> str:
    return text


def _map(json: object, key: str) -> Mapping[str, Any]:
    value = json.get(key) if isinstance(json, dict) else None
    return value if isinstance(value, dict) else {}


def _maps(json: object, key: str) -> list[Mapping[str, Any]]:
    value = json.get(key) if isinstance(json, dict) else None
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(json: object, key: str) -> str:
    value = json.get(key) if isinstance(json, dict) else None
    return value if isinstance(value, str) else ""


def _number(json: Mapping[str, Any], key: str) -> int:
    """A port; 0 for what is none."""
    value = json.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536 else 0
