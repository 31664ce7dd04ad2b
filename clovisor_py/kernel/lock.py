"""One datapath, one holder: a flock on the folder of the pins, and one on the network namespace that is traced.

Exactly those share maps who share that bpffs, so its own folder is what they contend for; and exactly those share veths who
share a network namespace, on each of which either would want to be first. The kernel gives the locks back when their holder
dies, in whatever way.
"""

from __future__ import annotations

import fcntl
import os
import pwd
from pathlib import Path
from typing import Final, NamedTuple

from clovisor_py.errors import AlreadyRunning, EnvironmentLacking

NETNS: Final = Path("/proc/thread-self/ns/net")
"""The calling thread's network namespace."""


class Held(NamedTuple):
    """A datapath that is this process's: the locks' fds, and nothing else holds them."""

    netns: int
    folder: int

    def release(self) -> None:
        """Give it back."""
        os.close(self.folder)
        os.close(self.netns)


def hold(pins: Path) -> Held:
    """The datapath of this bpffs and of the calling thread's network namespace; release it to give it back.

    Raises AlreadyRunning (which names the holder's pid), EnvironmentLacking.
    """
    netns = _lock(os.open(NETNS, os.O_RDONLY | os.O_CLOEXEC))
    try:
        return Held(netns, _hold_folder(pins))
    except BaseException:
        os.close(netns)
        raise


def holder(at: os.stat_result, proc: Path = Path("/proc")) -> int | None:
    """The pid that holds the lock on the file with this stat, as /proc/locks tells; None where nobody does."""
    file = f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}:{at.st_ino}"
    locks = (line.split() for line in (proc / "locks").read_text().splitlines())
    return next((int(lock[4]) for lock in locks if lock[1] == "FLOCK" and lock[5] == file), None)


def owner(pins: Path) -> str:
    """Whose the pins are, where this process may not change them.

    Empty where it may, where there are none, and where it may not even look (bpffs is root's alone on many machines).
    """
    if os.access(pins, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return ""
    try:
        uid = pins.stat().st_uid
    except (FileNotFoundError, PermissionError):
        return ""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _hold_folder(pins: Path) -> int:
    """The folder goes with the last datapath, so the lock is on the one that is there."""
    fd = _lock(_open_folder(pins))
    if not pins.is_dir() or os.fstat(fd).st_ino != pins.stat().st_ino:
        os.close(fd)
        return _hold_folder(pins)
    return fd


def _lock(fd: int) -> int:
    """The same fd, which holds the lock on its file now; closed where that is another's."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = holder(os.fstat(fd))
        os.close(fd)
        raise AlreadyRunning(
            f"another Clovisor{'' if pid is None else f' (pid {pid})'} traces on this node: stop it first."
        ) from error
    return fd


def _open_folder(pins: Path) -> int:
    try:
        pins.mkdir(exist_ok=True)
        if whose := owner(pins):
            raise EnvironmentLacking(f"{pins} belongs to {whose}: run `clovisor detach` as {whose}.")
        return os.open(pins, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise EnvironmentLacking("bpffs is not mounted: mount -t bpf bpf /sys/fs/bpf") from error
    except PermissionError as error:
        raise EnvironmentLacking(f"{pins} may not be used: run as root, and mount -t bpf bpf /sys/fs/bpf") from error
