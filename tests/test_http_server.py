"""Nobody who is slow, silent or many takes the port from a probe, nor all the places of slow pages."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

import pytest

from clovisor_py import http_server as module
from clovisor_py.http_server import CONNECTIONS, SLOW, SLOW_EACH, TOO_MANY, TOO_MANY_PAGES, TOO_SLOW, HttpServer, Page

RUDE, KUBELET, PROMETHEUS = "127.0.0.1", "127.0.0.2", "127.0.0.3"
PATIENCE_S = 10.0


class Serving:
    """A server, with slow pages that are told when `made` is set."""

    def __init__(self):
        self.refused = Counter()
        self.made = threading.Event()
        self.body = b"up 1\n"
        self.server = HttpServer("127.0.0.1", 0, self.page, {"/metrics"}, self.refused)
        self.port = self.server.server_port

    def page(self, path, accept):
        if path == "/metrics":
            assert self.made.wait(PATIENCE_S)
            return Page(200, self.body)
        return Page(200, b"ok\n")

    def get(self, path, source=KUBELET):
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S, source_address=(source, 0))
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def connect(self, said=b"", source=RUDE):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S, source_address=(source, 0))
        sock.sendall(said)
        return sock

    def held(self, slow):
        return sum(one.slow is slow for one in self.server._open.values())


@pytest.fixture
def serving():
    made = Serving()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.made.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@contextmanager
def many(number, connect):
    with ExitStack() as undo:
        yield [undo.enter_context(connect()) for _ in range(number)]


def until(true):
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def ended(sock):
    """Whether nothing comes any more; what came is thrown away."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("who", [RUDE, KUBELET], ids=["from the same address", "from another"])
@pytest.mark.parametrize("said", [b"", b"GET /healthz HT"], ids=["silent", "half a request"])
@pytest.mark.parametrize("number", [8, CONNECTIONS, 100])
def test_idle_connections_keep_no_probe_out(serving, number, said, who):
    with many(number, lambda: serving.connect(said)):
        for _ in range(5):
            assert serving.get("/healthz", who) == (200, b"ok\n")
        assert len(serving.server._open) <= CONNECTIONS
        assert serving.refused[TOO_MANY] >= number - CONNECTIONS


def test_idle_connections_that_come_again_and_again_keep_no_probe_out(serving):
    enough = threading.Event()

    def come():
        held = []
        while not enough.is_set():
            held.append(serving.connect())
            if len(held) > 2 * CONNECTIONS:
                held.pop(0).close()
        for sock in held:
            sock.close()

    thread = threading.Thread(target=come)
    thread.start()
    try:
        until(lambda: serving.refused[TOO_MANY] > CONNECTIONS)
        assert [serving.get("/healthz")[0] for _ in range(50)] == [200] * 50
    finally:
        enough.set()
        thread.join()


def test_who_has_the_most_makes_room_and_of_these_the_oldest(serving):
    with serving.connect(source=KUBELET) as first, many(CONNECTIONS - 1, serving.connect) as rude:
        until(lambda: len(serving.server._open) == CONNECTIONS)
        assert serving.get("/healthz", PROMETHEUS)[0] == 200
        assert ended(rude[0])
        first.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b" 200 " in first.recv(4096)
        assert serving.refused[TOO_MANY] == 1


def test_where_all_are_being_answered_there_is_no_place(serving, monkeypatch):
    monkeypatch.setattr(module, "CONNECTIONS", 2)
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    with many(2, lambda: serving.connect(b"GET /metrics HTTP/1.0\r\n\r\n")):
        until(lambda: serving.held(slow=True) == 2)
        assert serving.get("/healthz")[0] == 503
        serving.made.set()
        until(lambda: not serving.server._open)
        assert serving.get("/healthz")[0] == 200
    assert serving.refused == {TOO_MANY: 1, TOO_MANY_PAGES: 0, TOO_SLOW: 0}


def test_one_address_does_not_get_all_places_of_slow_pages(serving):
    asked = b"GET /metrics HTTP/1.0\r\n\r\n"
    with many(SLOW_EACH, lambda: serving.connect(asked)):
        until(lambda: serving.held(slow=True) == SLOW_EACH)
        assert serving.get("/metrics", RUDE)[0] == 503
        assert serving.refused[TOO_MANY_PAGES] == 1
        with many(SLOW - SLOW_EACH, lambda: serving.connect(asked, PROMETHEUS)) as others:
            until(lambda: serving.held(slow=True) == SLOW)
            assert serving.get("/metrics", KUBELET)[0] == 503
            assert serving.get("/healthz")[0] == 200
            serving.made.set()
            assert all(b" 200 " in other.recv(4096) for other in others)


def test_who_asks_too_late_is_hung_up_on(serving, monkeypatch):
    monkeypatch.setattr(module, "ASK_S", 0.2)
    with serving.connect() as silent, serving.connect(b"GET /healthz HT") as slow:
        assert ended(silent) and ended(slow)
    assert serving.refused[TOO_SLOW] == 2


def test_the_making_of_a_page_is_not_counted(serving, monkeypatch):
    monkeypatch.setattr(module, "ASK_S", 0.1)
    monkeypatch.setattr(module, "SEND_S", 0.1)
    threading.Timer(0.5, serving.made.set).start()
    assert serving.get("/metrics") == (200, b"up 1\n")
    assert serving.refused[TOO_SLOW] == 0


def test_who_does_not_read_loses_its_place(serving, monkeypatch):
    monkeypatch.setattr(module, "SEND_S", 0.2)
    serving.body = bytes(32 << 20)
    serving.made.set()
    with serving.connect(b"GET /metrics HTTP/1.0\r\n\r\n"):
        until(lambda: serving.refused[TOO_SLOW] == 1)
        until(lambda: not serving.server._open)
