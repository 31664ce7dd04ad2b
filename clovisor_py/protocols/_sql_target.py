"""What a SQL statement does, and to what: read from its text after its literals and comments are gone (`_sql`).

Names are found where the grammar of all dialects puts them: behind FROM, JOIN, INTO, UPDATE, and behind the kind of thing
that a CREATE, ALTER or DROP is about. FROM inside `extract(… from …)`, a name that a WITH defines, and a function in place
of a table are told apart; what else a dialect may think of gives no table, which is always a true answer.

The summary is OpenTelemetry's `db.query.summary`: verbs and tables in the order of the text. Everything here is total and
linear: a pattern that could begin anywhere gives up after a few characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_NAME: Final = 128
"""Characters of a table's name with its schema that are told."""
MAX_SUMMARY: Final = 255
"""Characters of a summary (OpenTelemetry's own limit)."""
MAX_WORDS: Final = 16
"""Verbs and tables in a summary; beyond them it sums up nothing."""

_VERBS: Final = """
    SELECT INSERT UPDATE DELETE MERGE REPLACE VALUES TABLE WITH COPY CALL DO EXPLAIN DESCRIBE DESC
    BEGIN START COMMIT END ROLLBACK ABORT SAVEPOINT RELEASE XA PREPARE EXECUTE DEALLOCATE DECLARE FETCH MOVE CLOSE
    CREATE ALTER DROP TRUNCATE RENAME COMMENT GRANT REVOKE REASSIGN SECURITY IMPORT ANALYZE VACUUM CLUSTER REINDEX REFRESH
    CHECKPOINT OPTIMIZE REPAIR CHECK CHECKSUM LOCK UNLOCK SET RESET SHOW DISCARD LISTEN UNLISTEN NOTIFY LOAD USE KILL FLUSH
    HANDLER INSTALL UNINSTALL PURGE CHANGE STOP CACHE SIGNAL RESIGNAL GET HELP BINLOG
    IDENTIFY_SYSTEM START_REPLICATION BASE_BACKUP CREATE_REPLICATION_SLOT DROP_REPLICATION_SLOT READ_REPLICATION_SLOT
    TIMELINE_HISTORY UPLOAD_MANIFEST PAUSE RESUME RELOAD SHUTDOWN RECONNECT WAIT_CLOSE SUSPEND ENABLE DISABLE
"""
VERBS: Final = frozenset(_VERBS.split())
"""First words of statements (PostgreSQL, MySQL, replication, poolers). Others are no operation: they may be anything."""
_KINDS: Final = """
    TABLE VIEW INDEX SEQUENCE SCHEMA DATABASE FUNCTION PROCEDURE ROUTINE AGGREGATE TRIGGER TYPE DOMAIN ROLE USER GROUP EXTENSION
    PUBLICATION SUBSCRIPTION SERVER POLICY RULE CAST COLLATION CONVERSION LANGUAGE OPERATOR TABLESPACE STATISTICS EVENT SYSTEM
"""
KINDS: Final = frozenset(_KINDS.split())
"""What CREATE, ALTER and DROP are about."""
_TABLE_KINDS: Final = frozenset(("TABLE", "VIEW"))
_DEFINES: Final = frozenset(("CREATE", "ALTER", "DROP"))
_READS_ROWS: Final = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "WITH"))
_WRAPS: Final = frozenset(("EXPLAIN", "DESCRIBE", "DECLARE", "PREPARE", "COPY"))
"""Verbs in front of a statement that has one of its own."""
_FUNCTIONS: Final = frozenset(("INSERT", "REPLACE"))
"""Verbs that are functions, too."""
_NO_TABLES: Final = frozenset(("outfile", "dumpfile", "select", "set", "values"))

_PART: Final = r'(?:"(?:[^"]|""){1,64}"(?!")|`(?:[^`]|``){1,64}`(?!`)|[^\W\d][\w$]*)'
"""One part of a name. Quoted ones have their limit here, because only that bounds the search for their end."""
_NAME: Final = rf"{_PART}(?:\s*\.\s*{_PART}){{0,3}}"
_NOISE: Final = r"(?:(?:ONLY|LATERAL|TABLE|IGNORE|LOW_PRIORITY|DELAYED|CONCURRENTLY|IF\s+NOT\s+EXISTS|IF\s+EXISTS)\b\s*)*"

