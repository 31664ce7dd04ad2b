"""Names of PostgreSQL's extended protocol: of prepared statements, and of portals, to what they stand for.

A client says a statement's text once and its name from then on, so the text is kept until the name is used; as many of them as
drivers keep, the latest used, as a client may make new names for ever.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from clovisor_py.protocols import _sql

MAX_STATEMENTS: Final = 256
"""Names of prepared statements kept for a connection, latest used: drivers keep 100 to 256."""
MAX_PORTALS: Final = 32
"""Names of portals kept for a connection; nearly all use the unnamed one only."""

Names: TypeAlias = dict[bytes, _sql.Statement]
"""The latest used last."""


def remember(names: Names, name: bytes, statement: _sql.Statement, limit: int) -> None:
    """It is the latest used; beyond `limit` the one goes that was used longest ago."""
    if names.get(name) is statement and len(names) == 1:
        return  # nearly all use one portal only
    names.pop(name, None)
    names[name] = statement
    if len(names) > limit:
        del names[next(iter(names))]


def recall(names: Names, name: bytes | None) -> _sql.Statement | None:
    """The statement of that name, which becomes the latest used."""
    if name is None or (statement := names.pop(name, None)) is None:
        return None
    names[name] = statement
    return statement
