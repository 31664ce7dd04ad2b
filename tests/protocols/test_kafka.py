"""Kafka against its message definitions: what each call says, what must not be said, and every delivery TCP can think of."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols import _kafka_message as message
from clovisor_py.protocols import _kafka_schema as schema
from clovisor_py.protocols import _kafka_steps as steps
from clovisor_py.protocols import kafka
from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._redaction import OFF
from clovisor_py.protocols.kafka import PROTOCOL
from tests.support.parser_contract import damage, foreign_bytes
from tests.support.parser_harness import PLAIN, Script, check, run

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ID = bytes(range(16))
ID_TEXT = "AAECAwQFBgcICQoLDA0ODw"


def text(value: str | None) -> bytes:
    return b"\xff\xff" if value is None else struct.pack(">h", len(value)) + value.encode()


def compact(value: bytes) -> bytes:
    return uvarint(len(value) + 1) + value


def uvarint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def varint(value: int) -> bytes:
    return uvarint(value * 2 if value >= 0 else -value * 2 - 1)


def sized(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def array(*items: bytes) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)


def compact_array(*items: bytes) -> bytes:
    return uvarint(len(items) + 1) + b"".join(items)


def request(key: int, version: int, body: bytes, correlation: int = 7, client: str | None = "app-1") -> bytes:
    api = schema.APIS.get(key)
    tags = b"\0" if api and version >= api.flexible else b""
    return sized(struct.pack(">hhi", key, version, correlation) + text(client) + tags + body)


def response(body: bytes, correlation: int = 7) -> bytes:
    return sized(struct.pack(">i", correlation) + body)


def record(value: bytes = b"secret value", key: bytes = b"k", headers: tuple[tuple[str, bytes], ...] = ()) -> bytes:
    body = b"\0\0\0" + varint(len(key)) + key + varint(len(value)) + value + varint(len(headers))
    for name, what in headers:
        body += varint(len(name)) + name.encode() + varint(len(what)) + what
    return varint(len(body)) + body


def batch(*records: bytes, attributes: int = 0, count: int = -1) -> bytes:
    count = len(records) if count < 0 else count
    body = struct.pack(">ibIhiqqqhii", 0, 2, 0, attributes, 0, 0, 0, 0, 0, 0, count) + b"".join(records)
    return struct.pack(">qi", 5, len(body)) + body


def old_message(value: bytes, magic: int = 1, attributes: int = 0) -> bytes:
    body = struct.pack(">IbB", 0, magic, attributes) + bytes(8 * magic) + b"\xff\xff\xff\xff" + sized(value)
    return struct.pack(">q", 3) + sized(body)


def produce(records: bytes, topic: str = "orders", acks: int = 1, version: int = 7, partition: int = 2) -> bytes:
    data = struct.pack(">i", partition) + sized(records)
    head = text(None) if version >= 3 else b""
    return request(schema.PRODUCE, version, head + struct.pack(">hi", acks, 100) + array(text(topic) + array(data)))


def produced(error: int = 0, offset: int = 41) -> bytes:
    return response(array(text("orders") + array(struct.pack(">ihqqq", 2, error, offset, -1, 0))) + bytes(4))


def fetch(*topics: str) -> bytes:
    part = array(struct.pack(">iiqqi", 2, -1, 40, -1, 1024))
    head = struct.pack(">iiiibii", -1, 500, 1, 1024, 0, 9, 3)
    return request(schema.FETCH, 11, head + array(*(text(name) + part for name in topics)) + array() + text(""))


def fetched(*records: bytes, error: int = 0, correlation: int = 7) -> bytes:
    parts = [
        struct.pack(">ihqqq", n, error, 44, 44, 0) + array() + struct.pack(">i", -1) + sized(r) for n, r in enumerate(records)
    ]
    topics = array(text("orders") + array(*parts)) if parts else array()
    return response(struct.pack(">ihi", 0, 0, 9) + topics, correlation)


CONTEXT = (("x-other", b"1"), ("TraceParent", TRACE.encode()), ("b3", b"0"))
TWO = batch(record(headers=CONTEXT), record(headers=CONTEXT))
CLASSIC: Script = [
    (CLIENT, request(18, 0, b"")),
    (SERVER, response(struct.pack(">h", 0) + array(struct.pack(">hhh", 0, 0, 9)))),
    (CLIENT, produce(TWO) + request(3, 1, array(text("a"), text("b")), 8)),
    (
        SERVER,
        produced() + response(array() + struct.pack(">i", 1) + array(struct.pack(">h", 3) + text("a") + b"\0" + array()), 8),
    ),
    (CLIENT, fetch("orders")),
    (SERVER, fetched(TWO, batch(record(), record(), record(), attributes=4))),
]
FLEXIBLE: Script = [
    (CLIENT, request(18, 3, compact(b"librdkafka") + compact(b"2.5") + b"\0")),
    (SERVER, response(struct.pack(">h", 0) + compact_array(struct.pack(">hhh", 0, 0, 9) + b"\0") + bytes(4) + b"\0")),
    (CLIENT, request(3, 12, compact_array(bytes(16) + compact(b"orders") + b"\0") + b"\1\1\0", 8)),
    (
        SERVER,
        response(
            b"\0"  # tagged fields of the header
            + bytes(4)
            + compact_array(struct.pack(">i", 1) + compact(b"host") + struct.pack(">i", 9092) + b"\0\0")
            + compact(b"cluster")
            + bytes(4)
            + compact_array(struct.pack(">h", 0) + compact(b"orders") + ID + b"\0" + compact_array() + bytes(4) + b"\0")
            + b"\1\0\3abc",  # a tagged field that nobody here knows
            8,
        ),
    ),
    (
        CLIENT,
        request(
            1,
            13,
            struct.pack(">iiiibii", -1, 500, 1, 1, 0, 0, -1)
            + compact_array(ID + compact_array(struct.pack(">iiqiqi", 0, -1, 40, -1, -1, 9) + b"\0") + b"\0")
            + b"\1\1\0",
        ),
    ),
    (
        SERVER,
        response(
            b"\0"
            + struct.pack(">ihi", 0, 0, 0)
            + compact_array(
                ID
                + compact_array(struct.pack(">ihqqq", 0, 0, 9, 9, 0) + b"\1" + struct.pack(">i", -1) + compact(TWO) + b"\0")
                + b"\0"
            )
            + b"\0"
        ),
    ),
]
SASL: Script = [
    (CLIENT, request(17, 0, text("SCRAM-SHA-256"))),
    (SERVER, response(struct.pack(">h", 0) + array(text("SCRAM-SHA-256")))),
    (CLIENT, sized(b"n,,n=alice,r=secret")),
    (SERVER, sized(b"r=secret,s=salt,i=4096")),
    (CLIENT, sized(b"c=biws,r=secret,p=proof")),
    (SERVER, sized(b"")),
    (CLIENT, request(3, 1, array(text("orders")), 8)),
    (SERVER, response(array() + struct.pack(">i", 1) + array(), 8)),
    (CLIENT, request(36, 1, sized(b"\0alice\0secret"), 9)),
    (SERVER, response(struct.pack(">h", 58) + text("no") + sized(b"") + bytes(8), 9)),
]
SCRIPTS = {"classic": CLASSIC, "flexible": FLEXIBLE, "sasl": SASL}


def asked(data: bytes, setup: Setup = PLAIN) -> Message:
    (one,) = run(PROTOCOL, [(CLIENT, data)], setup).of(CLIENT)
    return one


def answered(question: bytes, data: bytes) -> Message:
    (one,) = run(PROTOCOL, [(CLIENT, question), (SERVER, data)]).of(SERVER)
    return one


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_every_delivery_gives_the_same_messages(script: Script) -> None:
    assert len(check(PROTOCOL, script).messages) == sum(
        2 if data == CLASSIC[2][1] or data == CLASSIC[3][1] else 1 for _, data in script
    )


test_damage_is_survived = damage(PROTOCOL, SCRIPTS)
test_bytes_of_no_protocol_are_survived = foreign_bytes(PROTOCOL)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(set(schema.APIS) - {schema.SASL_HANDSHAKE})),
    st.integers(0, 18),
    st.binary(max_size=120),
    st.binary(max_size=120),
)
def test_any_body_is_survived_and_ends_by_its_size(key: int, version: int, body: bytes, answer: bytes) -> None:
    script = [(CLIENT, request(key, version, body) * 2), (SERVER, response(b"\0" + answer) + response(b"\0" + answer, 99))]
    came = run(PROTOCOL, script)
    assert [one.correlation for one in came.of(CLIENT)] == [7, 7]
    assert [one.correlation for one in came.of(SERVER)] == [7, 99]


# What a message says


@pytest.mark.parametrize(
    ("records", "why_not"),
    [
        pytest.param(batch(record(headers=CONTEXT), record()), "several", id="of several callers"),
        pytest.param(batch(b"\x1f\x8b", attributes=1, count=5), "compressed", id="compressed"),
    ],
)
def test_a_message_whose_records_have_no_context_in_common_says_so(records: bytes, why_not: str) -> None:
    (one,) = run(PROTOCOL, [(CLIENT, produce(records))]).of(CLIENT)
    assert (one.propagation, one.attributes["clovisor.trace_context"]) == ({}, why_not)


def test_produce_and_its_response() -> None:
    said = run(PROTOCOL, CLASSIC)
    assert said.of(CLIENT)[1] == Message(
        kind=Kind.REQUEST,
        operation="Produce",
        resource="orders",
        attributes={
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.client.id": "app-1",
            "messaging.destination.name": "orders",
            "messaging.destination.partition.id": "2",
            "messaging.batch.message_count": 2,
            "clovisor.kafka.api_version": 7,
        },
        propagation={"traceparent": TRACE, "b3": "0"},
        correlation=7,
    )
    assert said.of(SERVER)[1] == Message(
        kind=Kind.RESPONSE, status="NONE", attributes={"messaging.kafka.offset": 41}, correlation=7
    )


def test_fetch_and_its_response() -> None:
    question, answer = run(PROTOCOL, CLASSIC).of(CLIENT)[3], run(PROTOCOL, CLASSIC).of(SERVER)[3]
    assert (question.operation, question.resource) == ("Fetch", "orders")
    assert question.attributes["messaging.kafka.offset"] == 40
    assert question.attributes["messaging.operation.type"] == "receive"
    assert answer.status == "NONE"
    assert answer.attributes == {"messaging.batch.message_count": 5}  # compressed or not


def test_a_topic_known_by_its_id_has_its_name() -> None:
    assert [one.resource for one in run(PROTOCOL, FLEXIBLE).of(CLIENT)] == ["", "orders", "orders"]


def test_a_topic_id_that_was_never_named_is_shown_as_kafka_prints_it() -> None:
    assert asked(FLEXIBLE[4][1]).resource == ID_TEXT  # type: ignore[arg-type]


def test_metadata_names_topics_for_other_connections_too() -> None:
    setup = Setup(memory={})
    first, second = PROTOCOL.parser(setup), PROTOCOL.parser(setup)
    for sender, data in FLEXIBLE[:4]:
        first.parse(sender, Cursor(data))  # type: ignore[arg-type]
    found = second.parse(CLIENT, Cursor(FLEXIBLE[4][1]))  # type: ignore[arg-type]
    assert found is not None and found.resource == "orders"


def test_the_oldest_topic_id_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "MAX_TOPIC_IDS", 1)
    other = FLEXIBLE[3][1].replace(b"orders", b"others").replace(ID, ID[::-1])  # type: ignore[union-attr]
    script = [*FLEXIBLE[2:4], FLEXIBLE[2], (SERVER, other), FLEXIBLE[4]]
    assert run(PROTOCOL, script).of(CLIENT)[-1].resource == ID_TEXT


def test_fetching_by_session_names_its_topics_in_the_response() -> None:
    answer = answered(fetch(), fetched(TWO))
    assert answer.resource == "orders"
    assert answer.attributes["messaging.destination.name"] == "orders"


def test_a_group_is_the_resource_where_there_is_no_topic() -> None:
    one = asked(request(11, 5, text("billing") + bytes(8) + text("") + text(None) + text("consumer") + array()))
    assert (one.operation, one.resource) == ("JoinGroup", "billing")
    assert one.attributes["messaging.consumer.group.name"] == "billing"
    assert one.attributes["messaging.operation.name"] == "join_group"


def test_an_offset_commit_is_about_a_topic_and_names_its_group() -> None:
    part = struct.pack(">iqi", 0, 17, -1) + text("meta")
    one = asked(request(8, 7, text("billing") + bytes(4) + text("m") + text(None) + array(text("orders") + array(part))))
    assert one.resource == "orders"
    assert one.attributes["messaging.consumer.group.name"] == "billing"
    assert one.attributes["messaging.kafka.offset"] == 17
    assert one.attributes["messaging.operation.type"] == "settle"


def test_many_topics_are_sorted_and_cut() -> None:
    few = asked(request(3, 1, array(text("b"), text("a"), text("b"))))
    assert few.resource == "a,b"
    assert "messaging.destination.name" not in few.attributes
    many = asked(request(3, 1, array(*(text(f"t{n}") for n in range(steps.MAX_NAMES + 5)))))
    assert many.resource == "t0,t1,t2,t3,t4,t5,t6,t7," + message.MORE


def test_transactions_are_called_by_their_id() -> None:
    assert asked(request(22, 1, text("payments") + bytes(4))).resource == "payments"
    assert asked(request(26, 1, text("payments") + bytes(11))).resource == "payments"


def test_produce_without_acknowledgement_is_one_way_and_waits_for_nothing() -> None:
    parser = kafka.KafkaParser(PLAIN)
    one = parser.parse(CLIENT, Cursor(produce(TWO, acks=0)))
    assert one is not None
    assert one.kind is Kind.ONE_WAY
    assert not parser._pending


@pytest.mark.parametrize(
    ("question", "answer", "status"),
    [
        (produce(TWO), produced(6, -1), "NOT_LEADER_OR_FOLLOWER"),
        (produce(TWO), produced(-1, -1), "UNKNOWN_SERVER_ERROR"),
        (produce(TWO), produced(30000, -1), "30000"),
        (fetch("orders"), fetched(b"", error=1), "OFFSET_OUT_OF_RANGE"),
        (request(12, 1, text("g") + bytes(4) + text("m")), response(struct.pack(">ih", 0, 27)), "REBALANCE_IN_PROGRESS"),
        (
            request(13, 4, compact(b"g") + compact_array(b"\1\0\0") + b"\0"),
            response(b"\0" + bytes(6) + compact_array(b"\1\0" + struct.pack(">h", 25) + b"\0") + b"\0"),
            "UNKNOWN_MEMBER_ID",
        ),
        (request(18, 4, b"\1\1\0"), response(struct.pack(">h", 35) + array()), "UNSUPPORTED_VERSION"),
        (request(18, 9, b"\1\1\0"), response(struct.pack(">h", 35) + array()), "UNSUPPORTED_VERSION"),
    ],
)
def test_an_error_is_found_wherever_it_is(question: bytes, answer: bytes, status: str) -> None:
    one = answered(question, answer)
    assert (one.status, one.error) == (status, True)
    assert one.attributes["error.type"] == status


# What is not known is not said


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        pytest.param(request(12, 5, b"\2g" + bytes(9)), response(bytes(9)), id="a version newer than known"),
        pytest.param(request(500, 0, b""), response(bytes(9)), id="an API that is not known"),
        pytest.param(produce(TWO), response(array(text("orders") + b"\0\0\0\7")), id="a body that ends too early"),
    ],
)
def test_no_status_where_it_cannot_be_read(question: bytes, answer: bytes) -> None:
    one = answered(question, answer)
    assert (one.kind, one.status, one.error, one.attributes) == (Kind.RESPONSE, "", False, {})


def test_an_unknown_api_is_its_number_and_says_so() -> None:
    one = asked(request(500, 2, b"anything"))
    assert (one.operation, one.resource) == ("500 (unknown API)", "")
    assert one.attributes["messaging.client.id"] == "app-1"


def test_a_response_without_its_request_has_no_status() -> None:
    (one,) = run(PROTOCOL, [(SERVER, produced(6))]).of(SERVER)
    assert (one.correlation, one.status, one.error) == (7, "", False)


def test_bytes_behind_the_last_field_change_nothing() -> None:
    question = request(12, 1, text("g") + bytes(4) + text("m"))
    assert answered(question, response(bytes(6) + b"more")).status == "NONE"


def test_nothing_private_is_ever_told() -> None:
    for script in (*SCRIPTS.values(), [(CLIENT, produce(batch(record(b"secret", b"secret"))))]):
        for _, one, _ in run(PROTOCOL, script, Setup(OFF)).messages:
            assert "secret" not in repr(one)
            assert "proof" not in repr(one)


def test_bare_tokens_are_shown_as_what_replaced_them() -> None:
    said = run(PROTOCOL, SASL)
    tokens = [one for one in said.of(CLIENT) if one.operation == "SaslAuthenticate"]
    assert [one.correlation for one in tokens] == ["token 1", "token 2", 9]
    assert [one.correlation for one in said.of(SERVER)] == [7, "token 1", "token 2", 8, 9]
    assert said.of(SERVER)[-1].status == "SASL_AUTHENTICATION_FAILED"
    assert said.of(CLIENT)[0].resource == "SCRAM-SHA-256"


def test_a_plain_token_is_no_request() -> None:
    script = [*SASL[:2], (CLIENT, sized(b"\0alice\0secret")), (SERVER, sized(b"")), *SASL[6:8]]
    assert [one.operation for one in run(PROTOCOL, script).of(CLIENT)] == ["SaslHandshake", "SaslAuthenticate", "Metadata"]


# Size, loss, limits


def test_a_large_fetch_is_stepped_over_and_counted() -> None:
    big = batch(record(bytes(200_000)), record())
    head, body = (answer := fetched(big, big))[:120], answer[120:]
    seen = check_skip(PROTOCOL, [(CLIENT, fetch("orders")), (SERVER, head), (SERVER, body)])
    assert seen.attributes["messaging.batch.message_count"] == 4


def check_skip(protocol: object, script: Script) -> Message:
    (one,) = run(PROTOCOL, script).of(SERVER)
    return one


def test_a_record_is_stepped_over_though_nobody_sees_it() -> None:
    value = bytes(100_000)
    data = produce(batch(record(value, headers=CONTEXT)))
    at = data.index(value) + 40
    script: Script = [(CLIENT, data[:at]), (CLIENT, 90_000), (CLIENT, data[at + 90_000 :])]
    (one,) = run(PROTOCOL, script).of(CLIENT)
    assert one.attributes["messaging.batch.message_count"] == 1
    assert one.propagation["traceparent"] == TRACE


def test_a_gap_in_the_fields_is_stepped_over_by_length() -> None:
    parser = kafka.KafkaParser(PLAIN)
    data, question = (
        request(3, 1, array(*(text(f"topic-{n}") for n in range(9)))),
        request(12, 1, text("g") + bytes(4) + text("m"), 8),
    )
    cursor = Cursor(data[:40])
    assert parser.parse(CLIENT, cursor) is None
    assert parser.gap(CLIENT, 30)
    cursor = Cursor(data[70:] + question)
    one = parser.parse(CLIENT, cursor)
    assert one is not None
    assert (one.operation, cursor.pos) == ("Metadata", len(data) - 70)
    assert "messaging.destination.name" not in one.attributes
    two = parser.parse(CLIENT, cursor)
    assert two is not None
    assert two.operation == "Heartbeat"


def test_a_gap_that_hides_an_error_hides_the_status() -> None:
    parser = kafka.KafkaParser(PLAIN)
    parser.parse(CLIENT, Cursor(produce(TWO)))
    answer = produced(6)
    parser.parse(SERVER, Cursor(answer[:20]))
    assert parser.gap(SERVER, len(answer) - 20)
    one = parser.end(SERVER)
    assert one is not None
    assert (one.status, one.error, one.incomplete) == ("", False, False)


def test_a_gap_between_or_beyond_messages_is_not_stepped_over() -> None:
    parser = kafka.KafkaParser(PLAIN)
    assert not parser.gap(CLIENT, 1)
    data = produce(TWO)
    parser.parse(CLIENT, Cursor(data[:30]))
    assert not parser.gap(CLIENT, len(data))


def test_what_the_connection_cut_short_is_told_as_incomplete() -> None:
    (one,) = run(PROTOCOL, [(CLIENT, produce(TWO)[:-5])]).of(CLIENT)
    assert (one.operation, one.resource, one.incomplete) == ("Produce", "orders", True)
    (one,) = run(PROTOCOL, [(CLIENT, produce(batch(record(headers=CONTEXT), record(headers=CONTEXT)))[:-20])]).of(CLIENT)
    assert (one.propagation, one.attributes["clovisor.trace_context"]) == ({}, "partly seen")


def test_what_was_lost_may_have_named_more() -> None:
    """A topic is told where no other can be hidden, and a group only where no topic can."""
    parts = array(*(struct.pack(">i", n) + sized(batch(record())) for n in range(3)))
    head = text(None) + struct.pack(">hi", 1, 100)
    one, two = (request(0, 7, head + array(*(text(name) + parts for name in names))) for names in (("a",), ("a", "b")))
    commit = request(8, 2, text("billing") + bytes(4) + text("m") + bytes(8) + array(text("a") + array()))
    for data, seen, resource in ((one, 110, "a"), (two, 110, ""), (two, len(two) - 20, "a,b"), (commit, 30, "")):
        (cut,) = run(PROTOCOL, [(CLIENT, data[:seen]), (CLIENT, len(data) - seen)]).of(CLIENT)
        assert (cut.resource, "messaging.destination.partition.id" in cut.attributes) == (resource, False)


def test_the_way_back_after_a_loss() -> None:
    data = request(12, 1, text("g") + bytes(4) + text("m"), 8)
    script: Script = [(CLIENT, produce(TWO)), (CLIENT, 50), (CLIENT, b"end of something\0\0" + data)]
    assert [one.operation for one in run(PROTOCOL, script).of(CLIENT)] == ["Produce", "Heartbeat"]
    script = [(CLIENT, produce(TWO)), (SERVER, 50), (SERVER, b"\x20end of something\0\0" + produced(6))]
    assert [one.status for one in run(PROTOCOL, script).of(SERVER)] == ["NOT_LEADER_OR_FOLLOWER"]


@pytest.mark.parametrize(
    ("sender", "data"),
    [
        (CLIENT, b"GET / HTTP/1.1\r\n\r\n"),
        (CLIENT, struct.pack(">i", 7)),
        (CLIENT, struct.pack(">ihhi", 20, -1, 0, 0)),
        (CLIENT, struct.pack(">ihhi", 20, 0, 64, 0)),
        (SERVER, b"HTTP/1.1 200 OK\r\n\r\n"),
        (SERVER, struct.pack(">ii", 3, 1)),
        (SERVER, struct.pack(">ii", 30, 1) + b"{json}"),
    ],
)
def test_what_is_not_kafka_is_refused(sender: int, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        kafka.KafkaParser(PLAIN).parse(sender, Cursor(data))


def test_requests_that_are_never_answered_are_forgotten() -> None:
    parser = kafka.KafkaParser(PLAIN)
    for n in range(kafka.MAX_PENDING + 10):
        parser.parse(CLIENT, Cursor(request(12, 1, text("g") + bytes(4) + text("m"), n)))
    assert len(parser._pending) == kafka.MAX_PENDING
    assert next(iter(parser._pending)) == 10


def test_a_message_of_too_many_elements_is_looked_at_in_part() -> None:
    many = array(*(text(f"t{n}") for n in range(steps.MAX_ITEMS + 100)))
    one = asked(request(3, 1, many))
    assert one.resource.endswith(message.MORE)
    failed = array(*(struct.pack(">h", 0) + text("t") + b"\0" + array() for _ in range(steps.MAX_ITEMS + 100)))
    assert answered(request(3, 1, array()), response(array() + bytes(4) + failed)).status == ""
