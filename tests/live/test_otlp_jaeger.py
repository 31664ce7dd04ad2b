"""Spans into a real Jaeger over OTLP, gRPC and HTTP, read back by its query API, span for span what was sent."""

from __future__ import annotations

import itertools
import json
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clovisor_py.exporters._registry import open_sink
from clovisor_py.exporters._worker import Worker
from clovisor_py.model.session import Session
from clovisor_py.model.span import Span
from clovisor_py.tracing.spans import span_of
from tests.exporters.test_jaeger import calls
from tests.support.jaeger import answers, jaeger

pytestmark = pytest.mark.jaeger
CALLS = 500
RESOURCE = ("service.namespace", "service.instance.id", "k8s.")
"""Beginnings of the names that the Resource says, and so Jaeger's `process`."""
OURS = frozenset({"span.kind", "error", "otel.status_code", "otel.scope.name", "otel.scope.version", "internal.span.format"})
"""What Jaeger writes as tags of what OTLP has fields for."""


@pytest.mark.parametrize("url", ["otlp+grpc://127.0.0.1", "otlp+http://127.0.0.1", "otlp+grpc://127.0.0.1?compression=gzip"])
def test_a_real_jaeger_shows_every_span_as_it_was(url: str) -> None:
    sessions: list[Session] = list(calls(CALLS, secrets.randbits(50)))
    wanted = {span.span_id: span for span in map(span_of, sessions)}
    assert len(wanted) == 2 * CALLS
    with jaeger() as real:
        with Worker(url, open_sink(url), queue_limit=5000) as worker:
            worker.offer(sessions)
            until = time.monotonic() + 60
            while worker.ledger().waiting and time.monotonic() < until:
                time.sleep(0.01)
        ledger = worker.ledger()
        assert (ledger.sent, sum(ledger.dropped.values())) == (2 * CALLS, 0), ledger
        for trace_id in {span.trace_id for span in wanted.values()}:
            shown = real.wait(lambda trace_id=trace_id: len(real.spans(trace_id)) >= 2 and real.spans(trace_id))
            assert len(shown) == 2
            for one in shown:
                compare(one, wanted.pop(int(one["spanID"], 16)))
    assert wanted == {}


def compare(shown: dict[str, Any], span: Span) -> None:
    """One span of Jaeger's API with ours: all of it."""
    assert int(shown["traceID"], 16) == span.trace_id
    assert [int(ref["spanID"], 16) for ref in shown["references"]] == ([span.parent_id] if span.parent_id else [])
    assert (shown["operationName"], shown["process"]["serviceName"]) == (span.name, span.service)
    assert (shown["startTime"], shown["duration"]) == (span.start_ns // 1000, span.duration_ns // 1000)
    tags = {tag["key"]: tag["value"] for tag in shown["tags"]}
    process = {tag["key"]: tag["value"] for tag in shown["process"]["tags"]}
    assert tags["span.kind"] == span.side.value
    assert tags.get("error", False) is span.error
    assert tags["otel.scope.name"] == "clovisor"
    said = {key: value for key, value in tags.items() if key not in OURS}
    expected = {key: _shown(value) for key, value in span.attributes.items()}
    assert process.keys() == {key for key in expected if key.startswith(RESOURCE)}
    both = said | process
    assert both.keys() == expected.keys()
    assert {key: str(value) for key, value in both.items()} == {key: str(value) for key, value in expected.items()}


def _shown(value: Any) -> Any:
    """As Jaeger's JSON shows it, where that is not the value itself."""
    if isinstance(value, list):
        return json.dumps([each.encode("utf-8", "replace").decode() for each in value], separators=(",", ":"))
    if isinstance(value, str):
        cut = value if len(value) <= 4096 else value[:4095] + "…"
        return cut.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return hex(value)
    return value


AT_ONCE = 50
"""Sessions that are offered together, every 20 ms: 2,500 a second."""


def offer_until(worker: Worker, sessions: Iterator[Session], stop: threading.Event) -> None:
    while not stop.wait(0.02):
        worker.offer(list(itertools.islice(sessions, AT_ONCE)))


@pytest.mark.slow
@pytest.mark.parametrize("url", ["otlp+grpc://127.0.0.1", "otlp+http://127.0.0.1", "jaeger://127.0.0.1"])
def test_a_jaeger_that_is_ended_and_started_again(url: str) -> None:
    """In mid-run: what was produced was sent or is counted as dropped, and what is offered afterwards is in the new one.

    What counts as sent since then is, to the span, what the new one says that it took; over UDP it may have lost some.
    """
    if answers():
        pytest.skip("the Jaeger that listens here is not ours to end")
    endless = calls(1 << 30, secrets.randbits(50))
    stop = threading.Event()
    with Worker(url, open_sink(url), queue_limit=2000, pause_s=0.05, attempts=3) as worker:
        feeder = threading.Thread(target=offer_until, args=(worker, endless, stop))
        with jaeger():
            feeder.start()
            while worker.ledger().sent < 10 * AT_ONCE:
                time.sleep(0.01)
        try:
            while worker.ledger().dropped["failed"] < 10 * AT_ONCE:  # the batch that it was ended in is settled
                time.sleep(0.01)
            away = worker.ledger().sent
            with jaeger() as real:
                while worker.ledger().sent < away + 10 * AT_ONCE:
                    time.sleep(0.01)
                stop.set()
                feeder.join()
                while worker.ledger().waiting:
                    time.sleep(0.01)
                last = list(itertools.islice(endless, 2 * AT_ONCE))
                worker.offer(last)
                ledger = worker.close(30)
                for trace_id in {span_of(one).trace_id for one in last}:
                    assert real.wait(lambda trace_id=trace_id: len(real.spans(trace_id)) == 2), f"{trace_id:x}"
                taken = real.accepted()
        finally:
            stop.set()
            feeder.join()
    assert ledger.waiting == 0
    assert ledger.offered == ledger.sent + sum(ledger.dropped.values())
    assert ledger.sent >= 20 * AT_ONCE
    assert taken <= ledger.sent - away if url.startswith("jaeger:") else taken == ledger.sent - away
    assert sum(ledger.dropped.values()) >= 10 * AT_ONCE
