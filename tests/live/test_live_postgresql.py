"""PostgreSQL as it is: a real server, psycopg (libpq) and asyncpg; what they did is what is shown, and nothing private."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clovisor_py.kernel.layout import LOSSES, Counter
from tests.support.kernel import node
from tests.support.live_truth import Call, Comparison, Truth, compare, settled
from tests.support.netns import pod
from tests.support.own_trace import OwnTrace, own_trace
from tests.support.secrets import Secrets
from tests.support.servers import USER, Server, serving

psycopg = pytest.importorskip("psycopg", reason="needs psycopg (PyPI)")
asyncpg = pytest.importorskip("asyncpg", reason="needs asyncpg (PyPI)")

pytestmark = pytest.mark.live

log = logging.getLogger(__name__)

AFFECTED, RETURNED = "clovisor.db.affected_rows", "db.response.returned_rows"
ROW = 1000
"""Bytes of a row of the long COPY, without its line end."""
ROWS = 1_000_000
DATABASE = "postgres"


@dataclass
class Scene:
    """One server, traced, for all tests of this file."""

    server: Server
    trace: OwnTrace
    secrets: Secrets
    total: Comparison = field(default_factory=Comparison)

    def parameters(self, **changes: Any) -> dict[str, Any]:
        host, port = self.server.address
        login = {"user": USER, "password": self.secrets.planted["password"], "dbname": DATABASE}
        return {"host": host, "port": port, **login, "sslmode": "disable", "gssencmode": "disable", **changes}

    def connect(self, truth: Truth, **changes: Any) -> Any:
        """A connection in autocommit mode whose login is noted."""
        opened = psycopg.connect(**self.parameters(**changes), autocommit=True, prepare_threshold=None)
        truth.note(port_of(opened), "connect", DATABASE)
        return opened

    def sessions(self, truth: Truth) -> list[dict[str, Any]]:
        return settled(self.trace.sessions, truth)

    def verify(self, truth: Truth) -> Comparison:
        comparison = compare(truth, self.sessions(truth))
        log.info("%s", comparison)
        self.total.add(comparison)
        comparison.check()
        return comparison


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    secrets = Secrets()
    folder = tmp_path_factory.mktemp("postgresql")
    with (
        node(),
        pod("pg") as own,
        serving(own, "postgresql", password=secrets.new("password")) as server,
        own_trace(folder, own) as trace,
    ):
        yield Scene(server, trace, secrets)


def port_of(connection: Any) -> int:
    """The client's port of a connection of libpq."""
    with socket.socket(fileno=os.dup(connection.fileno())) as own:
        return int(own.getsockname()[1])


@contextmanager
def fails(error: type[Exception]) -> Iterator[None]:
    """Like pytest.raises, and quick: what is measured is the call, not the making of a traceback's text."""
    try:
        yield
    except error:
        return
    pytest.fail(f"no {error.__name__}")


def simple(truth: Truth, connection: Any, sql: str, *what: str, **more: Any) -> Any:
    """A simple query: one message, so its size is known exactly."""
    with truth.call(port_of(connection), *what, request_bytes=len(sql.encode()) + 6, **more):
        return connection.execute(sql)


