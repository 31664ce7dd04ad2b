"""Taps without a node: the test is the engine's thread."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from typing import Any

from clovisor_py.model.session import Session
from clovisor_py.tap import Tap
from clovisor_py.tap_wire import Begun
from clovisor_py.taps import Taps


class Sink:
    """What the exporters get."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    def offer(self, sessions: Sequence[Session]) -> None:
        self.sessions += sessions

    def ledgers(self) -> dict[str, Any]:
        return {"x": 1}


class Bench:
    """`close` it; a test may assert afterwards that no thread called `tap` is left."""

    def __init__(self) -> None:
        self.sink, self.private = Sink(), set[int]()
        self.taps = Taps(self.sink, self.private)
        self._ends: list[socket.socket] = []

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """The agent's end and that of who looks."""
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)
        self._ends += [ours, theirs]
        return ours, theirs

    def ask(self, redact: str = "") -> tuple[Tap, socket.socket]:
        """One that nobody has answered yet."""
        ours, theirs = self.pair()
        self.taps.open(ours, "Pod/shop/web", redact)
        return self.taps.open_now[-1], theirs

    def open(self, *interfaces: int) -> tuple[Tap, socket.socket]:
        tap, theirs = self.ask()
        tap.began, tap.interfaces = 1.0, frozenset(interfaces)
        tap.answer(Begun("n1"))
        return tap, theirs

    def close(self) -> None:
        self.taps.close()
        for sock in self._ends:
            sock.close()


def read(sock: socket.socket) -> list[tuple[str, Any]]:
    """All lines, to the end."""
    data = bytearray()
    while part := sock.recv(65536):
        data += part
    return [next(iter(json.loads(one).items())) for one in data.splitlines()]
