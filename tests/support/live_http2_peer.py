"""A server of HTTP/2 by prior knowledge for live tests, on the library h2, that also does what ordinary servers do not.

Run as a child (`live_web.module`). What it does, the path says; `/delay` makes answers overtake each other, and bodies of
`/bytes` are sent in turns, frame by frame.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from socketserver import BaseRequestHandler
from typing import Any

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.support.live_peers import BLOCK, number, serve


class Http2(BaseRequestHandler):
    """Prior knowledge; by the path: /bytes/N, /delay/MS, /trailers, /reset/CODE, /push, /goaway."""

    def handle(self) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.paths: dict[int, str] = {}
        self.left: dict[int, int] = {}
        self._flush()
        while self._read():
            self._flush()

    def _read(self) -> bool:
        """What came, or what is due."""
        now = time.monotonic()
        ready = [one for one in self.due if one[0] <= now]
        self.due = [one for one in self.due if one[0] > now]
        for _, act in ready:
            act()
        if ready:
            return True
        self.request.settimeout(max(min((at for at, _ in self.due), default=now + 60) - now, 0.001))
        try:
            data = self.request.recv(BLOCK)
        except TimeoutError:
            return True
        for event in self.h2.receive_data(data) if data else ():
            self._take(event)
        return bool(data)

    def _take(self, event: Any) -> None:
        if isinstance(event, events.RequestReceived):
            self.paths[event.stream_id] = dict(event.headers)[b":path"].decode()
        elif isinstance(event, events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamReset):
            self.paths.pop(event.stream_id, None)
            self.left.pop(event.stream_id, None)
        elif isinstance(event, events.StreamEnded):
            self._answer(event.stream_id, self.paths[event.stream_id])

    def _answer(self, stream: int, path: str) -> None:
        kind = path.split("/")[1].partition("?")[0]
        if kind == "delay":
            self.due.append((time.monotonic() + number(path) / 1000, lambda: self._whole(stream, b"late")))
        elif kind == "reset":
            self.h2.send_headers(stream, [(":status", "200")])
            self.h2.reset_stream(stream, number(path))
        elif kind == "trailers":
            self.h2.send_headers(stream, [(":status", "200")])
            self.h2.send_data(stream, b"before the trailers")
            self.h2.send_headers(stream, [("x-sum", "1")], end_stream=True)
        elif kind == "push":
            asked = [(":method", "GET"), (":scheme", "http"), (":authority", "pod"), (":path", "/pushed")]
            promised = self.h2.get_next_available_stream_id()
            self.h2.push_stream(stream, promised, asked)
            self._whole(stream, b"pushing")
            self._whole(promised, b"pushed")
        elif kind == "goaway":
            self.h2.close_connection(last_stream_id=stream - 2)
        elif kind == "bytes":
            self.h2.send_headers(stream, [(":status", "200")])
            self.left[stream] = number(path)
        else:
            self._whole(stream, b"ok", "200" if kind == "ok" else "404")

    def _whole(self, stream: int, body: bytes, status: str = "200") -> None:
        if stream % 2 and stream not in self.paths:
            return  # the client has reset it meanwhile
        self.h2.send_headers(stream, [(":status", status), ("content-length", str(len(body)))])
        self.h2.send_data(stream, body, end_stream=True)

    def _flush(self) -> None:
        """Large bodies take turns, frame by frame, as far as the client lets them."""
        moved = True
        while moved:
            moved = False
            for stream in list(self.left):
                step = min(self.left[stream], self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
                if step or not self.left[stream]:
                    self.left[stream] -= step
                    self.h2.send_data(stream, b"b" * step, end_stream=not self.left[stream])
                    moved = True
                if not self.left[stream]:
                    del self.left[stream]
        self.request.sendall(self.h2.data_to_send())


if __name__ == "__main__":
    serve(Http2, int(sys.argv[1]))
