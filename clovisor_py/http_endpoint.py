"""HTTP endpoint: /healthz, /readyz and /metrics on one port, for the kubelet and Prometheus.

On a host's network anybody who reaches the node reaches it, so `http_server` bounds everything: connections at once, the time
of each, what is read of a request. Whoever is turned away is counted; the agent never waits for anyone.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Final

from clovisor_py.errors import EnvironmentLacking
from clovisor_py.http_server import LOOK_S, HttpServer, Page

METRICS: Final = "/metrics"

_log = logging.getLogger(__name__)


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
        self._server: HttpServer | None = None
        self.refused: Counter[str] = Counter()
        """Connections that got no answer, by `http_server.REFUSED`."""

    def start(self) -> int:
        """Listen; answers the port. Raises EnvironmentLacking where that cannot be."""
        host, port = self._address
        try:
            self._server = HttpServer(host, port, self.page, {METRICS}, self.refused)
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
            if path == METRICS:
                return Page(HTTPStatus.OK, *self._metrics(accept))
            checks = {"/healthz": self._healthy, "/livez": self._healthy, "/readyz": self._ready}
            if path in checks:
                wrong = checks[path]()
                return Page(HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK, f"{wrong or 'ok'}\n".encode())
        except Exception as error:  # noqa: BLE001 (whatever it is, who asks must be told, and the endpoint go on)
            _log.error("%s could not be answered", path, exc_info=error)
            return Page(HTTPStatus.INTERNAL_SERVER_ERROR, f"{path} failed ({type(error).__name__}); see the log.\n".encode())
        return Page(HTTPStatus.NOT_FOUND, b"There are /healthz, /readyz and /metrics.\n")
