"""What is taken for Kafka, and what is not: conservative, from any beginning, cut anywhere."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.protocols import _kafka_recognise as evidence
from clovisor_py.protocols._api import Evidence
from clovisor_py.protocols._kafka_recognise import recognise
from tests.protocols.test_kafka import (
    CLASSIC,
    FLEXIBLE,
    SASL,
    TWO,
    array,
    compact,
    fetched,
    produce,
    produced,
    request,
    response,
    text,
)

NO, MORE, REQUEST, RESPONSE = Evidence.NO, Evidence.MORE, Evidence.REQUEST, Evidence.RESPONSE

REQUESTS = [data for script in (CLASSIC, FLEXIBLE) for sender, data in script if sender == 0]
ANSWERS = [data for script in (CLASSIC, FLEXIBLE) for sender, data in script if sender == 1]
NULL_CLIENT = request(3, 1, array(text("orders")), client=None)

OTHERS = {
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1 response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\4\0\0\0\0\0",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "ZMTP, its text read as a client id": b"\1\1\xff\0\0\0\0\0\0\2\x1c\0The quick brown fox" + b" jumps over the dog" * 30,
    "HTTP/2 data, its text read as a client id": b"\0\0\x40\0\0\0\0\0\0\0\0\1" + b"a" * 600,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40),
    "PostgreSQL start": b"\0\0\0\x54\0\3\0\0user\0postgres\0database\0shop\0application_name\0psql\0client_encoding\0UTF8\0\0",
    "PostgreSQL wants TLS": b"\0\0\0\x08\x04\xd2\x16\x2f",
    "PostgreSQL cancels": b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\7\0\0\0\x09",
    "MySQL greeting": b"\x4a\0\0\0\x0a8.0.36\0" + bytes(40),
    "MongoDB": b"\x3a\0\0\0\1\0\0\0\0\0\0\0\xdd\x07\0\0" + bytes(40),
    "RocketMQ": b'\0\0\1\x0a\0\0\0\xf2{"code":105,"flag":0,"language":"JAVA","opaque":0,"version":401}',
    "AMQP": b"AMQP\0\0\x09\1",
    "AMQP frame": b"\1\0\0\0\0\0\5\0\x0a\0\x0b\0\xce",
    "Dubbo": b"\xda\xbb\xc2\0" + bytes(20),
    "ZooKeeper connects": struct.pack(">iiqiq", 45, 0, 0, 30000, 0) + struct.pack(">i", 16) + bytes(17),
    "ZooKeeper reads": struct.pack(">iiii", 17, 1, 4, 4) + b"/abc\0",
    "ZooKeeper pings": struct.pack(">iii", 8, -2, 11),
    "Thrift": b"\0\0\0\x20\x80\1\0\1\0\0\0\4ping\0\0\0\1\0",
    "Cassandra": b"\4\0\0\0\1\0\0\0\x16\0\1\0\x0bCQL_VERSION\0\x053.0.0",
    "zeros": bytes(64),
    "text": b"0123456789" * 9,
}


@pytest.mark.parametrize("data", [*REQUESTS, NULL_CLIENT, request(18, 0, b"", client=None)])
def test_a_request_says_so_itself(data: bytes) -> None:
    assert recognise(data) is REQUEST
    assert recognise(data + b"\0\0\0") is REQUEST
    said = [recognise(data[:end]) for end in range(len(data))]
    assert NO not in said
    assert said == sorted(said, key=[MORE, REQUEST].index), "never taken back"


@pytest.mark.parametrize("data", ANSWERS)
def test_a_response_alone_is_no_evidence_and_no_objection(data: bytes) -> None:
    assert {recognise(data[:end]) for end in range(len(data) + 1)} <= {MORE, RESPONSE}


def test_most_responses_are_only_no_objection() -> None:
    assert recognise(produced()) is MORE
    assert recognise(fetched(TWO)) is MORE
    assert recognise(produced() + fetched(TWO)) is MORE
    assert recognise(produced() + b"\r\n") is NO


def test_the_first_response_of_most_connections_is_unlike_anything_else() -> None:
    versions = [struct.pack(">hhh", key, 0, newest) for key, newest in ((0, 9), (1, 17), (2, 7))]
    assert recognise(response(b"\0\0" + array(*versions))) is RESPONSE
    assert recognise(response(b"\0\0\4" + b"".join(one + b"\0" for one in versions) + bytes(5))) is RESPONSE


@pytest.mark.parametrize("data", OTHERS.values(), ids=OTHERS.keys())
def test_other_protocols_are_not_taken_for_it(data: bytes) -> None:
    assert {recognise(data[:end]) for end in range(len(data) + 1)} <= {NO, MORE}


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_not_taken_for_it(data: bytes) -> None:
    assert recognise(data) in (NO, MORE)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request(93, 0, b""), id="an API that is not known"),
        pytest.param(request(0, 40, b""), id="a version that is not"),
        pytest.param(request(12, 1, text("g") + bytes(4) + text("m") + b"?"), id="a body that does not fit"),
        pytest.param(request(12, 1, text("g") + bytes(4) + text("m"), client="app\x01"), id="a client id that is no text"),
        pytest.param(request(12, 1, text("g") + bytes(4) + text("m"), correlation=-5), id="a negative correlation id"),
    ],
)
def test_what_is_almost_a_request(data: bytes) -> None:
    assert evidence.request(data) is NO
    assert recognise(data) in (NO, MORE)


def test_versions_that_were_added_since_are_known_by_their_header() -> None:
    assert recognise(request(0, 15, b"who knows")) is REQUEST


def test_a_large_request_is_known_by_its_beginning() -> None:
    assert recognise(produce(bytes(100_000))[:4096]) is REQUEST


def test_a_request_is_found_in_the_middle_of_other_bytes() -> None:
    data = request(12, 1, text("g") + bytes(4) + text("m"))
    assert evidence.find_request(data) == 0
    assert evidence.find_request(b"\xff rest of a value" + data) == 17
    assert evidence.find_request(b"\xff nothing here" * 20) is None


def test_a_response_is_found_by_the_requests_that_wait() -> None:
    data = produced(6)
    assert evidence.find_response(data, {7: None}) == 0
    assert evidence.find_response(b"\xff rest of a value" + data, {5: None, 7: None}) == 17
    assert evidence.find_response(b"\xff rest of a value" + data, {5: None}) is None
    assert evidence.find_response(data, {}) == 0
    assert evidence.find_response(b"\xff" * 50, {7: None}) is None
    assert evidence.find_response(b"\xff" * 3, {7: None}) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_searching_any_bytes(data: bytes) -> None:
    for found in (evidence.find_request(data), evidence.find_response(data, {0: None, 7: None, -1: None})):
        assert found is None or 0 <= found <= len(data)


def test_half_of_a_bare_token_may_still_be_a_request() -> None:
    token = SASL[2][1]
    assert isinstance(token, bytes)
    assert evidence.request(token) is NO
    assert evidence.request(token[:4]) is MORE
    assert evidence.request(compact(b"")) is MORE
