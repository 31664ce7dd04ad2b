"""One datapath, one holder: a flock on the folder of the pins itself.

Exactly those share a datapath who share that bpffs, so its own folder is what they contend for; and the kernel gives the
lock back when its holder dies, in whatever way.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from clovisor_py.errors import AlreadyRunning, EnvironmentLacking


def hold(pins: Path) -> int:
    """An fd that holds the datapath of this bpffs; close it to give it back.

    The folder goes with the last datapath, so the lock is on the one that is there. Raises AlreadyRunning (which names the
    holder's pid), EnvironmentLacking.
    """
    fd = _open_folder(pins)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = holder(os.fstat(fd))
        os.close(fd)
        raise AlreadyRunning(
            f"another Clovisor{'' if pid is None else f' (pid {pid})'} traces on this node: stop it first."
        ) from error
    if not pins.is_dir() or os.fstat(fd).st_ino != pins.stat().st_ino:
        os.close(fd)
        return hold(pins)
    return fd


def holder(at: os.stat_result, proc: Path = Path("/proc")) -> int | None:
    """The pid that holds the lock on the folder with this stat, as /proc/locks tells; None where nobody does."""
    file = f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}:{at.st_ino}"
    locks = (line.split() for line in (proc / "locks").read_text().splitlines())
    return next((int(lock[4]) for lock in locks if lock[1] == "FLOCK" and lock[5] == file), None)


def _open_folder(pins: Path) -> int:
    try:
        pins.mkdir(exist_ok=True)
        return os.open(pins, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise EnvironmentLacking("bpffs is not mounted: mount -t bpf bpf /sys/fs/bpf") from error
    except PermissionError as error:
        raise EnvironmentLacking(f"{pins} may not be used: run as root, and mount -t bpf bpf /sys/fs/bpf") from error
