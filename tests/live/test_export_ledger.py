"""The books of exporters as a user reads them: what was produced was sent, or is counted as dropped, in every ending.

The collector is killed in mid-run, stays away, and comes back; then the command ends by Ctrl-C or SIGTERM, while the collector
is there or gone. What `clovisor trace` says at the end, and what the agent logs at its own, adds up to what was made.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.live.test_agent_cluster import Operator, agent, operator, shop
from tests.live.test_node import on, within
from tests.live.test_trace import fetch
from tests.support.kernel import node
from tests.support.netns import Pod, pod
from tests.support.nginx import nginx_in
from tests.support.otlp_receiver import child, free_port, ids
from tests.support.own_trace import _ALONE
from tests.support.trace import CLOVISOR, PATIENCE_S, wait_until

__all__ = ["operator", "shop"]
pytestmark = [pytest.mark.live, pytest.mark.slow]
WAYS: Final = ("grpc", "http", "udp")
EACH: Final = 30
"""Requests before the collector is killed, while it is away, and afterwards."""


class Collector:
    """A receiver that can go, hang and come back at the same port. `came`: how many spans it acknowledged or, of UDP, got."""

    def __init__(self, way: str, folder: Path) -> None:
        self.way, self._file = way, folder / "ids"
        self.port = free_port()
        self._datagrams = self._child = 0
        self.url = f"jaeger://127.0.0.1:{self.port}" if way == "udp" else f"otlp+{way}://127.0.0.1:{self.port}?timeout=2"

    @contextmanager
    def there(self) -> Iterator[None]:
        if self.way == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
                agent.bind(("127.0.0.1", self.port))
                yield
                agent.setblocking(False)
                with suppress(BlockingIOError):
                    while True:
                        self._datagrams += agent.recv(70_000).count(b"span.kind")
        else:
            with child(self.way, self.port, self._file) as process:
                self._child = process.pid
                yield

    def hang(self) -> None:
        """It takes connections and requests, and answers none, until it goes."""
        os.kill(self._child, signal.SIGSTOP)

    def came(self) -> int:
        return len(set(ids(self._file))) + self._datagrams  # one whose answer was lost came twice


@contextmanager
def traced(web: Pod, folder: Path, *urls: str) -> Iterator[subprocess.Popen[bytes]]:
    """`clovisor trace` of the pod to these URLs and to FOLDER/sessions.jsonl; what it says is in FOLDER/remarks."""
    exports = [part for url in (*urls, f"jsonl:{folder / 'sessions.jsonl'}") for part in ("--export", url)]
    with (folder / "lines").open("wb") as stdout, (folder / "remarks").open("wb") as stderr:
        process = subprocess.Popen([*_ALONE, CLOVISOR, "trace", web.namespace, *exports], stdout=stdout, stderr=stderr)
    try:
        wait_until(lambda: "Ctrl-C" in (folder / "remarks").read_text() or process.poll() is not None, "the first remark")
        assert process.poll() is None, (folder / "remarks").read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def produced(folder: Path) -> int:
    file = folder / "sessions.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


LASTS: Final = ("there", "gone", "hangs")
"""What the collector does at the end."""
ENDINGS: Final = [(way, last) for way in WAYS for last in LASTS if (way, last) != ("udp", "hangs")]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("way", "last"), ENDINGS)
def test_what_trace_says_adds_up(way: str, last: str, ending: signal.Signals, tmp_path: Path) -> None:
    collector, number = Collector(way, tmp_path), itertools.count(1)
    with node(), pod("books") as web, nginx_in(web) as nginx, traced(web, tmp_path, collector.url) as process:

        def ask(times: int) -> None:
            for _ in range(times):
                fetch(nginx.url(f"/bytes/{next(number)}"))
            time.sleep(0.3)  # a batch, and an attempt

        with collector.there():
            ask(EACH)
        ask(EACH)
        with collector.there():
            ask(EACH)
            if last == "hangs":
                collector.hang()
                ask(EACH)
            if last != "gone":
                ended(process, ending)
        if last == "gone":
            ask(EACH)
            ended(process, ending)
    made = next(number) - 1
    assert produced(tmp_path) == made == (3 if last == "there" else 4) * EACH
    said = (tmp_path / "remarks").read_text()
    sent, dropped = told(said, collector.url, made)
    assert sent + dropped == made, said
    assert "sessions.jsonl got" not in said
    if last != "there":
        assert dropped >= EACH
    assert collector.came() == sent, said
    assert process.returncode == (128 + ending if ending != signal.SIGINT else int(dropped > 0))


@pytest.mark.cluster
@pytest.mark.parametrize(("way", "last"), ENDINGS)
def test_what_the_agent_says_adds_up(way: str, last: str, operator: Operator, shop: str, tmp_path: Path) -> None:
    """On SIGTERM, as Kubernetes ends it."""
    collector = Collector(way, tmp_path)
    with pod("books") as web, nginx_in(web) as nginx:
        operator.run_pod("web", shop, web.ipv4, web.ipv6)
        operator("label", "pod", "web", "-n", shop, "clovisor.io/trace=true")
        with agent(tmp_path, operator, "--export", collector.url) as running:
            within(10, lambda: on(web.ifindex))

            def ask(times: int) -> None:
                made = len(running.sessions())
                for _ in range(times):
                    fetch(nginx.url("/"))
                wait_until(lambda: len(running.sessions()) >= made + times, f"{times} sessions more")

            with collector.there():
                ask(EACH)
            ask(EACH)
            with collector.there():
                ask(EACH)
                if last == "hangs":
                    collector.hang()
                    ask(EACH)
                if last != "gone":
                    ended(running.process, signal.SIGTERM)
            if last == "gone":
                ask(EACH)
                ended(running.process, signal.SIGTERM)
    made = len(running.sessions())
    said = "\n".join(running.said())
    assert f"{running.out} got {made:,} of {made:,} sessions." in said
    sent, dropped = told(said, collector.url, made)
    assert sent + dropped == made, said
    assert f"{collector.url} got {sent:,} of {made:,} sessions" in said
    if last != "there":
        assert dropped >= EACH
    assert collector.came() == sent, said
    assert running.process.returncode == 0


def ended(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    process.wait(PATIENCE_S)


def told(said: str, url: str, made: int) -> tuple[int, int]:
    """Sent and dropped, as the last words have them: a sentence for an exporter that did not deliver all, else none."""
    line = re.search(rf"{re.escape(url)} got ([\d,]+) of ([\d,]+) sessions \(dropped: ([^)]+)\)", said)
    if line is None:
        return made, 0
    assert int(line[2].replace(",", "")) == made
    reasons = [int(number.replace(",", "")) for number in re.findall(r" ([\d,]+)(?:,|$)", line[3])]
    return int(line[1].replace(",", "")), sum(reasons)
