"""The sink against sockets of our own, and against a real Jaeger."""

import json
import secrets
import socket
import time
from contextlib import suppress

import pytest

from clovisor_py.errors import ExportFailed, ExportInterrupted
from clovisor_py.exporters._api import Delivery
from clovisor_py.exporters._registry import open_sink
from clovisor_py.exporters._worker import Worker
from clovisor_py.exporters.jaeger import JaegerSink
from clovisor_py.model.session import Outcome, Side, TraceContext
from clovisor_py.model.workload import Endpoint
from clovisor_py.tracing.spans import span_of
from tests.exporters.test_thrift import read
from tests.support.jaeger import jaeger
from tests.support.sessions import START, pod, session


@pytest.fixture
def agent():
    """A socket where a Jaeger agent would be."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


@pytest.fixture
def nobody():
    """A port where nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Data:
    def __init__(self, data, spans):
        self.data, self.spans = data, spans


def test_what_is_sent_arrives(agent):
    sink = open_sink(f"jaeger://127.0.0.1:{agent.getsockname()[1]}")
    assert sink.export([session(), session(seq=7)]) == Delivery(2)
    sink.close()
    batch = read(Data(agent.recv(70_000), 2))
    assert batch.process.serviceName == "web"
    assert {tag.key: tag.vStr for tag in batch.process.tags}["ip"] == "127.0.0.1"


