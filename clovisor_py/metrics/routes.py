"""Routes: templates learnt from the paths of requests (`/users/{id}/orders`), because the wire does not tell the server's own.

Numbers, UUIDs, hashes, dates and what no hand wrote (`_words`) are variables at once. Any other part is a word of the route
until FANOUT different ones were seen at its place under one parent: then the place is a variable, too, for all that came and
will come there. `Trie.changed` says that this happened, so that whoever counts by template can move what it has: `find` of an
old template is its new one.

Paths come from the wire, so everything is bounded: parts, their length, the words of a service, the services. What goes beyond
has the template OTHER, and is counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from clovisor_py.metrics._words import written
from clovisor_py.protocols._redaction import PLACE

ID: Final = "{id}"
"""A number, a UUID, a hash, an address, or something that no hand wrote."""
DATE: Final = "{date}"
NAME: Final = "{name}"
"""One of too many words."""
REST: Final = "{rest}"
"""All parts beyond DEPTH."""
OTHER: Final = "other"

FANOUT: Final = 24
"""Words at one place: resources of an API that a hand wrote are fewer; tenants and users soon are more."""
DEPTH: Final = 8
"""Parts of a path that are looked at."""
WORD_CHARS: Final = 32
"""A longer part is no word of a route."""
NODES: Final = 512
"""Places that are remembered of one service, at 0.3 kB each: several times the routes of a large API. Where there are so many,
the next new word makes its place a variable."""
SERVICES: Final = 256
"""Services whose routes are learnt: those of a node and those that they call. Paths of others are OTHER."""

_DATE = re.compile(r"[12][0-9]{3}-[01][0-9](?:-[0-3][0-9](?:[T_ ].*)?)?")
_ID = re.compile(
    r"[-+]?[0-9][0-9.,:_\-]*"  # a number, an address, a time
    r"|[0-9]+\.[0-9A-Za-z]{1,5}"  # a file that is called after one
    r"|\{?[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\}?"
    r"|(?=[^/]*[0-9])(?:0x)?[0-9a-fA-F]{7,}"  # a hash; one without a digit is too likely a word (`facade`)
    r"|(?=(?:[^/0-9]*[0-9]){3})[0-9A-Za-z_\-]{16,}"  # base64, ULID
    r"|[^/]*[@%=~;:\s\x00-\x1f\x7f][^/]*"  # an escape, an address, a key and its value
)
_VARIABLES: Final = frozenset({ID, DATE, NAME, REST, PLACE})


def place(part: str) -> str:
    """What a part of a path is at first sight: a variable, or the word itself."""
    if part.isascii():  # most are a number or a word of small letters: no need to ask four expressions
        if part.isdigit():
            return ID
        if part.islower() and part.isalpha() and len(part) <= WORD_CHARS:
            return part
    if part in _VARIABLES:
        return part
    if _DATE.fullmatch(part):
        return DATE
    if len(part) > WORD_CHARS or not part.isprintable() or _ID.fullmatch(part):
        return ID
    return part if written(part) else ID


class _Node:
    """What follows a place."""

    __slots__ = ("children", "full")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.full = False
        """Every word here is NAME."""

    def words(self) -> list[str]:
        return [part for part in self.children if part not in _VARIABLES]


class Trie:
    """The routes of one service. For one thread."""

    __slots__ = ("_root", "changed", "nodes", "overflowed")

    def __init__(self) -> None:
        self._root = _Node()
        self.nodes = 0
        self.changed = False
        """A place became a variable since somebody set this to False: templates of before may have another now."""
        self.overflowed = 0
        """Paths that had no room."""

    def find(self, path: str) -> str:
        """The template of a path, or of a template. Time is linear in the path's length."""
        parts = path.split("/", DEPTH + 1)
        if path == OTHER or len(parts) < 2:
            return path if path in ("", "*") else OTHER
        if len(parts) > DEPTH + 1:
            parts[-1] = REST
        found, node = [], self._root
        for part in parts[1:]:
            known = node.children.get(part)
            word = part if known is not None else place(part)
            if known is None and node.full and word not in _VARIABLES:
                word = NAME
            known = node.children.get(word) or self._grow(node, word)
            if known is None:
                self.overflowed += 1
                return OTHER
            if node.full and word not in _VARIABLES:  # it has just become so
                word, known = NAME, node.children[NAME]
            found.append(word)
            node = known
        return f"{parts[0]}/{'/'.join(found)}"

    def _grow(self, node: _Node, word: str) -> _Node | None:
        """A new child; None where there is no room."""
        if self.nodes >= NODES:
            if word in _VARIABLES or not node.children:
                return None
            self._fill(node)
            return node.children[NAME]
        self.nodes += 1
        child = node.children[word] = _Node()
        if word not in _VARIABLES and len(node.children) > FANOUT and len(node.words()) > FANOUT:
            self._fill(node)
        return child

    def _fill(self, node: _Node) -> None:
        """All words of this place become NAME, and what followed them is put together."""
        self.changed = node.full = True
        into = node.children.get(NAME)
        if into is None:
            into = node.children[NAME] = _Node()
            self.nodes += 1
        for word in node.words():
            self._merge(into, node.children.pop(word))
            self.nodes -= 1

    def _merge(self, into: _Node, other: _Node) -> None:
        if other.full and not into.full:
            self._fill(into)
        for word, child in other.children.items():
            key = NAME if into.full and word not in _VARIABLES else word
            known = into.children.get(key)
            if known is None:
                into.children[key] = child
            else:
                self.nodes -= 1
                self._merge(known, child)
        if len(into.words()) > FANOUT:
            self._fill(into)


class Routes:
    """A Trie for each service. For one thread."""

    __slots__ = ("_tries", "overflowed")

    def __init__(self) -> None:
        self._tries: dict[tuple[str, str], Trie] = {}
        self.overflowed = 0
        """Services that found no room, each time that they were asked for."""

    def of(self, namespace: str, service: str) -> Trie | None:
        """None: there are too many services."""
        trie = self._tries.get((namespace, service))
        if trie is None:
            if len(self._tries) >= SERVICES:
                self.overflowed += 1
                return None
            trie = self._tries[namespace, service] = Trie()
        return trie

    def keep(self, services: Collection[tuple[str, str]]) -> None:
        """Forget the routes of all others."""
        for gone in self._tries.keys() - services:
            self.overflowed += self._tries.pop(gone).overflowed

    @property
    def paths_overflowed(self) -> int:
        """Paths without a template: of a service that found no room, or had none for them. Any thread."""
        return self.overflowed + sum(trie.overflowed for trie in list(self._tries.values()))

    @property
    def nodes(self) -> int:
        """Places that are remembered, of all services. Any thread."""
        return sum(trie.nodes for trie in list(self._tries.values()))
