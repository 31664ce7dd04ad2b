"""`jaeger://HOST[:6831]`: spans to a Jaeger agent, in Thrift over UDP, as the first Clovisor sent them.

What `export` counts as sent was handed to the socket. UDP promises nothing beyond that: an agent that is too busy loses a
datagram without a word (prefer OTLP where every span counts). Two things are done about it:

- The agent's socket holds three long datagrams by Linux's default, and a burst is faster than any reader: of 27 MB sent in
  one go to a real Jaeger half was lost. So datagrams keep to BYTES_PER_S.
- The socket is connected, so an agent that is absent answers with ICMP "port unreachable". On loopback that answer is there
  before `send` returns, and the datagram counts as not sent. Over a network it comes later; after a first refusal each
  export waits for it until a datagram has passed without one.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from clovisor_py import __version__
from clovisor_py.errors import ExportFailed, UsageError
from clovisor_py.exporters import _own_resource
from clovisor_py.exporters._api import Delivery, Exporter, ExportUrl
from clovisor_py.exporters._parts import Parts
from clovisor_py.exporters._worker import REFUSED
from clovisor_py.model.session import Session
from clovisor_py.tracing.spans import span_of

if TYPE_CHECKING:
    from clovisor_py.exporters._thrift import Datagram

PORT: Final = 6831
"""Jaeger's port for Thrift's compact protocol."""
SEND_S: Final = 1.0
"""A full socket buffer drains in so long, or something is wrong."""
BYTES_PER_S: Final = 8 * 1024 * 1024
"""Pace of the datagrams: about 13,000 ordinary spans a second, and the agent may look away for 25 ms (at twice the pace, one
datagram in 800 was lost on two busy cores)."""
REFUSAL_MS: Final = 100
"""How long a refusal may take to come back over a network: a long round trip inside a cluster."""


class JaegerSink:
    """Sends to the agent at (host, port); a host with several addresses is tried at each in turn.

    Raises ExportFailed where the host's name has no address. `datagram_bytes`: None is what an agent reads; `of_all`: tags of
    every process, besides our own.
    """

    def __init__(
        self,
        host: str,
        port: int = PORT,
        datagram_bytes: int | None = None,
        of_all: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        # jaeger-client takes 50 ms and 10 MB to import: only those pay who use it.
        from clovisor_py.exporters import _thrift  # noqa: PLC0415

        self._host = host
        self._port = port
        self._attempt = 0
        self._doubtful = False
        self._free_at = 0.0
        self._socket: socket.socket | None = self._connect()
        own = {"ip": self._socket.getsockname()[0], "hostname": socket.gethostname(), "clovisor.version": __version__}
        self._parts: Parts[Datagram] = Parts()
        self.settled = self._parts.settled
        self._encoder = _thrift.Encoder({**of_all, **own}, datagram_bytes or _thrift.DATAGRAM_BYTES)

    def export(self, sessions: Sequence[Session]) -> Delivery:
        """Sent are spans that were handed to the socket.

        Raises ExportInterrupted where the socket takes no more; given the same sequence again, goes on with the rest.
        """
        if not self._parts.holds(sessions):
            self._parts.begin(sessions, *self._encoded(sessions))
        for datagram in self._parts.waiting():
            try:
                why = self._send(datagram.data)
            except (OSError, ExportFailed) as error:
                self._drop_socket()
                failed = error if isinstance(error, ExportFailed) else ExportFailed(self._why(error))
                raise self._parts.interrupted(failed) from error
            self._parts.settle(datagram.spans if why else 0, REFUSED, why)
        return self._parts.done()

    def close(self) -> None:
        """Let go of the socket; nothing is held back."""
        self._drop_socket()

    def _encoded(self, sessions: Sequence[Session]) -> tuple[list[Datagram], str]:
        """And why the last one that cannot be told as a span cannot."""
        spans, fault = [], ""
        for session in sessions:
            try:
                spans.append(span_of(session))
            except Exception as error:  # noqa: BLE001 (whatever a plugin made of it: counted, said, and the others go)
                fault = f"a {session.protocol} session cannot be told as a span ({type(error).__name__}: {error})."
        datagrams, other = self._encoder.datagrams(spans)
        return datagrams, other or fault

    def _send(self, data: bytes) -> str:
        """Why this datagram can never be sent (too long for the path); "": it was. OSError: no datagram can be, now."""
        if self._socket is None:
            self._socket = self._connect()
        self._keep_pace(len(data))
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return f"{len(data):,} bytes are too long a datagram for the way to {self._where()}; use otlp+grpc: instead."
        if self._doubtful:
            self._await_refusal(self._socket)
        refused = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if refused:
            raise OSError(refused, errno.errorcode.get(refused, "refused"))
        self._doubtful = False
        return ""

    def _keep_pace(self, size: int) -> None:
        now = time.monotonic()
        if now < self._free_at:
            time.sleep(self._free_at - now)
        self._free_at = max(now, self._free_at) + size / BYTES_PER_S

    def _await_refusal(self, sock: socket.socket) -> None:
        poll = select.poll()
        poll.register(sock, 0)  # errors are reported unasked
        poll.poll(REFUSAL_MS)

    def _drop_socket(self) -> None:
        self._doubtful = True
        self._attempt += 1
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = None

    def _connect(self) -> socket.socket:
        """Raises ExportFailed: the name may be resolvable later, and addresses change."""
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = found[self._attempt % len(found)]
            with ExitStack() as undo:
                sock = undo.enter_context(socket.socket(family, kind, protocol))
                sock.settimeout(SEND_S)
                sock.connect(address)
                undo.pop_all()
        except (OSError, UnicodeError) as error:
            raise ExportFailed(self._why(error)) from error
        return sock

    def _where(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def _why(self, error: Exception) -> str:
        where = self._where()
        if isinstance(error, ConnectionRefusedError) or getattr(error, "errno", 0) == errno.ECONNREFUSED:
            return f"no Jaeger agent listens at {where} (UDP); start one, or export to another host."
        return f"cannot reach the Jaeger agent at {where} ({error}); check the name and the network."


def _create(url: ExportUrl) -> JaegerSink:
    if not url.host or url.path not in ("", "/") or url.query:
        raise UsageError(f"'{url.shown}' names no Jaeger agent; write jaeger://HOST or jaeger://HOST:{PORT}.")
    return JaegerSink(url.host, url.port or PORT, of_all=_own_resource.of_all(os.environ))


EXPORTER = Exporter(schemes=("jaeger",), synopsis="jaeger://HOST[:6831]", create=_create, spans=True)
