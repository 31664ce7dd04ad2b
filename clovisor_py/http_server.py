"""HTTP server: one request a connection, and places that nobody can take from the kubelet's probes.

The port is open to whoever reaches the node, and a probe that is not answered gets the agent restarted. So a connection that
has not said yet what it wants never keeps another one out: when all places are taken, the oldest of whoever has the most makes
room. Pages that take long (`slow`) have a few places of their own, and one address only a part of these. Whoever gets no
answer is counted, by reason.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

CONNECTIONS: Final = 32
"""At once, each with a thread; a kubelet and a Prometheus or two have one each. A further one takes the place of another."""
SLOW: Final = 8
"""Of these, with a slow page, from its making to its last byte; further ones are answered 503 (`too many pages`)."""
SLOW_EACH: Final = 4
"""Of SLOW, from one address: others find a place even while that one reads as slowly as it can."""
BACKLOG: Final = 1024
"""Connections that the kernel keeps for us meanwhile, half a second's work: no probe in a burst shall wait for a second SYN."""
ASK_S: Final = 2.0
"""For a whole request: who asks does so at once. A later one is closed (`too slow`)."""
SEND_S: Final = 10.0
"""For a whole answer, as Prometheus waits by default; making it does not count. Then it is broken off (`too slow`)."""
LOOK_S: Final = 0.5
"""How late a slow request may be noticed; and how long a new connection waits for its place, at most."""
TEXT: Final = "text/plain; charset=utf-8"
TOO_MANY, TOO_MANY_PAGES, TOO_SLOW = REFUSED = ("too many", "too many pages", "too slow")
BUSY: Final = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

_log = logging.getLogger(__name__)


class Page(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    content_type: str = TEXT


@dataclass(slots=True)
class _Connection:
    address: str
    ask_by: float | None
    """Monotonic, s; None where it has asked, or is being closed."""
    slow: bool = False


class HttpServer(ThreadingHTTPServer):
    """`page` answers a path and an Accept header, in the connection's thread; `slow`: paths whose pages take long.
    `refused`: where to count connections that get no answer, by REFUSED.

    `host` empty: all addresses, of both families where there are two. Raises OSError where it cannot listen.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG
    allow_reuse_address = True

    def __init__(
        self, host: str, port: int, page: Callable[[str, str], Page], slow: Collection[str], refused: Counter[str]
    ) -> None:
        self.page = page
        self._slow, self._refused = slow, refused
        refused.update(dict.fromkeys(REFUSED, 0))
        self._open: dict[socket.socket, _Connection] = {}
        """The oldest first."""
        self._changed = threading.Condition()
        both = not host and socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
        self._both = both
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        if self._both:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a predecessor's connections linger for a minute
        self.socket.bind(self.server_address)  # and no more: the standard library would look its own name up
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "clovisor", self.server_address[1]

    # The thread that accepts.

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (the base class has no better)
        if self._admit(request, client_address[0]):
            super().process_request(request, client_address)
            return
        request.setblocking(False)
        try:
            request.send(BUSY)
        except OSError as error:
            _log.debug("who was turned away had gone (%s)", error)
        self.shutdown_request(request)

    def _admit(self, request: socket.socket, address: str) -> bool:
        with self._changed:
            if len(self._open) >= CONNECTIONS:
                self._make_room()
                self._changed.wait_for(lambda: len(self._open) < CONNECTIONS, LOOK_S)
            if len(self._open) >= CONNECTIONS:  # all are just being answered
                self._refused[TOO_MANY] += 1
                return False
            self._open[request] = _Connection(address, time.monotonic() + ASK_S)
            return True

    def _make_room(self) -> None:
        held = Counter(one.address for one in self._open.values())
        silent = [request for request, one in self._open.items() if one.ask_by is not None]
        if silent:
            self._hang_up(max(silent, key=lambda request: held[self._open[request].address]), TOO_MANY)

    def service_actions(self) -> None:
        """Between two looks for connections: end those that take too long to ask."""
        now = time.monotonic()
        with self._changed:
            for request in [request for request, one in self._open.items() if one.ask_by is not None and one.ask_by <= now]:
                self._hang_up(request, TOO_SLOW)

    def _hang_up(self, request: socket.socket, why: str) -> None:
        """Its thread gives the place back, as soon as it has noticed."""
        self._refused[why] += 1
        self._open[request].ask_by = None
        try:
            request.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            _log.debug("who was to be hung up on had gone (%s)", error)

    # The connections' own threads.

    def begin(self, request: socket.socket, path: str) -> bool:
        """It has asked, for this. False: there is no place for such a page."""
        with self._changed:
            one = self._open[request]
            one.ask_by = None
            if path not in self._slow:
                return True
            others = [other.address for other in self._open.values() if other.slow]
            one.slow = len(others) < SLOW and others.count(one.address) < SLOW_EACH
            self._refused[TOO_MANY_PAGES] += not one.slow
            return one.slow

    def sent_too_slowly(self) -> None:
        with self._changed:
            self._refused[TOO_SLOW] += 1

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify()
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        _log.debug("a connection from %s broke off", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request of one connection."""

    server: HttpServer
    server_version = "clovisor"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        if not self.server.begin(self.connection, path):
            self.wfile.write(BUSY)
            return
        page = self.server.page(path, self.headers.get("Accept", ""))
        self.connection.settimeout(SEND_S)
        try:
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            if body:
                self.wfile.write(page.body)
        except TimeoutError:
            self.server.sent_too_slowly()
            raise

    def log_message(self, format: str, *args: object) -> None:
        _log.debug("%s " + format, self.client_address[0], *args)
