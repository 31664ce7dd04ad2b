"""`clovisor agent` against a real API server: pods that are namespaces with a real nginx, labels that an operator sets.

The kubelet's part, a pod's status, is played by the test. All of it is in a network namespace of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_node import off, on, within
from tests.support.control_plane import ControlPlane, control_plane, programs
from tests.support.kernel import node
from tests.support.netns import pod as sandbox
from tests.support.netns import uplink
from tests.support.nginx import Nginx, nginx_in
from tests.support.trace import CLOVISOR, PATIENCE_S

pytestmark = [pytest.mark.live, pytest.mark.cluster]
NODE = "n1"
_RUN = 'mount -t bpf bpf /sys/fs/bpf && exec "$@"'


class Operator:
    """What kubectl does."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane, self.kubeconfig = plane, plane.kubeconfig()
        self._kubectl = programs() / "kubectl"
        if not self._kubectl.exists():
            pytest.skip("needs kubectl (../shared/lab/kubernetes/build.sh)")

    def __call__(self, *arguments: str, given: object = None) -> str:
        command = [self._kubectl, "--kubeconfig", self.kubeconfig, *arguments]
        text = None if given is None else json.dumps(given)
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create(self, kind: str, name: str, namespace: str = "", spec: object = None) -> None:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        body: dict[str, Any] = {"apiVersion": "v1", "kind": kind, "metadata": metadata}
        self("create", "-f", "-", given=body if spec is None else {**body, "spec": spec})

    def run_pod(self, name: str, namespace: str, *ips: str) -> None:
        """As if the kubelet had started it."""
        self.create("Pod", name, namespace, {"nodeName": NODE, "containers": [{"name": "nginx", "image": "none"}]})
        status = {"phase": "Running", "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
        patch = json.dumps({"status": status})
        self("patch", "pod", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


@pytest.fixture(scope="module")
def operator() -> Iterator[Operator]:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (Debian: util-linux)")
    programs()
    with node(), uplink(), control_plane() as plane:
        made = Operator(plane)
        made.create("Node", NODE)
        yield made


@pytest.fixture
def shop(operator: Operator) -> Iterator[str]:
    name = f"shop-{time.monotonic_ns()}"
    operator.create("Namespace", name)
    yield name
    operator("delete", "pod", "--all", "-n", name, "--force", "--grace-period=0")  # nobody else does it here
    operator("delete", "namespace", name, "--wait=false")


class Agent:
    """A running `clovisor agent`."""

    def __init__(self, folder: Path, operator: Operator, *options: str) -> None:
        self.out, self.log, self.socket = folder / "sessions.jsonl", folder / "log", folder / "control.sock"
        command = [CLOVISOR, "agent", "--kubeconfig", str(operator.kubeconfig), "--node", NODE, "--export", f"jsonl:{self.out}"]
        command += ["--listen", "9464", "--socket", str(self.socket), *options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", _RUN, "sh", *command], stdout=log, stderr=log)

    def sessions(self) -> list[dict[str, Any]]:
        whole, _, _ = (self.out.read_text() if self.out.exists() else "").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def said(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.log.read_text().splitlines() if line.startswith("{")]

    def asked(self, *command: str) -> str:
        done = subprocess.run(
            [CLOVISOR, *command, "--socket", str(self.socket)], capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout + done.stderr


@contextmanager
def agent(folder: Path, operator: Operator, *options: str) -> Iterator[Agent]:
    """All pods looked at when the block begins."""
    running = Agent(folder, operator, *options)
    try:
        within(PATIENCE_S, lambda: any("pods of this node are traced" in line for line in running.said()))
        yield running
    finally:
        running.process.terminate()
        running.process.wait(PATIENCE_S)


@pytest.fixture
def web(operator: Operator, shop: str) -> Iterator[Nginx]:
    with sandbox("web") as pod, nginx_in(pod) as nginx:
        operator.run_pod("web", shop, pod.ipv4, pod.ipv6)
        yield nginx


def first_session(running: Agent, web: Nginx, path: str) -> float:
    """Calls until a session comes; how long that took."""
    begin = time.monotonic()
    while not any(session["resource"] == path for session in running.sessions()):
        assert time.monotonic() - begin < 5, running.log.read_text()
        with suppress(
            OSError
        ):  # adding clsact may cost a packet (the kernel's doing), and a lost SYN is repeated after a second
            urllib.request.urlopen(web.url(path), timeout=0.1).close()
        time.sleep(0.02)
    return time.monotonic() - begin


def test_a_label_on_the_pod(operator: Operator, shop: str, web: Nginx, tmp_path: Path) -> None:
    ifindex = web.pod.ifindex
    with agent(tmp_path, operator) as running:
        assert off(ifindex)
        operator("label", "pod", "web", "-n", shop, "clovisor.io/trace=true")
        assert first_session(running, web, "/status/201") < 1, running.log.read_text()
        (session, *_) = running.sessions()
        workload = session["server"]["workload"]
        assert (workload["name"], workload["namespace"], workload["node"]) == ("web", shop, NODE)
        operator("label", "pod", "web", "-n", shop, "clovisor.io/trace-")
        within(1, lambda: off(ifindex))


def test_a_label_on_the_namespace(operator: Operator, shop: str, web: Nginx, tmp_path: Path) -> None:
    with agent(tmp_path, operator) as running:
        operator("label", "namespace", shop, "clovisor.io/trace=true")
        assert first_session(running, web, "/status/201") < 1, running.log.read_text()
        operator("label", "namespace", shop, "clovisor.io/trace=false", "--overwrite")
        within(1, lambda: off(web.pod.ifindex))


def test_clovisor_enable_and_who_is_asked(operator: Operator, shop: str, web: Nginx, tmp_path: Path) -> None:
    def clovisor(*words: str) -> None:
        subprocess.run([CLOVISOR, *words, "-n", shop, "--kubeconfig", operator.kubeconfig], check=True, timeout=60)

    with agent(tmp_path, operator) as running:
        clovisor("enable", "pod/web")
        assert first_session(running, web, "/status/201") < 1, running.log.read_text()
        within(5, lambda: f"{shop}/web" in running.asked("pods"))
        metrics = subprocess.run(["curl", "-sf", "127.0.0.1:9464/metrics"], capture_output=True, text=True, check=True).stdout
        lines = [line for line in metrics.splitlines() if line.startswith("clovisor_segments_total")]
        assert any(f'namespace="{shop}",pod="web"' in line for line in lines), lines
        clovisor("disable", "pod/web")
        within(1, lambda: off(web.pod.ifindex))


def test_a_mistake_is_an_event_on_the_pod(operator: Operator, shop: str, web: Nginx, tmp_path: Path) -> None:
    with agent(tmp_path, operator):
        operator("annotate", "pod", "web", "-n", shop, "clovisor.io/ports=80=htpt")
        operator("label", "pod", "web", "-n", shop, "clovisor.io/trace=true")
        within(5, lambda: "BadTraceSetting" in operator("get", "events", "-n", shop))
        assert on(web.pod.ifindex)
    assert "'htpt' in '80=htpt' is no protocol" in operator("get", "events", "-n", shop, "-o", "json")


@pytest.mark.slow
def test_the_api_server_goes_away_and_comes_back(operator: Operator, shop: str, web: Nginx, tmp_path: Path) -> None:
    ifindex, plane = web.pod.ifindex, operator.plane
    operator("label", "pod", "web", "-n", shop, "clovisor.io/trace=true")
    with agent(tmp_path, operator) as running:
        assert first_session(running, web, "/status/201") < 1
        plane.kill_apiserver()
        try:
            within(5, lambda: any("does not answer" in line for line in running.said()))
            first_session(running, web, "/status/200")
            assert on(ifindex)
        finally:
            plane.start_apiserver()
        operator("label", "pod", "web", "-n", shop, "clovisor.io/trace=false", "--overwrite")
        within(20, lambda: off(ifindex))
