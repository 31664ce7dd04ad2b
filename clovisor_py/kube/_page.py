"""A page of a list, taken apart object by object: never all of it in memory as Python's objects.

A page of 500 pods is some megabytes of text, and ten times that once it is dicts. What is kept of each pod would lie between
those, and hold the memory of a whole page for good: with an index of ten thousand pods that was twice the agent. Reading one
object after the other also lets the other threads run in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from clovisor_py.kube.objects import Json

_DECODE: Final = json.JSONDecoder().raw_decode
_SPACE: Final = re.compile(r"[ \t\n\r]*")
ITEMS: Final = "items"


def read_page(raw: bytes, each: Callable[[Json], None]) -> dict[str, Any]:
    """The page without its `items`, which were handed to `each`, one after the other.

    Raises ValueError for what is not a JSON object; by then some items may have been handed over.
    """
    text = raw.decode()
    page: dict[str, Any] = {}
    at = _past(text, 0, "{")
    while not text.startswith("}", at):
        key, at = _DECODE(text, at)
        at = _past(text, at, ":")
        if key == ITEMS and text.startswith("[", at):
            at = _items(text, at, each)
        else:
            page[key], at = _DECODE(text, at)
        at = _next(text, at, "}")
    _end(text, at + 1)
    return page


def _items(text: str, at: int, each: Callable[[Json], None]) -> int:
    """Answers where the list ends."""
    at = _past(text, at, "[")
    while not text.startswith("]", at):
        item, at = _DECODE(text, at)
        each(item)
        at = _next(text, at, "]")
    return at + 1


def _past(text: str, at: int, what: str) -> int:
    """Behind `what`, and the space on both its sides."""
    at = _skip(text, at)
    if not text.startswith(what, at):
        raise ValueError(f"no {what!r} at {at}")
    return _skip(text, at + 1)


def _next(text: str, at: int, end: str) -> int:
    """Where the next one begins, or at `end`."""
    at = _skip(text, at)
    if text.startswith(end, at):
        return at
    at = _past(text, at, ",")
    if text.startswith(end, at):
        raise ValueError(f"nothing after the comma before {at}")
    return at


def _end(text: str, at: int) -> None:
    if _skip(text, at) != len(text):
        raise ValueError(f"more than one object: {at}")


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
