"""An HTTP/1.1 connection whose every request has one deadline: connecting, handshake, sending and the whole answer together.
(But for asking after the host's name: the resolver has its own.)

A socket's timeout is for one operation, and begins anew with each byte that comes: a collector that says a header a byte at a
time would hold the thread for hours. So what is left until the deadline is set anew before each operation.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from http.client import _DataType

    from _typeshed import WriteableBuffer

Left = Callable[[], float]
"""Seconds until the deadline, more than 0. Raises TimeoutError where it has passed."""
HTTPS_PORT: Final = 443


class Connection(http.client.HTTPConnection):
    """To `host` and `port`, by TLS where there is a `context`. Each request begins with `begin`."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port)
        self._tls = context
        self._until = 0.0
        if context is not None:
            self.default_port = HTTPS_PORT  # the one that a Host header leaves out
        self.response_class = partial(_Answer, left_s=self._left_s)  # type: ignore[assignment] # it is only called

    def begin(self, timeout_s: float) -> None:
        """What comes now is over in `timeout_s`, or raises TimeoutError."""
        self._until = time.monotonic() + timeout_s

    def connect(self) -> None:
        """Called by `request` where there is no connection."""
        sock = self._reach()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self._left_s())
            self.sock = sock if self._tls is None else self._tls.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise

    def send(self, data: _DataType | str) -> None:
        """Called by `request` for the head, and for the body."""
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self._left_s())
        super().send(data)

    def _reach(self) -> socket.socket:
        """The first address that answers; each gets its share of what is left, so that a dead one leaves time for the next."""
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        fault = OSError("no address")
        for index, (family, kind, protocol, _, address) in enumerate(found):
            sock = None
            try:
                sock = socket.socket(family, kind, protocol)  # a kernel without IPv6 refuses even that
                sock.settimeout(self._left_s() / (len(found) - index))
                sock.connect(address)
            except OSError as error:
                if sock is not None:
                    sock.close()
                fault = error
            else:
                return sock
        raise fault

    def _left_s(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _Answer(http.client.HTTPResponse):
    """Reads from the socket until the deadline."""

    def __init__(self, sock: socket.socket, *, left_s: Left, method: str | None) -> None:
        super().__init__(sock, method=method)
        self.fp.close()
        self.fp = io.BufferedReader(_Reader(sock, left_s))


class _Reader(io.RawIOBase):
    """`inner` keeps the socket open for as long as the answer is read, as `makefile` does."""

    def __init__(self, sock: socket.socket, left_s: Left) -> None:
        self._sock, self._left_s = sock, left_s
        self._inner = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._sock.settimeout(self._left_s())
        try:
            return self._inner.readinto(buffer)
        except ConnectionResetError:
            return 0  # an end as any other: many a server hangs up with a word, and without reading what it refuses

    def close(self) -> None:
        self._inner.close()
        super().close()