def test_what_the_operator_says_of_all_is_in_every_process_below_what_is_known(agent, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,ip=no,k8s.pod.name=no")
    sink = open_sink(f"jaeger://127.0.0.1:{agent.getsockname()[1]}")
    sink.export([session()])
    sink.close()
    tags = {tag.key: tag.vStr for tag in read(Data(agent.recv(70_000), 1)).process.tags}
    assert (tags["deployment.environment.name"], tags["ip"], tags.get("k8s.pod.name")) == ("test", "127.0.0.1", None)


def test_an_absent_agent_is_noticed_with_the_first_datagram(nobody):
    sink = open_sink(f"jaeger://127.0.0.1:{nobody}")
    for _ in range(3):
        with pytest.raises(ExportFailed, match=f"no Jaeger agent listens at 127.0.0.1:{nobody}"):
            sink.export([session()])
    sink.close()


def test_an_agent_that_comes_back_is_used_again(nobody):
    sink = JaegerSink("127.0.0.1", nobody)
    with pytest.raises(ExportFailed):
        sink.export([session()])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", nobody))
        assert sink.export([session()]) == Delivery(1)
        assert read(Data(agent.recv(70_000), 1)).spans[0].operationName == "GET"
    sink.close()


def test_an_absent_agent_is_said_once(nobody, caplog):
    with Worker("jaeger:", JaegerSink("127.0.0.1", nobody), queue_limit=100, linger_s=0, pause_s=0, attempts=2) as worker:
        for _ in range(5):
            worker.offer([session()] * 3)
            while worker.ledger().waiting:
                time.sleep(0.001)
    assert worker.ledger().dropped["failed"] == 15
    assert ["no Jaeger agent" in record.message for record in caplog.records] == [True]


def test_a_host_with_two_addresses_is_tried_at_both(agent, monkeypatch):
    """`localhost` is ::1 first on many machines, where an agent on 127.0.0.1 does not listen."""
    port = agent.getsockname()[1]
    here = (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", port))
    other = (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.2", port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [other, here])
    sink = JaegerSink("localhost", port)
    with pytest.raises(ExportFailed):
        sink.export([session()])
    assert sink.export([session()]) == Delivery(1)
    sink.close()


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_a_name_without_an_address_is_a_sentence(error, monkeypatch):
    def unknown(*args, **kwargs):
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ExportFailed, match=r"cannot reach the Jaeger agent at typo:6831 .* check the name"):
        open_sink("jaeger://typo")


def test_a_network_without_a_way_there_leaves_no_socket_open(monkeypatch):
    """A leaked socket would be a ResourceWarning, and warnings are errors here."""
    broadcast = (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("255.255.255.255", 6831))  # connect: permission denied
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [broadcast])
    with pytest.raises(ExportFailed, match="cannot reach"):
        open_sink("jaeger://typo")


def test_a_datagram_that_is_too_long_is_refused_and_the_others_go(agent):
    """EMSGSIZE: trying again would not help, so it is counted, and nobody else waits for it."""
    sink = JaegerSink("127.0.0.1", agent.getsockname()[1], datagram_bytes=200_000)
    big = [session(seq=i, server_workload=pod("big"), attributes={f"k{n}": "x" * 4000 for n in range(7)}) for i in range(6)]
    delivery = sink.export([*big, session()])
    assert (delivery.sent, delivery.dropped) == (1, {"refused": 6})
    assert "bytes are too long a datagram for the way to 127.0.0.1" in delivery.error
    assert read(Data(agent.recv(70_000), 1)).process.serviceName == "web"
    sink.close()


def test_what_went_before_the_socket_failed_counts_and_the_rest_goes_later(agent, monkeypatch):
    sink = JaegerSink("127.0.0.1", agent.getsockname()[1])
    real, sent = sink._send, []

    def send(data):
        if sent:
            raise OSError(101, "Network is unreachable")
        sent.append(data)
        return real(data)

    monkeypatch.setattr(sink, "_send", send)
    sessions = [session(server_workload=pod(name)) for name in ("a", "a", "b", "c")]
    with pytest.raises(ExportInterrupted, match="unreachable") as caught:
        sink.export(sessions)
    assert (caught.value.sent, sink.settled(sessions)) == (2, Delivery(2))
    monkeypatch.undo()
    assert sink.export(sessions) == Delivery(4)
    sink.close()
    batches = [read(Data(data, data.count(b"span.kind"))) for data in (agent.recv(70_000) for _ in range(3))]
    assert [(batch.process.serviceName, len(batch.spans)) for batch in batches] == [("a", 2), ("b", 1), ("c", 1)]


def test_an_agent_that_is_away_for_a_moment_in_mid_batch_gets_the_rest(agent, monkeypatch):
    """A restart: what it was not there for is tried again, and nothing else is."""
    sink = JaegerSink("127.0.0.1", agent.getsockname()[1], datagram_bytes=2000)
    real, sizes, away = sink._send, [], [3, 4]

    def send(data):
        sizes.append(len(data))
        if len(sizes) in away:
            raise ConnectionRefusedError(111, "Connection refused")
        return real(data)

    monkeypatch.setattr(sink, "_send", send)
    with Worker("jaeger:", sink, queue_limit=500, linger_s=0, pause_s=0.001) as worker:
        worker.offer([session(seq=i) for i in range(100)])
        while worker.ledger().waiting:
            time.sleep(0.001)
        ledger = worker.ledger()
    assert (ledger.sent, sum(ledger.dropped.values())) == (100, 0)
    assert "no Jaeger agent listens" in ledger.error
    agent.setblocking(False)
    got = 0
    with suppress(BlockingIOError):
        while True:
            got += agent.recv(70_000).count(b"span.kind")
    assert got == 100


def test_one_session_that_cannot_be_told_costs_no_other(agent):
    """Neither does what the library had finished of it go out with the next batch."""
    sink = JaegerSink("127.0.0.1", agent.getsockname()[1])
    bad = session(seq=99, attributes={5: "x"})
    delivery = sink.export([session(seq=1), bad, session(seq=2), session(seq=3, start_ns="soon")])
    assert (delivery.sent, delivery.dropped) == (2, {"no span": 2})
    assert "cannot be told as a span" in delivery.error
    assert agent.recv(70_000).count(b"span.kind") == 2
    assert sink.export([session(seq=4)]) == Delivery(1)
    assert agent.recv(70_000).count(b"span.kind") == 1
    sink.close()


def calls(count, nonce):
    """Client and server spans of `count` calls between four services, some in an application's own trace, all hostile."""
    attributes = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.path": "/\x1b[31m\u202e日本",
        "surrogate": "a\ud800b",
        "huge": 1 << 70,
        "least": -(1 << 63),
        "nan": float("nan"),
        "long": "é" * 30,
        "list": ["a", "\ud800"],
        "": "no name",
    }
    for i in range(count):
        context = TraceContext(nonce << 64 | i << 16 | 1 << 120, 0xBEEF + i, "traceparent") if i % 2 else None
        common = {
            "client": Endpoint("10.0.0.9", 1024 + i),
            "seq": nonce & 0xFFFFFFFF,
            "start_ns": time.time_ns() // 10**9 * 10**9 + i * 1001 if i % 4 else START + i,
            "duration_ns": 1 + i * 7919,
            "trace": context,
            "attributes": attributes if i % 50 else attributes | {"long": "é" * 9000},
            "client_workload": pod(f"client-{i % 2}"),
            "server_workload": pod(f"server-{i % 3}"),
            "peer_traced": True,
            "outcome": Outcome.RESET if i % 5 == 0 else Outcome.OK,
            "head": secrets.token_bytes(64),
        }
        yield session(side=Side.CLIENT, **common)
        yield session(side=Side.SERVER, **common)


def number(text):
    return int(text, 16)


@pytest.mark.jaeger
def test_a_real_jaeger_shows_every_span_as_it_was():
    sessions = list(calls(1000, secrets.randbits(50)))
    wanted = {span.span_id: span for span in map(span_of, sessions)}
    assert len(wanted) == 2000
    with jaeger() as real:
        with Worker("jaeger:", open_sink("jaeger://127.0.0.1"), queue_limit=5000) as worker:
            worker.offer(sessions)
            ledger = worker.close(deadline_s=60)
        assert (ledger.sent, sum(ledger.dropped.values())) == (2000, 0)
        last = list(wanted.values())[-1].trace_id
        real.wait(lambda: len(real.spans(last)) == 2)
        for trace_id in {span.trace_id for span in wanted.values()}:
            shown = real.wait(lambda trace_id=trace_id: len(real.spans(trace_id)) >= 2 and real.spans(trace_id))
            assert len(shown) == 2
            for one in shown:
                compare(one, wanted.pop(number(one["spanID"])))
    assert wanted == {}


def compare(shown, span):
    """One span of Jaeger's API with ours."""
    assert number(shown["traceID"]) == span.trace_id
    assert len(shown["traceID"]) == 32
    parents = [number(ref["spanID"]) for ref in shown["references"]]
    assert parents == ([span.parent_id] if span.parent_id else [])
    assert (shown["operationName"], shown["process"]["serviceName"]) == (span.name, span.service)
    assert (shown["startTime"], shown["duration"]) == (span.start_ns // 1000, span.duration_ns // 1000)
    tags = {tag["key"]: tag["value"] for tag in shown["tags"]}
    assert tags["span.kind"] == span.side.value
    assert tags.get("error", False) is span.error
    assert tags["url.path"] == span.attributes["url.path"]
    assert tags["surrogate"] == "a?b"
    assert tags["huge"] == hex(1 << 70)
    assert int(tags["least"]) == -(1 << 63)
    assert tags["nan"] == "nan"
    assert tags["long"] in ("é" * 30, "é" * 4095 + "…")
    assert json.loads(tags["list"])[0] == "a"
    assert tags["clovisor.outcome"] == span.attributes["clovisor.outcome"]
    process = {tag["key"] for tag in shown["process"]["tags"]}
    assert {"host.name", "ip", "clovisor.version"} <= process  # Jaeger 2 renames jaeger-client's `hostname`
