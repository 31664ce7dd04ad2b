"""Redaction: what of other people's payloads may be told, as one table.

A parser asks before it puts anything private into a message: what is hidden never leaves the parser, so no exporter, metric
or log can leak it. `default` suits a production cluster, `strict` a regulated one, `off` the operator who asks for it.
Passwords, tokens of a login and SASL exchanges have no row that could show them: no attribute is ever made of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final


class Level(str, Enum):
    """How much is hidden; the value is what operators write."""

    OFF = "off"
    DEFAULT = "default"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Redaction:
    """One answer for each kind of private data: whether it may be told. Made from RULES by `redaction`."""

    level: Level
    queries: bool
    """Query strings and path parameters of a URL."""
    cookies: bool
    """Values of cookies, authorization and API keys in headers."""
    literals: bool
    """Literals in SQL text, and bound parameters."""
    values: bool
    """Values that are stored or sent: of a cache, a queue, a document."""
    keys: bool
    """Names of entries: Redis keys, Kafka record keys."""
    users: bool
    """Names of people and accounts: database users, SASL identities, user:@ in a URL."""
    statements: bool
    """SQL text at all, also without literals."""
    paths: bool
    """The parts of a path that look like an identifier rather than a route (`/users/1234`)."""


RULES: Final[dict[str, Level]] = {
    "queries": Level.DEFAULT,
    "cookies": Level.DEFAULT,
    "literals": Level.DEFAULT,
    "values": Level.DEFAULT,
    "keys": Level.STRICT,
    "users": Level.STRICT,
    "statements": Level.STRICT,
    "paths": Level.STRICT,
}
"""The lowest level that hides each kind."""

HIDDEN: Final = "?"
"""What stands in place of something hidden, where leaving it out would change the meaning: the placeholder of SQL."""
PLACE: Final = "{}"
"""What stands for a variable part of a path."""

_ORDER: Final = tuple(Level)
_VARIABLE = re.compile(r"[^/]*[0-9@%=~][^/]*|[^/]{33,}")
"""A path's part that is no word of a route: it has a digit, an escape or a sign, or is longer than names are. Versions stay."""
_VERSION = re.compile(r"v[0-9]{1,3}(?:(?:alpha|beta)[0-9]{0,3})?")


@lru_cache(maxsize=len(_ORDER))
def redaction(level: Level | str) -> Redaction:
    """The rules of a level. Raises ValueError for a name that is none."""
    wanted = _ORDER.index(Level(level))
    shown = {kind: wanted < _ORDER.index(lowest) for kind, lowest in RULES.items()}
    return Redaction(Level(level), **shown)


def stricter(one: Level | str, other: Level | str) -> Level:
    """The one of two levels that hides more."""
    return max(Level(one), Level(other), key=_ORDER.index)


def route(path: str) -> str:
    """The path with its variable parts hidden: `/v1/users/8731/cart` becomes `/v1/users/{}/cart`. Linear."""
    return "/".join(PLACE if _VARIABLE.fullmatch(part) and not _VERSION.fullmatch(part) else part for part in path.split("/"))


OFF: Final = redaction(Level.OFF)
DEFAULT: Final = redaction(Level.DEFAULT)
STRICT: Final = redaction(Level.STRICT)
