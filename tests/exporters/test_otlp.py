"""The sink against collectors of our own, by both ways there: what they may do, and what is counted then."""

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from clovisor_py import __version__
from clovisor_py.errors import ExportFailed, ExportInterrupted, UsageError
from clovisor_py.exporters import _otlp_reply, _otlp_settings
from clovisor_py.exporters._otlp_http import HttpTransport
from clovisor_py.exporters._otlp_settings import HTTP, Settings
from clovisor_py.exporters._registry import open_sink, parse
from clovisor_py.exporters._worker import Worker
from clovisor_py.exporters.otlp import OtlpSink, transport_of
from clovisor_py.tracing.spans import span_of
from tests.support.otlp_receiver import (
    RECEIVERS,
    Answer,
    attributes,
    certificates,
    child,
    free_port,
    grpc_receiver,
    http_receiver,
    ids,
    partial,
    retry_info,
)
from tests.support.sessions import pod, session

WAYS = ("grpc", "http")
ROOT = Path(__file__).parents[2]
Code = grpc.StatusCode
LATER = {
    "grpc": [Code.UNAVAILABLE, Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.OUT_OF_RANGE, Code.DATA_LOSS],
    "http": [429, 502, 503, 504],
}
NEVER = {
    "grpc": [Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED, Code.INTERNAL, Code.RESOURCE_EXHAUSTED, Code.UNKNOWN],
    "http": [301, 400, 404, 413, 500],
}
NOT_LET_IN = {"grpc": [Code.UNAUTHENTICATED, Code.PERMISSION_DENIED], "http": [401, 403]}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@contextmanager
def sink_to(way, receiver, query="", *, tls=False, host="127.0.0.1"):
    sink = open_sink(f"{'otlps' if tls else 'otlp'}+{way}://{host}:{receiver.port}{query}")
    try:
        yield sink
    finally:
        sink.close()


def each(codes):
    return pytest.mark.parametrize(("way", "code"), [(way, code) for way in WAYS for code in codes[way]])


def test_what_is_sent_arrives(way):
    sessions = [session(), session(seq=7, server_workload=pod("db"))]
    with RECEIVERS[way]() as receiver, sink_to(way, receiver) as sink:
        for _ in range(3):
            delivery = sink.export(sessions)
            assert (delivery.sent, delivery.dropped, delivery.error) == (2, {}, "")
    assert len(receiver.requests) == 3
    assert {resource["service.name"] for resource, _ in receiver.spans} == {"web", "db"}
    assert f"clovisor/{__version__}" in receiver.metadata[0]["user-agent"]
    if way == "http":
        assert receiver.metadata[0]["path"] == "/v1/traces"
        assert receiver.metadata[0]["content-type"] == "application/x-protobuf"


