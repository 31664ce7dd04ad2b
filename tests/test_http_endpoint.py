"""Probes and metrics; `test_http_server` has who takes the port from others."""

from __future__ import annotations

import socket
import threading
from http.client import HTTPConnection

import pytest

from clovisor_py.errors import EnvironmentLacking
from clovisor_py.http_endpoint import HttpEndpoint


class Agent:
    """What the endpoint asks."""

    def __init__(self):
        self.sick, self.unready = "", "the pods have not been listed yet."
        self.accepted = []

    def metrics(self, accept):
        self.accepted.append(accept)
        return b"up 1\n", "text/plain; version=1"


@pytest.fixture
def agent():
    return Agent()


@pytest.fixture
def endpoint(agent):
    made = HttpEndpoint(0, healthy=lambda: agent.sick, ready=lambda: agent.unready, metrics=agent.metrics, host="127.0.0.1")
    made.port = made.start()
    yield made
    made.close()


def get(port, path, method="GET", **headers):
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def test_probes(endpoint, agent):
    assert get(endpoint.port, "/healthz") == (200, b"ok\n")
    assert get(endpoint.port, "/readyz") == (503, b"the pods have not been listed yet.\n")
    agent.sick, agent.unready = "the reader hangs.", ""
    assert get(endpoint.port, "/healthz?verbose") == (503, b"the reader hangs.\n")
    assert get(endpoint.port, "/readyz") == (200, b"ok\n")


def test_metrics_and_the_rest(endpoint, agent):
    assert get(endpoint.port, "/metrics", Accept="text/plain") == (200, b"up 1\n")
    assert get(endpoint.port, "/metrics", "HEAD") == (200, b"")
    assert agent.accepted == ["text/plain", ""]
    assert get(endpoint.port, "/")[0] == 404
    assert get(endpoint.port, "/metrics/..", "POST")[0] == 501


def test_a_failure_is_an_answer(endpoint, agent, caplog):
    agent.metrics = None
    endpoint._metrics = lambda _: 1 / 0
    assert get(endpoint.port, "/metrics") == (500, b"/metrics failed (ZeroDivisionError); see the log.\n")
    assert "could not be answered" in caplog.text
    assert get(endpoint.port, "/healthz")[0] == 200


@pytest.mark.parametrize(
    "said", [b"\n", b"\xff\xff\xff\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"A" * 70000 + b"\r\n"]
)
def test_nonsense(endpoint, said):
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=5) as sock:
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        try:
            while sock.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert get(endpoint.port, "/healthz")[0] == 200


def test_a_port_that_is_taken(endpoint):
    with pytest.raises(EnvironmentLacking, match=r"port \d+ of 127.0.0.1 for .* set http_host or http_port\."):
        HttpEndpoint(endpoint.port, healthy=str, ready=str, metrics=lambda _: (b"", ""), host="127.0.0.1").start()


def test_both_families_and_nothing_left_behind():
    made = HttpEndpoint(0, healthy=str, ready=str, metrics=lambda _: (b"", ""))
    port = made.start()
    assert get(port, "/healthz")[0] == 200
    if socket.has_dualstack_ipv6():
        connection = HTTPConnection("::1", port, timeout=5)
        connection.request("GET", "/readyz")
        assert connection.getresponse().status == 200
        connection.close()
    made.close()
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "http endpoint"]
    with pytest.raises(OSError, match="refused"):
        get(port, "/healthz")
