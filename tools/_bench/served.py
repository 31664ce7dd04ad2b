"""`tools/bench served`: what the served side pays: nginx in a pod, with and without a real `clovisor trace` of it, in turns.

At a fixed rate: nginx's CPU for a request (the softirq work of its packets is charged to it too, where the kernel does
not account for interrupts apart), the client's, Clovisor's own, and the latency that the client sees. A third condition
tells the price of the datapath from that of sharing CPUs: no Clovisor, but a stranger that computes as much as Clovisor
has just done, in the same rhythm. At saturation: requests a second, and what of the loss the stranger costs too.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import Popen
from typing import Final

from clovisor_py.kernel import netns
from tests.support.load import Sent, Trace, h2load, traced, wrk
from tests.support.netns import pod
from tests.support.nginx import Nginx, nginx_in
from tools._bench import machine

RATE: Final = 5000
"""Requests a second."""
RATE_SATURATED: Final = "saturated: requests/s"
STRANGER: Final = """
import sys, time
busy = float(sys.argv[1]) * .005
while True:
    begin = time.process_time()
    while time.process_time() - begin < busy: pass
    time.sleep(.005 - busy)
"""
"""Computes for so much of a core as it is told, in bursts as often as Clovisor's polls."""
WHO: Final = ("nginx", "client", "Clovisor")
Figures = dict[str, list[float]]
"""Name to a figure for each round."""
US: Final = "µs CPU a request"


def main(rounds: int, seconds: int) -> None:
    """Print the conditions' figures one below the other: `rounds` of them in turns, each load `seconds` long."""
    machine.heading(
        f"served: nginx without and with Clovisor, or a stranger, {rounds} rounds in turns, {seconds} s of each load"
    )
    alone: Figures = defaultdict(list)
    watched: Figures = defaultdict(list)
    crowded: Figures = defaultdict(list)
    summaries = []
    with pod("bench") as served, nginx_in(served) as nginx:
        h2load(nginx.url(), RATE)  # nobody's first requests are measured
        for number in range(rounds):
            for under_watch in (False, True) if number % 2 == 0 else (True, False):
                if under_watch:
                    with traced(served) as trace:
                        _round(nginx, trace, watched, seconds)
                        summaries.append(trace.stop())
                else:
                    _round(nginx, None, alone, seconds)
            _round(nginx, None, crowded, seconds, like=watched)
    _compare(alone, watched, crowded)
    _explain(alone, watched, crowded)
    for number, summary in enumerate(summaries, start=1):
        machine.line(f"Clovisor's own ledger, round {number}:")
        for text in summary.splitlines():
            machine.line(f"  {text}")


@contextmanager
def _stranger(figures: Figures | None, load: str) -> Iterator[None]:
    """Somebody else at work on this machine, as much as Clovisor was under this load; nobody without `figures`."""
    if figures is None:
        yield
        return
    cores = min(figures[f"{load}: Clovisor, cores"][-1], 0.99)
    process = Popen([sys.executable, "-c", STRANGER, str(cores)], start_new_session=True)
    try:
        yield
    finally:
        netns.end([process])


def _round(nginx: Nginx, trace: Trace | None, figures: Figures, seconds: int, like: Figures | None = None) -> None:
    name = f"{RATE:,}/s"
    with _stranger(like, name):
        sent = _load(name, nginx, trace, figures, lambda: h2load(nginx.url(), RATE * seconds, rate=RATE, latencies=True))
    figures[f"{name}: p50 latency, ms"].append(sent.percentile(50))
    figures[f"{name}: p99 latency, ms"].append(sent.percentile(99))
    with _stranger(like, "saturated"):
        sent = _load("saturated", nginx, trace, figures, lambda: wrk(nginx.url(), seconds))
    figures[RATE_SATURATED].append(sent.answered / sent.seconds)


def _load(name: str, nginx: Nginx, trace: Trace | None, figures: Figures, send: Callable[[], Sent]) -> Sent:
    """Run a load, and note who used how much CPU for it."""
    pids = {"nginx": nginx.process.pid} | ({"Clovisor": trace.process.pid} if trace else {})
    before = {who: machine.cpu_s(pid) for who, pid in pids.items()}
    sent = send()
    used = {who: machine.cpu_s(pid) - before[who] for who, pid in pids.items()} | {"client": sent.cpu_s}
    for who, cpu_s in sorted(used.items(), key=lambda one: WHO.index(one[0])):
        figures[f"{name}: {who}, {US}"].append(cpu_s / sent.answered * 1e6)
    if trace:
        figures[f"{name}: Clovisor, cores"].append(used["Clovisor"] / sent.seconds)
    return sent


def _compare(alone: Figures, watched: Figures, crowded: Figures) -> None:
    for name in watched:
        digits = 3 if "latency" in name or "cores" in name else 0 if name == RATE_SATURATED else 1
        baseline = machine.figure(name, alone[name], "without", digits=digits) if name in alone else 0.0
        for condition, figures in (("with", watched), ("stranger", crowded)):
            if name in figures:
                more = statistics.median(figures[name]) - baseline
                beside = f"{more:+,.{digits}f} ({more / baseline:+.1%})" if baseline else ""
                machine.figure(name, figures[name], condition, beside, digits)


def _explain(alone: Figures, watched: Figures, crowded: Figures) -> None:
    """What of the lost throughput is due to the CPU that Clovisor's process took, and what to its datapath."""
    rate, with_clovisor, with_stranger = (statistics.median(f[RATE_SATURATED]) for f in (alone, watched, crowded))
    taken = statistics.median(watched["saturated: Clovisor, cores"])
    loss, explained = 1 - with_clovisor / rate, 1 - with_stranger / rate
    machine.line(
        f"at saturation {loss:.1%} of the throughput was lost; Clovisor's process used {taken:.2f} of {os.cpu_count()} CPUs"
    )
    machine.line(
        f"a stranger that uses as much costs {explained:.1%}: what remains for the datapath is {loss - explained:+.1%}"
    )
