"""Verbs, tables and summaries of statements as people and ORMs write them."""

from __future__ import annotations

import pytest

from clovisor_py.protocols._sql_target import MAX_NAME, MAX_SUMMARY, Target, target


@pytest.mark.parametrize(
    ("text", "operation", "table", "summary"),
    [
        ("select * from users", "SELECT", "users", "SELECT users"),
        (" ;( SELECT ? FROM a) UNION (SELECT ? FROM b)", "SELECT", "a", "SELECT a SELECT b"),
        ('SELECT "u"."id" FROM "public" . "Users" "u"', "SELECT", "public.Users", "SELECT public.Users"),
        ("SELECT `a` FROM `shop`.`items`", "SELECT", "shop.items", "SELECT shop.items"),
        ("SELECT a FROM t JOIN s.u ON x LEFT JOIN LATERAL (SELECT ? FROM v) w", "SELECT", "t", "SELECT t s.u SELECT v"),
        ("SELECT extract(epoch FROM now()), trim(both FROM x) FROM t", "SELECT", "t", "SELECT t"),
        ("SELECT a IS DISTINCT FROM b FROM c FOR UPDATE", "SELECT", "c", "SELECT c"),
        ("SELECT * FROM generate_series(?, ?)", "SELECT", "", "SELECT"),
        ("SELECT * FROM (SELECT * FROM inner_t) x", "SELECT", "inner_t", "SELECT SELECT inner_t"),
        ("SELECT ?", "SELECT", "", "SELECT"),
        ("SELECT a INTO OUTFILE ? FROM t", "SELECT", "t", "SELECT t"),
        ("SELECT replace(a, ?, ?) FROM t", "SELECT", "t", "SELECT t"),
        ("INSERT INTO t(a) VALUES (?) ON CONFLICT DO UPDATE SET a = ?", "INSERT", "t", "INSERT t"),
        ("INSERT IGNORE INTO t SELECT * FROM s", "INSERT", "t", "INSERT t SELECT s"),
        ("REPLACE INTO t VALUES (?)", "REPLACE", "t", "REPLACE t"),
        ("UPDATE ONLY s.t SET a = ? FROM u", "UPDATE", "s.t", "UPDATE s.t u"),
        ("DELETE FROM t USING u", "DELETE", "t", "DELETE t"),
        ("MERGE INTO t USING s ON x WHEN MATCHED THEN DELETE", "MERGE", "t", "MERGE t DELETE"),
        ("WITH a AS (SELECT * FROM users) SELECT * FROM a", "SELECT", "users", "SELECT users SELECT"),
        (
            "WITH RECURSIVE a (x) AS NOT MATERIALIZED (SELECT ?) INSERT INTO t SELECT * FROM A",
            "INSERT",
            "t",
            "SELECT INSERT t SELECT",
        ),
        ("WITH", "WITH", "", "WITH"),
        ("EXPLAIN ANALYZE SELECT * FROM t", "EXPLAIN", "t", "EXPLAIN SELECT t"),
        ("DECLARE c CURSOR FOR SELECT * FROM t", "DECLARE", "t", "DECLARE SELECT t"),
        ("COPY s.t (a) FROM STDIN", "COPY", "s.t", "COPY s.t"),
        ("COPY (SELECT * FROM rules) TO STDOUT", "COPY", "rules", "COPY SELECT rules"),
        ("CREATE TABLE IF NOT EXISTS t (a int)", "CREATE", "t", "CREATE TABLE t"),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT * FROM t", "CREATE", "v", "CREATE VIEW v"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON ONLY t (a)", "CREATE", "t", "CREATE INDEX t"),
        ("CREATE INDEX ON t(a)", "CREATE", "t", "CREATE INDEX t"),
        ("ALTER TABLE ONLY t ADD x int", "ALTER", "t", "ALTER TABLE t"),
        ("DROP INDEX i", "DROP", "", "DROP INDEX"),
        ("DROP whatever x", "DROP", "", "DROP"),
        ("ALTER USER bob PASSWORD ?", "ALTER", "", "ALTER USER"),
        ("TRUNCATE TABLE t", "TRUNCATE", "t", "TRUNCATE t"),
        ("LOCK TABLE t IN SHARE MODE", "LOCK", "t", "LOCK t"),
        ("VACUUM (FULL, ANALYZE) t", "VACUUM", "t", "VACUUM t"),
        ("VACUUM", "VACUUM", "", "VACUUM"),
        ("TABLE t", "TABLE", "t", "TABLE t"),
        ("DESC t", "DESC", "t", "DESC t"),
        ("BEGIN; SELECT * FROM t", "BEGIN", "", "BEGIN"),
        ("SELECT ?; SELECT * FROM t", "SELECT", "", "SELECT"),
        ("SET search_path TO x", "SET", "", "SET"),
        ("START_REPLICATION SLOT x", "START_REPLICATION", "", "START_REPLICATION"),
        ("asdsdfdsf", "", "", ""),
        ("", "", "", ""),
        ("?", "", "", ""),
    ],
)
def test_verbs_and_tables(text: str, operation: str, table: str, summary: str) -> None:
    found = target(text)
    assert (found.operation, found.table, found.summary) == (operation, table, summary)


def test_procedures() -> None:
    assert target("CALL pkg.refresh(?)") == Target("CALL", "", "pkg.refresh", "CALL pkg.refresh")
    assert target("CALL ?") == Target("CALL", "", "", "CALL")


@pytest.mark.parametrize(
    ("text", "copies_in"),
    [
        ("copy t from stdin", True),
        ("BEGIN; COPY t (a, b) FROM STDIN WITH (FORMAT csv)", True),
        ("COPY t TO STDOUT", False),
        ("COPY t FROM ?", False),
        ("SELECT * FROM stdin", False),
    ],
)
def test_copies_that_ask_the_client_for_rows(text: str, copies_in: bool) -> None:
    assert target(text).copies_in is copies_in


def test_limits() -> None:
    found = target("SELECT * FROM " + "t" * 500 + " JOIN u" * 500)
    assert len(found.table) == MAX_NAME
    assert len(found.summary) <= MAX_SUMMARY
