"""HTTP calls of the demo's processes: keep-alive connections to one service, and a truth record for every call.

Connections are kept and shared as HTTP clients do (one is taken by one call at a time), because that is what Clovisor has to
read: many requests on one flow, from several threads, on connections older than a look at them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

from clovisor_py.demo.truth import Truth

PORT = 9080
"""Where every service listens, as in Bookinfo."""
PATIENCE_S = 10.0
"""Seconds until a call is given up: much longer than the slowest answer."""


class Callee:
    """One service at one address. Threads may call at once; each finds or opens a connection of its own."""

    def __init__(self, name: str, address: str, truth: Truth, port: int = PORT) -> None:
        self.name = name
        self.address = address
        self._port = port
        self._truth = truth
        self._family = "ipv6" if ":" in address else "ipv4"
        self._idle: deque[HTTPConnection] = deque()

    def get(self, path: str, headers: Mapping[str, str], *, fresh: bool = False) -> tuple[int, bytes]:
        """Status and body; status 0 when the connection broke. `fresh`: on a connection of its own, closed afterwards."""
        connection = None
        status, body = 0, b""
        start_ns = time.time_ns()
        begun = time.perf_counter_ns()
        try:
            connection = self._connection(fresh)
            start_ns, begun = time.time_ns(), time.perf_counter_ns()
            connection.request("GET", path, headers={**headers, **({"Connection": "close"} if fresh else {})})
            response = connection.getresponse()
            body = response.read()
            status = response.status
        except (OSError, HTTPException) as error:
            body = str(error).encode()
        took = time.perf_counter_ns() - begun
        self._truth.write("client", path, status, start_ns, took, headers, family=self._family, peer=self.name)
        self._put_back(connection, keep=bool(status) and not fresh)
        return status, body

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _connection(self, fresh: bool) -> HTTPConnection:
        if not fresh:
            try:
                return self._idle.pop()
            except IndexError:
                pass  # all are in use, by as many threads
        connection = HTTPConnection(self.address, self._port, timeout=PATIENCE_S)
        connection.connect()
        return connection

    def _put_back(self, connection: HTTPConnection | None, *, keep: bool) -> None:
        if connection is None:
            return
        if keep:
            self._idle.append(connection)
        else:
            connection.close()
