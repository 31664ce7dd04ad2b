"""`tools/bench replay`: what `clovisor replay FILE -o json` costs: µs of CPU a session beside tshark's, and memory.

The files are made here (`captures`), so it is known how many sessions are in each, and a run that finds another number is an
error. Of every program's CPU (user and system, the whole process) that of a run on a file with one connection is taken off:
what remains is paid for each session, not for being started. Needs no root.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clovisor_py.errors import ClovisorError
from tools._bench import machine
from tools._bench.captures import Kind, Shape, write
from tools._bench.talks import KINDS

CLOVISOR: Final = (sys.executable, "-c", "from clovisor_py.cli.main import main; main()", "replay", "-o", "json")
COMMON: Final = ("frame.time_epoch", "tcp.stream", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport")
SAME: Final[Mapping[str, tuple[str, str]]] = {
    "HTTP/1": ("http", "http.request.method http.request.uri http.host http.response.code http.time"),
    "Redis": ("resp", "resp.bulk_string.value resp.string resp.error"),
    "PostgreSQL": ("pgsql", "pgsql.query pgsql.statement pgsql.tag pgsql.code"),
    "HTTP/2": ("http2", "http2.streamid http2.headers.method http2.headers.path http2.headers.status"),
    "Kafka": ("kafka", "kafka.api_key kafka.correlation_id kafka.client_id kafka.topic_name kafka.error"),
}
"""Protocol to tshark's filter and fields for what a session says; pairing, names and outcomes are left to the reader."""
BUSY: Final = 50
"""Connections open at once, where their number is not the question."""
ROUNDS: Final = 100
"""Exchanges on each."""
TIMEOUT_S: Final = 600
CHILD: Final = """
import os, sys
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
pid = os.fork()
if not pid:
    os.dup2(out, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.execv(sys.argv[2], sys.argv[2:])
_, status, used = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss)
"""
"""Runs a command and tells what it used; small, because a child's peak of memory begins with that of its parent."""


@dataclass(frozen=True)
class Used:
    """CPU seconds of a process with all its threads, and the peak of its resident memory."""

    cpu_s: float
    rss_mib: float


def main(runs: int, sessions: int, lengths: Sequence[int], flows: Sequence[int]) -> None:
    """Print `runs` of files with `sessions`, of files with `lengths` sessions, and of `flows` connections open at once."""
    tshark = shutil.which("tshark")
    machine.heading(f"replay: µs of CPU a session, {runs} runs of some {sessions:,} sessions each, JSON to /dev/null")
    if tshark is None:
        machine.line("(no tshark beside it: apt-get install tshark)")
    with tempfile.TemporaryDirectory(prefix="cvt-bench-") as folder:
        for kind in KINDS:
            _beside(kind, Path(folder), runs, sessions, tshark)
        machine.heading("replay: longer files, HTTP/1, µs of CPU a session")
        shapes = [Shape(length // ROUNDS, ROUNDS, BUSY) for length in lengths]
        _shapes({f"{length:,} sessions": shape for length, shape in zip(lengths, shapes, strict=True)}, Path(folder), runs)
        most = max(flows)
        machine.heading(f"replay: more open connections, HTTP/1, two requests on each of {most:,}, µs of CPU a session")
        _shapes({f"{at_once:,} open at once": Shape(most, 2, at_once) for at_once in flows}, Path(folder), 1)


def _beside(kind: Kind, folder: Path, runs: int, sessions: int, tshark: str | None) -> None:
    """One protocol, and tshark with the same file in turns."""
    shape = Shape(sessions // ROUNDS, ROUNDS // kind.each, BUSY)
    with _captured(kind, shape, folder) as (path, made, _), _idle(kind, folder) as idle:
        programs = {"Clovisor": CLOVISOR} | ({"tshark": _tshark(tshark, kind)} if tshark else {})
        started = {name: _started(program, idle, runs) for name, program in programs.items()}
        costs: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(runs):
            for name, program in programs.items():
                costs[name].append(_each(run(program, path), started[name], made))
    own = statistics.median(costs["Clovisor"])
    for name, figures in costs.items():
        ratio = statistics.median(figures) / own
        machine.figure(f"{kind.name}: {name}", figures, "µs", f"{ratio:.1f} times" if name != "Clovisor" else "", digits=1)


def _shapes(shapes: Mapping[str, Shape], folder: Path, runs: int) -> None:
    """HTTP/1 in several shapes: CPU, and the peak of memory."""
    kind = KINDS[0]
    with _idle(kind, folder) as idle:
        started = _started(CLOVISOR, idle, runs)
        machine.figure("one connection: peak of memory", [run(CLOVISOR, idle).rss_mib], "MiB", digits=1)
    for name, shape in shapes.items():
        with _captured(kind, shape, folder) as (path, made, packets):
            found = [run(CLOVISOR, path) for _ in range(runs)]
        machine.figure(name, [_each(used, started, made) for used in found], "µs", f"{packets:,} packets", digits=1)
        machine.figure(f"{name}: peak of memory", [used.rss_mib for used in found], "MiB", digits=1)


def _started(program: Sequence[str], idle: Path, runs: int) -> float:
    """CPU seconds of a program that has nearly nothing to do."""
    return statistics.median(run(program, idle).cpu_s for _ in range(runs))


def _each(used: Used, started: float, sessions: int) -> float:
    return (used.cpu_s - started) / sessions * 1e6


def _tshark(program: str, kind: Kind) -> tuple[str, ...]:
    wanted, own = SAME[kind.name]
    fields = [word for field in (*COMMON, *own.split()) for word in ("-e", field)]
    return program, "-d", f"tcp.port=={kind.port},{wanted}", "-Y", wanted, "-T", "fields", *fields, "-r"


@contextmanager
def _captured(kind: Kind, shape: Shape, folder: Path) -> Iterator[tuple[Path, int, int]]:
    """The file, which has been replayed once, its sessions, and its packets. Raises ClovisorError where some are not found."""
    path, shown = folder / "capture.pcap", folder / "sessions.jsonl"
    made, packets = write(path, kind, shape)
    try:
        run(CLOVISOR, path, shown)
        with shown.open("rb") as lines:
            found = sum(1 for _ in lines)
        if found != made:
            raise ClovisorError(f"{found:,} of {made:,} sessions were found in {kind.name}; a figure for that means nothing.")
        yield path, made, packets
    finally:
        path.unlink()
        shown.unlink(missing_ok=True)


@contextmanager
def _idle(kind: Kind, folder: Path) -> Iterator[Path]:
    """A file with one connection."""
    path = folder / "idle.pcap"
    write(path, kind, Shape(1, 1))
    try:
        yield path
    finally:
        path.unlink()


def run(program: Sequence[str], capture: Path, out: Path = Path("/dev/null")) -> Used:
    """What the program used for the capture. Raises ClovisorError where it failed."""
    command = [sys.executable, "-ISc", CHILD, str(out), *program, str(capture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    status, cpu_s, rss_kib = done.stdout.split()
    if int(status):
        raise ClovisorError(f"{Path(program[0]).name} ended with status {status} on {capture.name}; run it by hand.")
    return Used(float(cpu_s), int(rss_kib) / 1024)