def test_gzip_and_headers(way, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x,x-scope=shop")
    sessions = [session(seq=i) for i in range(200)]
    with RECEIVERS[way]() as receiver, sink_to(way, receiver, "?compression=gzip") as sink:
        assert sink.export(sessions).sent == 200
    assert len(receiver.spans) == 200
    assert receiver.metadata[0]["authorization"] == "Bearer x"
    assert receiver.metadata[0]["x-scope"] == "shop"
    if way == "http":
        assert receiver.metadata[0]["size"] < len(receiver.requests[0].SerializeToString()) / 5


def test_variables_alone_say_where(way, monkeypatch):
    with RECEIVERS[way]() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", {"grpc": "grpc", "http": "http/protobuf"}[way])
        sink = open_sink("otlp:")
        assert sink.export([session()]).sent == 1
        sink.close()


def test_the_operators_attributes_are_in_every_resource(way, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=t%C3%A9st,service.name=no")
    with RECEIVERS[way]() as receiver, sink_to(way, receiver) as sink:
        assert sink.export([session(), session(seq=7, server_workload=pod("db"))]).sent == 2
    resources = [resource for resource, _ in receiver.spans]
    assert [resource["service.name"] for resource in resources] == ["web", "db"]
    assert {resource["deployment.environment.name"] for resource in resources} == {"tést"}


def test_partial_success_counts_what_was_rejected(way):
    with (
        RECEIVERS[way](
            script=[Answer(body=partial(2, "too\nold")), Answer(body=partial(9)), Answer(body=partial(0, "hm"))]
        ) as receiver,
        sink_to(way, receiver) as sink,
    ):
        sessions = [session(seq=i) for i in range(5)]
        first, second, third = (sink.export(list(sessions)) for _ in range(3))
    assert (first.sent, first.dropped, first.error) == (3, {"rejected": 2}, "too old")
    assert (second.sent, second.dropped) == (0, {"rejected": 5})
    assert (third.sent, third.dropped) == (5, {})


@each(LATER)
def test_what_may_succeed_later_is_tried_again(way, code):
    with RECEIVERS[way](script=[Answer(code)]) as receiver, sink_to(way, receiver) as sink:
        sessions = [session()]
        with pytest.raises(ExportInterrupted, match=f"127.0.0.1:{receiver.port}") as caught:
            sink.export(sessions)
        assert (caught.value.sent, caught.value.dropped, caught.value.retry_after_s) == (0, {}, 0)
        assert sink.export(sessions).sent == 1


@each(NEVER)
def test_what_never_will_is_not(way, code):
    with RECEIVERS[way](script=[Answer(code, b"say \x1b no")]) as receiver, sink_to(way, receiver) as sink:
        delivery = sink.export([session(), session(seq=7)])
        assert (delivery.sent, delivery.dropped) == (0, {"refused": 2})
        assert f"the collector at 127.0.0.1:{receiver.port} refuses what it is sent" in delivery.error
        assert "\x1b" not in delivery.error
        assert sink.export([session()]).sent == 1


@each(NOT_LET_IN)
def test_who_is_not_let_in_is_told_where_credentials_go(way, code):
    with RECEIVERS[way](script=[Answer(code)]) as receiver, sink_to(way, receiver) as sink:
        delivery = sink.export([session()])
    assert delivery.dropped == {"refused": 1}
    assert "OTEL_EXPORTER_OTLP_HEADERS" in delivery.error


@pytest.mark.parametrize(
    ("way", "answer"),
    [
        ("http", Answer(429, headers={"Retry-After": "7"})),
        ("http", Answer(503, retry_info(7, "busy"))),
        ("grpc", Answer(Code.UNAVAILABLE, headers={"grpc-status-details-bin": retry_info(7)})),
        ("grpc", Answer(Code.RESOURCE_EXHAUSTED, headers={"grpc-status-details-bin": retry_info(7)})),
    ],
)
def test_a_pause_that_is_asked_for_is_told(way, answer):
    with RECEIVERS[way](script=[answer]) as receiver, sink_to(way, receiver) as sink:
        with pytest.raises(ExportInterrupted, match=r"\.$") as caught:
            sink.export([session()])
        assert caught.value.retry_after_s == 7


def test_an_attempt_goes_on_where_the_last_one_ended(way):
    """Three requests; the second is interrupted twice, and none is sent twice that was acknowledged."""
    big = {f"k{i}": "x" * 4000 for i in range(7)}
    sessions = [session(seq=i, attributes=big) for i in range(90)]
    busy = Answer(LATER[way][0])
    with RECEIVERS[way](script=[Answer(body=partial(1)), busy, busy]) as receiver, sink_to(way, receiver) as sink:
        for _ in range(2):
            with pytest.raises(ExportInterrupted) as caught:
                sink.export(sessions)
            assert caught.value.sent > 0
            assert caught.value.dropped == {"rejected": 1}
        delivery = sink.export(sessions)
    assert (delivery.sent, delivery.dropped) == (89, {"rejected": 1})
    acknowledged = [receiver.requests[at] for at in (0, 3, 4)]
    counts = [sum(len(group.scope_spans[0].spans) for group in request.resource_spans) for request in acknowledged]
    assert sum(counts) == 90
    assert receiver.requests[1] == receiver.requests[2] == receiver.requests[3]


def test_what_is_lost_in_part_is_counted_so(way):
    """The worker gives up on a batch of which a part was delivered."""
    big = {f"k{i}": "x" * 4000 for i in range(7)}
    busy = Answer(LATER[way][0])
    with (
        RECEIVERS[way](script=[Answer(), busy, busy]) as receiver,
        sink_to(way, receiver) as sink,
        Worker("otlp:", sink, queue_limit=100, pause_s=0.001, attempts=2) as worker,
    ):
        worker.offer([session(seq=i, attributes=big) for i in range(60)])
        settle(worker)
        ledger = worker.ledger()
    first = len(receiver.requests[0].resource_spans[0].scope_spans[0].spans)
    assert (ledger.sent, ledger.dropped["failed"]) == (first, 60 - first)
    assert 0 < first < 60


def test_what_cannot_be_told_is_counted_and_the_rest_goes(way):
    with RECEIVERS[way]() as receiver, sink_to(way, receiver) as sink:
        delivery = sink.export([session(), session(attributes={7: 7})])
        assert (delivery.sent, delivery.dropped) == (1, {"no span": 1})
        assert "cannot be told as a span" in delivery.error
        delivery = sink.export([session(attributes={7: 7})])
        assert (delivery.sent, delivery.dropped) == (0, {"no span": 1})
    assert len(receiver.requests) == 1


def test_hostile_attributes_arrive(way):
    hostile = {"mb": "x" * 1_000_000, "lone": "a\ud800", "huge": 1 << 70, "nan": float("nan"), "digits": 1 << 99_999, "": "\0"}
    with RECEIVERS[way]() as receiver, sink_to(way, receiver) as sink:
        assert sink.export([session(attributes=hostile), session()]).sent == 2
    said = attributes(receiver.spans[0][1].attributes)
    assert (said["lone"], said["huge"], said["nan"], said[""]) == ("a?", hex(1 << 70), "nan", "\0")


def test_nobody_there(way):
    port = free_port()
    sink = open_sink(f"otlp+{way}://127.0.0.1:{port}")
    sessions = [session()]
    for _ in range(3):
        with pytest.raises(ExportInterrupted, match=f"no collector answers at 127.0.0.1:{port}"):
            sink.export(sessions)
    with RECEIVERS[way](port):
        assert sink.export(sessions).sent == 1  # at once: no back-off of gRPC's own
    sink.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".invalid"])
