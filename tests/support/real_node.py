"""A real Kubernetes node, with Clovisor installed on it as anybody would: `kubectl apply -k manifests/base`.

`with real_node("bridge") as node:` starts the lab's cluster (API server, containerd, kubelet, kube-proxy, a CNI) in namespaces
of its own, and ends it whatever happens. There is no image here, so an overlay changes what has to do with one, and nothing
else: the name, the command, and this machine's files at their own places, read-only. Skips, naming it, what is not there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from clovisor_py.kernel.probe import DEFAULT_PINS
from tests.support.control_plane import programs
from tests.support.trace import CLOVISOR

ROOT: Final = Path(__file__).parents[2]
LAB: Final = ROOT.parent / "shared" / "lab" / "kubernetes"
RUN: Final = Path("/run/clovisor")
"""Of the control socket; inside the node it is a file system of its own."""
SESSIONS: Final = RUN / "sessions.jsonl"
PATIENCE_S: Final = 20.0
COMMAND_S: Final = 150
_PAUSE_S: Final = 0.05

TWO_CONTAINERS: Final = """
apiVersion: v1
kind: Pod
metadata: {name: two}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {name: nginx, image: "lab/nginx:1"}
    - {name: httpd, image: "lab/busybox:1", command: [httpd, -f, -p, "8081", -h, /tmp]}
"""


class RealNode:
    """What an operator does at a running cluster."""

    def __init__(self, starter: Path) -> None:
        self._starter = starter

    def inside(self, *command: str | Path, given: str | None = None, check: bool = True) -> str:
        """The output of a command in the node's namespaces."""
        done = self._script("in", *command, given=given)
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def kubectl(self, *arguments: str | Path, given: str | None = None, check: bool = True) -> str:
        return self.inside("kubectl", *arguments, given=given, check=check)

    def clovisor(self, *arguments: str) -> str:
        """In the agent's own pod."""
        return self.kubectl("-n", "clovisor", "exec", "daemonset/clovisor", "--", CLOVISOR, *arguments)

    def log(self) -> list[dict[str, Any]]:
        """What the agent that runs now has said."""
        lines = self.kubectl("-n", "clovisor", "logs", "daemonset/clovisor").splitlines()
        return [json.loads(line) if line.startswith("{") else {"level": "?", "message": line} for line in lines]

    def wait_for_agent(self) -> None:
        # A rollout counts as done before the pod from before has gone, and `exec daemonset/…` might still take that one.
        self.kubectl("-n", "clovisor", "rollout", "status", "daemonset/clovisor", "--timeout=60s")
        within(lambda: len(self.kubectl("-n", "clovisor", "get", "pods", "-o", "name").split()) == 1)

    def sessions(self) -> list[dict[str, Any]]:
        """All that the agents have exported so far."""
        whole, _, _ = self.inside("cat", SESSIONS, check=False).rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def names(self, selector: str) -> list[str]:
        return self.kubectl("get", "pods", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").split()

    def address(self, pod: str) -> str:
        return self.kubectl("get", "pod", pod, "-o", "jsonpath={.status.podIP}")

    def label(self, pod: str, label: str) -> None:
        self.kubectl("label", "pod", pod, label, "--overwrite")

    def call(self, pod: str, *urls: str, container: str = "") -> None:
        """One after another, from inside; what they answer does not matter."""
        command = "; ".join(f"wget -q -O /dev/null {url}" for url in urls)
        self.kubectl("exec", pod, *(["-c", container] if container else []), "--", "sh", "-c", f"{command}; true")

    def spawn(self, pod: str, command: str) -> subprocess.Popen[bytes]:
        words = [self._starter, "in", "kubectl", "exec", pod, "--", "sh", "-c", command]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def served(self, pod: str) -> set[str]:
        """The paths that its nginx was asked for, so far."""
        return set(re.findall(r'"[A-Z]+ (\S+) HTTP/', self.kubectl("logs", pod)))

    def attached(self, pod: str) -> tuple[list[int], list[int]]:
        """What is on its veth: how many programs on each hook, and the ids of those of ours."""
        ifindex = self.kubectl("exec", pod, "--", "cat", "/sys/class/net/eth0/iflink").strip()
        hooks, ids = json.loads(self.inside(sys.executable, "-m", "tests.support.attached", ifindex))
        return hooks, ids

    def up(self, folder: Path) -> None:
        """The node with pods, a Service and Clovisor, all ready."""
        done = self._script("up")
        assert done.returncode == 0, done.stdout + done.stderr
        self.inside("mount", "-t", "bpf", "bpf", DEFAULT_PINS.parent)
        self.inside("mount", "-t", "tmpfs", "tmpfs", RUN)
        (folder / "kustomization.yaml").write_text(json.dumps(_overlay(folder)))
        self.kubectl("apply", "-k", folder)
        self.kubectl("apply", "-f", LAB / "web.yaml")
        self.kubectl("apply", "-f", "-", given=TWO_CONTAINERS)
        self.kubectl("wait", "--for=condition=Ready", "pod/two", "pod/client", "--timeout=60s")
        self.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        self.wait_for_agent()

    def down(self) -> None:
        self._script("down")

    def running(self) -> bool:
        return self._script("status").returncode == 0

    def _script(self, *words: str | Path, given: str | None = None) -> subprocess.CompletedProcess[str]:
        quiet = None if given is not None else subprocess.DEVNULL
        return subprocess.run(
            [self._starter, *words], input=given, stdin=quiet, capture_output=True, text=True, cwd=ROOT, timeout=COMMAND_S,
            check=False,
        )  # fmt: skip


@contextmanager
def real_node(folder: Path, cni: str) -> Iterator[RealNode]:
    """Up, with `client`, two `web` pods behind a Service, and `two` with its two containers. `folder`: for an overlay."""
    node = RealNode(_starter())
    if node.running():
        pytest.skip(f"needs to be the only cluster of the lab here ({LAB.name}/cluster.sh down)")
    ours = not RUN.exists()
    RUN.mkdir(exist_ok=True)
    before = os.environ.get("CNI")
    os.environ["CNI"] = cni
    try:
        node.up(folder)
        yield node
    finally:
        node.down()
        os.environ.pop("CNI") if before is None else os.environ.update(CNI=before)
        if ours:
            with suppress(OSError):  # somebody else's agent uses it now
                RUN.rmdir()


def within(happens: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
    """Waits until it does; how long that took, s."""
    begin = time.monotonic()
    while not happens():
        assert time.monotonic() - begin < patience_s, f"did not happen within {patience_s} s"
        time.sleep(_PAUSE_S)
    return time.monotonic() - begin


def _starter() -> Path:
    starter, built = LAB / "cluster.sh", programs().parent
    wanted = [starter, built / "bin" / "kubelet", built / "images" / "nginx.tar", built / "root" / "usr" / "bin" / "containerd"]
    missing = [path.name for path in wanted if not path.exists()]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (../shared/lab/kubernetes/build.sh)")
    if os.geteuid() != 0 or shutil.which("nsenter") is None:
        pytest.skip("needs root and nsenter (Debian: util-linux)")
    if Path(sys.base_prefix) != Path("/usr"):
        pytest.skip("needs a virtual environment of the system's own Python")
    return starter


def _overlay(folder: Path) -> dict[str, Any]:
    """The installation: what stands for an image, and where sessions go."""
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"settings.yaml": f"exports: ['jsonl:{SESSIONS}']"}}
    named = {**settings, "metadata": {"name": "clovisor-settings", "namespace": "clovisor"}}
    return _built_on("base", folder, _image("clovisor", "agent", "containers"), named)


