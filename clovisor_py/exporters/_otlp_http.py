"""OTLP over HTTP/1.1: a POST for each request, on one connection that is kept.

The standard library's client does: one thread, one connection, no pool, no proxy, no redirect. (A collector that redirects is
not the one that was named.) Before a kept connection is used again it is looked at: what the collector closed meanwhile is
opened anew, so that no request is sent twice for that reason.
"""

from __future__ import annotations

import gzip
import http.client
import select
import ssl
from typing import Final

from clovisor_py import __version__
from clovisor_py.errors import ExportInterrupted, UsageError
from clovisor_py.exporters import _otlp_reply, _otlp_tls
from clovisor_py.exporters._otlp_reply import REPLY_BYTES, Reply
from clovisor_py.exporters._otlp_settings import Settings

LATER: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may succeed."""
NOT_LET_IN: Final = frozenset({401, 403})
GZIP_LEVEL: Final = 1
"""Of spans it takes away nine tenths, as the highest does, in a fifth of the time."""
PROTOBUF: Final = "application/x-protobuf"


class HttpTransport:
    """POSTs to the collector. Raises UsageError where its certificates are not usable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._headers = {"User-Agent": f"clovisor/{__version__}", **settings.headers, "Content-Type": PROTOBUF}
        if settings.gzip:
            self._headers["Content-Encoding"] = "gzip"
        self._connection: http.client.HTTPConnection | None = None
        if settings.tls:
            _otlp_tls.context(settings)

    def send(self, body: bytes) -> Reply:
        """One POST. Raises ExportInterrupted where trying again may help."""
        data = gzip.compress(body, GZIP_LEVEL, mtime=0) if self._settings.gzip else body
        try:
            return self._post(data)
        except ssl.SSLError as error:
            self.close()
            why = getattr(error, "verify_message", "") or error.reason or str(error)
            raise ExportInterrupted(_otlp_reply.untrusted(self._settings, why)) from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self.close()
            why = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
            raise ExportInterrupted(_otlp_reply.away(self._settings, why)) from error
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
        connection.request("POST", self._settings.path, body=data, headers=self._headers)
        with connection.getresponse() as answer:
            said = answer.read(REPLY_BYTES)
            if answer.read(1):
                self.close()  # what is left of it would be taken for the next answer
            return self._reply(answer, said)

    def _ready(self) -> http.client.HTTPConnection:
        if self._connection is not None and self._ended(self._connection):
            self.close()
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> http.client.HTTPConnection:
        settings = self._settings
        if not settings.tls:
            return http.client.HTTPConnection(settings.host, settings.port, timeout=settings.timeout_s)
        try:
            context = _otlp_tls.context(settings)
        except UsageError as error:
            raise ExportInterrupted(str(error)) from error  # the files were usable at the start: they are being renewed
        return http.client.HTTPSConnection(settings.host, settings.port, timeout=settings.timeout_s, context=context)

    @staticmethod
    def _ended(connection: http.client.HTTPConnection) -> bool:
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
                return Reply(refused=True, why=_otlp_reply.refused(settings, "a web page is there, no OTLP receiver"))
            return _otlp_reply.accepted(said) if kind == PROTOBUF else Reply()
        status = _otlp_reply.status(said) if kind == PROTOBUF else _otlp_reply.Status()
        why = f"HTTP {code} {_otlp_reply.remark(status.message or answer.reason)}".strip()
        if code in LATER:
            asked = _otlp_reply.retry_after_s(answer.headers["Retry-After"]) or status.retry_after_s or 0.0
            raise ExportInterrupted(_otlp_reply.busy(settings, why), retry_after_s=asked)
        if code in NOT_LET_IN:
            return Reply(refused=True, why=_otlp_reply.unknown(settings, why))
        return Reply(refused=True, why=_otlp_reply.refused(settings, why))