def test_a_name_that_nobody_knows_is_said_at_once(way, host):
    with pytest.raises(ExportFailed, match=rf"host {host} is not known .*; check the name"):
        open_sink(f"otlp+{way}://{host}")


def test_a_name_that_is_not_known_any_more(way):
    settings = _otlp_settings.settings_of(parse(f"otlp+{way}://no-such-host.invalid?timeout=5"), {})
    transport = transport_of(settings)
    with pytest.raises(ExportInterrupted, match=r"host no-such-host.invalid is not known .*; check the name"):
        transport.send(b"")
    transport.close()


def test_who_answers_too_slowly_is_waited_for_no_longer(way):
    release = threading.Event()
    with RECEIVERS[way](script=[Answer(act=release.wait)]) as receiver, sink_to(way, receiver, "?timeout=0.2") as sink:
        sessions = [session()]
        began = time.monotonic()
        with pytest.raises(ExportInterrupted, match=r"no answer .* within 0.2 s .*OTEL_EXPORTER_OTLP_TIMEOUT in ms\)\.$"):
            sink.export(sessions)
        assert time.monotonic() - began < 5
        release.set()
        assert sink.export(sessions).sent == 1


def test_a_port_where_something_else_listens(way):
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def chatter():
            while not stop.is_set():
                peer, _ = server.accept()
                with peer:
                    peer.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=chatter)
        thread.start()
        sink = open_sink(f"otlp+{way}://127.0.0.1:{server.getsockname()[1]}?timeout=1")
        with pytest.raises(ExportInterrupted, match=r"something answers at .*, but no \w+ .*port \(mostly \d+\)\.$"):
            sink.export([session()])
        sink.close()
        stop.set()
        socket.create_connection(server.getsockname()).close()
        thread.join()


