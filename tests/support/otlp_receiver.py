"""OTLP receivers for tests: collectors that answer by script, in this process or as a child that can be killed.

opentelemetry-proto reads what arrives, so it is the oracle for what Clovisor writes. The child (`python -m
tests.support.otlp_receiver KIND PORT FILE`) appends the id of each span to FILE before it acknowledges the request.
"""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BytesValue
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from clovisor_py.exporters._otlp_settings import METRICS, TRACES, Signal
from clovisor_py.exporters._otlp_wire import sized

REQUESTS: Final[dict[Signal, Any]] = {TRACES: ExportTraceServiceRequest, METRICS: ExportMetricsServiceRequest}
START_S: Final = 30.0
"""A child on a busy machine."""


@dataclass
class Answer:
    """`code`: an HTTP status or a gRPC code; `headers`: HTTP's, or trailing metadata; `act` runs before it is given."""

    code: Any = None
    body: bytes = b""
    headers: dict[str, Any] = field(default_factory=dict)
    act: Callable[[], None] = lambda: None


@dataclass
class Receiver:
    """What came, in its order; `script`: the answers to give first, then all is well."""

    port: int = 0
    script: list[Answer] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    """As opentelemetry-proto reads them, by `signal`."""
    metadata: list[dict[str, Any]] = field(default_factory=list)
    """Of each request: its headers, in lower case; `path` and `size` (on the wire) for HTTP."""
    taken: Callable[[Any], None] = lambda request: None
    kept: bool = True
    """Whether requests are kept; a child forgets them."""
    signal: Signal = TRACES

    def next(self, data: bytes, metadata: dict[str, Any]) -> Answer:
        request = REQUESTS[self.signal].FromString(data)
        if self.kept:
            self.requests.append(request)
            self.metadata.append(metadata)
        answer = self.script.pop(0) if self.script else Answer()
        answer.act()
        if answer.code is None:
            self.taken(request)
        return answer

    @property
    def spans(self) -> list[tuple[dict[str, Any], Any]]:
        """Every span of every request with the attributes of its resource."""
        return [pair for request in self.requests for pair in spans_of(request)]


def spans_of(request: ExportTraceServiceRequest) -> list[tuple[dict[str, Any], Any]]:
    return [
        (attributes(group.resource.attributes), span)
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def attributes(pairs: Any) -> dict[str, Any]:
    """KeyValues as a dict; no name may be there twice."""
    out = {pair.key: plain(pair.value) for pair in pairs}
    assert len(out) == len(pairs)
    return out


def plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    said = getattr(value, kind)
    return [plain(each) for each in said.values] if kind == "array_value" else said


def partial(rejected: int, why: str = "") -> bytes:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = why
    return answer.SerializeToString()


def retry_info(seconds: float, message: str = "") -> bytes:
    """A google.rpc.Status with RetryInfo in it (which looks on the wire like a BytesValue of its Duration)."""
    delay = Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))
    info = BytesValue(value=delay.SerializeToString()).SerializeToString()
    detail = AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo", value=info)
    return sized(2, message.encode()) + sized(3, detail.SerializeToString())


@contextmanager
def http_receiver(port: int = 0, tls: ssl.SSLContext | None = None, **fields: Any) -> Iterator[Receiver]:
    """A collector for OTLP over HTTP at 127.0.0.1."""
    receiver = Receiver(**fields)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            metadata = {key.lower(): value for key, value in self.headers.items()} | {"path": self.path, "size": len(data)}
            if metadata.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            answer = receiver.next(data, metadata)
            self.send_response(answer.code or 200)
            headers = {"Content-Type": "application/x-protobuf", "Content-Length": str(len(answer.body))} | answer.headers
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away or fails a handshake is part of these tests."""

        def finish_request(self, request: Any, client_address: Any) -> None:
            with tls.wrap_socket(request, server_side=True) if tls else nullcontext(request) as given:
                super().finish_request(given, client_address)

    with Server(("127.0.0.1", port), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def grpc_receiver(port: int = 0, credentials: Any = None, **fields: Any) -> Iterator[Receiver]:
    """A collector for OTLP over gRPC at 127.0.0.1."""
    receiver = Receiver(**fields)

    def export(data: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata())
        answer = receiver.next(data, metadata)
        if answer.code is not None:
            context.set_trailing_metadata(tuple(answer.headers.items()))
            context.abort(answer.code, answer.body.decode())
        return answer.body

    _, service, method = receiver.signal.method.split("/")
    handlers = {method: grpc.unary_unary_rpc_method_handler(export)}
    options = (("grpc.so_reuseport", 0),)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool, options=options)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        place = f"127.0.0.1:{port}"
        receiver.port = (
            server.add_secure_port(place, credentials) if credentials is not None else server.add_insecure_port(place)
        )
        server.start()
        try:
            yield receiver
        finally:
            server.stop(0).wait()


RECEIVERS: Final = {"grpc": grpc_receiver, "http": http_receiver}


# Certificates.


@dataclass(frozen=True)
class Certificates:
    """Files of a CA and of what it signed, for `localhost` and 127.0.0.1."""

    folder: Path

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def context(self, name: str = "server", *, mutual: bool = False) -> ssl.SSLContext:
        """Of a server that shows the certificate `name`."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.file(f"{name}.pem"), self.file(f"{name}.key"))
        if mutual:
            made.load_verify_locations(self.file("ca.pem"))
            made.verify_mode = ssl.CERT_REQUIRED
        return made

    def credentials(self, name: str = "server", *, mutual: bool = False) -> Any:
        """The same for a gRPC server."""
        key, chain, ca = ((self.folder / file).read_bytes() for file in (f"{name}.key", f"{name}.pem", "ca.pem"))
        return grpc.ssl_server_credentials([(key, chain)], ca if mutual else None, require_client_auth=mutual)


def certificates(folder: Path) -> Certificates:
    """A CA and, signed by it, `server`, `client`, `expired` and `elsewhere` (for another name); skips without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl (Debian: openssl)")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "here").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    (folder / "there").write_text("subjectAltName=DNS:collector.example\n")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    made = (("server", "2", "here"), ("client", "2", "here"), ("expired", "-1", "here"), ("elsewhere", "2", "there"))
    for name, days, names in made:
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days, "-extfile", names)
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return Certificates(folder)


# A child.


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def child(kind: str, port: int, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A receiver that listens on `port`; killed when the block ends, if it was not before."""
    command = [sys.executable, "-m", "tests.support.otlp_receiver", kind, str(port), str(file)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        until = time.monotonic() + START_S
        while not _listens(port):
            assert process.poll() is None, "the receiver ended"
            assert time.monotonic() < until, "the receiver does not listen"
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def ids(file: Path) -> list[str]:
    """What a child wrote: the ids of all spans that came, in their order; an id for each time."""
    return file.read_text().split() if file.exists() else []


def main(kind: str, port: str, file: str) -> None:
    """Listens until it is killed."""
    out = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def take(request: ExportTraceServiceRequest) -> None:
        groups = (scope.spans for group in request.resource_spans for scope in group.scope_spans)
        os.write(out, "".join(f"{span.span_id.hex()}\n" for spans in groups for span in spans).encode())

    with RECEIVERS[kind](int(port), taken=take, kept=False):
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
