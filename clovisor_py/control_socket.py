"""Control socket: what operators ask the agent that runs on this node, over a unix socket that only its owner may open.

One request, one answer, each a line of JSON, then mostly the connection is closed:

    {"what": "snapshot"}                                         -> {"answer": {…}}
    {"what": "pod", "namespace": "shop", "name": "cart-7d9f"}    -> {"answer": {…} or null}
    {"what": "trace", "targets": "Pod/shop/cart-7d9f"}           -> as `tap_wire` says; the connection is a tap's then
    anything else                                                -> {"error": "a sentence"}

The server is one thread over non-blocking sockets. It answers from the snapshot that was published last, so nobody who asks,
however slowly or however much, makes the agent wait. Requests, connections and their time are bounded, and what is turned away
is counted.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from clovisor_py.errors import ClovisorError, EnvironmentLacking, UsageError
from clovisor_py.snapshot import Json, Pod, Snapshot, as_json
from clovisor_py.tap_wire import TRACE

DEFAULT_PATH: Final = Path("/run/clovisor/control.sock")
REQUEST_BYTES: Final = 4096
"""Longest request: a namespace and a name are at most 63 and 253 characters."""
CONNECTIONS: Final = 16
"""Open at once: operators are few. More are closed at once (`refused["too many"]`)."""
PATIENCE_S: Final = 10.0
"""A connection that takes longer, in whatever way, is closed (`refused["too slow"]`): it holds one of CONNECTIONS."""
LOOK_S: Final = 1.0
"""How late that may be noticed; and how long nobody is let in when the process has no file descriptor left."""
CHUNK: Final = 64 * 1024
VIEW: Final = "view"
"""The request for what was counted (`metrics.taken`); who serves has an answer of its own for it."""

_log = logging.getLogger(__name__)


class Request(NamedTuple):
    """What somebody asks for."""

    what: str
    namespace: str = ""
    name: str = ""
    targets: str = ""
    """Of `trace`: KIND/NAMESPACE/NAME, with blanks between several."""
    redact: str = ""
    """Of `trace`: the level that must hold at least."""


Answer = Callable[[Request], Json]
"""Must not block; what it answers goes to `json.dumps`. A ClovisorError that it raises is told to who asked."""
Find = Callable[[str, str], Pod | None]
"""(namespace, name) to what the cluster-wide index knows of a pod that is not on this node. Must not block."""
Take = Callable[[socket.socket, Request], None]
"""Takes over the connection of a `trace`, or raises a ClovisorError. Must not block."""


@dataclass(slots=True)
class _Connection:
    until: float
    request: bytearray = field(default_factory=bytearray)
    answer: memoryview | None = None


class ControlSocket:
    """The server. `find` names pods of other nodes, `take` serves taps; `with` closes it.

    `publish` may come before `serve`, from any thread.
    """

    def __init__(self, path: Path = DEFAULT_PATH, find: Find | None = None, take: Take | None = None) -> None:
        self._path = path
        self._find, self._take = find, take
        self._snapshot = Snapshot()
        self._answer: Answer = self.answer
        self._thread: threading.Thread | None = None
        self._connections: dict[socket.socket, _Connection] = {}
        self._resting = 0.0
        """Until then (monotonic, s) nobody is let in; 0 while there is no reason to rest. Both are the thread's."""
        self.refused: Counter[str] = Counter()
        """Connections that got no answer: `too many`, `too slow`, `too long`, `gone`, `failed` (a fault of ours); and
        `no file descriptor`: how often nobody could be let in.
        """

    def publish(self, snapshot: Snapshot) -> None:
        """From now on answers come from this one. Costs an assignment."""
        self._snapshot = snapshot

    @property
    def snapshot(self) -> Snapshot:
        """The last one that was published."""
        return self._snapshot

    def answer(self, request: Request) -> Json:
        """What `serve` answers where it is told nothing else."""
        snapshot = self._snapshot
        if request.what == "snapshot":
            return as_json(snapshot)
        if request.what != "pod":
            raise UsageError(f"this agent knows no request '{request.what[:40]}': use the clovisor of its own version.")
        pod = next((pod for pod in snapshot.pods if (pod.namespace, pod.name) == request[1:3]), None)
        if pod is None and self._find is not None:
            pod = self._find(request.namespace, request.name)
        return None if pod is None else as_json(pod)

    def serve(self, answer: Answer | None = None) -> None:
        """Listen, and answer from a thread of its own. Raises EnvironmentLacking where the socket cannot be made."""
        self._answer = answer or self.answer
        self._listener = _listen(self._path)
        self._inode = self._path.stat().st_ino
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for sock in (self._listener, self._woken):
            self._selector.register(sock, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="control socket", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more, and take the socket away. May be called again."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._wake.send(b"x")
        thread.join()
        for sock in (self._wake, self._woken, self._listener):
            sock.close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except OSError as error:
            _log.debug("the control socket %s is gone already (%s)", self._path, error)

    def __enter__(self) -> ControlSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # The thread.

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(LOOK_S):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._woken:
                    self._end()
                    return
                if sock is self._listener:
                    self._accept()
                elif sock in self._connections:
                    self._serve(sock)
            self._look(time.monotonic())

    def _end(self) -> None:
        for sock in list(self._connections):
            self._drop(sock)
        self._selector.close()

    def _look(self, now: float) -> None:
        for sock in [sock for sock, one in self._connections.items() if one.until <= now]:
            self._drop(sock, "too slow")
        if self._resting and self._resting <= now:
            self._resting = 0.0
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            self.refused["gone"] += 1
            return
        except OSError as error:
            _log.debug("a connection could not be accepted: %s", error)
            self.refused["no file descriptor"] += 1
            self._selector.unregister(self._listener)  # who waits there keeps it readable, which would have us spin
            self._resting = time.monotonic() + LOOK_S
            return
        if len(self._connections) >= CONNECTIONS:
            self.refused["too many"] += 1
            sock.close()
            return
        sock.setblocking(False)
        self._connections[sock] = _Connection(time.monotonic() + PATIENCE_S)
        self._selector.register(sock, selectors.EVENT_READ)

    def _drop(self, sock: socket.socket, refused: str = "") -> None:
        if refused:
            self.refused[refused] += 1
        del self._connections[sock]
        self._selector.unregister(sock)
        sock.close()

    def _serve(self, sock: socket.socket) -> None:
        """Whatever happens to one connection, the others still want their answers."""
        try:
            self._go_on(sock, self._connections[sock])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            _log.debug("who asked has gone (%s)", error)
            self._drop(sock, "gone")
        except Exception as error:  # noqa: BLE001
            _log.error("a connection to the control socket failed: please report it.", exc_info=error)
            self._drop(sock, "failed")

    def _go_on(self, sock: socket.socket, one: _Connection) -> None:
        """Read some more of the request, or write some more of the answer."""
        if one.answer is None:
            self._read(sock, one)
        else:
            one.answer = one.answer[sock.send(one.answer[:CHUNK]) :]
        if one.answer is not None and not one.answer:
            self._drop(sock)

    def _read(self, sock: socket.socket, one: _Connection) -> None:
        data = sock.recv(REQUEST_BYTES)
        one.request += data
        line, ended, _ = bytes(one.request).partition(b"\n")
        if len(line) > REQUEST_BYTES:
            self.refused["too long"] += 1
            one.answer = encoded({"error": f"a request of more than {REQUEST_BYTES} bytes is none: ask for one pod at a time."})
        elif ended:
            one.answer = self._answered(line, sock)
            if one.answer is None:
                del self._connections[sock]
                return
        elif not data:
            raise ConnectionResetError("it ended before its request did")
        else:
            return
        self._selector.modify(sock, selectors.EVENT_WRITE)

    def _answered(self, line: bytes, sock: socket.socket) -> memoryview | None:
        """None: the connection is another's now."""
        try:
            request = _request(line)
            if request.what == TRACE and self._take is not None:
                self._hand_over(sock, request, self._take)
                return None
            return encoded({"answer": self._answer(request)})
        except ClovisorError as error:
            return encoded({"error": str(error)})
        except Exception as error:  # noqa: BLE001 (whatever it was, the others still want their answers)
            _log.error("a request could not be answered", exc_info=error)
            return encoded({"error": f"the agent failed ({type(error).__name__}), its log says how: please report it."})

    def _hand_over(self, sock: socket.socket, request: Request, take: Take) -> None:
        self._selector.unregister(sock)
        try:
            take(sock, request)
        except BaseException:  # whatever it was, it is told over this connection
            self._selector.register(sock, selectors.EVENT_READ)
            raise


def encoded(message: Json) -> memoryview:
    return memoryview(json.dumps(message).encode() + b"\n")


def _request(line: bytes) -> Request:
    try:
        message = json.loads(line)
        fields = {name: message[name] for name in Request._fields if name in message}
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError("a request is one JSON object a line: use `clovisor pods` or `clovisor explain`.") from error
    if "what" not in fields or not all(isinstance(value, str) for value in fields.values()):
        raise UsageError("a request says `what` it wants, as a string: use `clovisor pods` or `clovisor explain`.")
    return Request(**fields)


def _listen(path: Path) -> socket.socket:
    """A listening socket, 0600 from its first moment. What a killed predecessor left is replaced: the datapath's lock says that
    there is only one agent.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        listener.listen(CONNECTIONS)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise EnvironmentLacking(f"the control socket {path} cannot be made ({error}): give the agent another path.") from error
    return listener