def test_a_web_page_is_no_collector():
    page = Answer(200, b"<html>", {"Content-Type": "text/html; charset=utf-8", "Content-Length": "6"})
    with http_receiver(script=[page]) as receiver, sink_to("http", receiver) as sink:
        delivery = sink.export([session()])
    assert delivery.dropped == {"refused": 1}
    assert "a web page is there" in delivery.error


def trickle(begin, server, tls=None):
    """Say `begin`, then a byte at a time for as long as somebody is there; how many were said."""
    peer, _ = server.accept()
    said = 0
    with suppress(OSError), tls.wrap_socket(peer, server_side=True) if tls else peer as peer:
        peer.recv(65536)
        peer.sendall(begin)
        while said < 3000:
            time.sleep(0.01)
            peer.sendall(b"1")
            said += 1
    return said


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nX-A: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_who_answers_a_byte_at_a_time_is_waited_for_no_longer(begin, tls, files):
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        said = pool.submit(trickle, begin, server, files.context("server") if tls else None)
        more = f"&ca={files.file('ca.pem')}" if tls else ""
        sink = open_sink(f"{'otlps' if tls else 'otlp'}+http://127.0.0.1:{server.getsockname()[1]}?timeout=0.3{more}")
        with pytest.raises(ExportInterrupted, match=r"no answer .*timed out"):
            sink.export([session()])
        sink.close()
        assert said.result() < 3000


def test_who_reads_nothing_is_waited_for_no_longer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = HttpTransport(Settings(HTTP, *server.getsockname(), timeout_s=0.2))
        with pytest.raises(ExportInterrupted, match="timed out"):
            transport.send(bytes(1 << 24))


def test_a_dead_address_leaves_time_for_the_next(monkeypatch):
    with http_receiver() as receiver, socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        dead.listen(0)
        full = [socket.socket() for _ in range(3)]  # nobody accepts these, so further ones get no answer
        for each in full:
            each.setblocking(False)
            each.connect_ex(dead.getsockname())
        places = [dead.getsockname(), ("127.0.0.1", receiver.port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]
        with monkeypatch.context() as patched, sink_to("http", receiver, "?timeout=2") as sink:
            patched.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            assert sink.export([session()]).sent == 1
        for each in full:
            each.close()


def test_a_user_agent_of_ones_own_is_the_only_one(way, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "User-Agent=mine")
    with RECEIVERS[way]() as receiver, sink_to(way, receiver) as sink:
        assert sink.export([session()]).sent == 1
    assert receiver.metadata[0]["user-agent"].split(" ")[0] == "mine"
    assert __version__ not in receiver.metadata[0]["user-agent"]


def test_an_answer_without_end_is_not_read_to_its_end():
    long = Answer(200, b"x" * (_otlp_reply.REPLY_BYTES * 3), {"Content-Length": str(_otlp_reply.REPLY_BYTES * 3)})
    with http_receiver(script=[long]) as receiver, sink_to("http", receiver) as sink:
        assert sink.export([session()]).sent == 1
        assert sink.export([session()]).sent == 1  # on another connection


def test_a_connection_that_the_collector_closed_is_opened_anew():
    with http_receiver(script=[Answer(headers={"Connection": "close"})]) as receiver, sink_to("http", receiver) as sink:
        assert sink.export([session()]).sent == 1
        assert sink.export([session()]).sent == 1
    assert len(receiver.requests) == 2
    with http_receiver() as first, sink_to("http", first) as sink:
        assert sink.export([session()]).sent == 1
        kept = sink._transport._connection
        kept.sock.shutdown(socket.SHUT_RD)  # looks to us as if the collector had closed it
        assert sink.export([session()]).sent == 1
        assert sink._transport._connection is not kept


# TLS.


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("tls"))


