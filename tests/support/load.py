"""Load on a traced nginx, and the three counts that must agree: what nginx served, what the kernel saw, what was shown.

`tests/live/test_load.py` holds small loads to it; `tools/bench` runs the same at length and prints. Clovisor is a real
`clovisor trace` in a process of its own, ended by its pid; its pins are the node's, so that the lock of the datapath keeps
two of them apart, and one that holds it already is waited for.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Final

from clovisor_py.config import Settings
from clovisor_py.errors import EnvironmentLacking
from clovisor_py.kernel import netns
from clovisor_py.kernel.layout import ENDS, LOSSES, Counter
from clovisor_py.kernel.maps import Maps, Stats
from tests.support.netns import Pod
from tests.support.nginx import Nginx

PACKAGES: Final = {"nginx": "nginx-light", "h2load": "nghttp2-client", "wrk": "wrk"}
READY: Final = "Ctrl-C for the summary"
START_S: Final = 30.0
"""Compiling takes a second or two; on a busy machine more."""
PATIENCE_S: Final = 60.0
"""For another Clovisor on this node to end."""
SETTLE_S: Final = 3.0
"""So long without a new session, and no more will come."""
LONGEST_S: Final = 300
"""A trace ends by itself after this, should whoever started it be killed."""
CLIENTS: Final = 10

_SUCCEEDED: Final = re.compile(r"requests: .* (\d+) succeeded")
_FINISHED: Final = re.compile(r"finished in ([\d.]+)(us|ms|s)")
_WRK_RATE: Final = re.compile(r"Requests/sec:\s+([\d.]+)")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def lacking(programs: Sequence[str]) -> list[str]:
    """Debian packages of those programs that are not installed."""
    return [PACKAGES[name] for name in programs if not (shutil.which(name) or shutil.which(f"/usr/sbin/{name}"))]


@dataclass(frozen=True)
class Sent:
    """What a load generator did: requests answered, in how many seconds, with its own CPU seconds, and its latencies."""

    answered: int
    seconds: float
    cpu_s: float
    latencies_ms: list[float]
    """Sorted; empty unless asked for."""

    def percentile(self, percent: float) -> float:
        """ms."""
        return self.latencies_ms[min(int(len(self.latencies_ms) * percent / 100), len(self.latencies_ms) - 1)]


def h2load(
    url: str, requests: int, *, rate: int = 0, clients: int = CLIENTS, inside: Pod | None = None, latencies: bool = False
) -> Sent:
    """HTTP/1.1 requests over kept connections, at `rate` a second in all (0: as fast as they are answered)."""
    with tempfile.TemporaryDirectory(prefix="cvt-load-") as folder:
        log = Path(folder) / "log"
        command = ["h2load", "--h1", "-n", str(requests), "-c", str(clients)]
        command += ["--rps", str(rate / clients)] if rate else []
        command += ["--log-file", str(log)] if latencies else []
        said, cpu_s = _run([*command, url], inside, timeout_s=60 + 2 * requests / (rate or 1000))
        answered, finished = _SUCCEEDED.search(said), _FINISHED.search(said)
        if not answered or not finished:
            raise EnvironmentLacking(f"h2load said nothing of use: {said.strip()[-200:]}")
        times = sorted(int(line.split("\t")[2]) / 1000 for line in log.read_text().splitlines()) if latencies else []
        return Sent(int(answered[1]), float(finished[1]) * _SECONDS[finished[2]], cpu_s, times)


def wrk(url: str, seconds: int, clients: int = 2 * CLIENTS) -> Sent:
    """As many requests as are answered, for so long. The last ones may be cut off, so this counts nothing exactly."""
    said, cpu_s = _run(["wrk", "-t", "1", "-c", str(clients), "-d", f"{seconds}s", url], None, timeout_s=seconds + 30)
    rate = _WRK_RATE.search(said)
    if not rate:
        raise EnvironmentLacking(f"wrk said nothing of use: {said.strip()[-200:]}")
    return Sent(round(float(rate[1]) * seconds), seconds, cpu_s, [])


def _run(command: list[str], inside: Pod | None, timeout_s: float) -> tuple[str, float]:
    """Its standard output, and the CPU seconds that it used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if inside:
        process = inside.spawn(*command, stdout=PIPE)
    else:
        process = Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, start_new_session=True)
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentLacking(f"{command[0]} did not end within {timeout_s:.0f} s; try again when idle.") from error
    finally:
        netns.end([process])
        if process.stdout:
            process.stdout.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return said.decode(errors="replace"), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class Trace:
    """A running `clovisor trace`. Made by `traced`."""

    def __init__(self, pod: Pod, process: Popen[bytes], folder: Path) -> None:
        self.pod, self.process = pod, process
        self._out, self._err = folder / "out", folder / "err"
        self._counted = self._offset = 0

    def shown(self) -> int:
        """Sessions that it wrote so far."""
        with self._out.open("rb") as file:
            file.seek(self._offset)
            while block := file.read(1 << 20):
                self._counted += block.count(b"\n")
                self._offset += len(block)
        return self._counted

    def settle(self, wanted: int) -> int:
        """`shown()`, as soon as it is that much, or when nothing more comes."""
        quiet_at = time.monotonic() + SETTLE_S
        before = -1
        while (now := self.shown()) < wanted and time.monotonic() < quiet_at:
            if now != before:
                before, quiet_at = now, time.monotonic() + SETTLE_S
            time.sleep(0.05)
        return now

    def stats(self) -> Stats:
        """The kernel's counters of the pod, read from the pins of the running process."""
        maps = Maps(Settings().pins)
        try:
            return maps.stats(maps.pods()[self.pod.ifindex].slot)
        finally:
            maps.close()

    def sessions(self) -> Iterator[dict[str, object]]:
        """What it wrote, as objects."""
        with self._out.open("rb") as file:
            yield from map(json.loads, file)

    def remarks(self) -> str:
        """Its standard error: the summary is there once it has ended."""
        return self._err.read_text(errors="replace")

    def stop(self) -> str:
        """Ask it to end, as Ctrl-C does; answers the summary."""
        netns.end([self.process], patience_s=10)
        return self.remarks().partition(READY)[2].strip()


