"""The node's agent on a node of its own, with pods that are namespaces: what is wanted becomes attached, and stays so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from clovisor_py.kernel import netns, pods
from clovisor_py.kernel.links import netlink
from clovisor_py.model.session import Session
from clovisor_py.node import NodeAgent
from tests.live.test_restart import filters
from tests.live.test_trace import fetch
from tests.support.fake_cluster import FakeCluster, Notes, pod, ref
from tests.support.kernel import bench_settings, drop_pins, node
from tests.support.netns import pod as sandbox
from tests.support.nginx import nginx_in

pytestmark = pytest.mark.live
PATIENCE_S = 10.0


class Sink:
    """Keeps what is exported, with the time of its arrival."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.at: list[float] = []

    def offer(self, sessions: Sequence[Session]) -> None:
        self.sessions += sessions
        self.at += [time.monotonic()] * len(sessions)

    def ledgers(self) -> dict[str, object]:
        return {}


class Running:
    """An agent in a thread of its own."""

    def __init__(self, cluster: FakeCluster, settings) -> None:
        self.cluster, self.sink, self.notes = cluster, Sink(), Notes()
        self.settings = settings
        self.agent = NodeAgent(settings, self.sink, cluster, self.notes)
        self._stop = threading.Event()
        self.up = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with self.agent:
                self.up.set()
                self.agent.run(self._stop.is_set)
                self.agent.finish()
        except BaseException as error:  # noqa: BLE001 (it is raised again where the block ends)
            self.error = error
            self.up.set()

    def __enter__(self) -> Running:
        self._thread.start()
        assert self.up.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


def within(seconds: float, happened: Callable[[], bool]) -> float:
    """How long it took; fails after so many seconds."""
    begin = time.monotonic()
    while not happened():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s"
        time.sleep(0.002)
    return time.monotonic() - begin


@pytest.fixture
def own_node() -> Iterator[None]:
    settings = bench_settings("-node")
    with node():
        yield
    drop_pins(settings.pins)


@pytest.fixture
def run(own_node: None) -> Callable[..., Running]:
    return lambda cluster, **changes: Running(cluster, bench_settings("-node", **changes))


def on(ifindex: int) -> bool:
    return filters(ifindex) == [1, 1]


def off(ifindex: int) -> bool:
    return filters(ifindex) == [0, 0]


def test_a_label_brings_sessions_and_its_end_takes_the_filters(run) -> None:
    with sandbox("web") as web, nginx_in(web) as nginx:
        cluster = FakeCluster(pod("web", web.ipv4, web.ipv6, trace=None))
        with run(cluster) as running:
            fetch(nginx.url("/"))
            assert off(web.ifindex)
            labelled = time.monotonic()
            cluster.put(pod("web", web.ipv4, web.ipv6))
            within(1, lambda: on(web.ifindex))
            fetch(nginx.url("/status/404"))
            within(1, lambda: bool(running.sink.sessions))
            shown = running.sink.at[0] - labelled
            cluster.put(pod("web", web.ipv4, web.ipv6, trace="false"))
            within(1, lambda: off(web.ifindex))
            fetch(nginx.url("/"))
        (session,) = running.sink.sessions
    assert (session.status, session.server_workload and session.server_workload.name) == ("404", "web")
    assert session.server_workload and session.server_workload.uid == "uid-web"
    assert shown < 1


@contextmanager
def bare(number: int, stage: str = "") -> Iterator[tuple[int, str]]:
    """A pod without a server: the ifindex of its host veth, and its address."""
    name, address = f"cvt{os.getpid()}-n{number}{stage}", f"10.90.0.{number}"
    netns.create(name)
    try:
        yield pods.add_pod(name, [f"{address}/32"]), address
    finally:
        pods.delete_link(pods.link_name(name))
        netns.delete(name)


def test_a_namespace_label_reaches_its_pods(run) -> None:
    with bare(2) as (ifindex, address):
        cluster = FakeCluster(pod("a", address, trace=None))
        with run(cluster):
            cluster.label_namespace("shop", **{"clovisor.io/trace": "true"})
            within(1, lambda: on(ifindex))
            cluster.label_namespace("shop")
            within(1, lambda: off(ifindex))


def test_twenty_pods_and_one_more(run) -> None:
    with ExitStack() as undo:
        made = [undo.enter_context(bare(number)) for number in range(2, 22)]
        cluster = FakeCluster(*[pod(f"p{index}", address) for index, address in made])
        with run(cluster):
            within(5, lambda: all(on(index) for index, _ in made))
            index, address = undo.enter_context(bare(30))
            cluster.put(pod("late", address))
            within(1, lambda: on(index))
            cluster.delete(*[ref(f"p{index}") for index, _ in made])
            within(5, lambda: all(off(index) for index, _ in made))
            assert on(index)


def test_a_restarted_pod_has_another_veth(run) -> None:
    with ExitStack() as undo:
        cluster = FakeCluster()
        running = undo.enter_context(run(cluster))
        with bare(2) as (first, address):
            cluster.put(pod("a", address))
            within(1, lambda: on(first))
        with bare(2, "again") as (second, _):
            within(5, lambda: on(second))  # in the kernel, and a moment later in the books
            within(1, lambda: running.agent.pods[ref("a")].veth is not None)
            assert running.agent.pods[ref("a")].veth.ifindex == second
        cluster.delete(ref("a"))
        within(1, lambda: not running.agent.pods)
    assert running.agent.agent.datapath._slots == {}


