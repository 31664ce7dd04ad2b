"""`tools/bench served`: what the served side pays: nginx in a pod, with and without a real `clovisor trace` of it, in turns.

At a fixed rate: nginx's CPU for a request (the softirq work of its packets is charged to it too, where the kernel does
not account for interrupts apart), the client's, Clovisor's own, and the latency that the client sees. A third condition
tells the price of the datapath from that of sharing CPUs: no Clovisor, but a stranger that computes as much as Clovisor
does. At saturation: requests a second, and how much of the loss is nginx's dearer requests and Clovisor's own process.
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
STRANGER: Final = (
    "import time\nwhile True:\n end = time.monotonic() + .004\n while time.monotonic() < end: pass\n time.sleep(.016)"
)
"""A fifth of a core in the rhythm of Clovisor's polls, about what it uses at this rate."""
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
            with _stranger():
                _at_rate(nginx, None, crowded, seconds)
    _compare(alone, watched, crowded)
    _explain(alone, watched)
    for number, summary in enumerate(summaries, start=1):
        machine.line(f"Clovisor's own ledger, round {number}:")
        for text in summary.splitlines():
            machine.line(f"  {text}")


@contextmanager
def _stranger() -> Iterator[None]:
    """Somebody else at work on this machine, ended with the block."""
    process = Popen([sys.executable, "-c", STRANGER], start_new_session=True)
    try:
        yield
    finally:
        netns.end([process])


def _round(nginx: Nginx, trace: Trace | None, figures: Figures, seconds: int) -> None:
    _at_rate(nginx, trace, figures, seconds)
    sent = _load("saturated", nginx, trace, figures, lambda: wrk(nginx.url(), seconds))
    figures[RATE_SATURATED].append(sent.answered / sent.seconds)


def _at_rate(nginx: Nginx, trace: Trace | None, figures: Figures, seconds: int) -> None:
    sent = _load(f"{RATE:,}/s", nginx, trace, figures, lambda: h2load(nginx.url(), RATE * seconds, rate=RATE, latencies=True))
    figures[f"{RATE:,}/s: p50 latency, ms"].append(sent.percentile(50))
    figures[f"{RATE:,}/s: p99 latency, ms"].append(sent.percentile(99))


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


def _explain(alone: Figures, watched: Figures) -> None:
    """Two causes of lost throughput: each request costs nginx more, and Clovisor's process wants the same CPUs."""
    cost = f"saturated: nginx, {US}"
    loss = 1 - statistics.median(watched[RATE_SATURATED]) / statistics.median(alone[RATE_SATURATED])
    dearer = 1 - statistics.median(alone[cost]) / statistics.median(watched[cost])
    taken = statistics.median(watched["saturated: Clovisor, cores"]) / (os.cpu_count() or 1)
    machine.line(f"at saturation {loss:.1%} of the throughput was lost; nginx's dearer requests alone lose {dearer:.1%}")
    machine.line(f"and Clovisor's process used {taken:.1%} of all {os.cpu_count()} CPUs")
