"""PostgreSQL is recognised from its first packet and from its middle, and nothing else is taken for it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.protocols import _pg_messages as pg
from clovisor_py.protocols._api import Evidence
from clovisor_py.protocols._pg_evidence import WRONG, points, recognise
from tests.protocols import test_postgresql as wire
from tests.protocols.test_postgresql import bind, columns, done, execute, failed, parse, query, row, typed, untyped

YES = {CLIENT: Evidence.REQUEST, SERVER: Evidence.RESPONSE}
DOUBT = (Evidence.MORE, Evidence.NO)


@pytest.mark.parametrize("script", wire.SCRIPTS.values(), ids=wire.SCRIPTS.keys())
def test_every_turn_is_recognised_or_leaves_a_doubt_and_no_cut_is_wrong(script: wire.Script) -> None:
    sure = 0
    for sender, data in script:
        assert isinstance(data, bytes)
        whole = recognise(data[:4096])
        assert whole in (YES[sender], Evidence.MORE)
        sure += whole is YES[sender]
        for end in range(len(data)):
            assert recognise(data[:end]) in (YES[sender], Evidence.MORE), data[:end]
    assert sure >= len(script) // 2


@pytest.mark.parametrize(
    ("sender", "data"),
    [
        (CLIENT, wire.STARTUP),
        (CLIENT, untyped(0x30002, b"user\0joe\0_pq_.x\0y\0\0")),
        (CLIENT, untyped(pg.SSL_REQUEST)),
        (CLIENT, untyped(pg.GSS_REQUEST)),
        (CLIENT, untyped(pg.CANCEL_REQUEST, bytes(8))),
        (CLIENT, query(b"asdsdfdsf;")),
        (CLIENT, query("SELECT 'straße'".encode()) + query(b"SELECT 1")[:7]),
        (CLIENT, parse(b"SELECT 1") + bind()[:3]),
        (CLIENT, bind(b"s1", b"", b"a", b"b") + execute() + wire.SYNC),
        (CLIENT, typed(b"p", b"SCRAM-SHA-256\0\0\0\0\1x")),
        (SERVER, columns(b"id") + row(b"1")),
        (SERVER, done(b"INSERT 0 1") + wire.READY),
        (SERVER, failed()),
        (SERVER, wire.NOTICE),
        (SERVER, wire.PARSED + wire.BOUND + wire.NO_ROWS),
        (SERVER, wire.CLOSED + wire.READY),
        (SERVER, wire.AUTH_OK + wire.SETTING),
        (SERVER, b"N" + wire.AUTH_OK + wire.SETTING),
        (SERVER, wire.SASL),
        (SERVER, wire.COPY_OUT + typed(b"d", b"x") * 2 + wire.COPY_DONE + done(b"COPY 2")),
        (SERVER, typed(b"t", b"\0\1\0\0\0\x17") + columns() + wire.READY),
        (SERVER, wire.NOTIFY + wire.READY),
    ],
)
def test_yes(sender: int, data: bytes) -> None:
    assert recognise(data) is YES[sender]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"S",
        b"N",
        b"\0",
        b"\0\0\0\x20\0",
        wire.SYNC,
        wire.READY,
        query(b""),
        typed(b"p", b"hunter2\0"),
        wire.COPY_DONE,
        typed(b"C", b"SSTMT\0"),
        execute() + wire.SYNC,
        query(b"SELECT 1" * 1000)[:4096],
        typed(b"d", b"\x16\x03\x01" * 9),
    ],
)
def test_doubt(data: bytes) -> None:
    assert recognise(data) is Evidence.MORE


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\x1b\0\3\0\0\0\0\0\1\0\x0bclient-name\0\0\0\1",  # Kafka: Metadata, version 0
        b"\x51\0\0\0\x03SELECT 1",  # MySQL: a query of 81 bytes
        b"\x51\0\0\0\x16SELECT * FROM t WHERE a = ?",  # MySQL: prepare
        b"\x45\0\0\0\x09\0\0\0\0\0\0\0\xdd\x07\0\0",  # MongoDB: 69 bytes, request 9
        b"\x42\0\0\0\x0c\0\0\0\0\0\0\0\xdd\x07\0\0",
        b"\x5a\0\0\0\x05I\0\0\0\0\0\0\xdd\x07\0\0",
        b"AMQP\0\0\x09\x01",
        b"INFO {}\r\n",
        b"STORED\r\n",
        untyped(0x20000, b"user\0joe\0\0"),
        untyped(0x30000, b"database\0joe\0\0"),
        untyped(0x30000, b"user\0joe\0"),
        untyped(0x30000, b"\0\0\0\7user\0x\0\0"),
        untyped(pg.SSL_REQUEST, b"x"),
        untyped(pg.CANCEL_REQUEST),
        struct.pack(">II", 7, pg.SSL_REQUEST),
        query(b"SELECT \x01"),
        query(b"SELECT 1")[:-1] + b"!",
        query(b"SELECT 1") + b"!",
        parse(b"SELECT 1")[:-1] + b"\1",
        typed(b"Z", b"X"),
        typed(b"C", b"select 1\0"),
        typed(b"T", b"\0\1a\0"),
        typed(b"T", b"\xff\xff"),
        typed(b"T", b"\0\1abc"),
        typed(b"D", b"\0\1\0\0\0\5abc"),
        typed(b"D", b"\0\1\0"),
        typed(b"E", b"XERROR\0\0"),
        typed(b"R", b"\0\0\0\x63"),
        typed(b"K", b"x"),
        typed(b"S", b"=\0\0"),
        typed(b"G", b"\2\0\0"),
        typed(b"A", b"\0\0\0\1\0\0"),
        typed(b"t", b"\0\2\0\0\0\0"),
        typed(b"B", b"\0\0\0\0\0\1\0\0"),
        b"B\0\0\0\x08\0\0\xff\xff",
        b"B\0\0\0\x06x\x01",
    ],
)
def test_no(data: bytes) -> None:
    assert recognise(data) is Evidence.NO
    for end in range(len(data)):
        assert recognise(data[:end]) in DOUBT or data[:end].startswith(
            (query(b"SELECT 1"), untyped(pg.SSL_REQUEST)[:4] + b"\4")
        )


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    assert recognise(data) in DOUBT


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(pg.CLIENT_MESSAGES | pg.SERVER_MESSAGES)), st.binary(max_size=60))
def test_a_type_and_a_length_are_not_enough(kind: int, body: bytes) -> None:
    for sender in (CLIENT, SERVER):
        assert points(sender, typed(bytes([kind]), b"\1" + body)) <= 1


def test_a_message_of_the_other_end_is_wrong() -> None:
    assert points(SERVER, query(b"SELECT 1")) == WRONG
    assert points(CLIENT, columns(b"id")) == WRONG
    assert points(CLIENT, b"") == 0
