"""Books and receivers: what a worker says was sent is what the other side took, whatever happens in the midst of a batch.

A batch is several requests (or datagrams) here. The receiver hangs, or is killed, between two of them.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from clovisor_py.exporters._otlp_settings import settings_of
from clovisor_py.exporters._otlp_spans import Encoder
from clovisor_py.exporters._registry import parse
from clovisor_py.exporters._worker import Ledger, Worker
from clovisor_py.exporters.jaeger import JaegerSink
from clovisor_py.exporters.otlp import OtlpSink, transport_of
from clovisor_py.model.session import Session
from clovisor_py.tracing.spans import span_of
from tests.support.otlp_receiver import RECEIVERS, Answer, child, free_port, ids
from tests.support.sessions import session

WAYS: Final = ("grpc", "http")
MANY: Final = 2000
"""Sessions in one batch: more than a hundred requests of REQUEST_BYTES."""
REQUEST_BYTES: Final = 4000
FEW: Final = 500
"""Sessions in one batch whose datagrams an unread socket holds."""


def some() -> list[Session]:
    return [session(seq=number, head=number.to_bytes(4, "big")) for number in range(MANY)]


def wanted(sessions: list[Session]) -> set[str]:
    return {f"{span_of(one).span_id:016x}" for one in sessions}


def requests() -> list[int]:
    """Spans of each request of a batch."""
    return [request.spans for request in Encoder(REQUEST_BYTES).requests(some())[0]]


@contextmanager
def working(way: str, port: int, attempts: int = 2) -> Iterator[Worker]:
    settings = settings_of(parse(f"otlp+{way}://127.0.0.1:{port}?timeout=60"), {})
    sink = OtlpSink(transport_of(settings), Encoder(REQUEST_BYTES))
    with Worker("otlp:", sink, queue_limit=5000, batch=MANY, linger_s=3600, pause_s=0.05, attempts=attempts) as worker:
        yield worker


def lost(ledger: Ledger) -> dict[str, int]:
    assert ledger.offered == ledger.sent + sum(ledger.dropped.values()) + ledger.waiting
    return {reason: number for reason, number in ledger.dropped.items() if number}


@pytest.mark.parametrize("way", WAYS)
def test_a_collector_that_hangs_in_mid_batch(way: str) -> None:
    """What it had acknowledged by then is sent; the request that it holds, and those after it, are not."""
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        goes_on.wait()

    with RECEIVERS[way](script=[Answer(), Answer(), Answer(503 if way == "http" else None, act=hang)]) as receiver:
        with working(way, receiver.port) as worker:
            worker.offer(some())
            hangs.wait()
            ledger = worker.close(deadline_s=0.05)
        goes_on.set()
    sent = sum(requests()[:2])
    assert (ledger.sent, lost(ledger)) == (sent, {"stopped": MANY - sent})
    assert len(requests()) > 100


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("comes_back", [True, False], ids=["and comes back", "for good"])
def test_a_collector_that_is_killed_in_mid_batch(way: str, comes_back: bool, tmp_path: Path) -> None:
    """It is stopped first, so that no answer is on its way when it is killed."""
    port, file, sessions = free_port(), tmp_path / "ids", some()
    with working(way, port, attempts=40 if comes_back else 2) as worker:
        with child(way, port, file) as receiver:
            worker.offer(sessions)
            while not ids(file):
                time.sleep(0.0005)
            os.kill(receiver.pid, signal.SIGSTOP)
            time.sleep(0.05)  # answers that were written arrive
            told = worker._told()
        before = ids(file)
        if comes_back:
            with child(way, port, file):
                while worker.ledger().waiting:
                    time.sleep(0.005)
        ledger = worker.close()
    assert told is not None, "it was still in the midst of it"
    unheard = len(before) - told.sent
    assert 0 <= unheard <= max(requests()), "at most one request, whose answer was lost"
    if comes_back:
        assert (ledger.sent, lost(ledger)) == (MANY, {})
        assert set(ids(file)) == wanted(sessions)
        assert len(ids(file)) == MANY + unheard
    else:
        assert (ledger.sent, lost(ledger)) == (told.sent, {"failed": MANY - told.sent})


def test_an_agent_that_ends_in_mid_batch_and_comes_back() -> None:
    """Over UDP sent is handed to a socket that was there: every span is in one of the two sockets, once."""
    sessions, got = some()[:FEW], []
    agent = udp(0)
    port = agent.getsockname()[1]
    sink = JaegerSink("127.0.0.1", port, datagram_bytes=2000)
    real, number = sink._send, 0

    def send(data: bytes) -> str:
        nonlocal number
        number += 1
        if number == 5:
            got.append(drained(agent))
        return real(data)

    sink._send = send  # type: ignore[method-assign]
    with Worker("jaeger:", sink, queue_limit=FEW, batch=FEW, linger_s=3600, pause_s=0.05, attempts=40) as worker:
        worker.offer(sessions)
        while not worker.ledger().error:
            time.sleep(0.001)
        with udp(port) as again:
            while worker.ledger().waiting:
                time.sleep(0.001)
            got.append(drained(again))
        ledger = worker.ledger()
    assert (ledger.sent, lost(ledger)) == (FEW, {})
    assert sum(got) == FEW
    assert min(got) > 0


def udp(port: int) -> socket.socket:
    agent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    agent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    agent.bind(("127.0.0.1", port))
    return agent


def drained(agent: socket.socket) -> int:
    """The spans that came, and the end of it."""
    spans = 0
    with agent:
        agent.setblocking(False)
        while True:
            try:
                spans += agent.recv(70_000).count(b"span.kind")
            except BlockingIOError:
                return spans
