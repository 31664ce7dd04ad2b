"""The four services in this process, on loopback: what they answer, forward, and write down."""

import json
import socket
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager

import pytest

from clovisor_py.demo import bookinfo
from clovisor_py.demo.bookinfo import CALLS, SLOW, SLOW_S, UNAVAILABLE, UNKNOWN, Service
from clovisor_py.demo.calls import Callee
from clovisor_py.demo.truth import Truth, read

CONTEXT = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x-request-id": "r-1", "cookie": "secret"}


@contextmanager
def serving(role, truth, peers):
    with Service(role, truth, peers, port=0) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service.server_port
        finally:
            service.shutdown()
            thread.join()


class Shop:
    """Productpage and all that it calls."""

    def __init__(self, path, stack):
        self.path = str(path)
        self.ports = {}
        for role in reversed(CALLS):
            truth = self.truth(role, stack)
            peers = {name: self.callee(name, truth, stack) for name in CALLS[role]}
            self.ports[role] = stack.enter_context(serving(role, truth, peers))
        self.client = self.callee("productpage", self.truth("client", stack), stack)

    def truth(self, service, stack):
        truth = Truth(self.path, service)
        stack.callback(truth.close)
        return truth

    def callee(self, name, truth, stack):
        callee = Callee(name, "127.0.0.1", truth, self.ports[name])
        stack.callback(callee.close)
        return callee

    def get(self, path, **options):
        status, body = self.client.get(path, CONTEXT, **options)
        return status, json.loads(body)

    def records(self):
        return read(self.path)


@pytest.fixture
def shop(tmp_path):
    with ExitStack() as stack:
        yield Shop(tmp_path / "truth", stack)


def test_a_page_asks_for_all_its_parts_in_one_trace(shop):
    status, body = shop.get("/productpage/0")
    assert status == 200
    assert body["reviews"]["reviews"][0]["rating"]["ratings"]["Reviewer1"] == 5
    client_side = [record for record in shop.records() if record["side"] == "client"]
    assert Counter((record["service"], record["peer"]) for record in client_side) == {
        ("client", "productpage"): 1,
        ("productpage", "details"): 1,
        ("productpage", "reviews"): 1,
        ("reviews", "ratings"): 1,
    }
    assert {(record["trace_id"], record["request_id"]) for record in shop.records()} == {(CONTEXT["traceparent"][3:35], "r-1")}


@pytest.mark.parametrize("product", UNKNOWN)
def test_an_unknown_product(shop, product):
    assert shop.get(f"/productpage/{product}")[0] == 404
    assert "reviews" not in {record["peer"] for record in shop.records()}


@pytest.mark.parametrize("product", UNAVAILABLE)
def test_an_error_travels_up(shop, product):
    assert shop.get(f"/productpage/{product}")[0] == 503
    failed = {record["peer"] for record in shop.records() if record["side"] == "client" and record["status"] == 503}
    assert failed == {"productpage", "reviews", "ratings"}


@pytest.mark.parametrize("product", SLOW)
def test_slow_reviews(shop, product):
    assert shop.get(f"/productpage/{product}")[0] == 200
    took = {record["peer"]: record["duration_ns"] for record in shop.records() if record["side"] == "client"}
    assert took["reviews"] >= SLOW_S * 1e9
    assert took["ratings"] < took["reviews"]


@pytest.mark.parametrize("path", ["/", "/productpage", "/productpage/", "/productpage/x", "/details/1"])
def test_a_path_that_is_not_there(shop, path):
    assert shop.get(path)[0] == 404


def test_connections_are_kept_unless_asked_otherwise(shop):
    for fresh in (False, False, True):
        assert shop.get("/productpage/1", fresh=fresh)[0] == 200
    assert len(shop.client._idle) == 1


def test_only_headers_of_the_trace_are_forwarded():
    seen = {}

    class Peer:
        def get(self, path, headers):
            seen.update(headers)
            return 200, b"{}"

    with Service("reviews", None, {"ratings": Peer()}, port=0) as service:
        assert service.answer("/reviews/1", CONTEXT).status == 200
    assert seen.keys() == {"traceparent", "x-request-id"}


def test_a_service_that_does_not_answer(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        truth = Truth(str(tmp_path / "truth"), "reviews")
        ratings = Callee("ratings", "127.0.0.1", truth, closed.getsockname()[1])
        with Service("reviews", truth, {"ratings": ratings}, port=0) as service:
            answer = service._call({}, "ratings", "/ratings/1")
        truth.close()
    assert answer.status == 502
    (record,) = read(tmp_path / "truth")
    assert (record["outcome"], record["status"]) == ("failed", 0)


def test_a_role_without_the_address_of_its_peer_says_so(capsys):
    with pytest.raises(SystemExit):
        bookinfo.main(["reviews"])
    assert "--peer NAME=ADDRESS" in capsys.readouterr().err
