"""Every mistake is one sentence and a proper exit status: 2 for usage, 1 for the rest; never a traceback."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clovisor_py import __version__
from clovisor_py.cli.main import Printable
from tests.support.trace import CLOVISOR

FULL = Path("/dev/full")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: without it, its absence is what is said")


def run(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([CLOVISOR, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_version_and_help() -> None:
    assert run("--version")[:2] == (0, f"clovisor, version {__version__}\n")
    status, out, _ = run("--help")
    assert status == 0
    assert all(name in out for name in ("trace", "replay", "demo", "doctor", "detach", "Examples:"))


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
        (["trace", "svc/web"], "What `clovisor agent` traces is pod/NAME, deploy/NAME or ns/NAME."),
        (["trace", "-n", "shop", "lo"], "-n is for pods of the agent, and 'lo' is none: write pod/NAME"),
        (["trace", "lo", "--socket", "/tmp/x"], "--socket is for pods of the agent"),
        (["trace", "lo", "--peer", "10.0.0.300"], "'10.0.0.300' is no peer"),
        (["trace", "lo", "-o", "json", "--redact", "off", "-w", "-"], "given to -o json and -w -: leave all but one out"),
        (["trace", "lo"], "clovisor: "),
        (["trace", str(os.getpid())], "is the host's own network"),
        (["trace", "lo", "--export", "smtp://x"], "clovisor: "),
        (["trace", "lo", "--slower-than", "5parsecs"], "'5parsecs' is no duration"),
        (["trace", "lo", "--hint", "http"], "'http' is no hint"),
        (["trace", "lo", "--port", "70000"], "'70000' is no port: give a number from 1 to 65535."),
        (["trace", "lo", "--port", "http"], "'http' is no port: give a number from 1 to 65535."),
        (["trace", "lo", "--duration", "0s"], "'0s' is no time at all"),
        (["trace", "lo", "--path"], "Option '--path' requires an argument. See clovisor trace --help."),
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


@pytest.mark.parametrize("arguments", [["--help"], ["doctor"], ["trace", "--help"]])
def test_a_reader_who_has_seen_enough(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([CLOVISOR, *arguments], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
    piped = ["bash", "-o", "pipefail", "-c", f"{CLOVISOR} --help | head -1"]
    done = subprocess.run(piped, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"Usage: clovisor")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["protocols"], ["protocols", "-o", "json"], ["trace", "--help"]])
def test_a_full_disk(arguments: list[str]) -> None:
    with FULL.open("w") as full:
        done = subprocess.run([CLOVISOR, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("clovisor: what was to be said could not be written (No space left on device): ")
        assert len(done.stderr.splitlines()) == 1
        done = subprocess.run([CLOVISOR, *arguments], stdout=full, stderr=full, timeout=60, check=False)
        assert done.returncode == 1, "also where nobody can be told"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "status"), [("protocols", 0), ("tracee", 2)])
def test_closed_streams_are_as_if_they_led_to_nowhere(arguments: str, status: int, closed: str) -> None:
    command = ["sh", "-c", f"exec {CLOVISOR} {arguments} {closed}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert "Traceback" not in done.stderr


STUCK = """
import sys
from clovisor_py.cli.main import _leave
from clovisor_py.exporters._fanout import open_urls
from tests.support.sessions import session
with open_urls(["console:?format=json"], queue_limit=100_000) as fanout:
    fanout.offer([session()] * 50_000)
    ledger = fanout.close(0.2)["console:?format=json"]
print(ledger.offered - ledger.sent - ledger.dropped["stopped"], file=sys.stderr)
_leave(3)
"""


def test_a_reader_who_does_not_read_cannot_keep_us() -> None:
    reader, writer = os.pipe()
    try:
        done = subprocess.run([sys.executable, "-c", STUCK], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(reader)
        os.close(writer)
    assert done.returncode == 3, done.stderr
    assert done.stderr.endswith(b"\n0\n"), "nothing is lost without being counted"


def test_a_log_line_cannot_command_the_terminal() -> None:
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "%s\nsecond", ("\x1b[2J",), None)
    assert Printable("clovisor: %(message)s").format(record) == "clovisor: \\x1b[2J\nsecond"
