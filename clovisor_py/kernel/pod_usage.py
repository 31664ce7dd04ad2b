"""Pod usage: CPU, memory and IO of pods from the files of their cgroups, network from the counters of their veths.

Control groups come in two versions, and on many nodes in both at once: whatever a hierarchy of version 1 has (`cpuacct`,
`memory`, `blkio`) is read there, the rest in the unified one. The kubelet calls a pod's cgroup after the pod's UID, below
`kubepods` wherever that is, so the trees are searched for such names: nothing is opened by a name that came from elsewhere.
Files only: no privilege is needed. What cannot be read is None, never 0: so are OOM kills in version 1, which counts one in the
cgroup of the killed process alone. That is its container's, and goes with the container.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

PAUSE_S: Final = 10.0
"""Between two searches of the trees for pods that were not found; some ms each."""
MAX_FOLDERS: Final = 16384
"""Of one search: far more than a node has above its pods. `beyond` counts the searches that stopped there."""
MAX_FILE: Final = 64 * 1024
"""Bytes read of one file; `io.stat` has a line for each device."""

_POD: Final = re.compile(r"(?:.*-)?pod([0-9a-f]{8}[-_]?(?:[0-9a-f]{4}[-_]?){3}[0-9a-f]{12})(?:\.slice)?")
"""`podUID` (cgroupfs driver), `kubepods-burstable-podUID.slice` (systemd driver, with `_` for `-`)."""
_MOUNTS: Final = Path("/proc/self/mountinfo")
_INTERFACES: Final = Path("/proc/thread-self/net/dev")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
UNIFIED: Final = "unified"
CONTROLLERS: Final = ("cpuacct", "memory", "blkio")
"""Those of version 1 that are read."""

_log = logging.getLogger(__name__)


class Usage(NamedTuple):
    """One pod's. Counters since its cgroup was made; None: not known here."""

    cpu_s: float | None = None
    memory_bytes: int | None = None
    """With what the page cache holds for it."""
    working_set_bytes: int | None = None
    """Without the part of that which nobody has used for long: what the kubelet evicts by."""
    oom_kills: int | None = None
    """Only in version 2."""
    read_bytes: int | None = None
    written_bytes: int | None = None


class Traffic(NamedTuple):
    """What passed a pod's veth, as the pod sees it."""

    received_bytes: int
    received_packets: int
    received_dropped: int
    sent_bytes: int
    sent_packets: int
    sent_dropped: int


