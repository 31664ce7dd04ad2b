"""Troubles: what an agent that is to go on meets again and again: said when it begins, counted each time, tried again.

Attaching, repairing and looking are done every few seconds for every pod of a node. The kernel may refuse any of them for one
veth, or for a while (memory, file descriptors, another program's programs): that is no reason to leave the other pods.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from clovisor_py.errors import ClovisorError

REMEMBERED: Final = 256
"""Troubles that are known to have been said already: twice the pods of a node. Beyond, the oldest may be said again."""


class Troubles:
    """Those of one agent. `log` gets the sentences. Not thread-safe."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, str] = {}
        self.count = 0
        """So far, also those that were not worth another word."""

    @contextmanager
    def at(self, doing: str) -> Iterator[None]:
        """For the block, which is left where something is refused. `doing` names it, and begins the sentence."""
        try:
            yield
        except (ClovisorError, OSError) as error:
            self._say(doing, str(error))
        else:
            self._said.pop(doing, None)

    def _say(self, doing: str, why: str) -> None:
        self.count += 1
        if self._said.pop(doing, None) != why:
            self._log.warning("%s did not succeed, and is tried again: %s", doing, why)
        self._said[doing] = why
        if len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]
