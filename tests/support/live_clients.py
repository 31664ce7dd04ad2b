"""Clients of HTTP/1 and HTTP/2 for live tests that decide themselves what is one segment and what is one frame.

They note each call as it was for them (`live_truth`): verb, path, status, when it began and how long it took.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.support.live_truth import Call, Truth

BLOCK: Final = 65536


def number(connection: socket.socket) -> int:
    """The port from which it calls."""
    port: int = connection.getsockname()[1]
    return port


# ---- a client of HTTP/1 ----


@dataclass
class Answer:
    """What came: interim statuses before it, and its body as it was after the chunks."""

    status: str
    fields: dict[str, str]
    body: bytes = b""
    interim: list[str] = field(default_factory=list)


class Http1:
    """One connection, by hand, so that the client decides what is one segment."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.file = connection.makefile("rb")
        self.port = number(connection)

    def send(self, method: str, path: str, body: bytes = b"", **fields: str) -> None:
        """A request; `content_type` as Content-Type."""
        self.socket.sendall(request(method, path, body, **fields))

    def receive(self, method: str = "GET") -> Answer:
        """The next answer; interim ones are part of it."""
        interim: list[str] = []
        while True:
            status = self.file.readline().split()[1].decode()
            lines = [line.decode().rstrip() for line in iter(self.file.readline, b"\r\n")]
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if not status.startswith("1") or status == "101":
                return Answer(status, fields, self._body(method, status, fields), interim)
            interim.append(status)

    def ask(self, truth: Truth, method: str, path: str, body: bytes = b"", **fields: str) -> Answer:
        """Both, noted; the path without its query."""
        with truth.call(self.port, method, path.partition("?")[0], None) as call:
            self.send(method, path, body, **fields)
            answer = self.receive(method)
        judge(call, answer.status)
        return answer

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def _body(self, method: str, status: str, fields: dict[str, str]) -> bytes:
        if method in ("HEAD", "CONNECT") or status in ("101", "204", "304"):
            return b""
        if fields.get("transfer-encoding") == "chunked":
            return b"".join(self._chunks())
        return self.file.read(int(fields["content-length"])) if "content-length" in fields else self.file.read()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.file.readline().partition(b";")[0], 16):
            yield self.file.read(size)
            self.file.readline()
        while self.file.readline().strip():
            pass


def request(method: str, path: str, body: bytes = b"", **fields: str) -> bytes:
    told = {"Host": "pod", **({"Content-Length": str(len(body))} if body else {})}
    told |= {name.replace("_", "-").title(): value for name, value in fields.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def judge(call: Call, status: str) -> None:
    """What the client learned."""
    call.status = status
    call.outcome = "error" if status >= "400" else "ok"


# ---- a client of HTTP/2 ----


class Http2:
    """One connection with many streams; each is a Call, from when its head was sent until its last frame was received.

    What the library does with the frames of a hundred others, before it tells of one, is not the wire's time.
    """

    def __init__(self, connection: socket.socket, truth: Truth) -> None:
        self.socket, self.truth, self.port = connection, truth, number(connection)
        self.h2 = H2Connection(H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.h2.update_settings({4: 1 << 20})
        self.h2.increment_flow_control_window(1 << 24)
        self.open: dict[int, Call] = {}
        self.queued: list[int] = []
        self.began: dict[int, int] = {}
        self.received: dict[int, int] = {}
        self.events: list[Any] = []
        self.flush()

    def flush(self) -> None:
        """Send what waits; the requests in it begin now."""
        data = self.h2.data_to_send()
        now, clock = time.time_ns(), time.perf_counter_ns()
        for stream in self.queued:
            self.open[stream].start_ns, self.began[stream] = now, clock
        self.queued.clear()
        self.socket.sendall(data)

    def ask(self, path: str, method: str = "GET", body: bytes = b"", **fields: str) -> int:
        """Queue a request; its stream. `flush` or `run` sends it."""
        stream: int = self.h2.get_next_available_stream_id()
        shown = path.partition("?")[0]
        call = self.truth.note((self.port, shown), method, shown, None)
        head = [(":method", method), (":scheme", "http"), (":authority", "pod"), (":path", path)]
        head += [(name.replace("_", "-"), value) for name, value in fields.items()]
        self.open[stream], self.received[stream] = call, 0
        self.queued.append(stream)
        self.h2.send_headers(stream, head, end_stream=not body)
        at = 0
        while at < len(body):
            step = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body) - at)
            if not step:
                self.flush()
                self._take()
                continue
            self.h2.send_data(stream, body[at : at + step], end_stream=at + step == len(body))
            at += step
        return stream

    def reset(self, stream: int, code: int = 8) -> None:
        """Break it off (CANCEL)."""
        self.h2.reset_stream(stream, code)
        self.flush()
        self._over(stream, None, time.perf_counter_ns())

    def run(self) -> None:
        """Until all that was asked is answered."""
        self.flush()
        while self.open:
            self._take()

    def _take(self) -> None:
        data = self.socket.recv(BLOCK)
        now = time.perf_counter_ns()
        assert data, "the server has gone"
        for event in self.h2.receive_data(data):
            self.events.append(event)
            stream = getattr(event, "stream_id", 0)
            if isinstance(event, events.ResponseReceived) and stream in self.open:
                judge(self.open[stream], dict(event.headers)[b":status"].decode())
            elif isinstance(event, events.DataReceived):
                self.received[stream] = self.received.get(stream, 0) + len(event.data)
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
            elif isinstance(event, events.StreamEnded):
                self._over(stream, None, now)
            elif isinstance(event, events.StreamReset):
                self._over(stream, event.error_code, now)
        self.flush()

    def _over(self, stream: int, code: object, now: int) -> None:
        call = self.open.pop(stream, None)
        if call is not None:
            call.duration_ns = now - self.began[stream]
            if code is not None:
                call.status, call.outcome = getattr(code, "name", str(code)), "error"
