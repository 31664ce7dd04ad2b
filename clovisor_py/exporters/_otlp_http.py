"""OTLP over HTTP/1.1: a POST for each request, on one connection that is kept.

The standard library's client does: one thread, one connection, no pool, no proxy, no redirect. (A collector that redirects is
not the one that was named.) A request is over when its timeout is, whatever the collector does (`_otlp_connection`). Before a
kept connection is used again it is looked at: what the collector closed meanwhile is opened anew, so that no request is sent
twice for that reason.
"""

from __future__ import annotations

import gzip
import http.client
import select
import socket
import ssl
from collections.abc import Callable
from typing import Final

from clovisor_py import __version__
from clovisor_py.errors import ExportInterrupted, UsageError
from clovisor_py.exporters import _otlp_faults, _otlp_reply, _otlp_tls
from clovisor_py.exporters._otlp_connection import Connection
from clovisor_py.exporters._otlp_reply import REPLY_BYTES, Reply
from clovisor_py.exporters._otlp_settings import Settings

LATER: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed."""
BAD_REQUEST: Final = 400
NOT_LET_IN: Final = frozenset({401, 403})
NO_RECEIVER: Final = frozenset({301, 302, 303, 307, 308, 404, 405})
"""No OTLP at this port and path: nobody is followed to another place."""
TO_TLS: Final = (b"HTTPS server", b"HTTPS port")
"""In what Go's and nginx's servers answer (400) to a request without TLS."""
HTTP2_FRAME: Final = "\0\0"
"""What begins with it is a short HTTP/2 frame: gRPC servers speak first."""
TLS_ALERT: Final = "\x15\x03"
HUNG_UP: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
GZIP_LEVEL: Final = 1
"""Of spans it takes away nine tenths, as the highest does, in a fifth of the time."""
PROTOBUF: Final = "application/x-protobuf"


class HttpTransport:
    """POSTs to the collector. Raises UsageError where its certificates are not usable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._headers = {"user-agent": f"clovisor/{__version__}", **settings.headers, "content-type": PROTOBUF}
        if settings.gzip:
            self._headers["content-encoding"] = "gzip"
        self._answered = False
        """At least once: no mistake of the URL makes it fail any more."""
        self._connection: Connection | None = None
        if settings.tls:
            _otlp_tls.context(settings)

    def send(self, body: bytes) -> Reply:
        """One POST. Raises ExportInterrupted where trying again may help."""
        data = gzip.compress(body, GZIP_LEVEL, mtime=0) if self._settings.gzip else body
        try:
            return self._post(data)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self.close()
            raise ExportInterrupted(self._fault(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _post(self, data: bytes) -> Reply:
        connection = self._ready()
        connection.begin(self._settings.timeout_s)
        try:
            connection.request("POST", self._settings.path, body=data, headers=self._headers)
        except (ConnectionResetError, BrokenPipeError):
            if connection.sock is None:
                raise  # else it may have answered before it had read all
        with connection.getresponse() as answer:
            self._answered = True
            said = answer.read(REPLY_BYTES)
            if answer.read(1):
                self.close()  # what is left of it would be taken for the next answer
            return self._reply(answer, said)

    def _ready(self) -> Connection:
        if self._connection is not None and self._ended(self._connection):
            self.close()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> Connection:
        settings = self._settings
        try:
            context = _otlp_tls.context(settings) if settings.tls else None
        except UsageError as error:
            raise ExportInterrupted(str(error)) from error  # the files were usable at the start: they are being renewed
        return Connection(settings.host, settings.port, context)

    @staticmethod
    def _ended(connection: Connection) -> bool:
        """Whether the collector closed it, or said something unasked."""
        if connection.sock is None:
            return False  # it was closed by us, and opens again by itself
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        return bool(poll.poll(0))

    def _reply(self, answer: http.client.HTTPResponse, said: bytes) -> Reply:
        settings, code = self._settings, answer.status
        kind = answer.headers.get_content_type()
        if 200 <= code < 300:
            if kind == "text/html":
                return Reply(refused=True, why=_otlp_faults.no_receiver(settings, "a web page is there"))
            return _otlp_reply.accepted(said) if kind == PROTOBUF else Reply()
        status = _otlp_reply.status(said) if kind == PROTOBUF else _otlp_reply.Status()
        why = f"HTTP {code} {_otlp_reply.remark(status.message or answer.reason)}".strip()
        if code in LATER:
            asked = _otlp_reply.retry_after_s(answer.headers["Retry-After"]) or status.retry_after_s or 0.0
            raise ExportInterrupted(_otlp_faults.busy(settings, why), retry_after_s=asked)
        return Reply(refused=True, why=self._refusal(code, said)(settings, why))

    def _refusal(self, code: int, said: bytes) -> Callable[[Settings, str], str]:
        if code in NOT_LET_IN:
            return _otlp_faults.not_let_in
        if code in NO_RECEIVER:
            return _otlp_faults.no_receiver
        if code == BAD_REQUEST and not self._settings.tls and any(words in said for words in TO_TLS):
            return _otlp_faults.wants_tls
        return _otlp_faults.refused

    def _fault(self, error: Exception) -> str:
        """The sentence of an exception."""
        settings, why = self._settings, _words(error)
        if isinstance(error, TimeoutError):
            return _otlp_faults.late(settings, why)
        if isinstance(error, socket.gaierror | UnicodeError):
            return _otlp_faults.nameless(settings, why)
        if isinstance(error, HUNG_UP):
            return _otlp_faults.hung_up(settings, why, answered=self._answered)
        if isinstance(error, ssl.SSLError):
            return _otlp_faults.no_tls(settings, why)
        if isinstance(error, http.client.HTTPException) and not self._answered:
            if why.startswith(TLS_ALERT):
                return _otlp_faults.wants_tls(settings, "a TLS alert")
            if why.startswith(HTTP2_FRAME):
                return _otlp_faults.wants_grpc(settings, "an HTTP/2 frame")
            return _otlp_faults.no_http(settings, why)
        return _otlp_faults.away(settings, why)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", "") or error.reason or str(error)
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
