"""A block in which this process may do no more than an ordinary user: what is root's is out of reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

NOBODY: Final = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Does nothing for who is an ordinary user already."""
    before = os.geteuid()
    if before:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)