@contextmanager
def secure(way, files, name="server", **settings):
    if way == "grpc":
        with grpc_receiver(credentials=files.credentials(name, **settings)) as receiver:
            yield receiver
    else:
        with http_receiver(tls=files.context(name, **settings)) as receiver:
            yield receiver


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls(way, files, host):
    with secure(way, files) as receiver, sink_to(way, receiver, f"?ca={files.file('ca.pem')}", tls=True, host=host) as sink:
        assert sink.export([session()]).sent == 1
        kept = getattr(sink._transport, "_connection", None)
        assert sink.export([session()]).sent == 1
        assert getattr(sink._transport, "_connection", None) is kept  # no handshake for each request


def test_mutual_tls(way, files, monkeypatch):
    with secure(way, files, mutual=True) as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", files.file("ca.pem"))
        with sink_to(way, receiver, "?timeout=5", tls=True) as sink, pytest.raises(ExportInterrupted):
            sink.export([session()])
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", files.file("client.pem"))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", files.file("client.key"))
        with sink_to(way, receiver, tls=True) as sink:
            assert sink.export([session()]).sent == 1


def test_a_certificate_that_has_expired_is_said(way, files):
    """In one sentence, and nowhere else: in a process of its own, as gRPC's log is for the whole process."""
    code = (
        "import sys, clovisor_py.errors as errors; from clovisor_py.exporters._registry import open_sink\n"
        "from tests.support.sessions import session\n"
        "try: open_sink(sys.argv[1]).export([session()])\n"
        "except errors.ExportInterrupted as error: print(error)\n"
    )
    with secure(way, files, "expired") as receiver:
        url = f"otlps+{way}://127.0.0.1:{receiver.port}?timeout=5&ca={files.file('ca.pem')}"
        done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith(f"no TLS with the collector at 127.0.0.1:{receiver.port}")
    assert "certificate has expired" in done.stdout
    assert "; renew the certificate" in done.stdout
    assert done.stderr == ""


def test_a_certificate_that_nobody_we_know_signed_is_said(way, files):
    with (
        secure(way, files) as receiver,
        sink_to(way, receiver, "?timeout=5", tls=True) as sink,
        pytest.raises(ExportInterrupted, match="no TLS with the collector"),
    ):
        sink.export([session()])


