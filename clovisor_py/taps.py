"""Taps: all who look at pods of this node through its agent (`clovisor trace pod/…`), between the engine and the exporters.

What the engine makes of a pod that somebody taps goes into that one's queue as well; what it makes of a pod that nobody enabled
(the node traces it for the tap alone) goes nowhere else. The engine's thread decides once a turn which pods are tapped, and
waits for nobody.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from clovisor_py.agent_report import Sessions
from clovisor_py.errors import ClovisorError
from clovisor_py.exporters._worker import Ledger
from clovisor_py.kube.objects import Ref
from clovisor_py.model.session import Session
from clovisor_py.protocols._redaction import Level, stricter
from clovisor_py.tap import Tap
from clovisor_py.tap_targets import read_level, read_targets

TAPS: Final = 8
"""At once: operators are few, and each costs what encoding its sessions costs. More are refused."""
CLOSE_S: Final = 2.0
"""How long the agent's end waits until all have been told of it."""

TOO_MANY: Final = "{} taps are open already, the most that an agent serves at once: end one of them."
ENDING: Final = "the agent has ended."


class Taps:
    """All taps, and the way of sessions past them: it is the node agent's `sessions`, and `onwards` gets the rest.

    `private`: interfaces whose sessions are for taps alone; the node agent keeps it.
    """

    def __init__(self, onwards: Sessions, private: set[int]) -> None:
        self._onwards, self._private = onwards, private
        self._lock = threading.Lock()
        self._taps: tuple[Tap, ...] = ()
        self._opened = self._lost = 0
        self._closed = False

    # Any thread.

    def open(self, sock: socket.socket, targets: str, redact: str) -> None:
        """Serve who asked for this, from now on; the socket is the tap's. Raises UsageError, ClovisorError; never blocks."""
        tap = Tap(sock, read_targets(targets), read_level(redact))
        with self._lock:
            if self._closed:
                raise ClovisorError(ENDING)
            if len(self._taps) >= TAPS:
                raise ClovisorError(TOO_MANY.format(TAPS))
            tap.start()
            self._taps = (*self._taps, tap)
            self._opened += 1

    def close(self) -> None:
        """End all of them, and say so to those who look."""
        with self._lock:
            self._closed, taps = True, self._taps
        for tap in taps:
            tap.end(ENDING)
        until = time.monotonic() + CLOSE_S
        for tap in taps:
            tap.join(max(until - time.monotonic(), 0.0))

    # The engine's thread.

    def offer(self, sessions: Sequence[Session]) -> None:
        """Hand them on. Never blocks."""
        for tap in self._taps:
            if mine := [session for session in sessions if tap.may_see(session)]:
                tap.offer(mine)
        if self._private:
            sessions = [session for session in sessions if session.interface not in self._private]
        self._onwards.offer(sessions)

    def ledgers(self) -> Mapping[str, Ledger]:
        """Export URL to its counts."""
        return self._onwards.ledgers()

    @property
    def open_now(self) -> tuple[Tap, ...]:
        return self._taps

    def counts(self) -> dict[str, int]:
        """Taps that were opened, and sessions that readers were too slow for."""
        with self._lock:
            lost = self._lost + sum(tap.lost for tap in self._taps)
        return {"readers opened": self._opened, "readers lost": lost}

    def forget(self, tap: Tap) -> None:
        """It is over."""
        with self._lock:
            if tap in self._taps:
                self._lost += tap.lost
            self._taps = tuple(one for one in self._taps if one is not tap)


def wanted_by(taps: Iterable[Tap]) -> dict[Ref, str]:
    """The pods that are looked at, each with the strictest level that anybody asks for it."""
    found: dict[Ref, str] = {}
    for tap in taps:
        for ref in tap.refs:
            found[ref] = stricter(found.get(ref, Level.OFF), tap.level).value
    return found
