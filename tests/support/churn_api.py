"""The API server as the kubelet and an operator use it: pods of one node, their status and their labels.

Raw HTTP, because a churn makes some ten requests a second and a kubectl each would be most of the machine.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import urllib3

from tests.support.control_plane import ADMIN, ControlPlane

POD = {"containers": [{"name": "server", "image": "none"}], "terminationGracePeriodSeconds": 30}


class Api:
    """Raises AssertionError for a refusal, and what urllib3 raises while nobody answers."""

    def __init__(self, plane: ControlPlane, namespace: str, node: str) -> None:
        self._plane, self._namespace, self._node = plane, namespace, node
        self._http: urllib3.PoolManager | None = None

    def begin(self) -> None:
        """The node and the namespace."""
        self._ask("POST", "/api/v1/nodes", {"metadata": {"name": self._node}})
        self._ask("POST", "/api/v1/namespaces", {"metadata": {"name": self._namespace}})

    def create(self, name: str, labels: dict[str, str]) -> str:
        """A pod that is bound to the node; its uid."""
        spec = {**POD, "nodeName": self._node}
        made = self._ask("POST", self._path(), {"metadata": {"name": name, "labels": labels}, "spec": spec})
        return str(made["metadata"]["uid"])

    def running(self, name: str, address: str) -> None:
        """What the kubelet says as soon as the sandbox is there."""
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        self._ask("PATCH", f"{self._path(name)}/status", {"status": status})

    def label(self, name: str, key: str, value: str | None) -> None:
        """None: without that label."""
        self._ask("PATCH", self._path(name), {"metadata": {"labels": {key: value}}})

    def delete(self, name: str, *, now: bool) -> None:
        """As an operator wants it; `now`: as the kubelet says that nothing of it is left."""
        self._ask("DELETE", self._path(name), {"gracePeriodSeconds": 0 if now else 30})

    def forget(self, name: str) -> None:
        """Behind the API server's back, while it is away: no watch ever tells."""
        self._etcd("kv/deleterange", key=f"/registry/pods/{self._namespace}/{name}")

    def compact(self) -> None:
        """Every version that a watch may know becomes too old."""
        self._etcd("kv/put", key="/churn/nothing", value="")
        self._plane.compact()

    def _etcd(self, call: str, **texts: str) -> None:
        self._plane._etcd(call, {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()})

    def _path(self, name: str = "") -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods" + (f"/{name}" if name else "")

    def _ask(self, verb: str, path: str, body: Any) -> Any:
        if self._http is None:
            self._http = urllib3.PoolManager(ca_certs=str(self._plane.certificate), retries=False)
        kind = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": kind}
        url = f"https://127.0.0.1:{self._plane.port}{path}"
        answer = self._http.request(verb, url, body=json.dumps(body), headers=headers, timeout=10)
        assert 200 <= answer.status < 300, f"{verb} {path}: {answer.status} {answer.data[:500]!r}"
        return json.loads(answer.data)
