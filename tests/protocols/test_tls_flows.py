"""TLS through the engine: one session a handshake, however it ends, and the rest of the connection apart from it."""

from __future__ import annotations

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.session import Outcome, Session
from clovisor_py.protocols.tls import PROTOCOL
from tests.protocols.test_tls import ANSWER_13, CHANGE, FINISHED, FLIGHT_12, NAMED, message, record
from tests.support.segments import MS, SECOND, Conversation

HELLO = record(22, NAMED)
SECRET = record(23, bytes(100))


def sessions(talk: Conversation, **how: object) -> list[Session]:
    pipeline = Pipeline(protocols={"tls": PROTOCOL}, **how)
    found = pipeline.feed(talk.segments)
    end = talk.segments[-1].time_ns + 60 * SECOND
    found += pipeline.tick(end) + pipeline.close(end)
    assert pipeline.ledger.parser_crashes == 0
    return [session for session in found if session.protocol == "tls"]


def talk(port: int = 443) -> Conversation:
    return Conversation(server_port=port).handshake()


def test_a_handshake_of_tls_1_3_lasts_until_the_client_has_agreed() -> None:
    said = talk().client(HELLO).server(ANSWER_13, chunks=[50, 500]).client(FINISHED).client(SECRET).server(SECRET).close()
    (found,) = sessions(said)
    assert (found.operation, found.resource, found.status, found.outcome) == ("handshake", "shop.example", "ok", Outcome.OK)
    assert (found.ttfb_ns, found.duration_ns) == (MS, 4 * MS)
    assert found.response is not None and found.response.bytes >= len(ANSWER_13)
    assert found.attributes["tls.protocol.version"] == "1.3"


def test_a_handshake_of_tls_1_2_lasts_until_the_server_has() -> None:
    exchange = record(22, message(16, bytes(66))) + CHANGE + record(22, bytes(40))
    said = talk(port=9000).client(HELLO).server(record(22, FLIGHT_12)).client(exchange).server(CHANGE + record(22, bytes(40)))
    (found,) = sessions(said.client(SECRET).close())
    assert (found.status, found.ttfb_ns, found.duration_ns) == ("ok", MS, 3 * MS)
    assert found.attributes["tls.resumed"] is False


def test_an_alert_of_either_end_is_the_answer() -> None:
    (found,) = sessions(talk().client(HELLO).server(record(21, b"\2\x28")).close())
    assert (found.status, found.outcome, found.attributes["clovisor.tls.alert_sender"]) == (
        "handshake_failure",
        Outcome.ERROR,
        "server",
    )
    (found,) = sessions(talk().client(HELLO).server(record(22, FLIGHT_12)).client(record(21, b"\2\x30")).rst(0))
    assert (found.status, found.outcome, found.ttfb_ns) == ("unknown_ca", Outcome.ERROR, MS)
    assert found.attributes["tls.protocol.version"] == "1.2"


def test_who_hangs_up_in_the_middle() -> None:
    (found,) = sessions(talk().client(HELLO).server(ANSWER_13).close())
    assert (found.outcome, found.truncated, found.attributes["tls.protocol.version"]) == (Outcome.CLOSED, True, "1.3")
    (found,) = sessions(talk().client(HELLO).rst(1))
    assert (found.outcome, found.resource) == (Outcome.RESET, "shop.example")


def test_a_connection_that_is_first_seen_encrypted_has_no_handshake() -> None:
    said = Conversation(server_port=443).client(SECRET).server(SECRET).client(SECRET).close()
    pipeline = Pipeline(protocols={"tls": PROTOCOL})
    assert all(session.protocol != "tls" for session in pipeline.feed(said.segments))
    assert pipeline.unparsed() == [(443, "encrypted", 1)]
