"""Outages: what is wrong with all watches together, said once.

Where the API server is away each of a dozen watches finds that out by itself, in the same words. The first one's are a
warning, and so is that all is well again; the others' are for who debugs. Any thread.
"""

from __future__ import annotations

import logging
import threading

_log = logging.getLogger(__name__)


class Outages:
    """Problems by the name of a watch, as they are now."""

    def __init__(self) -> None:
        self._now: dict[str, str] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, problem: str) -> None:
        """It does not work; `problem` is a sentence."""
        with self._lock:
            news = problem not in self._now.values()
            self._now[name] = problem
        _log.log(logging.WARNING if news else logging.DEBUG, "watching %s: %s", name, problem)

    def end(self, name: str) -> None:
        """It works again."""
        with self._lock:
            problem = self._now.pop(name, "")
            others = problem in self._now.values()
        if problem:
            _log.log(logging.DEBUG if others else logging.WARNING, "watching %s works again", name)
