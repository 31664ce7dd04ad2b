"""OTLP over gRPC: one unary call for each request, on one channel; bytes go in and come out as they are.

A channel that failed is thrown away, and the next attempt makes another at once: gRPC's own back-off would add up with the
worker's, and a new channel reads the certificates anew and asks for the collector's addresses again.

Protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import os
import re
from typing import Any, Final

from clovisor_py import __version__
from clovisor_py.errors import ExportInterrupted, UsageError
from clovisor_py.exporters import _otlp_faults, _otlp_reply, _otlp_tls
from clovisor_py.exporters._otlp_reply import REPLY_BYTES, Reply
from clovisor_py.exporters._otlp_settings import Settings

# What the library writes to standard error by itself, we say in a sentence. It is read once, when it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc

OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, not a failed one that waits
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # the worker does that, and counts
    ("grpc.max_receive_message_length", REPLY_BYTES),
)
LATER: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes after which the same call may succeed; RESOURCE_EXHAUSTED is one with RetryInfo only."""
NOT_LET_IN: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
AWAY: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
UNTOLD: Final = re.compile(r"^[A-Z]+: \S+: |(: Invalid certificate verification context)?: OK$")
"""Around the reason: the code and address before it (`UNKNOWN: ipv4:127.0.0.1:4317: `), and that there is no further one."""
NAMELESS: Final = re.compile(r"errors resolving|lookup failed|DNS resolution")
NO_GRPC: Final = re.compile(r"SETTINGS frame|ALPN")
LATE: Final = "Deadline Exceeded"
"""Our own; a collector that gives up on another's behalf says it otherwise."""
NO_TLS: Final = re.compile(_otlp_faults.PLAIN.pattern + r"|(?i:certificate|hostname verification)|_ALERT_")
HUNG_UP: Final = re.compile(r"Socket closed|recvmsg|sendmsg|Connection reset|Broken pipe|Handshake read failed|Unwrap failed")
USER_AGENT: Final = "user-agent"
"""A header that gRPC writes itself, and lets nobody else write; it begins with what its option says."""
STATUS_DETAILS: Final = "grpc-status-details-bin"


class GrpcTransport:
    """Calls the collector. Raises UsageError where its certificates are not usable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metadata = tuple((name, text) for name, text in settings.headers.items() if name != USER_AGENT)
        agent = settings.headers.get(USER_AGENT, f"clovisor/{__version__}")
        self._options = (("grpc.primary_user_agent", agent), *OPTIONS)
        self._compression = grpc.Compression.Gzip if settings.gzip else grpc.Compression.NoCompression
        self._answered = False
        """At least once: no mistake of the URL makes it fail any more."""
        self._channel: Any = None
        self._export: Any = None
        if settings.tls:
            _otlp_tls.pem(settings)

    def send(self, body: bytes) -> Reply:
        """One call. Raises ExportInterrupted where trying again may help."""
        if self._channel is None:
            self._connect()
        try:
            answer = self._export(
                body, timeout=self._settings.timeout_s, metadata=self._metadata, compression=self._compression
            )
        except grpc.RpcError as error:
            return self._failed(error)
        self._answered = True
        return _otlp_reply.accepted(answer)

    def close(self) -> None:
        """Let go of the channel; the next call makes another."""
        if self._channel is not None:
            self._channel.close()
        self._channel = self._export = None

    def _connect(self) -> None:
        settings = self._settings
        target = f"dns:///{settings.place}"
        if settings.tls:
            try:
                credentials = grpc.ssl_channel_credentials(*_otlp_tls.pem(settings))
            except UsageError as error:
                raise ExportInterrupted(str(error)) from error  # usable at the start: they are being renewed
            self._channel = grpc.secure_channel(target, credentials, options=self._options)
        else:
            self._channel = grpc.insecure_channel(target, options=self._options)
        self._export = self._channel.unary_unary(settings.signal.method)

    def _failed(self, error: grpc.RpcError) -> Reply:
        """The Reply of a call that is not to be made again."""
        settings, code, details = self._settings, error.code(), error.details() or ""
        why = f"{code.name}: {_cause(details)}"
        status = _otlp_reply.status(dict(error.trailing_metadata() or ()).get(STATUS_DETAILS, b""))
        if code in AWAY:
            self.close()
            raise ExportInterrupted(self._fault(details, why), retry_after_s=status.retry_after_s or 0.0) from error
        self._answered = True
        if code in LATER or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and status.retry_after_s is not None):
            self.close()
            raise ExportInterrupted(_otlp_faults.busy(settings, why), retry_after_s=status.retry_after_s or 0.0) from error
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return Reply(refused=True, why=_otlp_faults.no_receiver(settings, why))
        say = _otlp_faults.not_let_in if code in NOT_LET_IN else _otlp_faults.refused
        return Reply(refused=True, why=say(settings, why))

    def _fault(self, details: str, why: str) -> str:
        """Of gRPC's words: they are all that there is."""
        settings = self._settings
        if NAMELESS.search(details):
            return _otlp_faults.nameless(settings, details.rpartition(": ")[2].rstrip("]"))
        if NO_GRPC.search(details):
            return _otlp_faults.no_grpc(settings, why)
        if LATE in details:
            return _otlp_faults.late(settings, why)
        if NO_TLS.search(details):
            return _otlp_faults.no_tls(settings, why)
        if HUNG_UP.search(details):
            return _otlp_faults.hung_up(settings, why, answered=self._answered)
        return _otlp_faults.away(settings, why)


def _cause(details: str) -> str:
    """Of gRPC's own long tale (all addresses, their states, the source file of OpenSSL) its end, which is the reason."""
    for before in ("last error: ", "OPENSSL_internal:"):
        details = details.rpartition(before)[2]
    return UNTOLD.sub("", details)
