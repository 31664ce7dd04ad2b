"""`clovisor explain` for each of its reasons, each produced for real: pods that are namespaces, and a running agent."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from clovisor_py.kernel.links import netlink
from tests.live.test_node import on, within
from tests.live.test_trace import fetch
from tests.support.agent_service import Served, agent
from tests.support.fake_cluster import pod, ref
from tests.support.foreign import ETH_P_ALL, NEXT, PARENTS, link, needs_tcx
from tests.support.kernel import PATIENCE_S, node
from tests.support.netns import Pod
from tests.support.netns import pod as sandbox
from tests.support.nginx import Nginx, nginx_in
from tests.support.trace import CLOVISOR
from tests.support.vlan import _instruction, _load

pytestmark = pytest.mark.live
NAME = "pay.shop"
OLD, ODD, TLS = 9092, 7000, 8443
_REDIRECT_PEER = 155
"""A helper by its number in linux/bpf.h."""


class World:
    """A node with an agent, asked by the real command."""

    def __init__(self, folder: Path, cluster: Served) -> None:
        self.folder, self.cluster = folder, cluster
        self.socket = folder / "control.sock"

    def explain(self, name: str) -> list[str]:
        command = [CLOVISOR, "explain", name, "--socket", str(self.socket)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return (done.stdout + done.stderr).splitlines()

    def until(self, name: str, words: str, seconds: float = 8.0) -> str:
        """The line that says so, as soon as it comes."""
        lines: list[str] = []
        end = time.monotonic() + seconds
        while not (found := [line for line in lines if words in line]):
            assert time.monotonic() < end, "\n".join(lines)
            lines = self.explain(name)
        return found[0]


@contextmanager
def talking(pod: Pod, port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """An open connection to a pod: (client's end, server's end)."""
    with (
        pod.call(lambda: socket.create_server((pod.ipv4, port))) as listener,
        socket.create_connection((pod.ipv4, port), timeout=PATIENCE_S) as client,
        listener.accept()[0] as server,
    ):
        server.settimeout(PATIENCE_S)
        yield client, server


def say(ends: tuple[socket.socket, socket.socket], question: bytes, answer: bytes) -> None:
    client, server = ends
    client.sendall(question)
    assert server.recv(4096) == question
    server.sendall(answer)
    assert client.recv(4096) == answer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("explain")
    with ExitStack() as undo:
        undo.enter_context(node())
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        made = undo.enter_context(sandbox("web"))
        undo.enter_context(nginx_in(made))
        old = undo.enter_context(talking(made, OLD))
        say(old, b"\0\0\0\5hello", b"\0\0\0\3you")
        pods = (
            pod("web", made.ipv4, made.ipv6),
            pod("host", "192.0.2.1", host_network=True),
            pod("nowhere", "10.90.9.9"),
            pod("done", made.ipv4, phase="Succeeded"),
        )
        far = pod("far", "10.9.9.9", node="n9")
        cluster = Served(*pods, elsewhere=(far,))
        undo.enter_context(agent(folder / "control.sock", cluster))
        within(5, lambda: on(made.ifindex))
        world = World(folder, cluster)
        world.web, world.old = made, old  # type: ignore[attr-defined]
        yield world


def test_a_pod_that_is_well(world: World) -> None:
    fetch(f"http://{world.web.ipv4}/")
    line = world.until("shop/web", "segments seen, 0 lost")
    assert " ✓ traffic" in line
    assert "our filters come first" in world.until("shop/web", "namespace id")


def test_which_label_at_which_place(world: World) -> None:
    with sandbox("quiet") as quiet:
        world.cluster.put(pod("quiet", quiet.ipv4, trace=None))
        assert "no label clovisor.io/trace, and the agent's default is not to" in world.until("shop/quiet", "selected")
        world.cluster.label_namespace("shop", **{"clovisor.io/trace": "false"})
        assert "✗ selected" in world.until("shop/quiet", "label clovisor.io/trace=false on namespace/shop")
        world.cluster.put(pod("quiet", quiet.ipv4, trace="true"))
        assert "✓ selected" in world.until("shop/quiet", "label clovisor.io/trace=true on pod/quiet")
        world.cluster.label_namespace("shop")
        world.cluster.delete(ref("quiet"))


@pytest.mark.parametrize(
    ("name", "words", "title"),
    [
        ("far", "it runs on n9, and this is n1", "✗ node"),
        ("host", "it uses its host's network, and so has no veth of its own", "✗ network"),
        ("nowhere", "no veth of this node leads to 10.90.9.9", "✗ veth"),
        ("done", "it has finished (Succeeded)", "✗ running"),
        ("wbe", "knows no pod shop/wbe; did you mean shop/web?", "clovisor:"),
    ],
)
def test_what_stops_it(world: World, name: str, words: str, title: str) -> None:
    assert title in world.until(f"shop/{name}", words)


@needs_tcx
def test_another_program_ahead_of_ours(world: World) -> None:
    for attempt in range(4):
        with link(world.web, NEXT):
            try:
                line = world.until("shop/web", "runs before our filters and may keep packets from us", 3.0)
            except AssertionError:
                assert attempt < 3  # it had been overtaken before anybody could look
                continue
            break
    assert "✗ veth" in line and "but program " in line
    world.until("shop/web", "our filters come first")


def test_a_connection_older_than_the_agent(world: World) -> None:
    say(world.old, b"\0\0\0\5again", b"\0\0\0\3yes")
    line = world.until("shop/web", "older than the agent")
    assert f":{OLD}" in line and "1 connection" in line


def test_a_protocol_that_nobody_knows(world: World) -> None:
    with talking(world.web, ODD) as ends:
        for _ in range(40):
            say(ends, os.urandom(300), os.urandom(300))
    line = world.until("shop/web", "protocol unknown on a connection")
    assert f"✗ :{ODD}" in line and f'clovisor.io/ports: "{ODD}=PROTOCOL"' in line


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl (Debian: openssl)")
    folder = tmp_path_factory.mktemp("certificate")
    made, key = str(folder / "certificate"), str(folder / "key")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={NAME}"]
    command = ["openssl", "req", "-x509", "-days", "2", *curve, "-keyout", key, "-out", made]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return made, key


def test_encrypted(world: World, certificate: tuple[str, str]) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    client = ssl.create_default_context(cafile=certificate[0])
    client.check_hostname = False
    with talking(world.web, TLS) as (near, far):
        thread = threading.Thread(target=lambda: _echo(server.wrap_socket(far, server_side=True)))
        thread.start()
        with client.wrap_socket(near, server_hostname=NAME) as tls:
            for _ in range(3):
                tls.sendall(b"secret")
                assert tls.recv(100) == b"secret"
        thread.join(PATIENCE_S)
    line = world.until("shop/web", "TLS: handshakes only")
    assert f"! :{TLS}" in line and f"(SNI {NAME})" in line


def _echo(sock: ssl.SSLSocket) -> None:
    with sock:
        while data := sock.recv(100):
            sock.sendall(data)


def test_one_direction_only(world: World) -> None:
    """As Cilium's host routing has it: from the client's veth straight into the server's namespace, past its veth."""
    with sandbox("peered") as server, sandbox("caller") as client, nginx_in(server) as nginx:
        client.call(lambda: fetch(nginx.url("/")))  # now the neighbours know each other, which nobody tells them afterwards
        world.cluster.put(pod("peered", server.ipv4))
        within(2, lambda: on(server.ifindex))
        _past_the_veth(client, server)
        for _ in range(20):
            client.call(lambda: fetch(nginx.url("/bytes/1000")))
        line = world.until("shop/peered", "✗ one direction")
        assert "all that was seen leaves the pod" in line and "bpf_redirect_peer" in line
        assert "of which the opening was not seen" in world.until("shop/peered", ":80")
        world.cluster.delete(ref("peered"))


