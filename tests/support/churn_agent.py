"""The `clovisor agent` of a churn: started, killed, and looked into from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.support.control_plane import ControlPlane

NODE: Final = "churn-1"
FLOW_IDLE_S: Final = 3
PATIENCE_S: Final = 30.0
AGENT_UP: Final = "pods of this node are traced"


class Agent:
    """The `clovisor agent` of the node: killed, and started again."""

    def __init__(self, plane: ControlPlane, folder: Path, pins: Path) -> None:
        self.folder, self.pins, self.log = folder, pins, folder / "agent.log"
        self._command = [str(Path(sys.executable).parent / "clovisor"), "agent", "--node", NODE, "--listen", "0"]
        self._command += ["--kubeconfig", str(plane.kubeconfig()), "--socket", str(folder / "sock"), "--log-format", "json"]
        self._command += ["--export", f"jsonl:{folder / 'sessions.jsonl'}"]
        self._environment = {**os.environ, "CLOVISOR_PINS": str(pins), "CLOVISOR_FLOW_IDLE_S": str(FLOW_IDLE_S)}
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._said = 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.starts += 1
        self._said = len(self.log.read_bytes()) if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As the kubelet does; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        try:
            return self._process.wait(PATIENCE_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process = None

    def up(self) -> bool:
        """Whether this one has looked at all pods."""
        return AGENT_UP.encode() in self.log.read_bytes()[self._said :]

    def complaints(self) -> list[str]:
        """What no agent should ever say: a traceback, or an error."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line[:500] for line in lines if "Traceback" in line or '"level": "error"' in line or not line.startswith("{")]

    def holdings(self) -> dict[str, int]:
        """What the process holds: files, threads, network namespaces, children, MiB."""
        proc = Path("/proc") / str(self.pid)
        files = []
        for one in (proc / "fd").iterdir():
            with suppress(OSError):
                files.append(str(one.readlink()))
        status = dict(line.split(":\t") for line in (proc / "status").read_text().splitlines() if ":\t" in line)
        children = [path.read_text() for path in proc.glob("task/*/children")]
        return {
            "fds": len(files),
            "sockets": sum(one.startswith("socket:") for one in files),
            "threads": int(status["Threads"]),
            "namespaces": sum(one.startswith("net:") for one in files),
            "children": sum(len(text.split()) for text in children),
            "rss_mib": int(status["VmRSS"].split()[0]) // 1024,
        }
