"""Named network namespaces, those that `ip netns` shows, and the processes inside them.

The demo and the live tests keep their pods in them. Deleting is complete and asks for nothing: what is absent, or was only
half made, is no error.

A namespace is entered by a thread of its own (`call_inside`) or by a new process (`spawn`), never by the caller: `setns`
moves one thread, and a thread that has moved must not be used for anything else. No mount is made other than the
name itself (`ip netns exec` makes a /sys for each process).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Final, TypeVar

from clovisor_py.errors import KernelRefused, UsageError
from clovisor_py.kernel import netns_exec
from clovisor_py.kernel.links import netlink, refusal

T = TypeVar("T")

NETNS_DIR: Final = Path("/run/netns")

_LOOPBACK: Final = 1
"""The ifindex of `lo` in every namespace."""
_CLONE_NEWNET: Final = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED, _MNT_DETACH = 4096, 16384, 1 << 20, 2
_POLL_S: Final = 0.01
_SYSCTL: Final = Path("/proc/sys/net/ipv6/conf")

_log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)


def path_of(name: str) -> Path:
    """Where the namespace's name is kept; UsageError for what cannot be one."""
    if not name or "/" in name or name in {".", ".."} or len(name) > 255:
        raise UsageError(f"'{name}' cannot be the name of a network namespace; use a plain word.")
    return NETNS_DIR / name


def names() -> list[str]:
    """Every named network namespace."""
    try:
        return sorted(path.name for path in NETNS_DIR.iterdir())
    except FileNotFoundError:
        return []


def exists(name: str) -> bool:
    return path_of(name).exists()


def create(name: str) -> None:
    """Make a named network namespace with `lo` up and IPv6 usable at once (no duplicate address detection)."""
    path = path_of(name)
    doing = f"creating the network namespace '{name}'"
    try:
        _share_directory()
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    except FileExistsError as error:
        raise KernelRefused(
            f"there is a network namespace '{name}' already; remove it with `ip netns delete {name}`."
        ) from error
    except OSError as error:
        raise refusal(doing, error.errno or 0) from error
    try:  # from here on the name is ours
        _in_thread(lambda: _unshare_as(path))
    except OSError as error:
        delete(name)
        raise refusal(doing, error.errno or 0) from error
    except BaseException:
        delete(name)
        raise


def delete(name: str) -> None:
    """Take the name away. The namespace, its veths and sockets end with the last process inside; end those first."""
    path = path_of(name)
    if not path.exists():
        return
    doing = f"deleting the network namespace '{name}'"
    if _libc.umount2(bytes(path), _MNT_DETACH) and ctypes.get_errno() in (errno.EPERM, errno.EACCES):
        raise refusal(doing, ctypes.get_errno())
    try:  # any other answer of umount2 was: only half made, nothing to unmount
        path.unlink(missing_ok=True)
    except OSError as error:
        raise refusal(doing, error.errno or 0) from error


def call_inside(name: str, function: Callable[[], T]) -> T:
    """What `function` returns or raises when called in the namespace; sockets that it opens stay there."""
    path = path_of(name)

    def moved() -> T:
        _setns(path)
        return function()

    return _in_thread(moved)


def spawn(  # the sinks are Popen's
    name: str,
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdout: int | IO[Any] = subprocess.DEVNULL,
    stderr: int | IO[Any] = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a command inside the namespace, in a session of its own: Ctrl-C reaches the caller, not the command.

    It is killed when the calling *thread* ends, however it ends: call from a thread that outlives it. Exit status 125
    says that the command was not started; why is on `stderr`.
    """
    launcher = [sys.executable, "-I", "-S", netns_exec.__file__, str(os.getpid()), str(path_of(name))]
    try:
        return subprocess.Popen(
            [*launcher, *command],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except OSError as error:
        raise refusal(f"starting {command[0]} in the network namespace '{name}'", error.errno or 0) from error


def end(processes: Iterable[subprocess.Popen[bytes]], patience_s: float = 2.0) -> None:
    """Ask them to end, wait so long for all of them together, kill those that are left, and reap every one."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and any(process.poll() is None for process in running):
        time.sleep(_POLL_S)
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()


def enable_ipv6(interface: str) -> None:
    """Switch IPv6 on, and off what makes a fresh address wait a second. Without IPv6 in the kernel: nothing to do."""
    for setting in ("disable_ipv6", "accept_dad"):
        try:
            (_SYSCTL / interface / setting).write_text("0")
        except FileNotFoundError:
            return
        except OSError as error:  # /proc/sys is read-only in many containers; the kernel's defaults do as well, slower
            _log.debug("%s of %s stays as it is: %s", setting, interface, error.strerror)


def _in_thread(function: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, thread_name_prefix="netns") as one:
        return one.submit(function).result()


def _setns(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise refusal(f"opening the network namespace '{path.name}'", error.errno or 0) from error
    try:
        if _libc.setns(fd, _CLONE_NEWNET):
            raise refusal(f"entering the network namespace '{path.name}'", ctypes.get_errno())
    finally:
        os.close(fd)


def _mount(source: bytes, target: Path, flags: int) -> None:
    if _libc.mount(source, bytes(target), b"none", ctypes.c_ulong(flags), None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _share_directory() -> None:
    """What `ip netns add` does first, under the same lock: names given in one mount namespace are seen in the others."""
    NETNS_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(NETNS_DIR, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _mount(b"", NETNS_DIR, _MS_SHARED | _MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            _mount(bytes(NETNS_DIR), NETNS_DIR, _MS_BIND | _MS_REC)  # not a mount point yet
            _mount(b"", NETNS_DIR, _MS_SHARED | _MS_REC)
    finally:
        os.close(lock)


def _unshare_as(path: Path) -> None:
    """In a thread of its own: move it to a new namespace, prepare that, and let the name keep it."""
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    enable_ipv6("all")
    enable_ipv6("default")
    with netlink("starting lo") as route:
        route.link("set", index=_LOOPBACK, state="up")
    _mount(b"/proc/thread-self/ns/net", path, _MS_BIND)
