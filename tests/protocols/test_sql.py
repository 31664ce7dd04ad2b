"""What SQL says: no literal gets through, names and verbs do, and no text is slow."""

from __future__ import annotations

import time
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.protocols import _sql
from clovisor_py.protocols._redaction import DEFAULT, OFF, STRICT
from clovisor_py.protocols._sql import Dialect, propagation, reader, sanitise

PG, MY = Dialect.POSTGRESQL, Dialect.MYSQL
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("SELECT * FROM t1 WHERE a = 42 AND b='it''s' AND c2=-1.5e-3", "SELECT * FROM t1 WHERE a = ? AND b=? AND c2=-?"),
        ("SELECT .5, 0x1F, 1_000, 1e10, $1, $23, a$1", "SELECT .?, ?, ?, ?, $1, $23, a$1"),
        ("SELECT E'it\\'s', e'\\\\', 'b'", "SELECT ?, ?, ?"),
        ("SELECT 'C:\\dir', 'b' FROM t", "SELECT ?, ? FROM t"),
        ("SELECT 'C:\\', 'secret' FROM t", "SELECT ?"),
        ("SELECT 'a\\\\', 'b' FROM t", "SELECT ?, ? FROM t"),
        ("SELECT $$it's$$, $a$ $$ 'x' $a$, 'b'", "SELECT ?, ?, ?"),
        ("SELECT $$never ends", "SELECT ?"),
        ("SELECT 'never ends", "SELECT ?"),
        ("SELECT \"never ends WHERE a = 'secret'", "SELECT ?"),
        ('SELECT "it\'s 4 ""x""" FROM "T 1" WHERE a=\'b\'', 'SELECT "it\'s 4 ""x""" FROM "T 1" WHERE a=?'),
        ("SELECT 1 -- 'a\n, 2 /* ' */ FROM t", "SELECT ?  \n, ?   FROM t"),
        ("/* a /* 'b */ */ SELECT 'secret'", ""),
        ("SELECT 1 /* never 'ends", "SELECT ?"),
        ("SELECT like'x', x_e'y'", "SELECT like?, x_e?"),
        ("SELECT B'101', X'1f', N'x'", "SELECT B?, X?, N?"),
        ("SELECT 'straße', größe1 FROM übung", "SELECT ?, größe1 FROM übung"),
    ],
)
def test_literals_of_postgresql(text: str, clean: str) -> None:
    assert sanitise(text, PG) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("SELECT 'it\\'s', \"a\\\"b\", 'x''y', \"x\"\"y\" FROM t", "SELECT ?, ?, ?, ? FROM t"),
        ("SELECT `it's`.`a``b` FROM `t 1` WHERE a = 0xFF", "SELECT `it's`.`a``b` FROM `t 1` WHERE a = ?"),
        ("SELECT 1 # 'a\n, 2 -- \"b\n, 5--3", "SELECT ?  \n, ?  \n, ?--?"),
        ("SELECT 'never \\' ends", "SELECT ?"),
        ("SELECT _utf8'x', x'1F'", "SELECT _utf8?, x?"),
        ("SELECT $$a$$ FROM t", "SELECT $$a$$ FROM t"),
    ],
)
def test_literals_of_mysql(text: str, clean: str) -> None:
    assert sanitise(text, MY) == clean


_WORD = st.sampled_from(
    ["SELECT ", "a", ",", "'", "''", '"', "`", "\\", "--", "/*", "*/", "#", "\n", "$$", "$a$", "E'", "(", ")"]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(_WORD, max_size=30))
def test_anything_is_read(words: list[str]) -> None:
    for dialect in Dialect:
        statement = reader(dialect, DEFAULT)("".join(words).encode())
        assert len(str(statement.attributes.get("db.query.text", ""))) <= _sql.MAX_STATEMENT


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="a'\\\"$-/*e \n", max_size=20), st.sampled_from([PG, MY]))
def test_no_literal_gets_through_however_it_is_written(content: str, dialect: Dialect) -> None:
    literal = "'" + content.replace("\\", "\\\\").replace("'", "''") + "7secret7'"
    escape = "E" if dialect is PG else ""
    for text in (f"SELECT {escape}{literal}, 'again7secret7'", f"INSERT INTO t VALUES ({escape}{literal})"):
        assert "secret" not in sanitise(text, dialect)
    plain = "'" + content.replace("'", "''") + "7secret7'"
    if dialect is PG:
        assert "secret" not in sanitise(f"SELECT {plain}, 'again7secret7'", dialect)


