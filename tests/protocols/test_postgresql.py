"""PostgreSQL's protocol 3: what a session says, whose answer is whose, and every delivery TCP can think of."""

from __future__ import annotations

import struct

import pytest

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols import _pg_messages as pg
from clovisor_py.protocols import _pg_names, _sql
from clovisor_py.protocols._api import Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._redaction import OFF, STRICT
from clovisor_py.protocols.postgresql import PROTOCOL
from tests.support.parser_contract import damage, every_delivery, foreign_bytes
from tests.support.parser_harness import PLAIN, Run, Script, check, run


def typed(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def untyped(version: int, body: bytes = b"") -> bytes:
    return struct.pack(">II", len(body) + 8, version) + body


def query(text: bytes) -> bytes:
    return typed(b"Q", text + b"\0")


def parse(text: bytes, name: bytes = b"", types: int = 0) -> bytes:
    return typed(b"P", name + b"\0" + text + b"\0" + struct.pack(">H", types) + bytes(4 * types))


def bind(name: bytes = b"", portal: bytes = b"", *values: bytes) -> bytes:
    body = b"".join(struct.pack(">i", len(value)) + value for value in values)
    return typed(b"B", portal + b"\0" + name + b"\0\0\0" + struct.pack(">H", len(values)) + body + b"\0\1\0\1")


def execute(portal: bytes = b"", rows: int = 0) -> bytes:
    return typed(b"E", portal + b"\0" + struct.pack(">I", rows))


def row(*values: bytes) -> bytes:
    return typed(b"D", struct.pack(">H", len(values)) + b"".join(struct.pack(">i", len(value)) + value for value in values))


def done(tag: bytes) -> bytes:
    return typed(b"C", tag + b"\0")


def failed(code: bytes = b"42P01", text: bytes = b"no such thing", severity: bytes = b"ERROR") -> bytes:
    return typed(b"E", b"S%b\0V%b\0C%b\0M%b\0\0" % (severity, severity, code, text))


def columns(*names: bytes) -> bytes:
    return typed(b"T", struct.pack(">H", len(names)) + b"".join(name + b"\0" + bytes(18) for name in names))


STARTUP = untyped(0x30000, b"user\0joe\0database\0shop\0application_name\0psql\0\0")
AUTH_OK, SASL = typed(b"R", bytes(4)), typed(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")
SYNC, FLUSH, DESCRIBE, DESCRIBE_NAMED = typed(b"S"), typed(b"H"), typed(b"D", b"P\0"), typed(b"D", b"Ss1\0")
PARSED, BOUND, CLOSED, NO_ROWS, SUSPENDED, EMPTY = (typed(kind) for kind in (b"1", b"2", b"3", b"n", b"s", b"I"))
READY = typed(b"Z", b"I")
NOTICE = typed(b"N", b"SNOTICE\0C00000\0Mhello\0\0")
SETTING = typed(b"S", b"TimeZone\0UTC\0")
NOTIFY = typed(b"A", b"\0\0\0\1orders\0secret payload\0")
COPY_IN, COPY_OUT = typed(b"G", b"\0\0\1\0\0"), typed(b"H", b"\0\0\1\0\0")
COPY_DONE = typed(b"c")
GREETING = AUTH_OK + SETTING + typed(b"K", bytes(8)) + READY
TWO_ROWS = columns(b"id") + row(b"1") + row(b"2")

SIMPLE: Script = [
    (CLIENT, query(b"SELECT id FROM users WHERE name = 'bob'")),
    (SERVER, TWO_ROWS + done(b"SELECT 2") + READY),
    (CLIENT, query(b"DROP TABLE IF EXISTS s.t")),
    (SERVER, NOTICE + done(b"DROP TABLE") + READY),
    (CLIENT, query(b"INSERT INTO t VALUES (1) RETURNING id")),
    (SERVER, columns(b"id") + row(b"1") + done(b"INSERT 0 1") + READY),
    (CLIENT, query(b"")),
    (SERVER, EMPTY + READY),
    (CLIENT, query(b"BEGIN; UPDATE t SET a=1; COMMIT")),
    (SERVER, done(b"BEGIN") + done(b"UPDATE 7") + done(b"COMMIT") + READY),
    (CLIENT, query(b"nonsense")),
    (SERVER, failed(b"42601") + READY),
]
LOGIN: Script = [
    (CLIENT, untyped(pg.GSS_REQUEST)),
    (SERVER, b"N"),
    (CLIENT, untyped(pg.SSL_REQUEST)),
    (SERVER, b"N"),
    (CLIENT, STARTUP),
    (SERVER, typed(b"v", b"\0\0\0\0\0\0\0\0") + SASL),
    (CLIENT, typed(b"p", b"SCRAM-SHA-256\0\0\0\0\x05n,,n=")),
    (SERVER, typed(b"R", b"\0\0\0\x0bsalt")),
    (CLIENT, typed(b"p", b"c=biws,s3cr3t")),
    (SERVER, typed(b"R", b"\0\0\0\x0cv=") + GREETING),
    (CLIENT, query(b"SELECT 1")),
    (SERVER, columns(b"?") + row(b"1") + done(b"SELECT 1") + READY),
    (CLIENT, typed(b"X")),
]
EXTENDED: Script = [
    (CLIENT, parse(b"SELECT * FROM users WHERE id = $1", types=1) + bind(b"", b"", b"1") + DESCRIBE + execute() + SYNC),
    (SERVER, PARSED + BOUND + columns(b"id") + row(b"1") + done(b"SELECT 1") + READY),
    (CLIENT, parse(b"UPDATE s.t SET a = $1", b"s1") + DESCRIBE_NAMED + SYNC),
    (SERVER, PARSED + typed(b"t", b"\0\0") + NO_ROWS + READY),
    (CLIENT, bind(b"s1", b"c1") + execute(b"c1", 10) + SYNC),
    (SERVER, BOUND + row(b"1") + row(b"2") + SUSPENDED + READY),
    (CLIENT, execute(b"c1") + FLUSH),
    (SERVER, row(b"3") + done(b"UPDATE 1")),
    (CLIENT, SYNC),
    (SERVER, READY),
    (CLIENT, typed(b"C", b"Ss1\0") + SYNC),
    (SERVER, CLOSED + READY),
    (CLIENT, bind(b"s1") + execute() + SYNC),
    (SERVER, failed(b"26000") + READY),
    (CLIENT, parse(b"SELEC 1") + FLUSH),
    (SERVER, failed(b"42601")),
    (CLIENT, SYNC),
    (SERVER, READY),
]
PIPELINE: Script = [
    (CLIENT, b"".join(parse(b"INSERT INTO t%d VALUES ($1)" % at) + bind() + DESCRIBE + execute() for at in range(4)) + SYNC),
    (CLIENT, parse(b"SELECT 2") + bind() + execute() + SYNC + SYNC),
    (SERVER, 2 * (PARSED + BOUND + NO_ROWS + done(b"INSERT 0 1")) + PARSED + failed(b"23505") + READY),
    (SERVER, PARSED + BOUND + row(b"2") + done(b"SELECT 1") + READY + READY),
    (CLIENT, query(b"COMMIT")),
    (SERVER, done(b"COMMIT") + READY),
]
COPY: Script = [
    (CLIENT, query(b"COPY t FROM STDIN")),
    (SERVER, COPY_IN),
    (CLIENT, typed(b"d", b"1\tx\n") + typed(b"d", b"2\ty\n")),
    (CLIENT, COPY_DONE),
    (SERVER, done(b"COPY 2") + READY),
    (CLIENT, query(b"COPY t TO STDOUT")),
    (SERVER, COPY_OUT + typed(b"d", b"1\tx\n") * 3 + COPY_DONE + done(b"COPY 3") + READY),
    (CLIENT, parse(b"COPY t FROM STDIN") + bind() + DESCRIBE + execute() + SYNC),
    (SERVER, PARSED + BOUND + NO_ROWS + COPY_IN),
    (CLIENT, typed(b"d", b"1\n") + typed(b"f", b"stop it\0") + SYNC),
    (SERVER, failed(b"57014") + READY),
    (CLIENT, query(b"COPY nowhere FROM STDIN")),
    (SERVER, failed() + READY),
    (CLIENT, query(b"SELECT 1 FROM t")),
    (SERVER, columns(b"?") + row(b"1") + done(b"SELECT 1") + READY),
]
SCRIPTS = {"simple": SIMPLE, "login": LOGIN, "extended": EXTENDED, "pipeline": PIPELINE, "copy": COPY}


def sessions(script: Script, setup: Setup = PLAIN) -> list[tuple[Message, Message]]:
    return paired(run(PROTOCOL, script, setup))


def paired(out: Run) -> list[tuple[Message, Message]]:
    """Requests and responses in their order: each has exactly one."""
    requests = [message for message in out.of(CLIENT) if message.kind is Kind.REQUEST]
    responses = [message for message in out.of(SERVER) if message.kind is Kind.RESPONSE]
    assert not out.violations
    assert len(requests) == len(responses)
    return list(zip(requests, responses, strict=True))


def told(script: Script) -> list[tuple[str, str, str]]:
    return [(q.operation or a.operation, q.resource, a.status) for q, a in sessions(script)]


def only(script: Script, setup: Setup = PLAIN) -> tuple[Message, Message]:
    (pair,) = sessions(script, setup)
    return pair


test_every_delivery_gives_the_same_messages = every_delivery(PROTOCOL, SCRIPTS)
test_damage_is_survived = damage(PROTOCOL, SCRIPTS)
test_bytes_of_no_protocol_are_survived = foreign_bytes(PROTOCOL)
# What a session says


def test_simple_queries() -> None:
    assert told(SIMPLE) == [
        ("SELECT", "users", "ok"),
        ("DROP", "s.t", "ok"),
        ("INSERT", "t", "ok"),
        ("QUERY", "", "ok"),
        ("BEGIN", "", "ok"),
        ("QUERY", "", "42601"),
    ]


def test_attributes_of_a_query() -> None:
    request, response = sessions(SIMPLE)[0]
    assert request == Message(
        kind=Kind.REQUEST,
        operation="SELECT",
        resource="users",
        attributes={
            "db.system.name": "postgresql",
            "db.operation.name": "SELECT",
            "db.collection.name": "users",
            "db.query.text": "SELECT id FROM users WHERE name = ?",
            "db.query.summary": "SELECT users",
        },
    )
    assert response == Message(kind=Kind.RESPONSE, operation="SELECT", status="ok", attributes={"db.response.returned_rows": 2})


def test_rows_and_batches() -> None:
    assert [answer.attributes for _, answer in sessions(SIMPLE)[1:5]] == [
        {},
        {"db.response.returned_rows": 1, "clovisor.db.affected_rows": 1},
        {},
        {"clovisor.db.affected_rows": 7, "db.operation.batch.size": 3},
    ]
    assert only([(CLIENT, query(b"SELECT 1 INTO t")), (SERVER, done(b"SELECT 5") + READY)])[1].attributes == {
        "clovisor.db.affected_rows": 5
    }
    assert only([(CLIENT, query(b"SHOW x")), (SERVER, columns(b"x") + row(b"1") + done(b"SHOW") + READY)])[1].attributes == {
        "db.response.returned_rows": 1
    }


def test_errors_tell_their_code_and_their_text_only_when_asked() -> None:
    script: Script = [(CLIENT, query(b"SELECT 'x'")), (SERVER, failed(b"22P02", b"invalid: 's3cr3t'") + READY)]
    _, response = only(script)
    assert (response.status, response.error, response.incomplete) == ("22P02", True, False)
    assert response.attributes == {"db.response.status_code": "22P02", "error.type": "22P02"}
    assert only(script, Setup(OFF))[1].attributes["clovisor.db.error.message"] == "invalid: 's3cr3t'"


def test_an_error_without_a_code_is_an_error() -> None:
    _, response = only([(CLIENT, query(b"SELECT 1")), (SERVER, typed(b"E", b"") + READY)])
    assert (response.status, response.error) == (pg.NO_CODE, True)


def test_redaction() -> None:
    script: Script = [(CLIENT, STARTUP), (SERVER, GREETING), *SIMPLE[:2]]
    off, default, strict = ([pair[0] for pair in sessions(script, setup)] for setup in (Setup(OFF), PLAIN, Setup(STRICT)))
    assert off[1].attributes["db.query.text"] == "SELECT id FROM users WHERE name = 'bob'"
    assert "bob" not in repr(default) + repr(strict)
    assert (default[1].attributes["clovisor.db.user"], "joe" in repr(strict)) == ("joe", False)
    assert "db.query.text" not in strict[1].attributes
    assert strict[1].attributes["db.query.summary"] == "SELECT users"


def test_login() -> None:
    out = run(PROTOCOL, LOGIN)
    assert [(q.operation, q.resource, a.status) for q, a in paired(out)] == [
        ("GSSENCRequest", "", "refused"),
        ("SSLRequest", "", "refused"),
        ("connect", "shop", "ok"),
        ("SELECT", "", "ok"),
    ]
    assert [message.kind for message in out.of(CLIENT)].count(Kind.INTERIM) == 2
    assert paired(out)[3][0].attributes["db.namespace"] == "shop"
    assert "s3cr3t" not in repr(out)


def test_the_database_is_the_user_s_unless_that_is_hidden() -> None:
    script: Script = [(CLIENT, untyped(0x30002, b"user\0joe\0\0")), (SERVER, GREETING)]
    assert only(script)[0].resource == "joe"
    assert only(script, Setup(STRICT))[0].resource == ""


@pytest.mark.parametrize("severity", [b"FATAL", b"FEHLER"])
def test_a_refused_login_ends_with_its_error(severity: bytes) -> None:
    script: Script = [
        (CLIENT, STARTUP),
        (SERVER, SASL),
        (CLIENT, typed(b"p", b"x")),
        (SERVER, failed(b"28P01", b"no", severity)),
    ]
    out = run(PROTOCOL, script)
    assert out.before_close == 3
    assert [(q.operation, a.status, a.error) for q, a in paired(out)] == [("connect", "28P01", True)]


@pytest.mark.parametrize(("answer", "name"), [(b"S", "tls"), (b"G", "gssapi")])
def test_encryption_hands_the_connection_over(answer: bytes, name: str) -> None:
    out = run(PROTOCOL, [(CLIENT, untyped(pg.SSL_REQUEST)), (SERVER, answer), (CLIENT, b"\x16\x03\x01")])
    assert [(message.status, message.hands_to) for message in out.of(SERVER)] == [("ok", name)]


def test_an_old_server_answers_an_ssl_request_with_an_error() -> None:
    assert told([(CLIENT, untyped(pg.SSL_REQUEST)), (SERVER, failed(b"0A000"))]) == [("SSLRequest", "", "0A000")]


def test_cancel_is_one_way() -> None:
    for key in (4, 32):
        (message,) = run(PROTOCOL, [(CLIENT, untyped(pg.CANCEL_REQUEST, bytes(4 + key)))]).of(CLIENT)
        assert (message.kind, message.operation) == (Kind.ONE_WAY, "cancel")


def test_notifications_are_one_way_wherever_they_come() -> None:
    ask = (CLIENT, query(b"NOTIFY orders"))
    script: Script = [
        (SERVER, NOTIFY),
        ask,
        (SERVER, done(b"NOTIFY") + NOTIFY + READY),
        ask,
        (SERVER, NOTIFY + done(b"NOTIFY") + READY),
    ]
    out = check(PROTOCOL, script)
    kinds = [message.kind for message in out.of(SERVER)]
    assert kinds == [Kind.ONE_WAY, Kind.RESPONSE, Kind.ONE_WAY, Kind.INTERIM, Kind.ONE_WAY, Kind.RESPONSE]
    assert {message.resource for message in out.of(SERVER) if message.kind is Kind.ONE_WAY} == {"orders"}
    assert "secret" not in repr(out)


def test_what_comes_unasked_belongs_to_no_response() -> None:
    out = run(PROTOCOL, [(SERVER, NOTICE), (SERVER, SETTING), *SIMPLE[:2]])
    assert [(message.kind, end) for whose, message, end in out.messages if whose == SERVER][:2] == [
        (Kind.INTERIM, len(NOTICE)),
        (Kind.INTERIM, len(NOTICE + SETTING)),
    ]


def test_function_call() -> None:
    script: Script = [(CLIENT, typed(b"F", b"\0\0\3\xb8" + bytes(8))), (SERVER, typed(b"V", bytes(8)) + READY)]
    assert told(script) == [("FUNCTION", "952", "ok")]


# The extended protocol


def test_extended() -> None:
    assert told(EXTENDED) == [
        ("SELECT", "users", "ok"),
        ("PREPARE", "s.t", "ok"),
        ("UPDATE", "s.t", "ok"),
        ("UPDATE", "s.t", "ok"),
        ("CLOSE", "s.t", "ok"),
        ("EXECUTE", "", "26000"),
        ("PREPARE", "", "42601"),
    ]
    assert [answer.attributes.get("db.response.returned_rows") for _, answer in sessions(EXTENDED)[:4]] == [1, None, 2, 1]


def test_a_request_begins_with_its_parse_and_ends_with_its_sync() -> None:
    ends = [end for whose, message, end in run(PROTOCOL, PIPELINE).messages if whose == CLIENT]
    first = len(parse(b"INSERT INTO t0 VALUES ($1)") + bind() + DESCRIBE + execute())
    group = len(PIPELINE[0][1])  # type: ignore[arg-type]
    last = group + len(PIPELINE[1][1])  # type: ignore[arg-type]
    assert ends == [first, 2 * first, 3 * first, group, last - 5, last, last + len(query(b"COMMIT"))]


def test_what_is_behind_an_error_is_skipped_and_nothing_shifts() -> None:
    assert told(PIPELINE) == [
        ("INSERT", "t0", "ok"),
        ("INSERT", "t1", "ok"),
        ("INSERT", "t2", "23505"),
        ("INSERT", "t3", "skipped"),
        ("SELECT", "", "ok"),
        ("COMMIT", "", "ok"),
    ]
    skipped = sessions(PIPELINE)[3][1]
    assert (skipped.error, skipped.attributes) == (True, {"error.type": "skipped"})


def test_an_error_before_the_sync_was_sent() -> None:
    script: Script = [
        (CLIENT, parse(b"SELEC 1") + bind() + execute() + FLUSH),
        (SERVER, failed(b"42601")),
        (CLIENT, parse(b"SELECT 2") + bind() + execute() + SYNC),
        (SERVER, NOTICE + READY),
        (CLIENT, query(b"SELECT 3 FROM t")),
        (SERVER, done(b"SELECT 0") + READY),
    ]
    assert told(script) == [("EXECUTE", "", "42601"), ("SELECT", "", "skipped"), ("SELECT", "t", "ok")]


def test_an_error_of_the_commit_that_a_sync_is() -> None:
    script: Script = [
        (CLIENT, parse(b"INSERT INTO t VALUES ($1)") + bind() + execute() + SYNC),
        (SERVER, PARSED + BOUND + done(b"INSERT 0 1") + failed(b"23503") + READY),
    ]
    assert told(script) == [("INSERT", "t", "23503")]


def test_a_statement_prepared_unseen_is_not_guessed() -> None:
    script: Script = [
        (CLIENT, bind(b"s9") + execute() + SYNC),
        (SERVER, BOUND + row(b"1") + done(b"SELECT 1") + READY),
    ]
    request, response = only(script)
    assert (request.operation, request.resource, response.operation) == ("", "", "SELECT")
    assert request.attributes == {"db.system.name": "postgresql", "clovisor.db.statement": "not seen"}


def test_names_are_remembered_within_limits() -> None:
    many = _pg_names.MAX_STATEMENTS + 1
    prepare = b"".join(parse(b"SELECT * FROM t%d" % at, b"n%d" % at) for at in range(many))
    script: Script = [
        (CLIENT, prepare + SYNC),
        (SERVER, many * PARSED + READY),
        (CLIENT, bind(b"n0") + execute() + bind(b"n1") + execute() + SYNC),
        (SERVER, 2 * (BOUND + done(b"SELECT 0")) + READY),
        (CLIENT, parse(b"SELECT * FROM u", b"n" * 300) + bind(b"n" * 300) + execute() + SYNC),
        (SERVER, PARSED + BOUND + done(b"SELECT 0") + READY),
    ]
    assert [resource for _, resource, _ in told(script)] == ["t256", "", "t1", ""]


def test_long_statements_and_values_are_stepped_over() -> None:
    text = b"SELECT * FROM t WHERE a = '" + b"x" * 300_000 + b"'"
    script: Script = [
        (CLIENT, query(text)),
        (SERVER, TWO_ROWS + row(b"y" * 200_000) + done(b"SELECT 3") + READY),
        (CLIENT, parse(text, b"s1") + bind(b"s1", b"", b"z" * 300_000) + execute() + SYNC),
        (SERVER, PARSED + BOUND + row(b"1") + done(b"SELECT 1") + READY),
    ]
    whole = run(PROTOCOL, script)
    assert run(
        PROTOCOL, [(who, what[at : at + 1400]) for who, what in script for at in range(0, len(what), 1400)]
    ).messages == (  # type: ignore[arg-type, index]
        whole.messages
    )
    assert [(q.operation, q.resource) for q, _ in paired(whole)] == [("SELECT", "t"), ("SELECT", "t")]
    assert paired(whole)[0][0].attributes["db.query.text"] == "SELECT * FROM t WHERE a = ?"
    (raw, _), _ = sessions(script, Setup(OFF))
    assert len(str(raw.attributes["db.query.text"])) == _sql.MAX_STATEMENT


def test_a_comment_carries_the_trace() -> None:
    text = b"SELECT 1 /*traceparent='00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'*/"
    context = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    script: Script = [
        (CLIENT, query(text)),
        (SERVER, done(b"SELECT 1") + READY),
        (CLIENT, parse(text, b"s1") + bind(b"s1") + execute() + bind(b"s1") + execute() + SYNC),
        (SERVER, PARSED + 2 * (BOUND + done(b"SELECT 1")) + READY),
    ]
    # What was prepared with a context is executed later in other traces.
    assert [request.propagation for request, _ in sessions(script)] == [context, context, {}]


def test_more_messages_in_a_request_than_a_code_counts() -> None:
    many = 40
    script: Script = [
        (CLIENT, many * parse(b"SELECT 1", b"s") + bind(b"s") + execute() + execute() + SYNC),
        (SERVER, many * PARSED + BOUND + done(b"SELECT 1") + done(b"SELECT 0") + READY),
    ]
    assert [status for _, _, status in told(script)] == ["ok", "ok"]


# COPY


def test_copy() -> None:
    assert told(COPY) == [
        ("COPY", "t", "ok"),
        ("COPY", "t", "ok"),
        ("COPY", "t", "57014"),
        ("COPY", "nowhere", "42P01"),
        ("SELECT", "t", "ok"),
    ]
    assert [answer.attributes for _, answer in sessions(COPY)[:2]] == [
        {"clovisor.db.affected_rows": 2},
        {"db.response.returned_rows": 3},
    ]


def test_rows_of_a_copy_belong_to_its_request() -> None:
    ends = [end for whose, _, end in run(PROTOCOL, COPY).messages if whose == CLIENT]
    assert ends[0] == sum(len(what) for whose, what in COPY[:4] if whose == CLIENT)  # type: ignore[arg-type]


def test_a_copy_that_nobody_was_seen_to_ask_for() -> None:
    script: Script = [
        (CLIENT, bind(b"s9") + execute() + SYNC),
        (SERVER, BOUND + COPY_IN),
        (CLIENT, typed(b"d", b"1\n") * 3 + COPY_DONE + SYNC),
        (SERVER, done(b"COPY 3") + READY),
        *SIMPLE[:2],
    ]
    assert told(script) == [("COPY", "", "ok"), ("SELECT", "users", "ok")]


def test_replication_goes_on_in_both_directions() -> None:
    keep_alive = typed(b"d", b"k" + bytes(17))
    script: Script = [
        (CLIENT, query(b"START_REPLICATION 0/0")),
        (SERVER, typed(b"W", b"\0\0\0") + 3 * keep_alive),
        (CLIENT, keep_alive),
        (SERVER, keep_alive),
        (CLIENT, COPY_DONE),
        (SERVER, COPY_DONE + done(b"COPY 0") + READY),
    ]
    assert told(script) == [("START_REPLICATION", "", "ok")]


# What was not seen


@pytest.mark.parametrize("tail", [done(b"SELECT 1000000"), failed(b"57014"), SUSPENDED, b""])
def test_a_long_result_ends_although_its_rows_were_not_captured(tail: bytes) -> None:
    extended = tail == SUSPENDED
    ask = parse(b"SELECT * FROM t") + bind() + execute() + SYNC if extended else query(b"SELECT * FROM t")
    rows = b"".join(row(b"%d" % at, b"C\0\0\0\x0dSELECT") for at in range(50))
    script: Script = [
        (CLIENT, ask),
        (SERVER, (PARSED + BOUND if extended else b"") + TWO_ROWS + rows[:7]),
        (SERVER, 10_000_000),
        (SERVER, rows[9:400]),
        (SERVER, 5_000_000),
        (SERVER, rows[3:]),
        (SERVER, tail + READY),
        *SIMPLE[:2],
    ]
    out = run(PROTOCOL, script)
    response = paired(out)[0][1]
    assert [a.status for _, a in paired(out)] == [{failed(b"57014"): "57014", b"": ""}.get(tail, "ok"), "ok"]
    assert response.incomplete is (tail == b"")
    assert response.attributes.get("db.response.returned_rows") == (1_000_000 if tail.startswith(b"C") else None) or extended
    end = next(end for whose, _, end in out.messages if whose == SERVER)
    assert end == sum(what if isinstance(what, int) else len(what) for whose, what in script[1:7] if whose == SERVER)
    whole = [message for _, message, _ in out.messages]
    pieces: Script = [
        (who, part)
        for who, what in script
        for part in ([what] if isinstance(what, int) else [what[at : at + 1] for at in range(len(what))])
    ]
    assert [message for _, message, _ in run(PROTOCOL, pieces).messages] == whole


def test_a_result_whose_end_was_not_seen_is_told_with_the_next() -> None:
    script: Script = [(CLIENT, query(b"SELECT * FROM t")), (SERVER, TWO_ROWS), (SERVER, 1000), *SIMPLE[:2], *SIMPLE[2:4]]
    first, *others = sessions(script)
    assert (first[0].resource, first[1].status, first[1].incomplete) == ("t", "", True)
    assert [(q.resource, a.status, a.incomplete) for q, a in others] == [("users", "ok", False), ("s.t", "ok", False)]


def test_no_end_is_looked_for_where_another_response_could_end() -> None:
    ask = query(b"SELECT * FROM t")
    parser = PROTOCOL.parser(PLAIN)
    parser.parse(CLIENT, Cursor(ask))
    assert not parser.gap(SERVER, 1)
    parser.parse(SERVER, Cursor(TWO_ROWS))
    parser.parse(CLIENT, Cursor(ask))
    assert not parser.gap(SERVER, 1)


def test_rows_of_a_copy_that_were_not_captured() -> None:
    line = typed(b"d", b"c\0\0\0\4 and other rows\n")
    for end in (COPY_DONE, typed(b"f", b"no\0")):
        script: Script = [
            (CLIENT, query(b"COPY t FROM STDIN")),
            (SERVER, COPY_IN),
            (CLIENT, line),
            (CLIENT, 1_000_000),
            (CLIENT, line[3:]),
            (CLIENT, 1_000_000),
            (CLIENT, line[5:] + end),
            (SERVER, done(b"COPY 50000") + READY),
            *SIMPLE[:2],
        ]
        out = run(PROTOCOL, script)
        assert [(q.operation, a.status) for q, a in paired(out)] == [("COPY", "ok"), ("SELECT", "ok")]
        end_of_copy = next(end for whose, _, end in out.messages if whose == CLIENT)
        assert end_of_copy == sum(what if isinstance(what, int) else len(what) for whose, what in script[:7] if whose == CLIENT)


def test_a_copy_whose_end_was_not_seen_ends_when_it_is_answered() -> None:
    script: Script = [
        (CLIENT, query(b"COPY t FROM STDIN")),
        (SERVER, COPY_IN),
        (CLIENT, typed(b"d", b"1\n")),
        (CLIENT, 1_000_000),
        (SERVER, done(b"COPY 50000") + READY),
        *SIMPLE[:2],
    ]
    assert told(script) == [("COPY", "t", "ok"), ("SELECT", "users", "ok")]


def test_an_error_is_told_though_nothing_follows() -> None:
    out = run(PROTOCOL, [(CLIENT, query(b"asdsdfdsf;")), (SERVER, failed(b"42601"))])
    ((_, response),) = paired(out)
    assert (response.status, response.error, response.incomplete) == ("42601", True, False)


def test_half_a_query_and_half_a_result_are_told_as_such() -> None:
    request, response = only([(CLIENT, query(b"SELECT * FROM users WHERE a = 'b'")[:30]), (SERVER, TWO_ROWS[:40])])
    assert (request.operation, request.resource, request.incomplete) == ("SELECT", "users", True)
    assert response.incomplete


def test_an_execute_whose_sync_is_not_seen_is_whole() -> None:
    (request,) = run(PROTOCOL, [(CLIENT, parse(b"SELECT 1") + bind() + execute())]).of(CLIENT)
    assert (request.operation, request.incomplete) == ("SELECT", False)


def test_ready_for_query_puts_an_order_right_that_was_lost() -> None:
    script: Script = [
        (CLIENT, 2 * (parse(b"SELECT 1") + bind() + execute()) + SYNC),
        (SERVER, PARSED + READY),
        *SIMPLE[:2],
    ]
    assert [(a.status, a.incomplete, a.error) for _, a in sessions(script)] == [
        ("", True, False),
        ("", True, False),
        ("ok", False, False),
    ]


def test_from_the_middle() -> None:
    script: Script = [(SERVER, row(b"1") + done(b"SELECT 1") + READY), *SIMPLE[:2]]
    out = run(PROTOCOL, script)
    assert [(message.kind, message.operation) for message in out.of(SERVER)] == [
        (Kind.RESPONSE, "SELECT"),
        (Kind.RESPONSE, "SELECT"),
    ]
    assert run(PROTOCOL, [(SERVER, READY)]).of(SERVER)[0].kind is Kind.INTERIM


# What it is not


@pytest.mark.parametrize(
    ("sender", "data"),
    [
        (CLIENT, b"GET / HTTP/1.1\r\n\r\n"),
        (CLIENT, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (CLIENT, b"\0\0\0\7\0\3\0\0"),
        (CLIENT, b"\0\0\0\x20\0\2\0\0"),
        (CLIENT, b"\0\1\0\0\0\3\0\0"),
        (CLIENT, b"Q\0\0\0\3"),
        (CLIENT, b"Q\xff\xff\xff\xff"),
        (CLIENT, b"S\0\0\0\5\0"),
        (CLIENT, b"z\0\0\0\4"),
        (SERVER, b"HTTP/1.1 200 OK\r\n"),
        (SERVER, b"Z\0\0\1\5I"),
        (SERVER, b"D\0\0\0\3"),
        (SERVER, b"Q\0\0\0\4"),
    ],
)
def test_violations(sender: int, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        PROTOCOL.parser(PLAIN).parse(sender, Cursor(data))


def test_no_answer_to_an_ssl_request() -> None:
    assert run(PROTOCOL, [(CLIENT, untyped(pg.SSL_REQUEST)), (SERVER, b"x")]).violations


@pytest.mark.parametrize(
    ("sender", "data", "found"),
    [
        (CLIENT, query(b"SELECT 1"), True),
        (CLIENT, STARTUP, True),
        (CLIENT, bind() + execute() + SYNC, True),
        (CLIENT, query(b"SELECT 1")[:3], True),
        (CLIENT, b"FROM users\0", False),
        (CLIENT, b"", False),
        (SERVER, TWO_ROWS, True),
        (SERVER, row(b"1") + READY, True),
        (SERVER, row(b"1" * 99)[:50], False),
        (SERVER, b"\0\0\0\7", False),
        (SERVER, STARTUP, False),
    ],
)
def test_resync(sender: int, data: bytes, found: bool) -> None:
    assert PROTOCOL.parser(PLAIN).resync(sender, data) == (0 if found else None)


def test_the_rows_are_fast_to_step_over_and_cheap_to_keep() -> None:
    """One call of `parse` for all the rows that are there, whatever their number."""
    parser = PROTOCOL.parser(PLAIN)
    parser.parse(CLIENT, Cursor(query(b"SELECT * FROM t")))
    data = columns(b"id") + 10_000 * row(b"1")
    cursor = Cursor(data)
    assert parser.parse(SERVER, cursor) is None
    assert cursor.pos == len(data)
    message = parser.parse(SERVER, Cursor(done(b"SELECT 10000") + READY))
    assert message is not None
    assert message.attributes == {"db.response.returned_rows": 10_000}
