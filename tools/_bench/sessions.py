"""`tools/bench sessions`: user space's CPU for a session, stage by stage, from real records of nginx's traffic.

Each run fills the ring with live requests, nobody reading, and then takes them through one stage after another, timed by
`process_time`: all threads of this process, so that exporters' workers are in it. As in life, connections are captured by
the head of each turn; nothing is told back to the kernel (in life one call for each connection). The console writes to
/dev/null, Jaeger's datagrams go to a socket that nobody reads.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Final

from clovisor_py.agent import Agent
from clovisor_py.config import Settings
from clovisor_py.exporters._fanout import Fanout, open_urls
from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.kernel.datapath import Datapath
from clovisor_py.kernel.ring import Ring
from clovisor_py.model.segment import Segment
from clovisor_py.model.session import Session
from clovisor_py.sources.live import wall_offset_ns
from tests.support.load import h2load
from tests.support.netns import Pod, pod
from tests.support.nginx import nginx_in
from tools._bench import machine

REQUESTS: Final = 2500
"""Of a run: 2.5 kB of records each, so the ring (8 MiB) is far from full."""
Costs = dict[str, list[float]]
"""Stage to µs a session, one for each run."""


def main(runs: int) -> None:
    """Print µs of CPU a session for each stage, `runs` times, and what whole paths add up to."""
    machine.heading(f"sessions: µs of user-space CPU a session, {runs} runs of {REQUESTS:,} requests to nginx each")
    costs: Costs = {}
    with pod("bench") as served, nginx_in(served) as nginx, _datapath() as datapath:
        datapath.attach(served.ifindex, mode="head")
        for _ in range(runs):
            datapath.heartbeat()
            h2load(nginx.url(), REQUESTS)
            measure(datapath.ring, served, costs)
        datapath.detach(served.ifindex)
    medians = {stage: machine.figure(stage, figures, "µs", digits=1) for stage, figures in costs.items()}
    own, exporters = list(medians)[:3], list(medians)[3:]
    always = sum(medians[stage] for stage in own)
    _whole("all of it, no exporter", always)
    for stage in exporters:
        _whole(f"all of it, {stage}", always + medians[stage])


def _whole(name: str, cost: float) -> None:
    share = Settings().cpu_share
    machine.line(f"{name:42} {cost:>10.1f} µs       the default share of {share:g} core: {share / cost * 1e6:,.0f} sessions/s")


def measure(ring: Ring, served: Pod, costs: Costs) -> None:
    """One run through all stages; what each cost is added to `costs`."""
    batches: list[list[Segment]] = []
    found: list[list[Session]] = []
    pipeline = Pipeline()
    agent = Agent(Settings(), Fanout([]))  # never entered: it only delivers
    agent.directory.add(served.ifindex, "bench", (served.ipv4, served.ipv6))
    offset = wall_offset_ns()
    timed = {
        "ring to segments": cpu_s(lambda: batches.extend(iter(lambda: ring.read(offset), []))),
        "segments to sessions": cpu_s(lambda: found.extend(pipeline.feed(batch) for batch in batches)),
        "name, context, RED": cpu_s(lambda: deque(map(agent._deliver, found), maxlen=0)),
    }
    for name, place in EXPORTERS.items():
        with place() as url:
            timed[name] = _export(url, found)
    sessions = sum(map(len, found))
    if sessions != REQUESTS:
        machine.line(f"(this run made {sessions:,} sessions of {REQUESTS:,} requests)")
    for name, seconds in timed.items():
        costs.setdefault(name, []).append(seconds / max(sessions, 1) * 1e6)


def cpu_s(stage: Callable[[], object]) -> float:
    """CPU seconds of this process, all its threads, while `stage` runs."""
    before = time.process_time()
    stage()
    return time.process_time() - before


def _export(url: str, found: list[list[Session]]) -> float:
    """CPU seconds of an exporter with its queue and thread; being opened (imports) is not in it."""

    def deliver() -> None:
        for sessions in found:
            fanout.offer(sessions)
        fanout.close()

    with open_urls([url], queue_limit=2 * REQUESTS) as fanout:
        return cpu_s(deliver)


@contextmanager
def _console(form: str) -> Iterator[str]:
    with Path(os.devnull).open("w", encoding="utf-8") as null, redirect_stdout(null):
        yield f"console:?format={form}"


@contextmanager
def _jsonl() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="cvt-bench-") as folder:
        yield f"jsonl:{folder}/sessions.jsonl"


@contextmanager
def _jaeger() -> Iterator[str]:
    """An agent that is there and never reads: what its socket has no room for, the kernel drops."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        yield f"jaeger://127.0.0.1:{agent.getsockname()[1]}"


@contextmanager
def _datapath() -> Iterator[Datapath]:
    """The node's own pins: their lock keeps a running Clovisor and this apart. Gone when the block ends."""
    with Datapath(Settings()) as datapath:
        try:
            yield datapath
        finally:
            datapath.remove()


EXPORTERS: Final = {
    "console, a line": lambda: _console("line"),
    "console, JSON": lambda: _console("json"),
    "jsonl": _jsonl,
    "jaeger": _jaeger,
}
