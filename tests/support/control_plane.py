"""A real API server and its etcd, on free ports of loopback, for the tests that restart and compact them.

`with control_plane() as plane:` uses the programs that the lab's build script left in its cache (skips, naming it, where they
are absent) and disturbs no cluster that runs elsewhere. Folder, processes and ports are gone at the end. What a test needs of
the controllers it starts by name; without them nobody makes ReplicaSets or EndpointSlices.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

PATIENCE_S = 90.0
ADMIN, NOBODY = "admin-token", "nobody-token"
TOKENS = f'{ADMIN},admin,admin,"system:masters"\n{NOBODY},nobody,nobody,""\n'
AUDIT = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
"""
"""What service accounts ask for: a line of JSON each, for `asked_by`."""


def programs(*others: str) -> Path:
    """Where the lab's build put them, these `others` among them; skips where it did not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("LAB") or cache / "clovisor" / "kubernetes") / "bin"
    missing = [name for name in ("etcd", "kube-apiserver", *others) if not (folder / name).exists()]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)} (../shared/lab/kubernetes/build.sh)")
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    return folder


def kubectl() -> str:
    """The machine's own or that of the lab's build; skips where there is neither."""
    return shutil.which("kubectl") or str(programs("kubectl") / "kubectl")


class ControlPlane:
    """A running pair; `kubeconfig(token)` is the way in."""

    def __init__(self, bin_: Path, folder: Path) -> None:
        self._bin, self.folder = bin_, folder
        self._etcd_port, self._peer_port, self.port = (_free_port() for _ in range(3))
        self._processes: dict[str, Popen[bytes]] = {}
        subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
        (folder / "tokens.csv").write_text(TOKENS)
        (folder / "audit.yaml").write_text(AUDIT)

    def start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._start(
            "etcd",
            *("--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"),
        )

    def start_apiserver(self) -> None:
        key = str(self.folder / "sa.key")
        self._start(
            "kube-apiserver",
            *("--etcd-servers", f"http://127.0.0.1:{self._etcd_port}", "--secure-port", str(self.port)),
            *("--bind-address", "127.0.0.1", "--endpoint-reconciler-type", "none", "--cert-dir", str(self.folder / "pki")),
            *("--authorization-mode", "RBAC", "--token-auth-file", str(self.folder / "tokens.csv")),
            *("--service-account-issuer", "https://kubernetes.default.svc"),
            *("--service-account-key-file", key, "--service-account-signing-key-file", key),
            *("--service-cluster-ip-range", "10.96.0.0/16", "--disable-admission-plugins", "ServiceAccount"),
            *("--audit-policy-file", str(self.folder / "audit.yaml"), "--audit-log-path", str(self.folder / "audit.log")),
            "--watch-cache=false",  # so that compaction alone makes a version too old
        )
        self._await_ready()

    def start_controllers(self, *names: str) -> None:
        """Those of kube-controller-manager, by kube-controller-manager's own names; it has to be there (`programs`)."""
        self._start(
            "kube-controller-manager",
            *("--kubeconfig", str(self.kubeconfig()), "--controllers", ",".join(names), "--leader-elect=false"),
            *("--bind-address", "127.0.0.1", "--secure-port", str(_free_port()), "--cert-dir", str(self.folder / "pki")),
        )

    def kill_apiserver(self) -> None:
        """As by kill -9."""
        self._end("kube-apiserver", signal.SIGKILL)

    def close(self) -> None:
        for name in list(self._processes):
            self._end(name, signal.SIGKILL)

    def kubeconfig(self, token: str = ADMIN) -> Path:
        path = self.folder / f"{token[-32:]}.conf"  # a service account's is too long for a name
        cluster = {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(self.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def asked_by(self, user: str) -> list[dict[str, Any]]:
        """The API server's audit events of that service account (`system:serviceaccount:NAMESPACE:NAME`), so far."""
        whole, _, _ = (self.folder / "audit.log").read_text().rpartition("\n")
        events = (json.loads(line) for line in whole.splitlines())
        return [event for event in events if event["user"]["username"] == user]

    def compact(self) -> None:
        """Make etcd forget every version but the newest."""
        key = base64.b64encode(b"nothing").decode()
        revision = self._etcd("kv/range", {"key": key})["header"]["revision"]
        self._etcd("kv/compaction", {"revision": revision, "physical": True})

    @property
    def certificate(self) -> Path:
        """What whoever trusts this API server has to trust."""
        return self.folder / "pki" / "apiserver.crt"

    def _etcd(self, call: str, body: dict[str, Any]) -> Any:
        url = f"http://127.0.0.1:{self._etcd_port}/v3/{call}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10) as answer:
            return json.load(answer)

    def _start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = Popen([self._bin / name, *arguments], stdout=log, stderr=log, cwd=self.folder)

    def _end(self, name: str, number: int) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(number)
            process.wait(30)

    def _await_ready(self) -> None:
        end = time.monotonic() + PATIENCE_S
        ask = ["curl", "-sfk", "-H", f"Authorization: Bearer {ADMIN}", f"https://127.0.0.1:{self.port}/readyz"]
        while subprocess.run(ask, capture_output=True, check=False).returncode:
            log = (self.folder / "kube-apiserver.log").read_text(errors="replace")[-2000:]
            assert self._processes["kube-apiserver"].poll() is None, log
            assert time.monotonic() < end, log
            time.sleep(0.1)


@contextmanager
def control_plane() -> Iterator[ControlPlane]:
    """Up and ready."""
    bin_ = programs()
    folder = Path(tempfile.mkdtemp(prefix="cvt-kube-"))
    plane = None
    try:
        plane = ControlPlane(bin_, folder)
        plane.start_etcd()
        plane.start_apiserver()
        yield plane
    finally:
        if plane is not None:
            plane.close()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