def test_a_replaced_pod_of_the_same_name(run) -> None:
    with bare(2) as (first, one), bare(3) as (second, other):
        cluster = FakeCluster(pod("web-0", one, uid="1"))
        with run(cluster):
            within(1, lambda: on(first))
            cluster.put(pod("web-0", other, uid="2"))
            within(1, lambda: on(second) and off(first))


def test_the_address_goes_to_another_pod_while_the_old_one_is_listed(run) -> None:
    with bare(2) as (ifindex, address):
        cluster = FakeCluster(pod("old", address))
        with run(cluster) as running:
            within(1, lambda: on(ifindex))
            cluster.put(pod("new", address))
            within(1, lambda: running.agent.pods.get(ref("new")) is not None and running.agent.pods[ref("new")].problem != "")
            assert "is that of pod/shop/old" in running.agent.pods[ref("new")].problem
            cluster.put(pod("old", address, deleted=True))
            within(5, lambda: running.agent.pods[ref("new")].veth is not None)
            assert on(ifindex)


@pytest.mark.slow
def test_filters_that_somebody_removed_come_back(run) -> None:
    with bare(2) as (ifindex, address), run(FakeCluster(pod("a", address)), hook="clsact") as running:
        within(1, lambda: on(ifindex))
        with netlink("taking clsact away") as ip:
            ip.tc("del", "clsact", ifindex)
        assert off(ifindex)
        within(6, lambda: on(ifindex))
        within(1, lambda: running.agent.agent.report(look=False).repairs == 1)


@pytest.mark.slow
def test_a_pod_without_a_veth_is_said_once_and_the_others_go_on(run) -> None:
    with bare(2) as (ifindex, address):
        cluster = FakeCluster(pod("nowhere", "10.90.9.9"), pod("a", address))
        with run(cluster) as running:
            within(1, lambda: on(ifindex))
            within(8, lambda: bool(running.notes.said))
            time.sleep(3)
            ((name, reason, sentence),) = running.notes.said
            assert (name, reason) == ("nowhere", "NoVeth")
            assert sentence.startswith("it cannot be traced: no veth of this node leads to 10.90.9.9")
            assert running.agent.pods[ref("nowhere")].attempts < 10
            cluster.put(pod("nowhere", "10.90.9.9", trace="false"))
            within(1, lambda: not running.agent.pods[ref("nowhere")].problem)


def test_what_a_predecessor_left_is_adopted_or_taken_off(own_node, run) -> None:
    with bare(2) as (kept, address), bare(3) as (unwanted, other):
        cluster = FakeCluster(pod("a", address), pod("b", other))
        with run(cluster):
            within(1, lambda: on(kept) and on(unwanted))
        assert on(kept) and on(unwanted)
        cluster.put(pod("b", other, trace=None))
        cluster.ready = False
        with run(cluster) as running:
            time.sleep(0.3)
            assert on(kept) and on(unwanted)
            cluster.ready = True
            within(2, lambda: off(unwanted))
            assert on(kept)
            assert running.agent.agent.datapath.adopted


def test_only_some_outgoing_connections(run) -> None:
    rules = {"clovisor.io/egress": "*:81"}
    with sandbox("server") as server, nginx_in(server) as nginx, sandbox("client") as client:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        cluster = FakeCluster(pod("client", client.ipv4, annotations=rules), pod("server", server.ipv4, trace=None))
        with run(cluster) as running:
            within(1, lambda: on(client.ifindex))
            client.call(lambda: fetch(nginx.url("/")))
            time.sleep(0.3)
            assert running.sink.sessions == []
            assert running.agent.agent.pipeline.ledger.flows_not_asked == 1
            cluster.put(pod("client", client.ipv4))
            within(1, lambda: running.agent.pods[ref("client")].wanted.decision.egress is None)
            time.sleep(0.1)
            client.call(lambda: fetch(nginx.url("/")))
            within(1, lambda: bool(running.sink.sessions))
    (session,) = running.sink.sessions
    assert (session.side.value, session.server_workload and session.server_workload.name) == ("client", "server")


KILLED = """
import sys
from pathlib import Path
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.node import NodeAgent
from tests.support.fake_cluster import FakeCluster, Notes, pod
from tests.support.kernel import Settings, UNBOUNDED
settings = Settings(pins=Path(sys.argv[1]), **UNBOUNDED)
with open_urls([f"jsonl:{sys.argv[2]}"], queue_limit=1000) as fanout:
    with NodeAgent(settings, fanout, FakeCluster(pod("web", sys.argv[3])), Notes()) as agent:
        agent.run(lambda: False)
"""


@pytest.mark.slow
def test_killed_and_started_again(own_node, tmp_path: Path) -> None:
    pins, out = bench_settings("-node").pins, tmp_path / "sessions.jsonl"

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", KILLED, str(pins), str(out), web.ipv4])

    def shown() -> list[str]:
        return [json.loads(line)["resource"] for line in out.read_text().splitlines()] if out.exists() else []

    with sandbox("web") as web, nginx_in(web) as nginx:
        first = start()
        try:
            within(10, lambda: on(web.ifindex))
            fetch(nginx.url("/status/201"))
            within(2, lambda: shown() == ["/status/201"])
        finally:
            first.send_signal(signal.SIGKILL)
            first.wait()
        assert on(web.ifindex)
        fetch(nginx.url("/status/204"))
        second = start()
        try:
            within(5, lambda: "/status/204" in shown())
            fetch(nginx.url("/status/200"))
            within(2, lambda: shown()[-1] == "/status/200")
            assert on(web.ifindex)
        finally:
            second.kill()
            second.wait()
        assert shown() == ["/status/201", "/status/204", "/status/200"]
