"""What a SQL statement says: its verb, its table, a summary, its text without literals, and the trace it belongs to.

No parser of SQL, by intent: dialects differ, statements arrive cut short, and a wrong tree is worse than none. One regular
expression knows how literals, names and comments are written, and hides the former; all else is read from what is left.
Hiding errs on the safe side: where two readings of a literal's end are possible, everything behind it is hidden.

Applications send the same statements over and over, so what was read of the last few hundred is remembered; what is
remembered is shared, so callers copy the attributes. All of it is total and linear in the text.

Comments in the manner of sqlcommenter (https://google.github.io/sqlcommenter/spec/) carry `traceparent='…'`. Names of
attributes: https://opentelemetry.io/docs/specs/semconv/database/database-spans/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import unquote

from clovisor_py.model.message import PROPAGATION_HEADERS, AttributeValue
from clovisor_py.protocols._redaction import HIDDEN, Redaction
from clovisor_py.protocols._sql_target import Target, target

MAX_STATEMENT: Final = 4096
"""Bytes of a statement that are read and told; what is longer is mostly values."""
MAX_CONTEXT: Final = 512
"""Characters of one value of a trace context (W3C: a tracestate has at most 512)."""
MAX_REMEMBERED: Final = 1024
"""Bytes of a statement that is remembered; a longer one is rarely sent twice alike."""
REMEMBERED: Final = 512
"""Statements that are remembered, for each dialect and redaction."""


class Dialect(Enum):
    """Whose literals, names and comments."""

    POSTGRESQL = "postgresql"
    MYSQL = "mysql"


_COMMENT: Final = r"(?<=/)\*[^*/]*(?:(?:\*(?!/)|/(?!\*))[^*/]*)*(?:\*/|.*)"
"""Up to its end, but one that holds another (PostgreSQL nests them) up to the end of all: regular expressions cannot count."""
_NUMBER: Final = r"(?<=[0-9])(?<![\w$].)[\w.]*(?:(?<=[eE])[+-][0-9]+)?"
_ESCAPED: Final = r"[^'\\]*(?:(?:''|\\.)[^'\\]*)*(?:'|\\?\Z)"

_LEXICON: Final = {
    # A plain string of PostgreSQL has no escapes, unless a setting says so: behind `\'` nobody knows who is right.
    Dialect.POSTGRESQL: re.compile(
        r"""['"\-/$0-9eE](?:"""
        r"(?<=')[^'\\]*(?:(?:''|\\[^'])[^'\\]*)*(?:'|\\'.*|\\?\Z)"
        rf"|{_NUMBER}"
        rf"|(?<=[eE])(?<![\w$].)'{_ESCAPED}"
        r'|(?<=")[^"]*(?:""[^"]*)*(?:"|\Z)'
        r"|(?<=\$)(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)"
        rf"|(?<=-)-[^\n]*|{_COMMENT})",
        re.DOTALL,
    ),
    Dialect.MYSQL: re.compile(
        r"""['"`\-/#0-9](?:"""
        rf"(?<=')({_ESCAPED})|(?<=\")({_ESCAPED.replace(chr(39), chr(34))})"
        rf"|{_NUMBER}"
        r"|(?<=`)[^`]*(?:``[^`]*)*(?:`|\Z)"
        rf"|(?<=-)-(?=[\s\0]|\Z)[^\n]*|(?<=#)[^\n]*|{_COMMENT})",
        re.DOTALL,
    ),
}
"""Each match is one literal, quoted name or comment. The set in front is what makes searching fast."""
_NAME_QUOTE: Final = {Dialect.POSTGRESQL: '"', Dialect.MYSQL: "`"}
_COMMENT_STARTS: Final = "-/#"

_CONTEXT = re.compile(r"\b(" + "|".join(sorted(map(re.escape, PROPAGATION_HEADERS))) + r")='([^']*)'", re.IGNORECASE)
_PASSWORD = re.compile(r"\s*(?:ALTER|CREATE|SET|GRANT)\b.*\b(?:PASSWORD|IDENTIFIED)\b", re.IGNORECASE | re.DOTALL)


