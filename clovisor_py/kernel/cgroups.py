"""Cgroups: which container is meant by the cgroup id that the kernel writes into a record.

The id is the inode number of the cgroup's folder in the unified hierarchy (cgroup2), and every runtime calls that folder after
its container. Opening a folder by its id needs CAP_DAC_READ_SEARCH; reading the tree needs nothing, so it is read whenever an
id comes up that it did not have before, and everything that is found is remembered: ids are never used again. What containers
have below their own folders is looked at only for an id that is not found without.

Where there is no such hierarchy (cgroup v1 alone), every id is unknown.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

PAUSE_S: Final = 1.0
"""Between two looks at the tree (3 ms with 110 pods, 13 with what their containers have below): new containers come together.
Ids that have to wait: `postponed`."""
SHARE: Final = 0.01
"""Of the time is spent on looks at most: after one that took long (0.1 s with 16,000 folders) the pause is longer."""
MAX_FOLDERS: Final = 16384
"""Of one reading: far more than a node has. What lies beyond is not found: `beyond` counts the readings that stopped there."""
KEPT: Final = 65536
"""Ids that are remembered, ended containers' too, at 100 bytes each. Beyond: only those of the last reading."""

_CONTAINER: Final = re.compile(r"(?:.*[-:])?([0-9a-f]{64})(?:\.scope)?")
"""`ID` (cgroupfs driver), `cri-containerd-ID.scope`, `crio-ID.scope`, `docker-ID.scope` (systemd driver)."""
_MOUNTS: Final = Path("/proc/self/mountinfo")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")

_log = logging.getLogger(__name__)


class Cgroups:
    """Remembers what it has seen. `root`: finds the mounted hierarchy; `clock`: monotonic, s. For one thread."""

    def __init__(self, root: Callable[[], Path | None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._clock = root or mounted, clock
        self._known: dict[int, str] = {}
        self._next = float("-inf")
        self.readings = 0
        """Of the tree."""
        self.beyond = 0
        """Readings that met more folders than MAX_FOLDERS."""
        self.postponed = 0
        """Answers that were empty because the tree had just been read."""

    def container(self, cgroup_id: int) -> str:
        """The container's id, 64 hexadecimal digits, as the runtime made it; empty where none is known. Never raises."""
        found = self._known.get(cgroup_id)
        if found is not None:
            return found
        now = self._clock()
        if now < self._next:
            self.postponed += 1
            return ""
        self._read(deep=False)
        if cgroup_id not in self._known:
            self._read(deep=True)
        done = self._clock()
        self._next = done + max(PAUSE_S, (done - now) / SHARE)
        return self._known.setdefault(cgroup_id, "")  # it has ended, or is none of a container: this does not change

    def _read(self, deep: bool) -> None:
        self.readings += 1
        root = self._root()
        found: dict[int, str] = {}
        for inode, container in () if root is None else _folders(str(root), deep):
            if len(found) == MAX_FOLDERS:
                if not self.beyond:
                    _log.warning("%s has more than %d cgroups: some containers have no name.", root, MAX_FOLDERS)
                self.beyond += 1
                break
            found[inode] = container
        self._known = {**self._known, **found} if len(self._known) + len(found) < KEPT else found


def mounted(mounts: Path = _MOUNTS) -> Path | None:
    """Where this process sees the unified hierarchy, as much of it as possible; None where it does not.

    In a pod there may be two: the runtime's mount begins at the pod's own cgroup, the one of a hostPath at the node's. Seen
    from a cgroup namespace the latter's root lies above (`/../..`).
    """
    found: list[tuple[int, str]] = []
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        _log.warning("%s cannot be read (%s): containers have no names.", mounts, error.strerror)
        return None
    for line in lines:
        fields, _, kind = line.partition(" - ")
        if kind.split(" ", 1)[0] == "cgroup2":
            root, point = fields.split()[3:5]
            steps = [step for step in root.split("/") if step]
            above = steps.count("..")
            found.append((len(steps) - 2 * above, point))
    return Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), min(found)[1])) if found else None


def _folders(root: str, deep: bool) -> Iterator[tuple[int, str]]:
    """(inode, container id or nothing) of every folder below; `deep`: also of a container's own cgroups, under its id."""
    waiting = [(root, "")]
    while waiting:
        path, inherited = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        named = _CONTAINER.fullmatch(entry.name)
                        container = named[1] if named else inherited
                        yield entry.inode(), container
                        if deep or not container:
                            waiting.append((entry.path, container))
        except OSError:  # it went while it was read, as cgroups do: nobody will ask for it
            continue
