"""Kubernetes objects, as far as Clovisor uses them: read from raw JSON, because the client's object model is slow and large.

Every function takes the JSON of one object as the API server sends it and survives whatever it lacks: a field that is not there
is empty, an object of an unknown shape is one without fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

Json = Mapping[str, Any]
SERVICE_NAME: Final = "resource.opentelemetry.io/service.name"
SERVICE_VERSION: Final = "resource.opentelemetry.io/service.version"
"""Annotations by which a pod says these attributes of OpenTelemetry's Resource itself."""
_INSTANCE: Final = "app.kubernetes.io/instance"
_NAME: Final = "app.kubernetes.io/name"
_VERSION: Final = "app.kubernetes.io/version"
"""Kubernetes' recommended labels, which say them where no annotation does."""


class Ref(NamedTuple):
    """An object's name: what it is called by others."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind.lower()}/{where}{self.name}"


class Port(NamedTuple):
    """A port that a container, a Service or an EndpointSlice declares. `protocol` is `TCP` or `UDP`."""

    number: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""


class Pod(NamedTuple):
    """A pod. `ips` are texts, in the order of its status; `owner` is the direct one (a ReplicaSet, mostly), if it has one."""

    ref: Ref
    uid: str
    node: str = ""
    ips: tuple[str, ...] = ()
    host_network: bool = False
    phase: str = ""
    """`Running`, `Succeeded`…"""
    created: str = ""
    """RFC 3339."""
    deleted: bool = False
    """It has a deletion timestamp."""
    owner: Ref | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    ports: tuple[Port, ...] = ()
    containers: Mapping[str, str] = {}
    """Container id (without the runtime's prefix) to name."""
    only_container: str = ""
    """Its name, where the pod never has another one."""
    agent: bool = False
    """It is one of ours, and ready."""

    @property
    def service_name(self) -> str:
        """`service.name`, where the pod says one, in the OpenTelemetry operator's order: annotation, instance, name."""
        labels = self.labels
        return self.annotations.get(SERVICE_NAME) or labels.get(_INSTANCE) or labels.get(_NAME, "")

    @property
    def service_version(self) -> str:
        """`service.version`, where the pod says one."""
        return self.annotations.get(SERVICE_VERSION) or self.labels.get(_VERSION, "")


class Service(NamedTuple):
    """A Service. `ips`: its cluster IPs (none where headless), then load balancers'."""

    ref: Ref
    kind: str = "ClusterIP"
    ips: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    node_ports: tuple[int, ...] = ()
    external_name: str = ""


class Slice(NamedTuple):
    """An EndpointSlice: which addresses are behind a Service."""

    ref: Ref
    service: str = ""
    addresses: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()


class Owner(NamedTuple):
    """A ReplicaSet, Job, Deployment, StatefulSet, DaemonSet, CronJob, Namespace or Node: labels, and who owns it in turn."""

    ref: Ref
    owner: Ref | None = None
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    ips: tuple[str, ...] = ()
    """Of a Node."""
    uid: str = ""