@contextmanager
def traced(pod: Pod, *options: str) -> Iterator[Trace]:
    """`clovisor trace` of this pod, sessions as JSON into a file, attached when the block begins and gone when it ends.

    Raises EnvironmentLacking with its own words where it does not start.
    """
    own = ["trace", pod.namespace, "-o", "json", "--duration", f"{LONGEST_S}s", *options]
    command = [sys.executable, "-c", "from clovisor_py.cli.main import main; main()", *own]
    with tempfile.TemporaryDirectory(prefix="cvt-trace-") as name:
        folder = Path(name)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
                process = Popen(command, stdin=DEVNULL, stdout=out, stderr=err, start_new_session=True)
            trace = Trace(pod, process, folder)
            try:
                if _ready(trace):
                    yield trace
                    return
            finally:
                trace.stop()
            if "another Clovisor" not in trace.remarks() or time.monotonic() > deadline:
                raise EnvironmentLacking(f"clovisor trace did not start: {trace.remarks().strip()}")
            time.sleep(0.5)


def _ready(trace: Trace) -> bool:
    deadline = time.monotonic() + START_S
    while READY not in trace.remarks():
        if trace.process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@dataclass(frozen=True)
class Proof:
    """The counts of one load."""

    sent: Sent
    served: int
    """Lines of nginx's access log."""
    shown: int
    """Sessions that Clovisor wrote."""
    whole: int
    """Those of them that are HTTP, seen at the server's side, with a request and a response, and without gaps."""
    stats: Stats
    """The kernel's counters."""
    summary: str
    """Clovisor's own last words."""

    @property
    def turns(self) -> int:
        """Requests, as the kernel counts them: payload that enters the pod after payload that left it."""
        return self.stats[Counter.TURNS_TO_POD]

    @property
    def lost(self) -> dict[str, int]:
        """Segments that no record went up of, by reason."""
        return {counter.name: self.stats[counter] for counter in LOSSES if self.stats[counter]}

    @property
    def ends(self) -> dict[str, int]:
        """What became of the segments; the sum is SEGMENTS."""
        return {counter.name: self.stats[counter] for counter in ENDS if self.stats[counter]}

    @property
    def balanced(self) -> bool:
        """Whether every segment is accounted for."""
        return self.stats[Counter.SEGMENTS] == sum(self.ends.values())


def prove(nginx: Nginx, send: Callable[[], Sent], *options: str) -> Proof:
    """Trace nginx's pod while `send` runs; the counts of both, taken when all is quiet."""
    before = nginx.count()
    with traced(nginx.pod, *options) as trace:
        sent = send()
        served = nginx.wait_for(before + sent.answered) - before
        trace.settle(served)
        stats = trace.stats()
        summary = trace.stop()
        shown = trace.shown()
        whole = sum(map(_whole, trace.sessions()))
    return Proof(sent, served, shown, whole, stats, summary)


def _whole(session: dict[str, object]) -> bool:
    capture = session["capture"]
    assert isinstance(capture, dict)
    there = session["request"] is not None and session["response"] is not None
    return session["protocol"] == "http" and session["side"] == "server" and there and not capture["gap_bytes"]


def check(proof: Proof) -> None:
    """For tests, at a rate that Clovisor can keep up with: nothing is lost, and all counts are one."""
    said = proof.summary
    assert proof.balanced, said
    assert proof.lost == {}, said
    assert proof.sent.answered == proof.served == proof.turns, said
    assert proof.shown == proof.whole == proof.served, said
