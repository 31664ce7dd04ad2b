"""TCP's counts over the life of agents and pods: each byte is counted once, and the last ones too."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from clovisor_py.agent import Agent
from clovisor_py.config import Settings
from clovisor_py.exporters._fanout import Fanout
from clovisor_py.kernel.targets import Veth
from tests.support.kernel import bench_settings, drop_pins, node
from tests.support.netns import Pod, pod

pytestmark = pytest.mark.live
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 s: what ends the connection is a reset."""


@contextmanager
def connection(web: Pod) -> Iterator[tuple[socket.socket, socket.socket]]:
    with web.call(lambda: socket.create_server(("0.0.0.0", 80))) as listener:
        client = socket.create_connection((web.ipv4, 80), timeout=10)
        server, _ = listener.accept()
        with client, server:
            yield client, server


def say(client: socket.socket, server: socket.socket, number: int) -> None:
    """From the client to the server, which is the pod."""
    client.sendall(bytes(number))
    assert len(server.recv(number, socket.MSG_WAITALL)) == number


def counts(agent: Agent) -> list[tuple[int, int, int, int]]:
    return [(pair.connections, pair.open, pair.resets, pair.sent[0]) for pair in agent.tcp.pairs()]


@contextmanager
def tracing(settings: Settings, web: Pod, leave: bool) -> Iterator[Agent]:
    with Agent(settings, Fanout([]), leave=leave) as agent:
        agent.attach([Veth(web.ifindex, web.veth, "web", (web.ipv4,), "eth0")])
        yield agent


def test_a_successor_goes_on_from_its_predecessors_counts_and_sees_the_end_of_a_pod() -> None:
    settings = bench_settings("-tcp")
    try:
        with node(), pod("counts") as web, ExitStack() as undo:
            with tracing(settings, web, leave=True) as first:
                client, server = undo.enter_context(connection(web))
                say(client, server, 20_000)
                first._sweep()
                assert counts(first) == [(1, 1, 0, 20_000)]
            with tracing(settings, web, leave=False) as second:
                assert second.datapath.adopted
                say(client, server, 10)
                second._sweep()
                assert counts(second) == [(0, 1, 0, 0)]
                say(client, server, 5)
                second._sweep()
                assert counts(second) == [(0, 1, 0, 5)]
                say(client, server, 700)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
                client.close()
                second.drop(web.ifindex)
                assert counts(second) == [(0, 0, 1, 705)]
    finally:
        drop_pins(settings.pins)
