"""Workload: the identity of one end of a session, as far as it is known; unknown stays an address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Endpoint(NamedTuple):
    """One end of a flow, as seen on the wire; `ip` is text, IPv4 as dotted quad."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class Workload:
    """Who that is: a pod (or, without Kubernetes, a network namespace or veth that the operator named)."""

    name: str
    namespace: str = ""
    node: str = ""
    owner: str = ""
    service: str = ""
    kind: str = ""
    """`pod`, `service` or `node`, where the API server said so; `external`: outside of the cluster, by its DNS name."""
    uid: str = ""
    """Of a pod: tells two of the same name apart."""
    container: str = ""
    """Of a traced pod: the one that holds this end, by its name in the pod."""
    service_name: str = ""
    """OpenTelemetry's `service.name`, where the pod's annotation or labels say one."""
    service_version: str = ""
    """Its `service.version`, in the same way."""

    @property
    def title(self) -> str:
        """What people call it: its Service; without one, what owns it (replicas are alike); else its own name.

        So metrics and tables name it: two workloads of one namespace are never one, which `called` cannot promise.
        """
        return self.service or self.owner.partition("/")[2] or self.name

    @property
    def called(self) -> str:
        """`service.name` of its spans, in the order of the OpenTelemetry operator: what the pod says, its owner, its own name.

        Helm puts one `app.kubernetes.io/instance` on all that belongs to a release, which then is one service in traces.
        """
        return self.service_name or self.owner.partition("/")[2] or self.name

    def as_dict(self) -> dict[str, str]:
        """Only the fields that are known."""
        fields = {"name": self.name, "namespace": self.namespace, "node": self.node}
        fields |= {"owner": self.owner, "service": self.service}
        fields |= {"kind": self.kind, "uid": self.uid, "container": self.container}
        fields |= {"service_name": self.service_name, "service_version": self.service_version}
        return {key: value for key, value in fields.items() if value}
