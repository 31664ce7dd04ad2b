"""The kinds of objects that Clovisor reads or writes, as data: where they are, and how much of them is asked for.

Of objects of which only labels and owners matter the API server is asked for the metadata alone (`slim`): a ReplicaSet is a
tenth of itself then, for the server, the wire and the parser alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote

_JSON: Final = "application/json"
_PARTIAL: Final = "application/json;as={};g=meta.k8s.io;v=v1,application/json"


class Resource(NamedTuple):
    """A kind. `path` is that of its group and version (`/apis/apps/v1`), `plural` its name in URLs and in RBAC rules."""

    path: str
    plural: str
    kind: str
    namespaced: bool = True
    slim: bool = False

    @property
    def api_version(self) -> str:
        """As objects say it: `v1`, `apps/v1`."""
        return self.path.removeprefix("/apis/").removeprefix("/api/")

    @property
    def group(self) -> str:
        """As RBAC rules say it; empty for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def rule(self) -> str:
        """As kubectl and people say it, with the group: `pods`, `endpointslices.discovery.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def url(self, namespace: str = "", name: str = "") -> str:
        """The path of one object, or of all of them (in a namespace, or everywhere)."""
        where = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        which = f"/{quote(name, safe='')}" if name else ""
        return f"{self.path}{where}/{self.plural}{which}"

    def accept(self, *, listing: bool) -> str:
        """The Accept header that asks for as much as is used."""
        if not self.slim:
            return _JSON
        return _PARTIAL.format("PartialObjectMetadataList" if listing else "PartialObjectMetadata")


_CORE, _APPS, _BATCH, _DISCOVERY = "/api/v1", "/apis/apps/v1", "/apis/batch/v1", "/apis/discovery.k8s.io/v1"

PODS: Final = Resource(_CORE, "pods", "Pod")
SERVICES: Final = Resource(_CORE, "services", "Service")
SLICES: Final = Resource(_DISCOVERY, "endpointslices", "EndpointSlice")
NODES: Final = Resource(_CORE, "nodes", "Node", namespaced=False)
NAMESPACES: Final = Resource(_CORE, "namespaces", "Namespace", namespaced=False, slim=True)
REPLICASETS: Final = Resource(_APPS, "replicasets", "ReplicaSet", slim=True)
DEPLOYMENTS: Final = Resource(_APPS, "deployments", "Deployment", slim=True)
STATEFULSETS: Final = Resource(_APPS, "statefulsets", "StatefulSet", slim=True)
DAEMONSETS: Final = Resource(_APPS, "daemonsets", "DaemonSet", slim=True)
JOBS: Final = Resource(_BATCH, "jobs", "Job", slim=True)
CRONJOBS: Final = Resource(_BATCH, "cronjobs", "CronJob", slim=True)
EVENTS: Final = Resource(_CORE, "events", "Event")
ACCESS_REVIEWS: Final = Resource("/apis/authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False)
REVIEWS: Final = Resource("/apis/authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview", False)
"""Questions about oneself, asked by a write that stores nothing; every account may ask them."""

RESOURCES: Final[Mapping[str, Resource]] = {
    resource.kind: resource
    for resource in (
        *(PODS, SERVICES, SLICES, NODES, NAMESPACES, REPLICASETS, DEPLOYMENTS),
        *(STATEFULSETS, DAEMONSETS, JOBS, CRONJOBS, EVENTS),
    )
}
"""By kind."""
