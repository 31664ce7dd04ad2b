"""HTTP/2 bytes in a few lines: frames by hand, and whole conversations that the h2 library writes.

talk = Talk().ask(1, path="/x").answer(1, body=b"hello")     talk.script is what passed on the wire
"""

from __future__ import annotations

import struct

import h2.config
import h2.connection
from hpack import Encoder

from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.protocols import _http2_frames as frames
from tests.support.parser_harness import Script


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(stream: int, block: bytes, *, end: bool = False, flags: int = frames.END_HEADERS) -> bytes:
    return frame(frames.HEADERS, flags | (frames.END_STREAM if end else 0), stream, block)


def data(stream: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    return frame(frames.DATA, frames.END_STREAM if end else 0, stream, payload)


def rst(stream: int, code: int = 8) -> bytes:
    return frame(frames.RST_STREAM, 0, stream, struct.pack(">I", code))


def go_away(last: int, code: int = 0) -> bytes:
    return frame(frames.GOAWAY, 0, 0, struct.pack(">II", last, code))


def settings(*pairs: tuple[int, int], ack: bool = False) -> bytes:
    return frame(frames.SETTINGS, int(ack), 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


PING = frame(frames.PING, 0, 0, b"12345678")
WINDOW_UPDATE = frame(frames.WINDOW_UPDATE, 0, 0, b"\x00\x00\x10\x00")
REQUEST_FIELDS = [(":method", "GET"), (":scheme", "http"), (":authority", "shop.example:8080"), (":path", "/items?id=42")]


def block(*fields: tuple[str, str], huffman: bool = True, encoder: Encoder | None = None) -> bytes:
    """A header block; without an encoder, the first of its connection."""
    return bytes((encoder or Encoder()).encode(list(fields), huffman=huffman))


class Talk:
    """A client and a server of the h2 library, and everything that they said."""

    def __init__(self) -> None:
        self.script: list[tuple[int, bytes | int]] = []
        self.ends = tuple(
            h2.connection.H2Connection(h2.config.H2Configuration(client_side=side, header_encoding="utf-8"))
            for side in (True, False)
        )
        for end in self.ends:
            end.initiate_connection()
        self.pump()

    def pump(self) -> Talk:
        """Hand over what was said, until nobody has anything to say."""
        while True:
            said = [end.data_to_send() for end in self.ends]
            if not any(said):
                return self
            for sender, text in enumerate(said):
                if text:
                    self.script.append((sender, text))
                    self.ends[1 - sender].receive_data(text)

    def ask(
        self, stream: int, path: str = "/", *, method: str = "GET", body: bytes | None = None, extra=(), trailers=()
    ) -> Talk:
        fields = [(":method", method), (":scheme", "http"), (":authority", "shop.example"), (":path", path), *extra]
        return self._say(CLIENT, stream, fields, body, trailers)

    def answer(self, stream: int, status: int = 200, *, body: bytes | None = None, extra=(), trailers=()) -> Talk:
        return self._say(SERVER, stream, [(":status", str(status)), *extra], body, trailers)

    def part(self, sender: int, stream: int, body: bytes, *, end: bool = False) -> Talk:
        self.ends[sender].send_data(stream, body, end_stream=end)
        return self.pump()

    def begin(self, sender: int, stream: int, fields) -> Talk:
        self.ends[sender].send_headers(stream, fields)
        return self.pump()

    def reset(self, sender: int, stream: int, code: int = 8) -> Talk:
        self.ends[sender].reset_stream(stream, code)
        return self.pump()

    def _say(self, sender, stream, fields, body, trailers) -> Talk:
        end = self.ends[sender]
        end.send_headers(stream, fields, end_stream=body is None and not trailers)
        if body is not None:
            end.send_data(stream, body, end_stream=not trailers)
        if trailers:
            end.send_headers(stream, list(trailers), end_stream=True)
        return self.pump()


def script_of(client: bytes = b"", server: bytes = b"") -> Script:
    """A connection that begins here: both prefaces, and then what each says."""
    return [(CLIENT, frames.PREFACE + settings() + client), (SERVER, settings((3, 100)) + server)]
