"""Every protocol's conversations become sessions, and those spans; each span is held against OpenTelemetry's own table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("h2")

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.flows.sessions import UNSEEN_REQUEST
from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.model.session import Outcome, Session, Side
from clovisor_py.model.span import Span
from clovisor_py.protocols._redaction import DEFAULT, OFF, STRICT, Redaction
from clovisor_py.protocols._registry import registry
from clovisor_py.tracing.spans import span_of
from tests.protocols import test_dns, test_grpc, test_http, test_http2, test_kafka, test_postgresql, test_redis, test_tls
from tests.support.http2 import Talk, rst
from tests.support.parser_harness import Script
from tests.support.scripts import restore
from tests.support.segments import Conversation
from tests.support.sessions import pod, session
from tests.tracing.conventions import ALWAYS, ENDS, FAMILIES, OWN, REGISTRY, VALUES, failed, family_of, name

GOLDEN = Path(__file__).parents[1] / "golden" / "scripts"
PORTS = {"dns": 53, "http": 8080, "http2": 50051, "grpc": 50051, "kafka": 9092, "postgresql": 5432, "redis": 6379, "tls": 443}
LEVELS = {"off": OFF, "default": DEFAULT, "strict": STRICT}


def http(code: int) -> Script:
    """One request that is answered with this status."""
    asked = b"GET /orders/7?key=1 HTTP/1.1\r\nHost: shop:8080\r\n\r\n"
    return [(CLIENT, asked), (SERVER, b"HTTP/1.1 %d Any\r\nContent-Length: 0\r\n\r\n" % code)]


def grpc(code: int) -> Script:
    """One call that ends with this status."""
    talk = Talk().begin(CLIENT, 1, test_grpc.CALL).part(CLIENT, 1, test_grpc.sent(4), end=True)
    return talk.answer(1, body=test_grpc.sent(4), extra=[test_grpc.TYPE], trailers=[("grpc-status", str(code))]).script


def broken_off(code: int, reset: int) -> Script:
    """An exchange that is reset after its status."""
    talk = Talk().ask(1, "/orders/7")
    talk.ends[1].send_headers(1, [(":status", str(code))])
    return [*talk.script, (SERVER, talk.ends[1].data_to_send()), (SERVER, rst(1, reset))]


CODES = (200, 301, 400, 404, 429, 499, 500, 503, 599)
RESETS = (0, 2, 7, 8)
MORE: dict[str, list[Script]] = {
    "http": [http(code) for code in CODES],
    "http2": [
        *(Talk().ask(1, "/orders/7").answer(1, code).script for code in CODES),
        *(broken_off(code, reset) for code in CODES for reset in RESETS),
    ],
    "grpc": [grpc(code) for code in range(18)],
}
"""Statuses by which it is decided what an error is."""


def scripts(protocol: str) -> Iterator[tuple[bool, Script]]:
    """(datagrams, script) of a protocol: those of its tests, and the golden ones."""
    if protocol == "dns":
        yield from ((setup.datagrams, script) for script, setup in test_dns.SCRIPTS.values())
    else:
        yield from ((False, script) for script in OF_TESTS[protocol].SCRIPTS.values())
    yield from ((False, script) for script in MORE.get(protocol, ()))
    for file in sorted((GOLDEN / protocol).glob("*")):
        yield restore(file.read_bytes())


OF_TESTS: dict[str, Any] = {
    "http": test_http,
    "http2": test_http2,
    "grpc": test_grpc,
    "kafka": test_kafka,
    "postgresql": test_postgresql,
    "redis": test_redis,
    "tls": test_tls,
}


def sessions(protocol: str, side: Side, redaction: Redaction) -> Iterator[Session]:
    """What the engine makes of all of them at a pod that is client or server."""
    for datagrams, script in scripts(protocol):
        talk = Conversation(server_port=PORTS[protocol], udp=datagrams, pod_is_client=side is Side.CLIENT)
        if not datagrams:
            talk.handshake()
        for sender, what in script:
            if isinstance(what, bytes):
                talk.say(sender, what)
            else:
                talk.say(sender, bytes(what), lost=True)
        engine = Pipeline(redaction=redaction)
        yield from engine.feed(talk.segments)
        yield from engine.close(talk.now)


def wrong(one: Session, span: Span) -> list[str]:
    """In what the span differs from the conventions, one sentence for each."""
    attributes = span.attributes
    found = [f"{key} is not in the registry" for key in attributes if key not in REGISTRY and not key.startswith(OWN)]
    found += [
        f"{key} is {value!r}"
        for key, value in attributes.items()
        if key in REGISTRY and (type(value) is not REGISTRY[key] or value not in VALUES.get(key, (value,)))
    ]
    found += [f"{key} is missing" for key in sorted(required(one) - attributes.keys())]
    found += [f"{key} is empty" for key in attributes if attributes[key] == "" and key != "url.path"]
    if attributes.get("network.protocol.name") == one.transport:
        found.append("network.protocol.name is a transport")
    if span.error != ("error.type" in attributes):
        found.append(f"error is {span.error}, and error.type {attributes.get('error.type')}")
    if "url.full" in attributes and str(attributes["url.full"]).partition("?")[2] != attributes.get("url.query", ""):
        found.append(f"url.full is {attributes['url.full']}, and url.query {attributes.get('url.query')}")
    by_rule = failed(one.protocol, one.side is Side.SERVER, attributes, one.status)
    if by_rule is not None and one.outcome in (Outcome.OK, Outcome.ERROR) and span.error is not by_rule:
        found.append(f"error is {span.error}, by the rule {by_rule}")
    if one.failed and one.outcome is not Outcome.ERROR and not span.error:
        found.append(f"no error, and it ended as {one.outcome.value}")
    if unseen(one):
        return found
    expected = name(one.protocol, one.operation, attributes)
    database = attributes.get("db.namespace")
    if span.name not in (expected, f"{expected} {database}"):  # of an operation on a whole database, that is its target
        found.append(f"the name is {span.name}, not {expected}")
    return found


def unseen(one: Session) -> bool:
    """Its request passed before anybody looked: what only that could tell is missing."""
    return UNSEEN_REQUEST in one.attributes


def required(one: Session) -> set[str]:
    """Names that this span must carry."""
    family = FAMILIES[one.protocol]
    names = set(ALWAYS)
    if unseen(one):
        return names
    names |= family.always | (family.server if one.side is Side.SERVER else family.client)
    if one.outcome in (Outcome.OK, Outcome.ERROR) and one.response is not None and one.status and not one.truncated:
        names |= family.answered
    if one.operation == "CONNECT":
        names -= {"url.path", "url.full"}  # it asks for a host, which is no path
    if one.attributes.get("error.type") and one.protocol == "http" and not one.status.isdigit():
        names -= family.answered  # the stream was reset before a status came
    return names


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("protocol", PORTS)
def test_spans_are_as_the_conventions_have_them(protocol: str, side: Side, level: str) -> None:
    differences, seen = set(), 0
    for one in sessions(protocol, side, LEVELS[level]):
        span = span_of(one)
        seen += one.protocol in (protocol, registry()[protocol].sessions)
        assert span.side is one.side is side
        differences |= {f"{one.protocol} {one.operation} {one.status}: {what}" for what in wrong(one, span)}
    assert not differences, "\n".join(sorted(differences))
    assert seen >= 3


@pytest.mark.parametrize("protocol", registry().values(), ids=registry().keys())
def test_a_protocol_declares_names_that_are_known_and_those_it_must_have(protocol: Any) -> None:
    assert [key for key in protocol.attributes if key not in REGISTRY and not key.startswith(OWN)] == []
    assert family_of(protocol.sessions, protocol.attributes).always - ENDS <= set(protocol.attributes)


@pytest.mark.parametrize("side", list(Side))
def test_workloads_have_the_conventions_names(side: Side) -> None:
    ends = {"client_workload": pod("web-1", "web"), "server_workload": pod("cart-1", "cart")}
    span = span_of(session(side=side, **ends))
    assert [key for key in span.attributes if key not in REGISTRY and not key.startswith(OWN)] == []
    assert span.attributes["k8s.pod.name"] == ("web-1" if side is Side.CLIENT else "cart-1")
    assert span.attributes["service.peer.name"] == ("cart" if side is Side.CLIENT else "web")


@pytest.mark.parametrize(
    "key", ["net.peer.name", "net.host.name", "http.method", "http.status_code", "rpc.service", "db.system"]
)
def test_deprecated_names_are_not_in_the_table(key: str) -> None:
    assert key not in REGISTRY
