"""`clovisor trace pod/…` through a running agent: what is seen, by whom, for how long, and what a bad reader costs."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from clovisor_py import tap as tap_module
from clovisor_py import taps as taps_module
from clovisor_py.control_socket import Request
from clovisor_py.model.session import Session
from clovisor_py.service import Service
from clovisor_py.tap_client import TapClient, line_of
from clovisor_py.tracing.spans import span_of
from tests.live.test_node import off, on, within
from tests.live.test_trace import fetch
from tests.support.agent_service import Served, agent
from tests.support.fake_cluster import pod, ref
from tests.support.kernel import node
from tests.support.netns import pod as sandbox
from tests.support.nginx import Nginx, nginx_in
from tests.support.trace import CLOVISOR, PATIENCE_S, Trace, wait_until

pytestmark = pytest.mark.live


class World:
    """A node with one pod in it, and its agent."""

    def __init__(self, folder: Path, web: Nginx, cluster: Served, service: Service) -> None:
        self.folder, self.web, self.cluster, self.service = folder, web, cluster, service
        self.socket = folder / "control.sock"
        self.exported = folder / "exported.jsonl"

    def command(self, *words: str) -> list[str]:
        return [CLOVISOR, "trace", *words, "--socket", str(self.socket)]

    @contextmanager
    def trace(self, *words: str, name: str = "one") -> Iterator[Trace]:
        out, err = self.folder / f"{name}.jsonl", self.folder / f"{name}.remarks"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(self.command(*words, "-o", "json"), stdout=stdout, stderr=stderr)
        trace = Trace(process, out, err)
        try:
            wait_until(lambda: "Ctrl-C" in trace.remarks() or process.poll() is not None, "the first remark")
            yield trace
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                trace.stop()

    def asked(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("trace", *words)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [CLOVISOR, *words, "--socket", str(self.socket)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def others(self) -> list[str]:
        """What the agent's own exporter got."""
        return (
            [json.loads(line)["resource"] for line in self.exported.read_text().splitlines()] if self.exported.exists() else []
        )

    def fetch(self, path: str) -> None:
        fetch(self.web.url(path))

    @property
    def on(self) -> bool:
        return on(self.web.pod.ifindex)

    @property
    def off(self) -> bool:
        return off(self.web.pod.ifindex)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with node(), sandbox("web") as web, nginx_in(web) as nginx:
        far = pod("far", "10.9.9.9", node="n9")
        new = pod("new", node="")
        host = pod("host", "192.0.2.1", host_network=True)
        cluster = Served(pod("web", web.ipv4, web.ipv6), host, elsewhere=(far, new))
        with agent(
            tmp_path / "control.sock", cluster, exports=(f"jsonl:{tmp_path / 'exported.jsonl'}",), cpu_share=8.0
        ) as service:
            within(5, lambda: on(web.ifindex))
            yield World(tmp_path, nginx, cluster, service)


def test_an_enabled_pod_filters_and_summary(world: World) -> None:
    with world.trace("pod/shop/web", "--status", "404") as trace:
        assert "tracing pod shop/web (" in trace.remarks() and "not enabled" not in trace.remarks()
        world.fetch("/status/404")
        within(0.9, lambda: len(trace.sessions()) == 1)  # now, and not with the next beat
        for path in ("/", "/status/404"):
            world.fetch(path)
        sessions = trace.wait_for(2)
        said = trace.stop()
    assert [one["status"] for one in sessions] == ["404", "404"]
    assert sessions[0]["server"]["workload"]["name"] == "web"
    assert trace.process.returncode == 0
    assert "2 sessions in" in said and "1 more did not match the filter" in said
    assert "seen 6 segments · captured 6 · lost 0" in said
    within(2, lambda: len(world.others()) == 3)
    assert world.on


def test_a_pod_that_nobody_enabled_is_traced_while_somebody_looks(world: World) -> None:
    world.cluster.put(pod("web", world.web.pod.ipv4, trace=None))
    within(1, lambda: world.off)
    with world.trace("pod/web", "-n", "shop") as trace:
        assert world.on
        assert "not enabled (no label clovisor.io/trace" in trace.remarks()
        world.fetch("/status/404")
        assert trace.wait_for(1)[0]["status"] == "404"
        within(2, lambda: "traced for who looks" in world.run("pods").stdout)
        assert "traced only for as long as `clovisor trace` looks" in world.run("explain", "shop/web").stdout
        trace.stop()
        within(2, lambda: world.off)
    assert world.others() == []
    assert world.service.node.private == set()


def test_who_is_killed_while_looking_leaves_nothing(world: World) -> None:
    world.cluster.put(pod("web", world.web.pod.ipv4, trace=None))
    within(1, lambda: world.off)
    with world.trace("pod/shop/web") as trace:
        assert world.on
        trace.kill()
        within(2, lambda: world.off)
    within(2, lambda: world.service.taps.open_now == ())


def test_who_hangs_is_let_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "SILENCE_S", 1.5)
    world.cluster.put(pod("web", world.web.pod.ipv4, trace=None))
    within(1, lambda: world.off)
    with world.trace("pod/shop/web") as trace:
        assert world.on
        trace.process.send_signal(signal.SIGSTOP)
        within(5, lambda: world.off)
        world.fetch("/")
        trace.process.send_signal(signal.SIGCONT)
        trace.process.wait(PATIENCE_S)
    assert "went away" in trace.remarks()
    assert trace.process.returncode == 1


