"""Connections that nobody can read: unknown protocols, refused, silent, half closed; each is one session, to the byte."""

from __future__ import annotations

import random
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_clients import BLOCK, number
from tests.support.live_peers import abort
from tests.support.live_truth import Json, Truth
from tests.support.live_web import Live, peer, traced_pod
from tests.support.servers import serving

pytestmark = pytest.mark.live

ECHO, DEAF, FULL, SILENT = 8401, 8402, 8403, 8404
FIRST_CLOSED = 8500
NOISE = random.Random(4).randbytes(3_000_000).replace(b"\0", b"\xff")
"""No protocol begins so: see the first bytes of each test."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with traced_pod(tmp_path_factory.mktemp("trace"), "tcp") as made, serving(made.pod, peer("echo"), port=ECHO):
        yield made


def echo(client: socket.socket, data: bytes) -> int:
    """There and back; ns until the first byte came back."""
    began = time.perf_counter_ns()
    client.sendall(data)
    back = len(client.recv(BLOCK))
    took = time.perf_counter_ns() - began
    while back < len(data):
        back += len(client.recv(BLOCK))
    return took


def bytes_of(session: Json) -> tuple[int, int]:
    return tuple((session[part] or {}).get("bytes", 0) for part in ("request", "response"))  # type: ignore[return-value]


def test_an_unknown_protocol_is_counted(live: Live) -> None:
    """Turns, bytes and latency, though nothing is captured any more once nobody knows what it is."""
    truth, beyond = Truth(), list[float]()
    for turns, size in ((1, 10), (7, 5000), (50, 100), (3, 400_000)):
        client = live.dial(ECHO)
        own = number(client)
        with truth.call(own, "tcp", "unknown protocol", "closed") as call:
            latencies = [echo(client, NOISE[turn : turn + size]) for turn in range(turns)]
            client.sendall(b"bye")
            assert client.recv(BLOCK) == b""
        client.close()
        call.request_bytes, call.response_bytes = turns * size + 3, turns * size
        (session,) = live.wait_for(own, 1)
        attributes = session["attributes"]
        if size < BLOCK // 10:  # else the echo begins before the end
            turned = (attributes["clovisor.client.turns"], attributes["clovisor.server.turns"])
            assert turned == (turns + 1, turns)
            beyond.append(statistics.mean(latencies) - attributes["clovisor.server.latency_ns"])
    assert min(beyond) >= 0, "the veth is nearer to the server than its client is"
    assert statistics.median(beyond) < 1_000_000
    live.check(truth)


def test_the_server_may_speak_last_behind_a_half_close(live: Live) -> None:
    truth = Truth()
    client = live.dial(ECHO)
    truth.note(number(client), "tcp", "unknown protocol", "closed", request_bytes=1000, response_bytes=1000 + 9)
    echo(client, NOISE[:1000])
    client.shutdown(socket.SHUT_WR)
    assert client.recv(BLOCK) == b"\xfe the end"
    assert client.recv(BLOCK) == b""
    client.close()
    live.check(truth)


def test_a_connection_that_is_reset(live: Live) -> None:
    truth = Truth()
    client = live.dial(ECHO)
    truth.note(number(client), "tcp", "unknown protocol", "reset", outcome="reset", request_bytes=500, response_bytes=500)
    echo(client, NOISE[:500])
    abort(client)
    live.check(truth)


def test_nothing_is_said(live: Live) -> None:
    truth = Truth()
    with serving(live.pod, peer("http"), port=SILENT):
        for _ in range(5):
            client = live.dial(SILENT)
            truth.note(number(client), "tcp", "nothing was said", "closed", request_bytes=0)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
            client.close()
    live.check(truth)


def test_a_port_scan(live: Live) -> None:
    truth = Truth()
    for port in range(FIRST_CLOSED, FIRST_CLOSED + 50):
        truth.note(port, "tcp", "nothing was said", "refused", outcome="reset")
        with pytest.raises(ConnectionRefusedError):
            live.dial(port)
    live.check(truth, lambda session: session["server"]["port"])


def test_who_is_not_accepted_and_who_gets_no_answer(tmp_path: Path) -> None:
    """The kernel accepts in the server's place, as long as there is room; then nobody answers at all."""
    with traced_pod(tmp_path, "deaf") as live, serving(live.pod, peer("deaf"), port=DEAF):
        waiting = live.dial(DEAF)
        waiting.sendall(NOISE[:700])
        full = live.pod.call(lambda: socket.create_server((live.pod.ipv4, FULL), backlog=0))
        inside = [live.dial(FULL)]
        unanswered = socket.socket()
        unanswered.settimeout(0.5)
        with pytest.raises(TimeoutError):
            unanswered.connect((live.pod.ipv4, FULL))
        time.sleep(0.2)
        live.trace.stop()
        said = {(s["server"]["port"], s["resource"], s["status"], s["outcome"], bytes_of(s)) for s in live.trace.sessions()}
        for one in (waiting, *inside, unanswered, full):
            one.close()
    assert (DEAF, "unknown protocol", "open", "ok", (700, 0)) in said
    assert (FULL, "nothing was said", "no answer", "timeout", (0, 0)) in said
    assert (FULL, "nothing was said", "open", "ok", (0, 0)) in said
