"""`otlp+grpc://HOST[:4317]`, `otlp+http://HOST[:4318]`: spans to any collector, in OpenTelemetry's own protocol.

What `export` counts as sent, the collector has acknowledged. What it rejects of a request (partial success) counts as
`rejected`, a whole request that it will never take (400) as `refused`, a session that cannot be told as a span as `no span`.
Everything else is tried again by the worker: a batch goes on with the requests that have not been acknowledged, so that none
is sent twice, save one whose answer was lost.

How the URL and OpenTelemetry's variables are read: `_otlp_settings`. The messages: `_otlp_spans`. The two ways there:
`_otlp_http`, `_otlp_grpc`. What to say when they fail: `_otlp_faults`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Final

from clovisor_py.errors import ExportFailed, ExportInterrupted
from clovisor_py.exporters import _otlp_faults, _otlp_settings, _own_resource
from clovisor_py.exporters._api import Delivery, Exporter, ExportUrl
from clovisor_py.exporters._otlp_reply import Transport
from clovisor_py.exporters._otlp_settings import GRPC, Settings
from clovisor_py.exporters._otlp_spans import Encoder, Request
from clovisor_py.exporters._parts import Parts
from clovisor_py.exporters._worker import REFUSED
from clovisor_py.model.session import Session

REJECTED: Final = "rejected"
"""The collector took the request, but not these spans of it."""


class OtlpSink:
    """Sends what `encoder` makes by `transport`."""

    def __init__(self, transport: Transport, encoder: Encoder | None = None) -> None:
        self._transport = transport
        self._encoder = encoder or Encoder()
        self._parts: Parts[Request] = Parts()
        self.settled = self._parts.settled

    def export(self, sessions: Sequence[Session]) -> Delivery:
        """Raises ExportInterrupted where not all is settled; given the same sequence again, goes on with the rest."""
        if not self._parts.holds(sessions):
            self._parts.begin(sessions, *self._encoder.requests(sessions))
        for request in self._parts.waiting():
            try:
                reply = self._transport.send(request.body)
            except ExportInterrupted as error:
                raise self._parts.interrupted(error) from error
            lost = request.spans if reply.refused else min(reply.rejected, request.spans)
            self._parts.settle(lost, REFUSED if reply.refused else REJECTED, reply.why)
        return self._parts.done()

    def close(self) -> None:
        """Let go of the connection; nothing is held back."""
        self._transport.close()


def transport_of(settings: Settings) -> Transport:
    """The way there. Raises UsageError where its certificates are not usable; nobody is called yet."""
    # Each costs memory and time to import (gRPC 16 MB and 50 ms): only those pay who use it.
    if settings.protocol == GRPC:
        from clovisor_py.exporters._otlp_grpc import GrpcTransport  # noqa: PLC0415

        return GrpcTransport(settings)
    from clovisor_py.exporters._otlp_http import HttpTransport  # noqa: PLC0415

    return HttpTransport(settings)


def _create(url: ExportUrl) -> OtlpSink:
    encoder = Encoder(of_all=_own_resource.of_all(os.environ))
    settings = _otlp_settings.settings_of(url, os.environ)
    transport = transport_of(settings)
    _look_up(settings)
    return OtlpSink(transport, encoder)


def _look_up(settings: Settings) -> None:
    """A name that nobody knows is said at once. Raises ExportFailed: it may be known later."""
    try:
        socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", "") or str(error)
        raise ExportFailed(_otlp_faults.nameless(settings, why)) from error


EXPORTER = Exporter(schemes=tuple(_otlp_settings.SCHEMES), synopsis=_otlp_settings.SYNOPSIS, create=_create, spans=True)
