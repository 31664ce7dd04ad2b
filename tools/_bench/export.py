"""`tools/bench export`: CPU from a Session to bytes that a local receiver accepted, for each span exporter.

The sessions are calls between named pods, as a node in Kubernetes tells them: some thirty attributes each, every one with its
own path and ids. What is timed is this process with all of its threads (worker, encoder, gRPC's own); the receiver is
another process, which parses what comes and acknowledges it. Beside that: what the same spans cost as opentelemetry-proto's
messages, and as jaeger-client's datagrams, whose library is the ceiling there. Needs no root.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from clovisor_py.exporters._fanout import open_urls
from clovisor_py.exporters._otlp_spans import Encoder
from clovisor_py.exporters._worker import BATCH
from clovisor_py.model.session import Session, Side, TraceContext
from clovisor_py.model.workload import Endpoint, Workload
from clovisor_py.tracing.spans import span_of
from tests.support.otlp_receiver import child, free_port
from tests.support.sessions import START, session
from tools._bench import machine
from tools._bench.sessions import cpu_s

WAYS: Final = {"OTLP, gRPC": ("grpc", ""), "OTLP, HTTP": ("http", ""), "OTLP, HTTP, gzip": ("http", "?compression=gzip")}
PODS: Final = 20
"""Of each side: a node's pods talk to some others."""


def main(runs: int, spans: int) -> None:
    """Print µs of CPU a span, `runs` times `spans` spans for each way."""
    machine.heading(f"export: µs of CPU from a session to acknowledged bytes, {runs} runs of {spans:,} spans each")
    sessions = made(spans)
    attributes = sum(len(span_of(one).attributes) for one in sessions) / spans
    machine.line(f"{attributes:.0f} attributes a span, batches of {BATCH}")
    _print("session to span (in all that follow)", [_each(lambda: _spans(sessions), spans) for _ in range(runs)])
    encoder = Encoder()
    _print("session to OTLP's bytes", [_each(lambda: _encode(encoder, sessions), spans) for _ in range(runs)])
    _print("the same by opentelemetry-proto", [_each(lambda: _by_messages(sessions), spans) for _ in range(runs)])
    for name, (kind, query) in WAYS.items():
        with _receiver(kind) as place:
            _print(name, [_export(f"otlp+{kind}://{place}{query}", sessions) for _ in range(runs)])
    with _unread() as url:
        _print("Jaeger, UDP (jaeger-client's spans)", [_export(url, sessions) for _ in range(runs)])


def made(spans: int) -> list[Session]:
    """Calls in turns as the client and the server tell them; every other one in an application's own trace."""
    front, back = ([_workload(name, i) for i in range(PODS)] for name in ("front", "back"))
    return [
        session(
            side=Side.CLIENT if i % 2 else Side.SERVER,
            start_ns=START + i * 1_000_003,
            duration_ns=1_000_000 + i * 7919 % 5_000_000,
            ttfb_ns=900_000 + i * 7919 % 5_000_000,
            client=Endpoint(f"10.0.1.{i % PODS}", 32768 + i % 28000),
            server=Endpoint(f"10.0.2.{i % PODS}", 8080),
            client_workload=front[i % PODS],
            server_workload=back[i % PODS],
            attributes=_attributes(i),
            trace=TraceContext(i + 1 << 64, i + 1, "traceparent", sampled=True) if i % 4 < 2 else None,
            seq=i,
        )
        for i in range(spans)
    ]


def _workload(name: str, i: int) -> Workload:
    return Workload(f"{name}-7d9f-{i}", "shop", f"n{i % 3}", f"deployment/{name}", name, "pod", f"uid-{name}-{i}", name)


def _attributes(i: int) -> dict[str, Any]:
    return {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": f"/products/{i}",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8.1",
        "server.address": "back.shop",
    }


def _print(name: str, runs: Sequence[float]) -> None:
    middle = machine.figure(name, runs, "µs", digits=1)
    machine.line(f"{'':42} {1e6 / middle:>10,.0f} spans/s of one core")


def _each(stage: Callable[[], object], spans: int) -> float:
    return cpu_s(stage) / spans * 1e6


def _batches(sessions: Sequence[Session]) -> Iterator[Sequence[Session]]:
    for begin in range(0, len(sessions), BATCH):
        yield sessions[begin : begin + BATCH]


def _spans(sessions: Sequence[Session]) -> None:
    for one in sessions:
        span_of(one)


def _encode(encoder: Encoder, sessions: Sequence[Session]) -> None:
    for batch in _batches(sessions):
        encoder.requests(batch)


def _by_messages(sessions: Sequence[Session]) -> None:
    """One Resource for all, which is less work than ours does."""
    for batch in _batches(sessions):
        request = ExportTraceServiceRequest()
        add = request.resource_spans.add().scope_spans.add().spans.add
        for one in batch:
            ours = span_of(one)
            span = add(
                trace_id=ours.trace_id.to_bytes(16, "big"),
                span_id=ours.span_id.to_bytes(8, "big"),
                parent_span_id=ours.parent_id.to_bytes(8, "big"),
                name=ours.name,
                kind=3 if ours.side is Side.CLIENT else 2,
                start_time_unix_nano=ours.start_ns,
                end_time_unix_nano=ours.start_ns + ours.duration_ns,
            )
            for key, value in ours.attributes.items():
                if isinstance(value, str):
                    span.attributes.add(key=key).value.string_value = value
                elif isinstance(value, int):
                    span.attributes.add(key=key).value.int_value = value
        request.SerializeToString()


def _export(url: str, sessions: Sequence[Session]) -> float:
    """µs a span, with queue, thread and connection; being opened (imports) is not in it."""

    def deliver() -> None:
        for batch in _batches(sessions):
            fanout.offer(batch)
        ledger = fanout.close(deadline_s=600)[url]
        if ledger.sent != len(sessions):
            machine.line(f"(of {len(sessions):,} spans {ledger.sent:,} were sent: {dict(ledger.dropped)})")

    with open_urls([url], queue_limit=len(sessions)) as fanout:
        return cpu_s(deliver) / len(sessions) * 1e6


@contextmanager
def _receiver(kind: str) -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cvt-bench-") as folder, child(kind, port, Path(folder) / "ids"):
        yield f"127.0.0.1:{port}"


@contextmanager
def _unread() -> Iterator[str]:
    """A Jaeger agent's socket that nobody reads: what it has no room for, the kernel drops."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        yield f"jaeger://127.0.0.1:{agent.getsockname()[1]}"
