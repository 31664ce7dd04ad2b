"""The other end of a tap: the sessions of pods as the agent of this node sends them, over its control socket.

`TapClient` is opened with what is wanted; `begin` waits until the agent has its pods, and `messages` gives what it says then,
until it ends or is asked to. A word goes to the agent every second while somebody reads, so the reader must come back for more:
an agent takes silence for a reader that hangs.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from clovisor_py.control_client import unreachable
from clovisor_py.control_socket import CHUNK, Request
from clovisor_py.errors import ClovisorError, EnvironmentLacking
from clovisor_py.model.session import Session
from clovisor_py.snapshot import Facts, Json, from_json
from clovisor_py.tap_wire import BEAT_S, SILENCE_S, TRACE, Begun, Finished, read_line, read_session

POLL_S: Final = 0.1
"""How long `messages` waits before it says that there is nothing."""
LINE_BYTES: Final = 16 * 1024 * 1024
"""Longest line: a session is a few kB, whatever was on the wire; the list of a node's pods less than 100 kB."""
HANGS: Final = "the agent at {} has said nothing for {:.0f} s: it hangs, and its log says why."
GONE: Final = "the agent at {} went away ({}): start again when it is back."
ODD: Final = "what answers at {} is another version's agent ({}): use its own clovisor."
BUSY: Final = "the agent at {} hung up: too many ask at once, or it is another version's; ask again."

Message = Session | str | Finished | None
"""A session, a remark, the end; None: nothing for POLL_S."""


class TapClient:
    """From `with` to its end. Raises EnvironmentLacking where there is no agent."""

    def __init__(self, path: Path, request: Request) -> None:
        self._path, self._request = path, request._replace(what=TRACE)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._data = bytearray()
        self._heard = self._said = 0.0
        self.lost = 0
        """Sessions that the agent had no room for, as far as it has told."""
        self.begun = Begun()

    def __enter__(self) -> TapClient:
        try:
            self._open()
        except BaseException:
            self._sock.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._sock.close()

    def begin(self, enough: Callable[[], bool]) -> bool:
        """Wait for the agent's first word, which is `begun` then; False where there was `enough()` before it came.

        Raises EnvironmentLacking where it says none, ClovisorError with what it objects.
        """
        while (text := self._line()) is None:
            if enough():
                return False
            try:
                self._receive(POLL_S)
            except ConnectionResetError as error:
                raise EnvironmentLacking(BUSY.format(self._path)) from error
        kind, content = self._read(text)
        if kind == "error":
            raise ClovisorError(str(content))
        if kind == "end":
            raise EnvironmentLacking(GONE.format(self._path, self._facts(Finished, content).why))
        if kind != "answer":
            raise EnvironmentLacking(ODD.format(self._path, kind))
        self.begun = self._facts(Begun, content)
        return True

    def leave(self) -> None:
        """Enough; `messages` goes on with what is on the way, and ends with Finished."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise EnvironmentLacking(GONE.format(self._path, error.strerror or error)) from error

    def messages(self, beating: bool = True) -> Iterator[Message]:
        """What the agent says. After `leave` with `beating` False. Raises EnvironmentLacking where it goes away or hangs."""
        while True:
            while (text := self._line()) is not None:
                kind, content = self._read(text)
                if kind == "session":
                    yield self._session(content)
                elif kind == "remark":
                    yield str(content)
                elif kind == "beat":
                    self.lost = int(content)
                elif kind == "end":
                    finished = self._facts(Finished, content)
                    self.lost = finished.lost
                    yield finished
                    return
            if beating:
                self._beat()
            if not self._receive(POLL_S):
                yield None

    def _open(self) -> None:
        try:
            self._sock.settimeout(SILENCE_S)
            self._sock.connect(str(self._path))
            self._sock.sendall(line_of(self._request))
        except OSError as error:
            raise unreachable(self._path, error) from error
        self._heard = time.monotonic()

    def _line(self) -> bytes | None:
        text, ended, rest = self._data.partition(b"\n")
        if not ended:
            return None
        self._data = rest
        return bytes(text)

    def _receive(self, patience_s: float) -> bool:
        """Wait for more; whether something came."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ)
            ready = selector.select(patience_s)
        now = time.monotonic()
        if not ready:
            if now - self._heard > SILENCE_S:
                raise EnvironmentLacking(HANGS.format(self._path, SILENCE_S))
            return False
        try:
            data = self._sock.recv(CHUNK)
        except OSError as error:
            raise EnvironmentLacking(GONE.format(self._path, error.strerror or error)) from error
        if not data and not self.begun.node:
            raise ConnectionResetError
        if not data or len(self._data) > LINE_BYTES:
            raise EnvironmentLacking(GONE.format(self._path, "it hung up"))
        self._data += data
        self._heard = now
        return True

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._said < BEAT_S:
            return
        self._said = now
        try:
            self._sock.sendall(b"\n")
        except OSError as error:  # what it said before is still to be read
            self._said = float("inf")
            if not isinstance(error, BrokenPipeError):
                raise EnvironmentLacking(GONE.format(self._path, error.strerror or error)) from error

    def _read(self, text: bytes) -> tuple[str, Json]:
        try:
            return read_line(text)
        except ValueError as error:
            raise EnvironmentLacking(ODD.format(self._path, error)) from error

    def _session(self, content: Json) -> Session:
        try:
            return read_session(content)
        except ValueError as error:
            raise EnvironmentLacking(ODD.format(self._path, error)) from error

    def _facts(self, kind: type[Facts], content: Json) -> Facts:
        try:
            return from_json(kind, content)
        except ValueError as error:
            raise EnvironmentLacking(ODD.format(self._path, error)) from error


def line_of(request: Request) -> bytes:
    """A request as it goes over the wire: only what is said."""
    return json.dumps({name: value for name, value in request._asdict().items() if value}).encode() + b"\n"
