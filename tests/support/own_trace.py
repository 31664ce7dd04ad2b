"""`clovisor trace` on a node of its own: the real command, unchanged, that no other Clovisor on this machine meets.

Only one Clovisor traces a node, and a node is a network namespace with a bpffs: `tests.support.kernel.node` gives the test
the one, and the command runs in a mount namespace with a fresh other. So test runs, and several engineers, work side by side.

Every output that a user can ask for is kept, for those who search them: lines and JSON, a JSON file, and the datagrams that
would go to Jaeger.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest

from clovisor_py.config import Settings
from clovisor_py.kernel.maps import Maps, Stats
from tests.support.netns import ALONE, PRIVATE, Pod
from tests.support.trace import CLOVISOR, PATIENCE_S, Trace, wait_until

DATAGRAM: Final = 65_536
RECEIVE_BYTES: Final = 8 << 20
"""Socket buffer of the listener: what a burst may hold while the test computes."""
_ALONE: Final = (*ALONE, f'{PRIVATE} && mount -t bpf bpf /sys/fs/bpf && exec "$@"', "sh")


class Listener:
    """A UDP socket on loopback that keeps all that comes, as a Jaeger agent would get it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.datagrams: list[bytes] = []
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while datagram := self._socket.recv(DATAGRAM):
            self.datagrams.append(datagram)

    def close(self) -> None:
        """An empty datagram ends it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.sendto(b"", ("127.0.0.1", self.port))
        self._reader.join(PATIENCE_S)
        self._socket.close()


class OwnTrace(Trace):
    """A running trace of one pod. `sessions` are those of `-o json`."""

    def __init__(self, process: subprocess.Popen[bytes], pod: Pod, folder: Path, listener: Listener) -> None:
        super().__init__(process, folder / "lines", folder / "remarks")
        self.pod, self.folder, self.listener = pod, folder, listener

    def sessions(self) -> list[dict[str, Any]]:
        """Those so far, from the file: standard output has lines for people among them."""
        file = self.folder / "sessions.jsonl"
        whole, _, _ = (file.read_text() if file.exists() else "").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def stats(self) -> Stats:
        """The kernel's counters of the pod, read from the pins of the running process."""
        maps = Maps(Path(f"/proc/{self.process.pid}/root") / Settings().pins.relative_to("/"))
        try:
            return maps.stats(maps.pods()[self.pod.ifindex].slot)
        finally:
            maps.close()

    def outputs(self) -> dict[str, bytes]:
        """All that went out so far, by the name of the way: also the remarks and the summary."""
        return {
            "console (line, wide, json)": (self.folder / "lines").read_bytes(),
            "jsonl": (self.folder / "sessions.jsonl").read_bytes(),
            "jaeger": b"\0\0\0".join(self.listener.datagrams),
            "remarks": (self.folder / "remarks").read_bytes(),
        }


@contextmanager
def own_trace(folder: Path, pod: Pod, *options: str) -> Iterator[OwnTrace]:
    """Attached when the block begins; ended when it ends, in whatever way. Call it inside `node()`."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (Debian: util-linux)")
    folder.mkdir(parents=True, exist_ok=True)
    listener = Listener()
    exports = ["console:", "console:?format=wide", f"jsonl:{folder / 'sessions.jsonl'}", f"jaeger://127.0.0.1:{listener.port}"]
    arguments = [part for url in exports for part in ("--export", url)]
    command = [*_ALONE, CLOVISOR, "trace", pod.namespace, "-o", "json", *arguments, *options]
    with (folder / "lines").open("wb") as stdout, (folder / "remarks").open("wb") as stderr:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
    trace = OwnTrace(process, pod, folder, listener)
    try:
        wait_until(lambda: "Ctrl-C" in trace.remarks() or process.poll() is not None, "the first remark")
        assert process.poll() is None, trace.remarks()
        yield trace
    finally:
        _end(trace)
        listener.close()


def _end(trace: OwnTrace) -> None:
    """By its pid; also where it does not heed Ctrl-C."""
    if trace.process.poll() is None:
        trace.process.send_signal(2)
    deadline = time.monotonic() + PATIENCE_S
    while trace.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if trace.process.poll() is None:
        trace.kill()
