"""Crash: what is told of somebody's parser that raised what no parser may raise.

Who wrote the parser needs the place; who reads the sessions needs the protocol. The exception's own text may quote the bytes
that were being read, so it is kept apart: no session carries it, and who shows it decides whether it may be seen.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, NamedTuple

from clovisor_py.model.text import printable

TEXT_CHARS: Final = 160
"""Characters of an exception's text that are kept: it may hold whatever was on the wire, all of it."""
CRASHES: Final = 16
"""Different crashes that are told apart; a parser has few places where it breaks. Further ones are counted as FURTHER."""


class Crash(NamedTuple):
    """`place`: file and line of the code that raised, `redis.py:42`; `text` is one line, printable and bounded."""

    protocol: str
    kind: str
    """The exception's type."""
    place: str
    text: str


FURTHER: Final = Crash("", "others", "", "")


def describe(protocol: str, error: Exception) -> Crash:
    """`protocol`: whose parser or recogniser it was."""
    text = printable(str(error)[:TEXT_CHARS])
    return Crash(protocol, type(error).__name__, _place(error), text[:TEXT_CHARS])


def _place(error: Exception) -> str:
    """The innermost line; empty where there is none (nothing was called)."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{PurePath(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