def uninstallation(folder: Path) -> dict[str, Any]:
    """The same of manifests/uninstall."""
    detach, done = (_image("clovisor-uninstall", *which) for which in (("detach", "initContainers"), ("done", "containers")))
    done["spec"]["template"]["spec"]["containers"][0].pop("command")  # its own is this machine's, too
    return _built_on("uninstall", folder, detach, done)


def _image(name: str, container: str, part: str) -> dict[str, Any]:
    """A patch of a DaemonSet (in the namespace of its name): this machine's files and command in place of an image."""
    places = {"/usr": "/usr", "/lib": "/usr/lib", "/lib64": "/usr/lib64", str(ROOT): str(ROOT)}
    if not Path(sys.prefix).is_relative_to(ROOT):
        places[sys.prefix] = sys.prefix
    mounts = [{"name": f"lab{n}", "mountPath": place, "readOnly": True} for n, place in enumerate(places)]
    volumes = [{"name": f"lab{n}", "hostPath": {"path": path}} for n, path in enumerate(places.values())]
    pod = {part: [{"name": container, "command": [CLOVISOR], "volumeMounts": mounts}], "volumes": volumes}
    metadata = {"name": name, "namespace": name}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {"template": {"spec": pod}}}


def _built_on(manifests: str, folder: Path, *patches: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(ROOT / "manifests" / manifests, folder.resolve())],
        "images": [{"name": "clovisor", "newName": "lab/busybox", "newTag": "1"}],
        "patches": [{"patch": json.dumps(each)} for each in patches],
    }
