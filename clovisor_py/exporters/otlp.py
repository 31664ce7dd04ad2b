"""`otlp+grpc://HOST[:4317]`, `otlp+http://HOST[:4318]`: spans to any collector, in OpenTelemetry's own protocol.

What `export` counts as sent, the collector has acknowledged. What it rejects of a request (partial success) counts as
`rejected`, a whole request that it will never take (400) as `refused`, a session that cannot be told as a span as `no span`.
Everything else is tried again by the worker: a batch goes on with the requests that have not been acknowledged, so that none
is sent twice, save one whose answer was lost.

How the URL and OpenTelemetry's variables are read: `_otlp_settings`. The messages: `_otlp_spans`. The two ways there:
`_otlp_http`, `_otlp_grpc`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Final

from clovisor_py.errors import ExportInterrupted
from clovisor_py.exporters import _otlp_settings
from clovisor_py.exporters._api import Delivery, Exporter, ExportUrl
from clovisor_py.exporters._otlp_reply import Transport
from clovisor_py.exporters._otlp_settings import GRPC, Settings
from clovisor_py.exporters._otlp_spans import Encoder, Request
from clovisor_py.exporters._worker import REFUSED
from clovisor_py.model.session import Session

REJECTED: Final = "rejected"
"""The collector took the request, but not these spans of it."""
NO_SPAN: Final = "no span"
"""A session with attributes that nothing can encode."""


class OtlpSink:
    """Sends what `encoder` makes by `transport`."""

    def __init__(self, transport: Transport, encoder: Encoder | None = None) -> None:
        self._transport = transport
        self._encoder = encoder or Encoder()
        self._batch: Sequence[Session] | None = None
        """The one that is being delivered; kept, so that another attempt at it is known."""
        self._waiting: deque[Request] = deque()
        self._sent = 0
        self._dropped: dict[str, int] = {}
        self._error = ""

    def export(self, sessions: Sequence[Session]) -> Delivery:
        """Raises ExportInterrupted where not all is settled; given the same sequence again, goes on with the rest."""
        if sessions is not self._batch:
            self._begin(sessions)
        while self._waiting:
            try:
                reply = self._transport.send(self._waiting[0].body)
            except ExportInterrupted as error:
                raise ExportInterrupted(
                    str(error), retry_after_s=error.retry_after_s, sent=self._sent, dropped=self._dropped.copy()
                ) from error
            spans = self._waiting.popleft().spans
            lost = spans if reply.refused else min(reply.rejected, spans)
            self._sent += spans - lost
            self._drop(REFUSED if reply.refused else REJECTED, lost, reply.why)
        self._batch = None
        return Delivery(self._sent, self._dropped, self._error)

    def close(self) -> None:
        """Let go of the connection; nothing is held back."""
        self._transport.close()

    def _begin(self, sessions: Sequence[Session]) -> None:
        requests, fault = self._encoder.requests(sessions)
        self._batch, self._waiting = sessions, deque(requests)
        self._sent, self._dropped, self._error = 0, {}, ""
        self._drop(NO_SPAN, len(sessions) - sum(request.spans for request in requests), fault)

    def _drop(self, reason: str, number: int, why: str) -> None:
        if number:
            self._dropped[reason] = self._dropped.get(reason, 0) + number
            self._error = why or self._error


def transport_of(settings: Settings) -> Transport:
    """The way there. Raises UsageError where its certificates are not usable; nobody is called yet."""
    # Each costs memory and time to import (gRPC 16 MB and 50 ms): only those pay who use it.
    if settings.protocol == GRPC:
        from clovisor_py.exporters._otlp_grpc import GrpcTransport  # noqa: PLC0415

        return GrpcTransport(settings)
    from clovisor_py.exporters._otlp_http import HttpTransport  # noqa: PLC0415

    return HttpTransport(settings)


def _create(url: ExportUrl) -> OtlpSink:
    return OtlpSink(transport_of(_otlp_settings.settings_of(url, os.environ)))


EXPORTER = Exporter(schemes=tuple(_otlp_settings.SCHEMES), synopsis=_otlp_settings.SYNOPSIS, create=_create, spans=True)
