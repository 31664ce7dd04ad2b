"""Servers for live tests that do what ordinary ones seldom do, run as children: `live_web.peer(NAME, ARGUMENT...)`.

Ordinary servers are real ones (`live_web`). These here answer as their caller asks by the path: in chunks with trailers, until
the connection closes, not at all, by a reset; they make tunnels; they echo without a protocol. `app` is an ASGI application
for hypercorn.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from socketserver import BaseRequestHandler, StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any, Final

CHUNK: Final = 1000
BLOCK: Final = 65536
EVERYWHERE: Final = "0.0.0.0"


class Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 100


def abort(connection: socket.socket) -> None:
    """Close it by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def number(path: str) -> int:
    """`/bytes/20?x` as 20."""
    return int(path.partition("?")[0].rpartition("/")[2])


# ---- HTTP/1 ----


class Http(StreamRequestHandler):
    """HTTP/1.1, by hand."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        while head := self._lines():
            method, path, _ = head[0].split(" ", 2)
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            if "expect" in fields:
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            size = self._body(fields)
            answer = getattr(self, f"do_{'connect' if method == 'CONNECT' else path.split('/')[1].partition('?')[0]}", None)
            if answer is None:
                self._whole("404 Not Found", b"nothing")
            elif answer(path, size):
                return

    def do_connect(self, path: str, _size: int) -> bool:
        """A tunnel to wherever the client wants."""
        host, _, port = path.rpartition(":")
        with socket.create_connection((host, int(port))) as target:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            Thread(target=_pour, args=(target, self.request), daemon=True).start()
            _pour(self.request, target)
        return True

    def do_chunked(self, path: str, size: int) -> None:
        """So many chunks, with an extension and trailers."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        for _ in range(number(path)):
            self.wfile.write(b'%x;name="a value"\r\n' % CHUNK + b"c" * CHUNK + b"\r\n")
        self.wfile.write(b"0\r\nX-Sum: 1\r\nX-Body: %d\r\n\r\n" % size)

    def do_until_close(self, path: str, _size: int) -> bool:
        """No length, no chunks."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"u" * number(path))
        return True

    def do_took(self, _path: str, size: int) -> None:
        """Says how long the body was."""
        self._whole("201 Created", b"%d" % size)

    def do_hints(self, _path: str, _size: int) -> None:
        """An interim response before the response."""
        self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        time.sleep(0.01)
        self._whole("200 OK", b"hinted")

    def do_slow(self, path: str, _size: int) -> None:
        """After so many ms."""
        time.sleep(number(path) / 1000)
        self._whole("200 OK", b"slow")

    def do_drop(self, _path: str, _size: int) -> bool:
        """No answer at all."""
        return True

    def do_reset(self, path: str, _size: int) -> bool:
        """Half of the answer."""
        size = number(path)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * size) + b"r" * size)
        time.sleep(0.05)
        abort(self.request)
        return True

    def do_secret(self, _path: str, _size: int) -> None:
        """Sets a cookie: the caller's own word, which it sends as a cookie."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(self._cookie))
        self.wfile.write(b"Set-Cookie: " + self._cookie + b"\r\n\r\n" + self._cookie)

    def _whole(self, status: str, body: bytes) -> None:
        self.wfile.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)) + body)

    def _lines(self) -> list[str]:
        lines: list[str] = []
        while line := self.rfile.readline():
            if not line.strip():
                return lines
            lines.append(line.rstrip(b"\r\n").decode())
        return []

    def _body(self, fields: dict[str, str]) -> int:
        self._cookie = fields.get("cookie", "").encode()
        if fields.get("transfer-encoding") != "chunked":
            return len(self.rfile.read(int(fields.get("content-length", "0"))))
        size = 0
        while step := int(self.rfile.readline().partition(b";")[0], 16):
            size += step
            self.rfile.read(step + 2)
        while self.rfile.readline().strip():
            pass
        return size


def _pour(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(BLOCK):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


# ---- TLS, and no protocol at all ----


class Echo(BaseRequestHandler):
    """Each turn comes back, the word `bye` ends it; after an end of the client's it says one thing more."""

    def handle(self) -> None:
        while data := self.request.recv(BLOCK):
            if data == b"bye":
                return
            self.request.sendall(data)
        self.request.sendall(b"\xfe the end")


class Tls(BaseRequestHandler):
    """An echo inside TLS; `context` is the server's."""

    context: ssl.SSLContext

    def handle(self) -> None:
        try:
            with self.context.wrap_socket(self.request, server_side=True) as inside:
                while data := inside.recv(BLOCK):
                    inside.sendall(data)
        except (ssl.SSLError, ConnectionError):
            return  # what the test asked for


def serve_tls(port: int, certificate: str, key: str, versions: str, protocols: str) -> None:
    """`versions` as `TLSv1_2-TLSv1_3`, `protocols` as `h2,http/1.1`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.minimum_version, context.maximum_version = (ssl.TLSVersion[name] for name in versions.split("-"))
    if protocols:
        context.set_alpn_protocols(protocols.split(","))
    Tls.context = context
    serve(Tls, port)


def deaf(port: int) -> None:
    """Listens, and accepts nobody."""
    with socket.create_server((EVERYWHERE, port)):
        time.sleep(3600)


def serve(handler: type[BaseRequestHandler], port: int) -> None:
    """Until the end."""
    with Server((EVERYWHERE, port), handler) as server:
        server.serve_forever()


# ---- for hypercorn ----


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """ASGI: /bytes/N, /status/N, anything else says how long the request's body was; WebSockets are echoed."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (said := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": said.get("text"), "bytes": said.get("bytes")})
    elif scope["type"] == "http":
        size, more = 0, True
        while more:
            event = await receive()
            size += len(event.get("body", b""))
            more = event.get("more_body", False)
        path = scope["path"]
        status = number(path) if path.startswith("/status/") else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        for body in _blocks(number(path)) if path.startswith("/bytes/") else [b"%d" % size]:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _blocks(size: int) -> Iterator[bytes]:
    for at in range(0, size, BLOCK):
        yield b"x" * min(BLOCK, size - at)


SERVERS: Final[dict[str, Callable[..., None]]] = {
    "http": lambda port: serve(Http, port),
    "echo": lambda port: serve(Echo, port),
    "tls": serve_tls,
    "deaf": deaf,
}


def main(port: str, name: str, *arguments: str) -> None:
    SERVERS[name](int(port), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