def test_a_renewed_certificate_is_used(way, files, tmp_path):
    """The CA's file is replaced while we run: the next connection reads it."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes((files.folder / "client.pem").read_bytes())
    with secure(way, files) as receiver, sink_to(way, receiver, f"?timeout=5&ca={ca}", tls=True) as sink:
        sessions = [session()]
        with pytest.raises(ExportInterrupted):
            sink.export(sessions)
        ca.write_text("half written")
        with pytest.raises(ExportInterrupted, match="no CA to trust"):
            sink.export(sessions)
        ca.write_bytes((files.folder / "ca.pem").read_bytes())
        assert sink.export(sessions).sent == 1


@pytest.mark.parametrize("query", ["?ca=/no/such", "?ca={key}", "?cert={cert}&key={ca}", "?cert=/no/such&key={key}"])
def test_files_that_are_none_are_a_sentence_at_once(way, files, query):
    named = query.format(ca=files.file("ca.pem"), key=files.file("client.key"), cert=files.file("client.pem"))
    with pytest.raises(UsageError, match=r"PEM.*\.$"):
        open_sink(f"otlps+{way}://h{named}")


# Through the worker.


def settle(worker):
    while worker.ledger().waiting:
        time.sleep(0.005)


def test_each_loss_is_counted_under_its_reason(way, caplog):
    script = [Answer(NEVER[way][0], b"no"), Answer(body=partial(3, "old")), Answer(LATER[way][0])]
    with (
        caplog.at_level(logging.WARNING),
        RECEIVERS[way](script=script) as receiver,
        sink_to(way, receiver) as sink,
        Worker("otlp:", sink, queue_limit=100, batch=10, linger_s=0, pause_s=0.001) as worker,
    ):
        for start in range(0, 30, 10):
            worker.offer([session(seq=start + i) for i in range(9)] + [session(attributes={1: 1})] * (start == 20))
            settle(worker)
        ledger = worker.ledger()
    lost = {reason: number for reason, number in ledger.dropped.items() if number}
    assert lost == {"refused": 9, "rejected": 3, "no span": 1}
    assert ledger.offered == 28 == ledger.sent + sum(lost.values())
    assert "refuses what it is sent" in caplog.text


def test_a_pause_that_is_asked_for_is_kept(way):
    pause = retry_info(0.4)
    answer = Answer(503, pause) if way == "http" else Answer(Code.UNAVAILABLE, headers={"grpc-status-details-bin": pause})
    with (
        RECEIVERS[way](script=[answer]) as receiver,
        sink_to(way, receiver) as sink,
        Worker("otlp:", sink, queue_limit=100, linger_s=0, pause_s=0) as worker,
    ):
        began = time.monotonic()
        worker.offer([session()])
        settle(worker)
        assert time.monotonic() - began >= 0.4
        assert worker.ledger().sent == 1


SESSIONS = 6000


def test_killed_and_restarted_in_mid_run_nothing_is_lost_uncounted(way, tmp_path):
    """First while it takes spans: what was under way is sent again. Then for long: what was offered meanwhile is dropped."""
    port, file = free_port(), tmp_path / "ids"
    sessions = [session(seq=i, head=i.to_bytes(4, "big")) for i in range(3 * SESSIONS)]
    first, second, third = (sessions[i : i + SESSIONS] for i in range(0, 3 * SESSIONS, SESSIONS))
    sink = open_sink(f"otlp+{way}://127.0.0.1:{port}?timeout=5")
    with Worker("otlp:", sink, queue_limit=5 * SESSIONS, batch=100, linger_s=0, pause_s=0.05, attempts=12) as worker:
        with child(way, port, file) as receiver:
            worker.offer(first)
            while len(ids(file)) < SESSIONS // 4:
                time.sleep(0.001)
            receiver.kill()
            receiver.wait()
            assert worker.ledger().waiting > 0
            with child(way, port, file):
                settle(worker)
                assert worker.ledger().sent == SESSIONS == len(set(ids(file)))
        worker._attempts = 2
        worker.offer(second)
        settle(worker)
        with child(way, port, file):
            worker.offer(third)
            settle(worker)
    ledger = worker.ledger()
    assert ledger.offered == 3 * SESSIONS == ledger.sent + sum(ledger.dropped.values())
    assert ledger.dropped["failed"] == SESSIONS
    wanted = {f"{span_of(one).span_id:016x}" for one in first + third}
    assert set(ids(file)) == wanted
    assert len(wanted) == ledger.sent


def test_only_those_pay_who_use_it():
    code = "import sys; from clovisor_py.exporters import _registry; _registry.forms(); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "clovisor_py.exporters.otlp" in done.stdout
    assert not {"'grpc'", "'ssl'", "'http.client'"} & set(done.stdout.replace("[", "").split(", "))


def test_a_sink_starts_without_its_collector():
    sink = open_sink(f"otlp+http://127.0.0.1:{free_port()}")
    assert isinstance(sink, OtlpSink)
    sink.close()


def test_a_collector_that_hangs_does_not_keep_the_process(way):
    """What it still holds when the time is up counts as stopped, and the process ends as it should."""
    code = (
        "import sys; from clovisor_py.exporters._fanout import open_urls; from tests.support.sessions import session\n"
        "fanout = open_urls([sys.argv[1]], queue_limit=10); fanout.offer([session()] * 3)\n"
        "print(sum(ledger.dropped['stopped'] for ledger in fanout.close(0.5).values()))\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"otlp+{way}://127.0.0.1:{server.getsockname()[1]}?timeout=60"
        command = [sys.executable, "-c", code, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=30)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