def test_simple_queries(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("literal")
    with scene.connect(truth) as connection:
        simple(truth, connection, "CREATE TABLE people (id int primary key, name text)", "CREATE", "people")
        for at in range(20):
            sql = f"INSERT INTO people VALUES ({at}, '{secret}')"
            simple(truth, connection, sql, "INSERT", "people", attributes={AFFECTED: 1})
        for at in range(20):
            sql = f"SELECT name FROM people WHERE id >= {at} AND name = '{secret}'"
            simple(truth, connection, sql, "SELECT", "people", attributes={RETURNED: 20 - at})
        simple(truth, connection, "UPDATE people SET name = 'x' WHERE id < 5", "UPDATE", "people", attributes={AFFECTED: 5})
        simple(truth, connection, "DELETE FROM people WHERE id < 2", "DELETE", "people", attributes={AFFECTED: 2})
        batch = "SELECT 1; SELECT 2 FROM people; SELECT 3"
        simple(truth, connection, batch, "SELECT", None, attributes={"db.operation.batch.size": 3})
        simple(truth, connection, f"DO $$ BEGIN PERFORM '{secret}'; END $$", "DO")
        simple(truth, connection, "DROP TABLE people", "DROP", "people")
    scene.verify(truth)


def test_extended_queries_of_libpq(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("parameter")
    with scene.connect(truth) as connection:
        who = port_of(connection)
        simple(truth, connection, "CREATE TABLE items (id int primary key, name text)", "CREATE", "items")
        for at in range(20):
            with truth.call(who, "INSERT", "items", attributes={AFFECTED: 1}):
                connection.execute("INSERT INTO items VALUES (%s, %s)", (at, f"{secret}{at}"))
        for at in range(20):
            with truth.call(who, "SELECT", "items", attributes={RETURNED: 1}):
                connection.execute("SELECT name FROM items WHERE id = %s", (at,), binary=at % 2 == 0).fetchall()
        connection.prepare_threshold = 5
        truth.note(who, "PREPARE", "items", attributes={"db.operation.name": "PREPARE"})
        for at in range(20):
            with truth.call(who, "SELECT", "items", attributes={RETURNED: 20 - at}) as noted:
                connection.execute("SELECT id FROM items WHERE id >= %s", (at,), prepare=True).fetchall()
            if at == 0:
                noted.duration_ns = 0  # this one took two
        with connection.transaction(), truth.call(who, "UPDATE", "items", attributes={AFFECTED: 20}):
            connection.execute("UPDATE items SET name = %s", (secret,))
    truth.calls.insert(-1, Call(who, "BEGIN", "", "ok"))
    truth.note(who, "COMMIT")
    scene.verify(truth)


def test_asyncpg(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("asyncpg parameter")

    async def work() -> None:
        host, port = scene.server.address
        login = {"user": USER, "password": scene.secrets.planted["password"], "database": DATABASE}
        connection = await asyncpg.connect(host=host, port=port, **login, ssl=False)
        who = connection._transport.get_extra_info("sockname")[1]
        truth.note(who, "connect", DATABASE)
        with truth.call(who, "CREATE", "orders"):
            await connection.execute("CREATE TABLE orders (id int, name text)")
        insert = "INSERT INTO orders VALUES ($1, $2)"
        truth.note(who, "PREPARE", "orders")
        for at in range(20):
            with truth.call(who, "INSERT", "orders", attributes={AFFECTED: 1}) as noted:
                await connection.execute(insert, at, secret)
            noted.duration_ns *= at > 0
        truth.note(who, "PREPARE", "orders")
        for at in range(20):
            with truth.call(who, "SELECT", "orders", attributes={RETURNED: at}) as noted:
                assert len(await connection.fetch("SELECT * FROM orders WHERE id < $1", at)) == at
            noted.duration_ns *= at > 0
        truth.note(who, "PREPARE", "orders")  # it asks for the columns' types
        with truth.call(who, "COPY", "orders", attributes={AFFECTED: 3}) as noted:
            await connection.copy_records_to_table("orders", records=[(at, secret) for at in range(3)])
        noted.duration_ns = 0
        async with connection.transaction():
            truth.note(who, "BEGIN")
            with truth.call(who, "DELETE", "orders", attributes={AFFECTED: 23}):
                await connection.execute("DELETE FROM orders")
            truth.note(who, "COMMIT")
        await connection.close()

    asyncio.run(work())
    scene.verify(truth)


def test_pipelines(scene: Scene) -> None:
    truth = Truth()
    with scene.connect(truth) as connection:
        who = port_of(connection)
        simple(truth, connection, "CREATE TABLE parts (id int primary key, name text)", "CREATE", "parts")
        with connection.pipeline():
            for at in range(50):
                connection.execute("INSERT INTO parts VALUES (%s, %s)", (at, "x" * at))
                truth.note(who, "INSERT", "parts", attributes={AFFECTED: 1})
            cursor = connection.execute("SELECT * FROM parts WHERE id >= %s", (10,))
            truth.note(who, "SELECT", "parts", attributes={RETURNED: 40})
            assert len(cursor.fetchall()) == 40
        raw = connection.pgconn  # psycopg itself stops sending as soon as it hears of the error
        raw.enter_pipeline_mode()
        for at, status in ((100, "ok"), (1, "23505"), (101, "skipped"), (102, "skipped")):
            raw.send_query_params(b"INSERT INTO parts VALUES ($1, $2)", [b"%d" % at, b"y"])
            truth.note(who, "INSERT", "parts", status, outcome="ok" if status == "ok" else "error")
        raw.pipeline_sync()
        while (result := raw.get_result()) is None or result.status != psycopg.pq.ExecStatus.PIPELINE_SYNC:
            pass
        raw.exit_pipeline_mode()
        simple(truth, connection, "SELECT 1", "SELECT")
    scene.verify(truth)


def test_copy_in_and_out(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("copied row")
    rows = [f"{at}\t{secret}\n".encode() for at in range(5000)]
    size = sum(map(len, rows))
    with scene.connect(truth) as connection, connection.cursor() as cursor:
        who = port_of(connection)
        simple(truth, connection, "CREATE TABLE lines (id int, name text)", "CREATE", "lines")
        sql = "COPY lines FROM STDIN"
        with truth.call(who, "COPY", "lines", attributes={AFFECTED: len(rows)}), cursor.copy(sql) as copy:
            for row in rows:
                copy.write(row)
        truth.calls[-1].request_bytes = len(sql) + 6 + size + 5 * len(rows) + 5
        with truth.call(who, "COPY", "lines", attributes={RETURNED: len(rows)}), cursor.copy("COPY lines TO STDOUT") as copy:
            assert sum(map(len, copy)) == size
        truth.calls[-1].response_bytes = copied_out(2, len(rows), size)
        query = "COPY (SELECT id FROM lines WHERE id < 10) TO STDOUT (FORMAT csv)"
        with truth.call(who, "COPY", "lines", attributes={RETURNED: 10}), cursor.copy(query) as copy:
            assert len(list(copy)) == 10
        with truth.call(who, "COPY", "lines", "22P02", outcome="error"), fails(psycopg.DataError), cursor.copy(sql) as copy:
            copy.write(f"{secret}\tno number\n".encode())
        cancelled = psycopg.errors.QueryCanceled
        with truth.call(who, "COPY", "lines", "57014", outcome="error"), fails(cancelled), cursor.copy(sql) as copy:
            copy.write(rows[0])
            raise cancelled  # which makes libpq send CopyFail
        simple(truth, connection, "SELECT count(*) FROM lines", "SELECT", "lines", attributes={RETURNED: 1})
    scene.verify(truth)


def test_a_long_answer_has_its_end_though_nobody_read_yet_what_the_connection_speaks(scene: Scene) -> None:
    """A busy node's user space is late: the kernel has to do without its word meanwhile."""
    truth = Truth()
    with late(scene), scene.connect(truth) as connection, connection.cursor() as cursor:
        copy_out = "COPY (SELECT repeat('x', 40) FROM generate_series(1, {})) TO STDOUT"
        for rows in (10_000, 20_003, 3):
            with (
                truth.call(port_of(connection), "COPY", None, attributes={RETURNED: rows}),
                cursor.copy(copy_out.format(rows)) as copy,
            ):
                assert sum(map(len, copy)) == 41 * rows
            truth.calls[-1].response_bytes = copied_out(1, rows, 41 * rows)
        simple(truth, connection, "SELECT 1", "SELECT", attributes={RETURNED: 1})
    scene.verify(truth)


@contextmanager
def late(scene: Scene) -> Iterator[None]:
    """The trace does not run in the block: what passes waits in the ring."""
    scene.trace.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        scene.trace.process.send_signal(signal.SIGCONT)


def copied_out(columns: int, rows: int, size: int) -> int:
    """Bytes of the answer to a COPY TO STDOUT: CopyOutResponse, a CopyData for each row, CopyDone, its tag, ReadyForQuery."""
    return (1 + 4 + 1 + 2 + 2 * columns) + (5 * rows + size) + 5 + (5 + len(f"COPY {rows}") + 1) + 6


def test_errors(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("literal in an error")
    errors = {
        "SELEC 1": ("QUERY", "", "42601"),
        "SELECT * FROM nowhere": ("SELECT", "nowhere", "42P01"),
        "SELECT 1/0": ("SELECT", "", "22012"),
        f"SELECT '{secret}'::int": ("SELECT", "", "22P02"),
        "CREATE TABLE pg_catalog.pg_class (id int)": ("CREATE", "pg_catalog.pg_class", "42P07"),
    }
    with scene.connect(truth) as connection:
        who = port_of(connection)
        for sql, (operation, resource, status) in errors.items():
            with truth.call(who, operation, resource, status, outcome="error"), fails(psycopg.Error):
                connection.execute(sql)
        for _ in range(5):
            with truth.call(who, "SELECT", "", "22012", outcome="error"), fails(psycopg.Error):
                connection.execute("SELECT 1 / %s::int", (0,))
            with truth.call(who, "SELECT", "", "22P02", outcome="error"), fails(psycopg.Error):
                connection.execute("SELECT %s::text::int", (secret,))
    scene.verify(truth)


def test_cancel(scene: Scene) -> None:
    truth = Truth()
    with scene.connect(truth) as connection:
        before = len(cancels(scene))
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        with truth.call(port_of(connection), "SELECT", "", "57014", outcome="error"), fails(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(20)")
        timer.join()
        simple(truth, connection, "SELECT 1", "SELECT")
    scene.verify(truth)
    (cancel,) = cancels(scene)[before:]
    assert (cancel["protocol"], cancel["outcome"], cancel["response"]) == ("postgresql", "one_way", None)
    assert cancel["request"]["bytes"] == 16


def cancels(scene: Scene) -> list[dict[str, Any]]:
    return [session for session in scene.trace.sessions() if session["operation"] == "cancel"]


def test_notifications(scene: Scene) -> None:
    truth = Truth()
    secret = scene.secrets.new("payload of a notification")
    with scene.connect(truth) as listening, scene.connect(truth) as telling:
        simple(truth, listening, "LISTEN news", "LISTEN", None)
        for _ in range(3):
            simple(truth, telling, f"NOTIFY news, '{secret}'", "NOTIFY", None)
            truth.note(port_of(listening), "NOTIFY", "news", "", outcome="one_way")
            assert [notice.channel for notice in listening.notifies(timeout=5, stop_after=1)] == ["news"]
    scene.verify(truth)


def test_logins(scene: Scene) -> None:
    truth = Truth()
    passwords = {user: scene.secrets.new(f"password of {user}") for user in ("plain", "hashed", "scrambled")}
    with scene.connect(truth) as connection:
        for user, password in passwords.items():
            method = "md5" if user == "hashed" else "scram-sha-256"
            simple(truth, connection, f"SET password_encryption = '{method}'", "SET", None)
            simple(truth, connection, f"CREATE ROLE {user} LOGIN PASSWORD '{password}'", "CREATE", None)
    for user, password in passwords.items():
        with scene.connect(truth, user=user, password=password) as connection:
            simple(truth, connection, "SELECT 1", "SELECT")
    scene.verify(truth)
    before = len(scene.trace.sessions())
    for user in passwords:
        with fails(psycopg.OperationalError):
            psycopg.connect(**scene.parameters(user=user, password=scene.secrets.new("wrong password")))
    with fails(psycopg.OperationalError):
        psycopg.connect(**scene.parameters(dbname="nowhere"))
    statuses = [session["status"] for session in later(scene, before, 4) if session["operation"] == "connect"]
    assert statuses == ["28P01", "28P01", "28P01", "3D000"]


def later(scene: Scene, before: int, count: int) -> list[dict[str, Any]]:
    """So many sessions behind the first ones, in the order of their starts; no more may come."""
    scene.trace.wait_for(before + count)
    time.sleep(0.4)
    found = scene.trace.sessions()[before:]
    assert len(found) == count, found
    return sorted(found, key=lambda session: session["start"])


def test_encryption_asked_for(scene: Scene) -> None:
    """libpq's `prefer`: against a server without TLS it goes on in plain text, with one it is TLS and nothing else is seen."""
    truth = Truth()
    secret = scene.secrets.new("literal behind TLS")
    with psycopg.connect(**scene.parameters(sslmode="prefer"), autocommit=True) as connection:
        truth.note(port_of(connection), "SSLRequest", "", "refused", request_bytes=8, response_bytes=1)
        truth.note(port_of(connection), "connect", DATABASE)
        simple(truth, connection, "ALTER SYSTEM SET ssl = on", "ALTER", None)
        simple(truth, connection, "SELECT pg_reload_conf()", "SELECT")
        with scene_with_tls(scene) as encrypted:
            truth.note(port_of(encrypted), "SSLRequest", request_bytes=8, response_bytes=1)
            truth.note(port_of(encrypted), "handshake", None)
            for _ in range(5):
                encrypted.execute(f"SELECT '{secret}'")
            truth.note(port_of(encrypted), "tcp", "encrypted", None, outcome=None)
        simple(truth, connection, "ALTER SYSTEM SET ssl = off", "ALTER", None)
        simple(truth, connection, "SELECT pg_reload_conf()", "SELECT")
    scene.verify(truth)
    assert {session["protocol"] for session in scene.sessions(truth)} == {"postgresql", "tls", "tcp"}


def scene_with_tls(scene: Scene) -> Any:
    """A connection with TLS, as soon as the server has reloaded its settings."""
    deadline = time.monotonic() + 5
    while True:
        with fails_or_not(psycopg.OperationalError) as connected:
            connected.append(psycopg.connect(**scene.parameters(sslmode="require"), autocommit=True))
        if connected:
            return connected[0]
        assert time.monotonic() < deadline, scene.server.log()
        time.sleep(0.05)


@contextmanager
def fails_or_not(error: type[Exception]) -> Iterator[list[Any]]:
    try:
        yield (made := [])
    except error:
        assert not made


@pytest.mark.slow
def test_a_gigabyte_of_copy_is_one_session_with_its_exact_size(scene: Scene) -> None:
    """Its rows are counted by the server's last words, which go up though its budget is used up."""
    truth = Truth()
    before = scene.trace.stats()
    sql = f"COPY (SELECT repeat('x', {ROW}) FROM generate_series(1, {ROWS})) TO STDOUT"
    size = rows = 0
    with scene.connect(truth) as connection, connection.cursor() as cursor:
        copied = truth.note(port_of(connection), "COPY", request_bytes=len(sql) + 6)
        with cursor.copy(sql) as copy:
            for data in copy:
                size += len(data)
                rows += 1
        assert (rows, size) == (ROWS, ROWS * (ROW + 1))
        copied.response_bytes = copied_out(1, rows, size)
        simple(truth, connection, "SELECT 1", "SELECT", attributes={RETURNED: 1})
    stats = scene.trace.stats().since(before)
    captured, lost = stats[Counter.CAPTURED_BYTES], sum(stats[counter] for counter in LOSSES)
    (session,) = (session for session in scene.sessions(truth) if session["operation"] == "COPY")
    told = session["status"], session["attributes"].get(RETURNED)
    seconds = session["duration_ns"] / 1e9
    log.info("%d bytes in %.1f s, of which %d were captured; %d segments lost; told %s", size, seconds, captured, lost, told)
    assert told == ("ok", ROWS)
    scene.verify(truth)
    assert captured < size / 4


def test_the_times_are_the_clients_own(scene: Scene) -> None:
    """Of all tests above."""
    log.info("in all: %s", scene.total)
    scene.total.check_times()


def test_nothing_private_came_out(scene: Scene) -> None:
    """Behind all others: what they planted is in none of the outputs, the summary included."""
    scene.trace.stop()
    scene.secrets.check(scene.trace.outputs())


def test_with_redaction_off_the_search_finds_them(scene: Scene, tmp_path: Path) -> None:
    """So that the test above proves something; passwords stay out even so."""
    if scene.trace.process.poll() is None:
        scene.trace.stop()
    secrets, truth = Secrets(), Truth()
    with own_trace(tmp_path, scene.server.pod, "--redact", "off") as trace:
        with psycopg.connect(**scene.parameters(), autocommit=True) as connection:
            connection.execute(f"SELECT '{secrets.new('literal')}'")
            truth.note(port_of(connection), "connect")
            truth.note(port_of(connection), "SELECT")
        settled(trace.sessions, truth)
        trace.stop()
        outputs = trace.outputs()
    assert {f"literal in {where}" for where in ("console (line, wide, json)", "jsonl", "jaeger")} <= set(secrets.found(outputs))
    scene.secrets.check(outputs)
