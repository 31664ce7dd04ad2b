"""`tools/bench node`: what the agent of a full node takes: until all its pods are traced, until one more is, and at rest.

The agent is the real command; its API server is one on loopback that costs the agent what a real one would, without the minutes
that it takes to fill one with ten thousand pods. The pods of the node are network namespaces. Whether a pod is traced
is asked of the kernel, never of the agent. All of it is in a network namespace and in pins of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from clovisor_py.errors import ClovisorError
from clovisor_py.kernel import netns, pods
from clovisor_py.kernel.removal import remove_all
from tests.support.apiserver import ApiServer
from tests.support.hooks import ON, ours, program_ids
from tests.support.kernel import BPFFS, drop_pins
from tests.support.kernel import node as own_node
from tools._bench import machine
from tools._bench.node_objects import NODE, fill, pod

PATIENCE_S: Final = 60.0
LOOK_S: Final = 0.001
START_LOOK_S: Final = 0.02
"""The same while an agent starts: who looks uses the CPUs, too."""
SETTLE_S: Final = 6.0
"""Until the agent has compared everything once, and is at rest."""


def main(pods_here: int, cluster: int, services: int, runs: int, rest_s: float) -> None:
    """Print times from exec to the last pod attached, of one more pod, CPU at rest, and memory.

    `cluster` and `services`: pods and Services of other nodes that the index holds; `rest_s`: each look at an agent at rest.
    """
    machine.heading(f"node: {pods_here} pods on it, {cluster:,} others and {services:,} Services in the index, {runs} runs")
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="clovisor-bench-")))
        undo.enter_context(own_node())
        made = [undo.enter_context(sandbox(number)) for number in range(pods_here)]
        api = undo.enter_context(ApiServer())
        fill(api, [address for _, address in made], 0, 0)
        indexes = [ifindex for ifindex, _ in made]
        _starts(api, folder, indexes, runs, "a small cluster")
        fill(api, [], cluster, services)
        _starts(api, folder, indexes, runs, "the whole index")
        with agent(api, folder) as running:
            running.wait(indexes)
            time.sleep(SETTLE_S)
            rests = [running.cpu_share(rest_s) * 100 for _ in range(runs)]
            memory = machine.memory_mib(running.pid)
            more = [undo.enter_context(_one_more(api, running, pods_here + run)) for run in range(5 * runs)]
        machine.figure("one more pod, from its event on", more, "ms", digits=1)
        machine.figure("agent at rest", rests, "% core", f"{rest_s:g} s each", digits=2)
        for kind, mib in memory.items():
            machine.figure(f"agent's memory: {kind}", [mib], "MiB", digits=1)
        machine.figure("agent's memory: peak of RSS", [running.peak_mib], "MiB", digits=1)


class Running:
    """A `clovisor agent` process."""

    def __init__(self, process: subprocess.Popen[bytes], pins: Path, log: Path) -> None:
        self.process, self.pins, self.log = process, pins, log
        self.pid = process.pid
        self.begun = time.monotonic()
        self.peak_mib = 0.0

    def wait(self, ifindexes: Iterable[int]) -> float:
        """Until our programs are on all of these, once each; the seconds since the start. Raises ClovisorError."""
        missing = set(ifindexes)
        while missing:
            if self.process.poll() is not None or time.monotonic() - self.begun > PATIENCE_S:
                raise ClovisorError(f"{len(missing)} pods were not traced: {self.log.read_text()[-2000:]}")
            time.sleep(START_LOOK_S)
            for ifindex in list(missing):
                if ours([ifindex], program_ids(self.pins))[ifindex] != ON:
                    break
                missing.remove(ifindex)
        return time.monotonic() - self.begun

    def cpu_s(self) -> float:
        """CPU seconds since its start, of those that it started and that have ended, too."""
        fields = (Path("/proc") / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / machine.TICKS

    def cpu_share(self, seconds: float) -> float:
        """The part of one core that it used in so many seconds."""
        began, before = time.monotonic(), _cpu_ns(self.pid)
        time.sleep(seconds)
        return (_cpu_ns(self.pid) - before) / 1e9 / (time.monotonic() - began)


def _cpu_ns(pid: int) -> int:
    """Of all threads, exactly."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in (Path("/proc") / str(pid) / "task").iterdir())


@contextmanager
def agent(api: ApiServer, folder: Path) -> Iterator[Running]:
    """Started when the block begins, with nothing of a predecessor there; nothing is left at its end."""
    pins, log = BPFFS / f"clovisor-bench-{os.getpid()}", folder / "log"
    command = [str(Path(sys.executable).parent / "clovisor"), "agent", "--node", NODE, "--listen", "0", "--log-format", "json"]
    command += [
        "--kubeconfig",
        str(api.kubeconfig(folder)),
        "--socket",
        str(folder / "sock"),
        "--export",
        f"jsonl:{folder / 'out'}",
    ]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env={**os.environ, "CLOVISOR_PINS": str(pins)})
    running = Running(process, pins, log)
    try:
        yield running
        running.peak_mib = _peak_mib(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        if pins.exists():
            remove_all(pins)
        drop_pins(pins)


def _peak_mib(pid: int) -> float:
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _starts(api: ApiServer, folder: Path, ifindexes: Iterable[int], runs: int, of: str) -> None:
    took, cpu = [], []
    for _ in range(runs):
        with agent(api, folder) as running:
            took.append(running.wait(ifindexes))
            cpu.append(running.cpu_s())
    machine.figure("exec to the last pod attached", took, "s", of, digits=2)
    machine.figure("  CPU of that, with the compiler's", cpu, "s", digits=2)


@contextmanager
def _one_more(api: ApiServer, running: Running, number: int) -> Iterator[float]:
    """A sandbox that is there, and then its pod: the milliseconds from its event to both programs on its veth."""
    with sandbox(number) as (ifindex, address):
        programs = program_ids(running.pins)
        time.sleep(0.3)
        began = time.monotonic()
        api.put("pods", pod(f"here-{number}", NODE, address, trace=True))
        until(lambda: ours([ifindex], programs)[ifindex] == ON)
        took = time.monotonic() - began
        yield took * 1000


def until(happened: Callable[[], bool]) -> None:
    """Raises ClovisorError after PATIENCE_S."""
    end = time.monotonic() + PATIENCE_S
    while not happened():
        if time.monotonic() > end:
            raise ClovisorError("it did not happen in time: the figures would mean nothing.")
        time.sleep(LOOK_S)


@contextmanager
def sandbox(number: int) -> Iterator[tuple[int, str]]:
    """A pod's network namespace: the ifindex of its host veth, and its address."""
    name, address = f"cvb{os.getpid()}-{number}", f"10.90.{number // 200}.{number % 200 + 2}"
    netns.create(name)
    try:
        yield pods.add_pod(name, [f"{address}/32"]), address
    finally:
        pods.delete_link(pods.link_name(name))
        netns.delete(name)