class PodUsage:
    """Any thread may read; one at a time does. `clock`: monotonic, s."""

    def __init__(
        self,
        mounts: Path = _MOUNTS,
        interfaces: Path = _INTERFACES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mounts, self._interfaces, self._clock = mounts, interfaces, clock
        self._lock = threading.Lock()
        self._roots: Mapping[str, Path] = {}
        self._folders: dict[str, dict[str, str]] = {}
        """Hierarchy, UID to the pod's folder."""
        self._next = float("-inf")
        self.searches = 0
        self.beyond = 0
        """Searches that met more folders than MAX_FOLDERS."""

    def read(self, uids: Collection[str]) -> dict[str, Usage]:
        """By UID; of a pod without cgroups (it has just ended, or begun) there is nothing. Never raises OSError."""
        with self._lock:
            if not all(any(uid in known for known in self._folders.values()) for uid in uids):
                self._search()
            found = {uid: self._usage(uid) for uid in uids}
        return {uid: usage for uid, usage in found.items() if usage != Usage()}

    def traffic(self) -> dict[str, Traffic]:
        """By the name of the host's interface: what it receives, the pod has sent. Never raises OSError."""
        found = {}
        for line in (_text(self._interfaces) or "").splitlines():
            name, colon, rest = line.partition(":")
            fields = rest.split()
            if colon and len(fields) >= 12 and all(map(str.isdecimal, fields)):
                got, sent = [int(field) for field in fields[:4]], [int(field) for field in fields[8:12]]
                found[name.strip()] = Traffic(sent[0], sent[1], sent[3], got[0], got[1], got[3])
        return found

    def _search(self) -> None:
        now = self._clock()
        if now < self._next:
            return
        self._next = now + PAUSE_S
        self.searches += 1
        self._roots = hierarchies(self._mounts)
        self._folders = {hierarchy: dict(self._pods(str(root))) for hierarchy, root in self._roots.items()}

    def _pods(self, root: str) -> Iterator[tuple[str, str]]:
        """(UID, folder) of every pod below."""
        waiting, looked = [root], 0
        while waiting:
            path = waiting.pop()
            looked += 1
            if looked > MAX_FOLDERS:
                self.beyond += 1
                _log.warning("%s has more than %d cgroups: the usage of some pods is not known.", root, MAX_FOLDERS)
                return
            try:
                with os.scandir(path) as entries:
                    names = [(entry.name, entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError as error:  # it went while it was read, as cgroups do
                _log.debug("%s could not be read: %s", path, error)
                continue
            for name, folder in names:
                if (pod := _POD.fullmatch(name)) is not None:
                    yield _uid(pod[1]), folder
                else:
                    waiting.append(folder)

    def _usage(self, uid: str) -> Usage:
        folder = {hierarchy: known[uid] for hierarchy, known in self._folders.items() if uid in known}
        unified = folder.get(UNIFIED)
        found = _unified(unified) if unified is not None else Usage()
        if "cpuacct" in folder:
            ns = _number(folder["cpuacct"], "cpuacct.usage")
            found = found._replace(cpu_s=None if ns is None else ns / 1e9)
        if "memory" in folder:
            used = _number(folder["memory"], "memory.usage_in_bytes")
            cold = _fields(folder["memory"], "memory.stat").get("total_inactive_file")
            found = found._replace(memory_bytes=used, working_set_bytes=_less(used, cold), oom_kills=None)  # see above
        if "blkio" in folder:
            read, written = _blkio(folder["blkio"])
            found = found._replace(read_bytes=read, written_bytes=written)
        return found


def hierarchies(mounts: Path = _MOUNTS) -> dict[str, Path]:
    """Where each hierarchy is mounted, by its controller (UNIFIED for version 2); of several mounts the one that shows most."""
    found: dict[str, tuple[int, Path]] = {}
    for line in (_text(mounts) or "").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, *_, options = rest.split(" ") if rest else ("", "")
        if kind not in ("cgroup", "cgroup2"):
            continue
        root, point = fields.split()[3:5]
        steps = [step for step in root.split("/") if step]
        depth = len(steps) - 2 * steps.count("..")
        path = Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), point))
        names = [UNIFIED] if kind == "cgroup2" else [name for name in CONTROLLERS if name in options.split(",")]
        for name in names:
            if name not in found or depth < found[name][0]:
                found[name] = depth, path
    return {name: path for name, (_, path) in found.items()}


def _unified(folder: str) -> Usage:
    cpu = _fields(folder, "cpu.stat").get("usage_usec")
    used = _number(folder, "memory.current")
    io = _text(Path(folder, "io.stat"))
    read, written = (None if io is None else _sum(io, key) for key in ("rbytes", "wbytes"))
    return Usage(
        cpu_s=None if cpu is None else cpu / 1e6,
        memory_bytes=used,
        working_set_bytes=_less(used, _fields(folder, "memory.stat").get("inactive_file")),
        oom_kills=_fields(folder, "memory.events").get("oom_kill"),
        read_bytes=read,
        written_bytes=written,
    )


def _blkio(folder: str) -> tuple[int | None, int | None]:
    """Lines like `8:0 Read 4096`."""
    for name in ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"):
        if (text := _text(Path(folder, name))) is not None:
            rows = [line.split() for line in text.splitlines()]
            read, written = (sum(int(row[2]) for row in rows if len(row) == 3 and row[1] == what) for what in ("Read", "Write"))
            return read, written
    return None, None


def _sum(text: str, key: str) -> int:
    """`8:0 rbytes=4096 wbytes=0 …`, added up over devices."""
    return sum(int(value) for value in re.findall(rf"\b{key}=([0-9]+)", text))


def _less(used: int | None, cold: int | None) -> int | None:
    return None if used is None else max(used - (cold or 0), 0)


def _fields(folder: str, name: str) -> dict[str, int]:
    """Lines of a word and a number."""
    rows = (line.split() for line in (_text(Path(folder, name)) or "").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}


def _number(folder: str, name: str) -> int | None:
    text = (_text(Path(folder, name)) or "").strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str | None:
    """None where it is not there (any more), or not to be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(MAX_FILE)
    except OSError as error:
        _log.debug("%s could not be read: %s", path, error)
        return None


def _uid(text: str) -> str:
    return text.replace("_", "-")
