"""An agent that is killed and comes back, or does not: no doubled filter, no lost session, no cost."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from clovisor_py.config import Settings
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.maps import Maps
from clovisor_py.kernel.removal import remove_all
from tests.support.foreign import on_hooks
from tests.support.netns import Pod, pod
from tests.support.trace import CLOVISOR, tracing

pytestmark = pytest.mark.live
REQUEST = b"GET /slow HTTP/1.1\r\nHost: web\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def filters(ifindex: int) -> list[int]:
    """How many filters and TCX programs are on each hook."""
    return on_hooks(ifindex)


def pair(web: Pod, listener: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = socket.create_connection((web.ipv4, 80), timeout=10)
    server, _ = listener.accept()
    server.settimeout(10)
    return client, server


def test_killed_between_a_request_and_its_response(tmp_path: Path) -> None:
    with pod("kill") as web, web.call(lambda: socket.create_server(("0.0.0.0", 80))) as listener:
        with tracing(tmp_path / "first", web.namespace, "--hint", "80=http") as first:
            client, server = pair(web, listener)
            with client, server:
                client.sendall(REQUEST)
                server.recv(65536)
                asked = time.monotonic()
                time.sleep(0.3)  # the first agent has read the request by now
                first.kill()
                assert filters(web.ifindex) == [1, 1]
                with tracing(tmp_path / "second", web.namespace, "--hint", "80=http") as second:
                    assert filters(web.ifindex) == [1, 1]
                    server.sendall(ANSWER)
                    took = time.monotonic() - asked
                    client.recv(65536)
                    (session,) = second.wait_for(1)
                    client.sendall(REQUEST)
                    server.recv(65536)
                    server.sendall(ANSWER)
                    following = second.wait_for(2)[1]
        assert filters(web.ifindex) == [0, 0]
    assert session["operation"] == "unknown"
    assert session["status"] == "200"
    assert session["capture"]["mid_stream"] is True
    assert session["duration_ns"] == pytest.approx(took * 1e9, rel=0.05)
    assert (following["operation"], following["resource"]) == ("GET", "/slow")


def test_what_was_captured_for_somebody_else_is_nobody_elses(tmp_path: Path) -> None:
    """A killed one had not read yet what its pod said: whoever traces another pod next neither shows nor writes that."""
    file = tmp_path / "other.pcapng"
    with (
        pod("kill") as web,
        pod("other") as other,
        web.call(lambda: socket.create_server(("0.0.0.0", 80))) as listener,
        other.call(lambda: socket.create_server(("0.0.0.0", 80))) as second_listener,
    ):
        with tracing(tmp_path / "first", web.namespace, "--hint", "80=http") as first:
            first.process.send_signal(signal.SIGSTOP)
            exchange_on(web, listener)
            first.kill()
            how = ("--hint", "80=http", "--redact", "off", "-w", str(file))
            with tracing(tmp_path / "second", other.namespace, *how) as second:
                exchange_on(other, second_listener)
                second.wait_for(1)
                second.stop()
        shown = second.sessions()
        assert [session["server"]["ip"] for session in shown] == [other.ipv4]
        assert "was captured for it, and is skipped" in second.remarks()
        done = subprocess.run([CLOVISOR, "replay", str(file), "-o", "json"], capture_output=True, timeout=60, check=True)
        assert [json.loads(line)["server"]["ip"] for line in done.stdout.splitlines()] == [other.ipv4]


def exchange_on(at: Pod, listener: socket.socket) -> None:
    client, server = pair(at, listener)
    with client, server:
        client.sendall(REQUEST)
        server.recv(65536)
        server.sendall(ANSWER)
        client.recv(65536)


@pytest.mark.slow
def test_a_dead_agent_costs_nothing_after_its_lease(tmp_path: Path) -> None:
    pins = Settings().pins
    with pod("dead") as web, web.call(lambda: socket.create_server(("0.0.0.0", 80))) as listener:
        with tracing(tmp_path, web.namespace) as trace:
            client, server = pair(web, listener)
            trace.kill()
        try:
            maps = Maps(pins)
            time.sleep(Settings().lease_s + 1)
            slot = maps.pods()[web.ifindex].slot
            before, passed = maps.stats(slot), maps.node_stats()["lease_off"]
            with client, server:
                for _ in range(50):
                    client.sendall(REQUEST)
                    assert server.recv(65536) == REQUEST
            assert maps.stats(slot).since(before)[Counter.SEGMENTS] == 0
            assert maps.stats(slot).since(before)[Counter.RECORDS] == 0
            assert maps.node_stats()["lease_off"] - passed >= 50
            maps.close()
        finally:
            remove_all(pins)
        assert filters(web.ifindex) == [0, 0]
