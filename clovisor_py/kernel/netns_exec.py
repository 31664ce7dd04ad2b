"""Become a command inside a network namespace: `python -I -S netns_exec.py PARENT /run/netns/NAME COMMAND…`.

A file of its own, and standard library only, because it runs as a program: between fork and exec of a process that has
threads nothing else is safe, and Python before 3.12 has no `os.setns`. Unlike `ip netns exec` it touches
no mount, so there is none to leak. The command dies with PARENT (the pid that asked for it), however PARENT dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
FAILED = 125
"""Exit status when the command did not come to run (env(1) and docker say it so)."""


def main(arguments: list[str]) -> str:
    """Never returns when all is well; else what was wrong."""
    parent, namespace, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):  # died before the line above: no signal will come
        return "the parent has gone"
    try:
        fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        if libc.setns(fd, CLONE_NEWNET):
            return f"{namespace}: {os.strerror(ctypes.get_errno())}"
        os.close(fd)
        os.execvp(command[0], command)
    except OSError as error:
        return f"{error.filename or command[0]}: {error.strerror}"


if __name__ == "__main__":
    sys.stderr.write(f"netns_exec: {main(sys.argv[1:])}\n")
    sys.exit(FAILED)