def _past_the_veth(client: Pod, server: Pod) -> None:
    code = _instruction(0xB7, 1, server.ifindex) + _instruction(0xB7, 2, 0)
    program = _load(code + _instruction(0x85, 0, _REDIRECT_PEER) + _instruction(0x95))
    try:
        with netlink("redirecting to a peer") as route:
            route.tc("add", "clsact", client.ifindex)
            fields = {"fd": program, "name": "peer", "parent": PARENTS["ingress"], "prio": 1, "direct_action": True}
            route.tc("add-filter", "bpf", client.ifindex, 1, protocol=ETH_P_ALL, **fields)
    finally:
        os.close(program)


def test_the_budget_used_up(tmp_path: Path) -> None:
    with node(), sandbox("busy") as busy, nginx_in(busy) as nginx:
        cluster = Served(pod("busy", busy.ipv4))
        with agent(tmp_path / "control.sock", cluster, name="busy", pod_bytes_per_s=20_000, flow_bytes_per_s=10_000):
            within(5, lambda: on(busy.ifindex))
            made = World(tmp_path, cluster)
            _load_it(nginx)
            line = made.until("shop/busy", "budget")
            assert "the pod's bytes a second were used up for" in "\n".join(made.explain("shop/busy")), line
            assert "raise pod_bytes_per_s" in "\n".join(made.explain("shop/busy"))


def _load_it(nginx: Nginx) -> None:
    for _ in range(400):
        fetch(nginx.url("/bytes/1000"))
