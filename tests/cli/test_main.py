"""Every mistake is one sentence and a proper exit status: 2 for usage, 1 for the rest; never a traceback."""

from __future__ import annotations

import os
import subprocess

import pytest

from clovisor_py import __version__
from tests.support.trace import CLOVISOR

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without it, its absence is what is said")


def run(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([CLOVISOR, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_version_and_help() -> None:
    assert run("--version")[:2] == (0, f"clovisor, version {__version__}\n")
    status, out, _ = run("--help")
    assert status == 0
    assert all(name in out for name in ("trace", "demo", "doctor", "detach", "Examples:"))


def test_completion() -> None:
    environ = os.environ | {"_CLOVISOR_COMPLETE": "bash_source"}
    done = subprocess.run([CLOVISOR], capture_output=True, text=True, timeout=60, check=False, env=environ)
    assert "complete -o nosort" in done.stdout


@pytest.mark.live
@as_root
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trace", "wbe"], "clovisor: no interface, namespace or pid named 'wbe'."),
        (["trace", "lo"], "clovisor: "),
        (["trace", str(os.getpid())], "is the host's own network"),
        (["trace", "lo", "--export", "smtp://x"], "clovisor: "),
        (["trace", "lo", "--slower-than", "5parsecs"], "'5parsecs' is no duration"),
        (["trace", "lo", "--hint", "http"], "'http' is no hint"),
        (["trace", "lo", "--port", "70000"], "70000 is not in the range"),
        (["trace"], "Missing argument"),
        (["tracee"], "No such command 'tracee'"),
        (["demo", "--rate", "1e9"], "is not in the range"),
    ],
)
def test_usage(arguments: list[str], sentence: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err
    assert err.startswith("clovisor: ")
    assert len(err.splitlines()) == 1


@pytest.mark.live
@as_root
@pytest.mark.parametrize("arguments", [["trace", "lo"], ["demo"], ["detach"]])
def test_no_privileges(arguments: list[str]) -> None:
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", CLOVISOR, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("clovisor: ")
    assert "Traceback" not in done.stderr


@pytest.mark.live
@as_root
def test_no_bpffs() -> None:
    away = f"mount --make-rprivate /sys && umount -l /sys/fs/bpf && exec {CLOVISOR} trace lo"
    command = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", away]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "mount -t bpf bpf /sys/fs/bpf" in done.stderr
    assert "Traceback" not in done.stderr