_VERB = re.compile(r"[\s;(]*([A-Za-z_]+)")
_ROWS = re.compile(
    r"[()]"
    r"|\b(?:DISTINCT\s+FROM|(?:DO|KEY|ON|FOR)\s+(?:UPDATE|DELETE))\b"
    r"|\b(?P<verb>SELECT|INSERT|DELETE|MERGE|REPLACE)\b(?P<call>\s*\()?"
    rf"|\b(?P<before>FROM|JOIN|INTO|UPDATE)\b\s*{_NOISE}(?P<name>{_NAME})?(?P<paren>\s*\()?",
    re.IGNORECASE,
)
_WITH = re.compile(r"\bWITH\b", re.IGNORECASE)
_DEFINED = re.compile(rf"(?<![\w$\"`])({_PART})\s*(?:\([^()]*\)\s*)?\bAS\s+(?:NOT\s+)?(?:MATERIALIZED\s*)?\(", re.IGNORECASE)
_DEFINITION = re.compile(
    r"(?:CREATE|ALTER|DROP)\s+(?:OR\s+REPLACE\s+)?"
    r"(?:(?:GLOBAL|LOCAL|TEMP|TEMPORARY|UNLOGGED|UNIQUE|FULLTEXT|SPATIAL|MATERIALIZED|FOREIGN|RECURSIVE)\s+)*"
    rf"(?P<kind>[A-Z]+)\b\s*{_NOISE}(?P<name>(?!(?:ON|IF)\b){_NAME})?(?:\s*\bON\s+{_NOISE}(?P<on>{_NAME}))?",
    re.IGNORECASE,
)
_WHOLE_TABLE = re.compile(
    r"(?:COPY\s+(?:BINARY\s+)?"
    r"|(?:TABLE|DESC|DESCRIBE)\s+(?!SELECT\b|INSERT\b|UPDATE\b|DELETE\b|WITH\b)"
    r"|(?:TRUNCATE|LOCK|OPTIMIZE|REPAIR|CHECK|REFRESH\s+MATERIALIZED\s+VIEW)\s+(?:(?:TABLES?|ONLY|CONCURRENTLY)\s+)*"
    r"|(?:VACUUM|ANALYZE|CLUSTER)\s*(?:\([^()]*\)\s*)?(?:\b(?:FULL|FREEZE|VERBOSE|ANALYZE|TABLE)\s+)*)"
    rf"(?<![A-Za-z])({_NAME})",
    re.IGNORECASE,
)
_PROCEDURE = re.compile(rf"CALL\s+({_NAME})", re.IGNORECASE)
_COPY = re.compile(r"\bCOPY\b", re.IGNORECASE)
_FROM_CLIENT = re.compile(r"\bFROM\s+STDIN\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """`operation`, `table` and `copies_in` as in `_sql.Statement`; `procedure` of a CALL; `summary` for people."""

    operation: str = ""
    table: str = ""
    procedure: str = ""
    summary: str = ""
    copies_in: bool = False


def target(clean: str) -> Target:
    """Read a text without literals and comments; of several statements the first. Total."""
    copy = _COPY.search(clean)
    copies_in = copy is not None and _FROM_CLIENT.search(clean, copy.end()) is not None
    begins = _VERB.match(clean)
    verb = begins[1].upper() if begins else ""
    if begins is None or verb not in VERBS:
        return Target(copies_in=copies_in)
    first = clean[begins.start(1) :].partition(";")[0]
    if verb == "CALL":
        called = _PROCEDURE.match(first)
        procedure = _plain(called[1]) if called else ""
        return Target(verb, "", procedure, _summary([verb, procedure]))
    operation, table, words = _about(verb, first)
    return Target(operation, table, "", _summary(words), copies_in)


def _about(verb: str, text: str) -> tuple[str, str, list[str]]:
    """The operation, its table, and the words of its summary."""
    if verb in _DEFINES:
        kind, table = _definition(text)
        return verb, table, [verb, kind, table]
    if whole := _WHOLE_TABLE.match(text):
        table = _plain(whole[1])
        return verb, table, [verb, table]
    if verb not in _READS_ROWS and verb not in _WRAPS:
        return verb, "", [verb]
    operation, table, words = _rows(text, {name.lower() for name in _DEFINED.findall(text)} if _WITH.search(text) else set())
    if verb in _WRAPS:
        return verb, table, [verb, *words]
    return operation or verb, table, words or [verb]


def _definition(text: str) -> tuple[str, str]:
    """What kind of thing is defined, and the table, if it is one or belongs to one."""
    found = _DEFINITION.match(text)
    kind = found["kind"].upper() if found else ""
    if found is None or kind not in KINDS:
        return "", ""
    name = found["on"] if kind == "INDEX" else found["name"] if kind in _TABLE_KINDS else None
    return kind, _plain(name or "")


def _rows(text: str, defined: set[str]) -> tuple[str, str, list[str]]:
    """Of a statement that reads or writes rows: its main verb, its first table, and all verbs and tables in their order.

    `defined`: names in lower case that are no tables.
    """
    operation, table, own = "", "", False
    words: list[str] = []
    selecting = [False]  # for each open parenthesis: whether a verb came in it, to which a FROM can belong
    for found in _ROWS.finditer(text):
        verb = (found["verb"] or "").upper()
        before = (found["before"] or "").upper()
        if before == "UPDATE" or (verb and not (verb in _FUNCTIONS and found["call"])):
            selecting[-1] = True
            operation = operation or (verb or before if len(selecting) == 1 else "")
            words.append(verb or before)
        name = found["name"]
        if name and (before != "FROM" or selecting[-1]) and (before == "INTO" or not found["paren"]):
            lower = name.lower()
            if lower not in defined and lower not in _NO_TABLES:
                words.append(_plain(name))
                if not table or (operation and not own):  # rather the main verb's own table than one of a WITH
                    table, own = words[-1], bool(operation)
        if found[0].endswith("("):
            selecting.append(False)
        elif found[0] == ")" and len(selecting) > 1:
            selecting.pop()
    return operation, table, words


def _plain(name: str) -> str:
    """A name as people say it: without quotes, and without white space around its dots."""
    if name.isidentifier():
        return name[:MAX_NAME]
    parts = re.findall(_PART, name)
    return ".".join(part[1:-1] if part[0] in '"`' else part for part in parts)[:MAX_NAME]


def _summary(words: list[str]) -> str:
    return " ".join(filter(None, words[:MAX_WORDS]))[:MAX_SUMMARY]