def test_what_may_be_told() -> None:
    raw = b"SELECT * FROM users WHERE name = 'bob'"
    summary = {"db.operation.name": "SELECT", "db.collection.name": "users", "db.query.summary": "SELECT users"}
    assert reader(PG, DEFAULT)(raw).attributes == {**summary, "db.query.text": "SELECT * FROM users WHERE name = ?"}
    assert reader(PG, OFF)(raw).attributes == {**summary, "db.query.text": raw.decode()}
    assert reader(PG, STRICT)(raw).attributes == summary


@pytest.mark.parametrize(
    "text", ["ALTER USER bob PASSWORD 'secret'", "CREATE USER u IDENTIFIED BY 'secret'", "SET PASSWORD = 'secret'"]
)
def test_a_password_is_never_told(text: str) -> None:
    for dialect in Dialect:
        assert "secret" not in repr(reader(dialect, OFF)(text.encode()).attributes)
    assert "bob" in repr(reader(PG, OFF)(b"SELECT password FROM users WHERE name = 'bob'").attributes)


def test_long_statements_are_cut_and_not_remembered() -> None:
    read = reader(PG, OFF)
    long = b"SELECT '" + b"x" * 10_000 + b"'"
    assert len(str(read(long).attributes["db.query.text"])) == _sql.MAX_STATEMENT
    assert read(long) is not read(long)
    assert read(b"SELECT 1") is read(b"SELECT 1")
    assert read(b"\xff\xfe").operation == ""


def test_trace_context_is_read_from_comments_only() -> None:
    comment = f"/*action='%2Fx',TraceParent='{TRACE}',tracestate='a%3D1'*/"
    assert propagation(f"SELECT 1 {comment}", PG) == {"traceparent": TRACE, "tracestate": "a=1"}
    assert propagation(f"{comment} SELECT 1", MY) == {"traceparent": TRACE, "tracestate": "a=1"}
    assert propagation(f"SELECT 1 -- traceparent='{TRACE}'", PG) == {"traceparent": TRACE}
    assert propagation(f"SELECT '{comment}' FROM t -- x", PG) == {}
    assert propagation(f"SELECT \"traceparent='{TRACE}'\"", PG) == {}
    assert len(propagation("/*tracestate='" + "a" * 4000 + "'*/", PG)["tracestate"]) == _sql.MAX_CONTEXT


_SEEDS = (
    "'", '"', "`", "''", "/*", "*/", "$a", "$", "$$", "-", "e'", "\\", "'\\", "(", "()", "a(", "a AS", "a ", "a", "1", "1e",
    "a1", "a.b.", 'a""', 'a"', "a``", "FROM ", "COPY ", "COPY STDIN ", "FROM STDIN ", "TEMP ", "UPDATE ONLY ", " ", "IF NOT ",
    "FROM IF NOT EXISTS ", "FROM a. ", "DO ", "DISTINCT ", "INTO(", "traceparent='", "/*traceparent='", 'FROM "a', ";", "WITH ",
)  # fmt: skip


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("begin", ["", "SELECT ", "WITH ", "WITH a", "CREATE ", "VACUUM (", "/*", "COPY "])
def test_no_text_takes_more_than_linear_time(begin: str, seed: str) -> None:
    def cost(size: int) -> float:
        raw = (begin + seed * size)[:size].encode() + b"!"

        def read() -> None:
            _sql._target.cache_clear()
            _sql._read(raw, PG, DEFAULT)

        return min(timeit.repeat(read, timer=time.process_time, number=1, repeat=3))

    small, large = cost(1000), cost(4000)
    assert large < 12 * small + 0.002  # four times, where it is linear; sixteen, where it is not
