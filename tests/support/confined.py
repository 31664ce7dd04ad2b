"""A container as the DaemonSet of manifests/base asks for it, without a container runtime: its capabilities and nothing more.

`with Container(folder) as container:` makes its file system once: read-only, with a bpffs, /tmp and /run of its own; what it
writes to `/run/clovisor` is in `container.run` outside. `start` runs a command in there as uid 0 in a pid namespace of its own,
with no_new_privs, the bounding set of the manifest (or less), and a service account's token where pods have it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import pytest
import yaml

from tests.support.control_plane import ControlPlane
from tests.support.kernel import require_kernel
from tests.support.trace import PATIENCE_S, wait_until

CHECKOUT: Final = Path(__file__).parents[2]
"""What runs in there; it may lie below the /tmp that is hidden."""
MANIFESTS: Final = CHECKOUT / "manifests" / "base"
SECRETS: Final = "/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet puts the account (/var/run is /run)."""
_NOT_LONGER: Final = ("setpriv", "--pdeathsig", "KILL")
"""Than the test run, whatever ends that."""
_ROOM: Final = f"""
set -e
mount --make-rprivate /
mount -t bpf bpf /sys/fs/bpf
mkdir -p "$1" "$2"
exec 3<"$1" 4<"$2"
mount -t tmpfs tmpfs /run
mkdir -p /run/clovisor {SECRETS} /run/checkout
mount --bind /proc/self/fd/3 /run/clovisor
mount --bind /proc/self/fd/4 {SECRETS}
mount --bind "$3" /run/checkout
mount -o remount,bind,ro /run/checkout
mount -t tmpfs tmpfs /tmp
mkdir -p "$3"
mount --move /run/checkout "$3"
rmdir /run/checkout
mount -o remount,bind,ro /
exec 3<&- 4<&-
touch /run/clovisor/made
exec sleep infinity
"""


def manifest(name: str, kind: str) -> dict[str, Any]:
    """The only document of that kind in a file of manifests/base."""
    (found,) = [one for one in yaml.safe_load_all((MANIFESTS / name).read_text()) if one["kind"] == kind]
    return dict(found)


def capabilities() -> list[str]:
    """Of the manifest, as capabilities(7) spells them without CAP_."""
    (container,) = manifest("daemonset.yaml", "DaemonSet")["spec"]["template"]["spec"]["containers"]
    context = container["securityContext"]
    assert context["capabilities"]["drop"] == ["ALL"] and context["runAsUser"] == 0
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"] and not context["privileged"]
    return list(context["capabilities"]["add"])


class Container:
    """Its file system lives as long as the process that holds it."""

    def __init__(self, folder: Path) -> None:
        require_kernel()
        for tool in ("unshare", "nsenter", "setpriv"):
            if shutil.which(tool) is None:
                pytest.skip(f"needs {tool} (Debian: util-linux)")
        self.run, self._account = folder / "run", folder / "account"
        self._environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        self._holder = Popen([*_NOT_LONGER, "unshare", "--mount", "sh", "-c", _ROOM, "sh", self.run, self._account, CHECKOUT])

    def __enter__(self) -> Container:
        wait_until((self.run / "made").exists, "the container's file system")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.wait(PATIENCE_S)

    def sign_in(self, plane: ControlPlane, token: str) -> None:
        """The API server, and as whom: what the kubelet tells a pod."""
        self._environment |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(plane.port)}
        (self._account / "token").write_text(token)
        (self._account / "ca.crt").write_bytes(plane.certificate.read_bytes())
        (self._account / "namespace").write_text("clovisor")

    def command(self, *command: str, caps: Collection[str]) -> list[str]:
        """`command` as it has to be run from outside."""
        bounding = ",".join(["-all", *(f"+{one.lower()}" for one in caps)])
        inside = [*_NOT_LONGER, "nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]
        inside += ["unshare", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        return [*inside, "setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--no-new-privs", *command]

    def ask(self, *command: str, caps: Collection[str]) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        whole = self.command(*command, caps=caps)
        return subprocess.run(whole, env=self._environment, capture_output=True, text=True, timeout=60, check=False)

    @contextmanager
    def start(self, log: Path, *command: str, caps: Collection[str]) -> Iterator[int]:
        """Run it until the block ends, by SIGTERM; the pid of the command itself."""
        with log.open("wb") as out:
            outer = Popen(self.command(*command, caps=caps), env=self._environment, stdout=out, stderr=out)
        try:
            wait_until(lambda: _running(outer.pid) is not None or outer.poll() is not None, "the command")
            pid = _running(outer.pid)
            assert pid is not None, log.read_text()
            yield pid
        finally:
            if (last := _running(outer.pid)) is not None:
                subprocess.run(["kill", "-TERM", str(last)], check=False)
            with suppress(subprocess.TimeoutExpired):
                outer.wait(PATIENCE_S)
            outer.kill()
            outer.wait(PATIENCE_S)


def _running(unshare: int) -> int | None:
    """The child of unshare once it is the command (it is unshare and setpriv before, and forks nothing)."""
    try:
        (child,) = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        return int(child) if Path(f"/proc/{child}/comm").read_text().strip() not in {"unshare", "setpriv"} else None
    except (OSError, ValueError):
        return None
