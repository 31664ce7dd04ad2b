"""`tools/bench memory`: what a `clovisor trace` keeps in memory: after its start, under load, and after the load."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from clovisor_py.kernel import netns
from tests.support.load import Sent, h2load, traced
from tests.support.netns import pod
from tests.support.nginx import nginx_in
from tools._bench import machine

RATE: Final = 5000
CLIENTS: Final = 200
"""Connections at once: each has its streams and parser."""
SAMPLE_S: Final = 0.25


def main(seconds: int) -> None:
    """Print RSS, PSS and anonymous memory, MiB; under load every sample of `seconds`."""
    machine.heading(
        f"memory, MiB: under load every {SAMPLE_S} s of {seconds} s at {RATE:,} requests/s on {CLIENTS} connections"
    )
    bare = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with bare:
        assert bare.stdout
        bare.stdout.readline()
        _print("baseline: Python by itself", [machine.memory_mib(bare.pid)])
        netns.end([bare])
    with pod("bench") as served, nginx_in(served) as nginx, traced(served) as trace, ThreadPoolExecutor(1) as aside:
        time.sleep(1)
        pid = trace.process.pid
        _print("Clovisor, started", [machine.memory_mib(pid)])
        load = aside.submit(h2load, nginx.url(), RATE * seconds, rate=RATE, clients=CLIENTS)
        _print("Clovisor, under load", _samples(pid, load))
        trace.settle(load.result().answered)
        _print("Clovisor, after the load", [machine.memory_mib(pid)])


def _samples(pid: int, load: Future[Sent]) -> list[dict[str, float]]:
    samples = [machine.memory_mib(pid)]
    while not load.done():
        time.sleep(SAMPLE_S)
        samples.append(machine.memory_mib(pid))
    return samples


def _print(name: str, samples: list[dict[str, float]]) -> None:
    for kind in samples[0]:
        machine.figure(f"{name}: {kind}", [sample[kind] for sample in samples], "MiB", digits=1)
