"""The machine, and how figures are printed: every run, their median, and the yardstick that they are to be held against.

A figure without the machine's own speed beside it says nothing on another machine, so each report begins with a few
baselines. Nothing here judges a figure.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

TICKS: Final = os.sysconf("SC_CLK_TCK")
SAMPLE: Final = {"protocol": "http", "status": "200", "duration_ns": 57508, "attributes": {"url.path": "/", "n": [1, 2, 3]}}


def heading(text: str) -> None:
    """One blank line, then the name of what follows."""
    click.echo(f"\n{text}")


def line(text: str = "") -> None:
    """One indented line."""
    click.echo(f"  {text}".rstrip())


def figure(name: str, runs: Sequence[float], unit: str, beside: str = "", digits: int = 0) -> float:
    """Print the median, what stands beside it, and every run in order of value; answers the median."""
    middle = statistics.median(runs)
    raw = " ".join(f"{run:.{digits}f}" for run in sorted(runs))
    click.echo(f"  {name:42} {middle:>10,.{digits}f} {unit:8} {beside:22} runs {raw}")
    return middle


def describe() -> None:
    """What this machine is and how fast it is by itself."""
    heading("machine")
    line(f"{_cpu_model()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}")
    line(f"load average {' '.join(f'{load:.2f}' for load in os.getloadavg())} (others' work makes every figure larger)")
    figure("baseline: a system call", _each(os.getppid, 100_000), "ns")
    figure("baseline: json.dumps of 4 fields", _each(lambda: json.dumps(SAMPLE), 20_000), "ns")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process with all its threads; of one with a single thread to the ns, where the kernel tells.

    Work in softirq is charged to whom it interrupts (no IRQ_TIME_ACCOUNTING), so a server pays here for its packets.
    """
    folder = Path("/proc") / str(pid)
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    precise = folder / "schedstat"
    if fields[17] == "1" and precise.exists():
        return int(precise.read_text().split()[0]) / 1e9
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int) -> dict[str, float]:
    """RSS, PSS and anonymous memory, MiB."""
    wanted = {"Rss": "RSS", "Pss": "PSS", "Anonymous": "anonymous"}
    found = {}
    for text in (Path("/proc") / str(pid) / "smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = text.partition(":")
        if name in wanted:
            found[wanted[name]] = int(rest.split()[0]) / 1024
    return found


def _each(call: Callable[[], object], times: int) -> list[float]:
    """Nanoseconds a call, five times."""
    out = []
    for _ in range(5):
        started = time.perf_counter_ns()
        for _ in range(times):
            call()
        out.append((time.perf_counter_ns() - started) / times)
    return out


def _cpu_model() -> str:
    for text in Path("/proc/cpuinfo").read_text().splitlines():
        if text.startswith("model name"):
            return text.partition(":")[2].strip()
    return platform.machine()