def test_several_look_and_one_of_them_slowly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "QUEUE", 20)
    with socket.socket(socket.AF_UNIX) as lazy, world.trace("pod/shop/web") as trace:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(str(world.socket))
        lazy.sendall(line_of(Request("trace", targets="Pod/shop/web")))
        within(5, lambda: sum(bool(tap.interfaces) for tap in world.service.taps.open_now) == 2)
        for _ in range(400):
            world.fetch("/")
        within(5, lambda: len(world.others()) == 400)
        read = bytearray()
        lazy.settimeout(5)
        lazy.shutdown(socket.SHUT_WR)
        while part := lazy.recv(65536):
            read += part
        *_, last = [json.loads(line) for line in read.splitlines()]
        shown = sum(line.startswith(b'{"session"') for line in read.splitlines())
        assert 0 < shown < 400
        assert last["end"]["lost"] == 400 - shown
        trace.stop()


def test_more_is_hidden_where_it_is_asked_for_and_never_less(world: World) -> None:
    with (
        world.trace(
            "pod/shop/web",
            name="open",
        ) as own,
        world.trace("pod/shop/web", "--redact", "off", name="off") as off_one,
    ):
        assert "redacted as the pod's own level says: default" in off_one.remarks()
        world.fetch("/status/404?secret=1")
        for trace in (own, off_one):
            assert "secret" not in json.dumps(trace.wait_for(1))
    with world.trace("pod/shop/web", "--redact", "strict", name="strict") as strict:
        world.fetch("/bytes/1000")
        assert strict.wait_for(1)[0]["resource"] == "/bytes/{}"
    within(2, lambda: world.service.node.tapped == {})
    world.fetch("/bytes/1000")
    within(2, lambda: world.others()[-1] == "/bytes/1000")


def test_an_annotation_of_a_pod_that_nobody_enabled_holds(world: World) -> None:
    notes = {"clovisor.io/redact": "strict"}
    world.cluster.put(pod("web", world.web.pod.ipv4, trace="false", annotations=notes))
    within(1, lambda: world.off)
    with world.trace("pod/shop/web", "--redact", "default") as trace:
        assert "label clovisor.io/trace=false on pod/web" in trace.remarks()
        world.fetch("/bytes/1000")
        assert trace.wait_for(1)[0]["resource"] == "/bytes/{}"


def test_its_spans_are_the_agents_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[Session] = []
    monkeypatch.setattr(world.service.fanout, "offer", exported.extend)
    with TapClient(world.socket, Request("", targets="Pod/shop/web")) as tap:
        assert tap.begin(lambda: False)
        for path in ("/one", "/two"):
            world.fetch(path)
        shown = list(islice((said for said in tap.messages() if isinstance(said, Session)), 2))
    assert [span_of(one) for one in shown] == [span_of(one) for one in exported]
    assert [one.head for one in shown] == [b"", b""]


def test_a_namespace_and_pods_that_come_and_go(world: World) -> None:
    with world.trace("ns/shop") as trace:
        world.fetch("/")
        trace.wait_for(1)
        with sandbox("second") as second, nginx_in(second) as other:
            world.cluster.put(pod("second", second.ipv4, trace=None))
            within(3, lambda: on(second.ifindex))
            fetch(other.url("/status/404"))
            assert trace.wait_for(2)[1]["server"]["workload"]["name"] == "second"
            world.cluster.delete(ref("second"))
            within(3, lambda: "pod/shop/second is gone" in trace.remarks())
    assert "pod/shop/second has come" in trace.remarks()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("pod/shop/far", "pod/shop/far runs on node n9, and this is n1: run this there"),
        ("pod/shop/new", "no node has been chosen yet for pod/shop/new"),
        ("pod/shop/wbe", "knows no pod/shop/wbe; did you mean shop/web?"),
        ("pod/shop/host", "uses its host's network"),
        ("deploy/shop/none", "no pod of deployment/shop/none runs on node n1"),
        ("ns/empty", "no pod of namespace/empty runs on node n1"),
    ],
)
def test_what_cannot_be_seen_is_one_sentence(world: World, target: str, words: str) -> None:
    done = world.asked(target)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert words in line


def test_it_ends_by_itself(world: World) -> None:
    with world.trace("pod/shop/web", "--count", "2") as trace:
        for _ in range(5):
            world.fetch("/")
        trace.process.wait(PATIENCE_S)
        assert len(trace.sessions()) == 2
    done = world.asked("pod/shop/web", "--duration", "300ms")
    assert (done.returncode, done.stdout) == (0, "")
    assert "0 sessions in 0 s" in done.stderr
    within(2, lambda: world.service.taps.open_now == ())


def test_too_many_look(world: World) -> None:
    socks = []
    for _ in range(taps_module.TAPS):
        socks.append(sock := socket.socket(socket.AF_UNIX))
        sock.connect(str(world.socket))
        sock.sendall(line_of(Request("trace", targets="Pod/shop/web")))
        sock.settimeout(5)
        assert sock.recv(100).startswith(b'{"answer"')
    assert "8 taps are open already" in world.asked("pod/shop/web").stderr
    for sock in socks:
        sock.close()
    within(2, lambda: world.service.taps.open_now == ())
    assert not [thread for thread in threading.enumerate() if thread.name == "tap"]


def test_the_agent_ends_while_somebody_looks(tmp_path: Path) -> None:
    with node(), sandbox("web") as web, nginx_in(web) as nginx:
        cluster = Served(pod("web", web.ipv4))
        with agent(tmp_path / "control.sock", cluster) as service:
            within(5, lambda: on(web.ifindex))
            made = World(tmp_path, nginx, cluster, service)
            manager = made.trace("pod/shop/web")
            trace = manager.__enter__()
        trace.process.wait(PATIENCE_S)
        manager.__exit__(None, None, None)
    assert trace.process.returncode == 1
    assert trace.remarks().splitlines()[-1] == "clovisor: the agent has ended."
