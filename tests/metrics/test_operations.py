"""What a session asked for, and how it ended, in few words."""

from __future__ import annotations

import pytest

from clovisor_py.metrics.operations import OPERATION_CHARS, Operation, operation
from clovisor_py.metrics.routes import OTHER, Trie
from clovisor_py.model.session import END, Outcome
from tests.support.sessions import session


def of(trie=None, **changes):
    return operation(session(**changes), trie or Trie())


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, "GET /reviews/{id}"),
        (
            {"attributes": {"http.request.method": "GET", "http.route": "/reviews/:id", "url.path": "/reviews/0"}},
            "GET /reviews/{id}",
        ),
        ({"attributes": {"http.request.method": "_OTHER", "url.path": "/x"}, "operation": "BREW"}, "_OTHER /x"),
        ({"attributes": {"http.request.method": "CONNECT"}, "operation": "CONNECT", "resource": "h:443"}, "CONNECT"),
        (
            {
                "protocol": "grpc",
                "operation": "shop.Cart/Add",
                "resource": "/shop.Cart/Add",
                "attributes": {"http.request.method": "POST", "rpc.method": "shop.Cart/Add", "url.path": "/shop.Cart/Add"},
            },
            "shop.Cart/Add",
        ),
        ({"operation": "SELECT", "resource": "users", "attributes": {"db.collection.name": "users"}}, "SELECT users"),
        ({"operation": "HSET", "resource": "cart:8731", "attributes": {"db.operation.name": "HSET"}}, "HSET"),
        ({"operation": "Produce", "attributes": {"messaging.destination.name": "orders"}}, "Produce orders"),
        ({"operation": "A", "resource": "secret.example", "attributes": {"dns.question.name": "secret.example"}}, "A"),
        ({"operation": "", "protocol": "toy", "attributes": {}}, "toy"),
    ],
)
def test_what_was_asked_for(changes, title):
    assert of(**changes).title == title


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "GET"),
        ({"attributes": {"http.request.method": "POST", "rpc.method": "shop.Cart/Add"}}, "shop.Cart/Add"),
        ({"operation": "HSET", "attributes": {"db.operation.name": "HSET"}}, "HSET"),
        ({"operation": "Produce", "attributes": {"messaging.operation.name": "send"}}, "send"),
        ({"operation": "A", "attributes": {"dns.question.name": "a.example"}}, ""),
        ({"attributes": {}}, ""),
    ],
)
def test_what_opentelemetry_calls_it(changes, name):
    assert of(**changes).name == name


def test_words_of_the_wire_are_cut():
    found = of(operation="x" * 5000, attributes={"db.collection.name": "y" * 5000, "db.operation.name": "z" * 5000})
    assert (len(found.verb), len(found.what), len(found.name)) == (OPERATION_CHARS, OPERATION_CHARS, OPERATION_CHARS)


def test_without_room_for_routes_all_paths_are_other():
    assert operation(session(), None) == Operation("GET", OTHER, "2xx", "GET")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "2xx"),
        ({"status": "503", "outcome": Outcome.ERROR}, "5xx"),
        ({"status": "404", "outcome": Outcome.ERROR}, "4xx"),
        ({"status": "²³¹"}, "ok"),
        ({"status": "NXDOMAIN", "outcome": Outcome.ERROR}, "error"),
        ({"status": "NOERROR"}, "ok"),
        ({"status": "23505", "outcome": Outcome.ERROR}, "error"),
        ({"status": "", "outcome": Outcome.TIMEOUT}, "timeout"),
        ({"status": "200", "outcome": Outcome.RESET}, "reset"),
        ({"status": "", "outcome": Outcome.ONE_WAY}, "one_way"),
        ({"attributes": {END: "why"}, "outcome": Outcome.CLOSED}, "open"),
    ],
)
def test_how_it_ended(changes, code):
    assert of(**changes).code == code
