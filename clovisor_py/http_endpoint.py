"""HTTP endpoint: /healthz, /readyz and /metrics on one port, for the kubelet and Prometheus.

On a host's network anybody who reaches the node reaches it, so everything is bounded: connections at once, the time of each,
what is read of a request. A connection serves one request. Whoever is turned away is counted; the agent never waits for anyone.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, NamedTuple

from clovisor_py.errors import EnvironmentLacking

CONNECTIONS: Final = 8
"""Served at once: a kubelet, a Prometheus or two. More are answered 503 (`refused["too many"]`)."""
PATIENCE_S: Final = 5.0
"""A connection that takes longer, in whatever way, is closed (`refused["too slow"]`): it holds one of CONNECTIONS."""
LOOK_S: Final = 0.5
"""How late that may be noticed."""
TEXT: Final = "text/plain; charset=utf-8"
BUSY: Final = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

_log = logging.getLogger(__name__)


class Page(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    content_type: str = TEXT


def host_and_port(text: str) -> tuple[str | None, str]:
    """Takes `PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT` apart; None where no address is given. Neither is looked at."""
    host, colon, port = text.rpartition(":")
    return (host.removeprefix("[").removesuffix("]") if colon else None), port


Check = Callable[[], str]
"""Empty where all is well, else a sentence. Must not block."""


class HttpEndpoint:
    """Serves from `start` to `close` (`with` does both). `metrics` is given the Accept header, and answers body and type.

    `port` 0 takes a free one; `host` empty listens on all addresses, of both families where there are two.
    """

    def __init__(
        self,
        port: int,
        *,
        healthy: Check,
        ready: Check,
        metrics: Callable[[str], tuple[bytes, str]],
        host: str = "",
    ) -> None:
        self._address = (host, port)
        self._healthy, self._ready, self._metrics = healthy, ready, metrics
        self._server: _Server | None = None
        self.refused: Counter[str] = Counter()
        """Connections that got no page: `too many`, `too slow`."""

    def start(self) -> int:
        """Listen; answers the port. Raises EnvironmentLacking where that cannot be."""
        host, port = self._address
        try:
            self._server = _Server(host, port, self.page, self.refused)
        except OSError as error:
            why, where, setting = error.strerror or error, f" of {host}" if host else "", "http_host or " if host else ""
            raise EnvironmentLacking(
                f"port {port}{where} for metrics and probes cannot be had ({why}): set {setting}http_port."
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(LOOK_S,), name="http endpoint", daemon=True)
        self._thread.start()
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Serve nobody any more. May be called again."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()

    def __enter__(self) -> HttpEndpoint:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def page(self, path: str, accept: str) -> Page:
        """The answer for a path. A failure is one, too: a probe must hear of it."""
        try:
            if path == "/metrics":
                return Page(HTTPStatus.OK, *self._metrics(accept))
            checks = {"/healthz": self._healthy, "/livez": self._healthy, "/readyz": self._ready}
            if path in checks:
                wrong = checks[path]()
                return Page(HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK, f"{wrong or 'ok'}\n".encode())
        except Exception as error:  # noqa: BLE001 (whatever it is, who asks must be told, and the endpoint go on)
            _log.error("%s could not be answered", path, exc_info=error)
            return Page(HTTPStatus.INTERNAL_SERVER_ERROR, f"{path} failed ({type(error).__name__}); see the log.\n".encode())
        return Page(HTTPStatus.NOT_FOUND, b"There are /healthz, /readyz and /metrics.\n")


class _Server(ThreadingHTTPServer):
    """The standard library's, with as many threads as there are places, and an end for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = CONNECTIONS
    allow_reuse_address = True

    def __init__(self, host: str, port: int, page: Callable[[str, str], Page], refused: Counter[str]) -> None:
        self.page = page
        self._refused = refused
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
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

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 (the base class has no better)
        with self._lock:
            full = len(self._open) >= CONNECTIONS
            if not full:
                self._open[request] = time.monotonic() + PATIENCE_S
        if full:
            self._refused["too many"] += 1
            request.setblocking(False)
            try:
                request.send(BUSY)
            except OSError as error:
                _log.debug("who was turned away had gone (%s)", error)
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Between two looks for connections: end those that take too long."""
        now = time.monotonic()
        with self._lock:
            late = [request for request, until in self._open.items() if until <= now]
            for request in late:
                self._refused["too slow"] += 1
                self._open[request] = float("inf")  # its thread gives the place back, when it has noticed
                try:
                    request.shutdown(socket.SHUT_RDWR)
                except OSError as error:
                    _log.debug("a slow one had gone (%s)", error)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        _log.debug("a connection from %s broke off", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request of one connection."""

    server: _Server
    server_version = "clovisor"
    sys_version = ""
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        page = self.server.page(self.path.partition("?")[0], self.headers.get("Accept", ""))
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        if body:
            self.wfile.write(page.body)

    def log_message(self, format: str, *args: object) -> None:
        _log.debug("%s " + format, self.client_address[0], *args)
