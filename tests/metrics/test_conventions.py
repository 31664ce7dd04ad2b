"""Over OTLP durations have the attributes that OpenTelemetry wants of them, by a table made from its conventions.

https://opentelemetry.io/docs/specs/semconv/, 1.44: the pages on metrics of HTTP, RPC, databases, messaging and DNS. What is
required and not told is in the table, too, with its reason.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from clovisor_py.metrics._conventions import error_type
from clovisor_py.metrics._families import FAMILIES
from clovisor_py.metrics.exposition import Exposition
from clovisor_py.metrics.red import Red
from clovisor_py.model.session import END, Outcome, Side
from tests.support.sessions import pod, session
from tests.support.snapshots import snapshot

OURS: Final = {
    "client", "client_namespace", "server", "server_namespace", "protocol", "side", "operation", "status_class", "le",
}  # fmt: skip
ABSENT: Final = {
    "server.address": "what is called is told as a workload, by its name; addresses are no labels",
    "server.port": "pods of one workload may listen on any, and it is not kept",
    "dns.question.name": "names have no bound, and say who is asked for",
}
"""Required attributes that no point has, and why."""


class Metric(NamedTuple):
    """`conditional`: conditionally required and known here, or recommended."""

    required: frozenset[str]
    conditional: frozenset[str] = frozenset({"error.type"})


def metric(required: str, conditional: str = "") -> Metric:
    return Metric(frozenset(required.split()), frozenset(conditional.split()) | {"error.type"})


TABLE: Final = {
    "http_server_request_duration_seconds": metric("http.request.method url.scheme", "http.route"),
    "http_client_request_duration_seconds": metric("http.request.method server.address server.port", "url.scheme url.template"),
    "rpc_server_call_duration_seconds": metric("rpc.system.name", "rpc.method"),
    "rpc_client_call_duration_seconds": metric("rpc.system.name", "rpc.method"),
    "db_client_operation_duration_seconds": metric("db.system.name", "db.operation.name db.collection.name"),
    "messaging_client_operation_duration_seconds": metric(
        "messaging.system messaging.operation.name", "messaging.destination.name"
    ),
    "dns_lookup_duration_seconds": metric("dns.question.name"),
}
HTTP: Final = {"http.request.method": "GET", "url.path": "/users/7", "url.scheme": "http"}
RPC: Final = {"http.request.method": "POST", "rpc.system.name": "grpc", "rpc.method": "shop.Cart/Add"}
DB: Final = {"db.system.name": "postgresql", "db.operation.name": "SELECT", "db.collection.name": "users"}
KAFKA: Final = {"messaging.system": "kafka", "messaging.operation.name": "send", "messaging.destination.name": "orders"}
DNS: Final = {"dns.question.name": "secret.example"}
BAD: Final = {"status": "503", "outcome": Outcome.ERROR}
CASES: Final = [
    ("http", "GET", HTTP, {}, {"http.request.method": "GET", "url.scheme": "http", "http.route": "/users/{id}"}),
    ("http", "GET", HTTP, BAD, {"error.type": "5xx"}),
    ("http", "GET", HTTP, {"side": Side.CLIENT}, {"http.request.method": "GET", "url.template": "/users/{id}"}),
    ("http", "GET", HTTP, {"status": "404", "outcome": Outcome.ERROR}, {}),
    ("http", "GET", HTTP, {"status": "404", "outcome": Outcome.ERROR, "side": Side.CLIENT}, {"error.type": "4xx"}),
    ("http", "BREW", {"http.request.method": "_OTHER"}, {}, {"http.request.method": "_OTHER"}),
    ("grpc", "shop.Cart/Add", RPC, {"status": "OK"}, {"rpc.system.name": "grpc", "rpc.method": "shop.Cart/Add"}),
    ("grpc", "shop.Cart/Add", RPC, {"status": "INTERNAL", "outcome": Outcome.ERROR}, {"error.type": "_OTHER"}),
    ("postgresql", "SELECT", DB, {"status": "ok"}, DB),
    ("postgresql", "SELECT", DB, {"status": "", "outcome": Outcome.TIMEOUT}, DB | {"error.type": "timeout"}),
    ("kafka", "Produce", KAFKA, {"status": "NONE"}, KAFKA),
    ("dns", "A", DNS, {"status": "NXDOMAIN", "outcome": Outcome.ERROR}, {"error.type": "_OTHER"}),
]


def exposition(*sessions):
    red = Red(addresses=False)
    for one in sessions:
        red.add(one)
    return Exposition(lambda: red, snapshot)


def pushed(*sessions):
    """(family, labels) of durations, once each."""
    for family in exposition(*sessions).pushed():
        if family.name in TABLE:
            for one in family.samples:
                if one.name.endswith("_count"):
                    yield family.name, {key: value for key, value in one.labels.items() if value}


def test_the_table_has_every_family():
    assert TABLE.keys() == {name for family in FAMILIES.values() for name in family.names.values()}


@pytest.mark.parametrize(("protocol", "operation", "attributes", "changes", "said"), CASES)
def test_points_have_what_the_conventions_ask_for(protocol, operation, attributes, changes, said):
    ends = {"client_workload": pod("web-1", "web"), "server_workload": pod("cart-1", "cart")}
    fields = {"protocol": protocol, "operation": operation, "attributes": attributes} | ends | changes
    [(name, labels)] = pushed(session(**fields))
    theirs = labels.keys() - OURS
    asked = TABLE[name]
    assert asked.required - ABSENT.keys() <= theirs <= asked.required | asked.conditional
    assert ("error.type" in theirs) is ("error.type" in said)
    assert said.items() <= labels.items()
    assert labels["client"] == "web" and labels["operation"], "ours stay beside them"


def test_what_is_required_and_absent_has_a_reason():
    told = {key for _, operation, attributes, changes, _ in CASES for _, labels in pushed(
        session(operation=operation, attributes=attributes, **changes)) for key in labels}  # fmt: skip
    assert not told & ABSENT.keys()
    assert {key for each in TABLE.values() for key in each.required} - told == ABSENT.keys()


def test_operations_that_are_not_told_apart():
    many = [session(operation=f"op{i}", attributes={"http.request.method": f"M{i}"}) for i in range(100)]
    rest = [labels for _, labels in pushed(*many) if labels["operation"] == "other"]
    assert [one["http.request.method"] for one in rest] == ["_OTHER"]
    assert not any("http.route" in one or "error.type" in one for one in rest)


def test_the_page_keeps_its_short_labels():
    made = exposition(session(), session(protocol="kafka", operation="Produce", attributes=KAFKA))
    names = {name for family in made.collect() for one in family.samples if family.name in TABLE for name in one.labels}
    assert names <= OURS


@pytest.mark.parametrize("code", ["", "ok", "open", "one_way", "2xx", "3xx"])
def test_what_is_no_error(code):
    assert error_type(code) == ""


def test_what_clovisor_ended_is_no_error():
    [(_, labels)] = pushed(session(attributes=HTTP), session(attributes=HTTP | {END: "detached"}, outcome=Outcome.CLOSED))
    assert "error.type" not in labels