_SETTING = re.compile(r"(\A\s*SET\b[^=]*?(?:=|\bTO\b))[^;]*", re.IGNORECASE)
"""A setting's value, which needs no quotes."""


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """What was read of one statement, or of the first of several."""

    operation: str
    """Its verb in upper case (`SELECT`; of a WITH that of its main statement), or "" where it begins with none that exists."""
    table: str
    """The first table, as written but for its quotes, or ""."""
    resource: str
    """The table, or the procedure that is called, or ""."""
    copies_in: bool
    """It asks the client for the rows of a COPY."""
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    """`db.operation.name`, `db.collection.name`, `db.query.text`… as far as they are known and may be told. Shared: copy it."""
    propagation: dict[str, str] = field(default_factory=dict)
    """The trace context in its comments, as `Message.propagation`. Shared: copy it."""


ATTRIBUTES: Final = (
    "db.operation.name",
    "db.collection.name",
    "db.stored_procedure.name",
    "db.query.text",
    "db.query.summary",
)
"""What a Statement's `attributes` may hold."""

Reader: TypeAlias = Callable[[bytes], Statement]


@lru_cache(maxsize=16)
def reader(dialect: Dialect, redaction: Redaction) -> Reader:
    """What reads statements of this dialect. It is given their text, of which it looks at MAX_STATEMENT bytes."""

    def read(raw: bytes) -> Statement:
        return known(raw) if len(raw) <= MAX_REMEMBERED else _read(raw, dialect, redaction)

    known = lru_cache(maxsize=REMEMBERED)(lambda raw: _read(raw, dialect, redaction))
    return read


def sanitise(text: str, dialect: Dialect) -> str:
    """The text with `?` for every literal, and without comments."""
    lexicon, quote = _LEXICON[dialect], _NAME_QUOTE[dialect]
    if quote not in text and not _commented(text):
        return lexicon.sub(HIDDEN, text).strip()

    def replace(found: re.Match[str]) -> str:
        whole = found[0]
        first = whole[0]
        if first == quote and whole.count(quote) % 2 == 0:  # else it never ends, and may hold all the rest
            return whole
        return " " if first in _COMMENT_STARTS else HIDDEN

    return lexicon.sub(replace, text).strip()


def propagation(text: str, dialect: Dialect) -> dict[str, str]:
    """The trace context that its comments carry: lower-case name to value, decoded."""
    if not _commented(text):
        return {}
    found: dict[str, str] = {}
    for token in _LEXICON[dialect].finditer(text):
        if token[0][0] in _COMMENT_STARTS:
            found.update((name.lower(), unquote(value)[:MAX_CONTEXT]) for name, value in _CONTEXT.findall(token[0]))
    return found


def _commented(text: str) -> bool:
    return "/*" in text or "--" in text or "#" in text


def _read(raw: bytes, dialect: Dialect, redaction: Redaction) -> Statement:
    text = raw[:MAX_STATEMENT].decode("utf-8", "replace")
    clean = _SETTING.sub(rf"\1 {HIDDEN}", sanitise(text, dialect))
    about = _target(clean)
    statement = Statement(
        about.operation,
        about.table,
        about.table or about.procedure,
        about.copies_in,
        propagation=propagation(text, dialect),
    )
    told: dict[str, AttributeValue] = {
        "db.operation.name": about.operation,
        "db.collection.name": about.table,
        "db.stored_procedure.name": about.procedure,
        "db.query.summary": about.summary,
    }
    if redaction.statements:
        told["db.query.text"] = text if redaction.literals and not _PASSWORD.match(clean) else clean
    statement.attributes.update((name, value) for name, value in told.items() if value)
    return statement


@lru_cache(maxsize=REMEMBERED)
def _target(clean: str) -> Target:
    """Remembered apart: most statements differ in their literals only."""
    return target(clean)
