"""Mistakes that a newcomer makes with a collector, each with the advice that helps."""

import os
import socket
import threading
from contextlib import contextmanager, suppress

import grpc
import pytest

from clovisor_py.errors import ExportInterrupted
from clovisor_py.exporters._registry import open_sink
from tests.support.otlp_receiver import RECEIVERS, Answer, certificates, grpc_receiver, http_receiver
from tests.support.sessions import session

OTHER = {"grpc": "http", "http": "grpc"}
SETTINGS_FRAME = bytes.fromhex("000006040000000000000500004000")
ALERT = bytes.fromhex("15030100020246")
GO_S_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=OTHER)
def way(request):
    return request.param


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("tls"))


def said(url):
    """What is said of one session that goes there, in vain."""
    sink = open_sink(url)
    try:
        return sink.export([session()]).error
    except ExportInterrupted as error:
        return str(error)
    finally:
        sink.close()


@contextmanager
def secure(way, files, name="server"):
    """A collector behind TLS."""
    own = {"credentials": files.credentials(name)} if way == "grpc" else {"tls": files.context(name)}
    with RECEIVERS[way](**own) as receiver:
        yield receiver


@contextmanager
def listener(answer, port=0, *, polite=False):
    """Says `answer` to the first bytes of each connection, and hangs up, unless `polite` without reading the rest; its port."""
    with socket.create_server(("127.0.0.1", port)) as server:

        def serve():
            with suppress(OSError):  # the server is shut down: the test is over
                while True:
                    peer, _ = server.accept()
                    with peer, suppress(OSError):
                        peer.recv(5)
                        peer.sendall(answer)
                        if polite:
                            peer.shutdown(socket.SHUT_WR)
                            while peer.recv(65536):
                                pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_tls_to_a_collector_without_it(way, files):
    with RECEIVERS[way]() as receiver:
        place = f"127.0.0.1:{receiver.port}"
        text = said(f"otlps+{way}://{place}?timeout=5&ca={files.file('ca.pem')}")
    assert text.startswith(f"what listens at {place} speaks no TLS (")
    assert text.endswith(f"; write otlp+{way}://{place}.")


def test_no_tls_to_a_collector_that_wants_it(way, files):
    with secure(way, files) as receiver:
        place = f"127.0.0.1:{receiver.port}"
        text = said(f"otlp+{way}://{place}?timeout=5")
    assert f"TLS (otlps+{way}://{place})" in text
    assert "start one" not in text


@pytest.mark.parametrize(("answer", "polite"), [(ALERT, True), (GO_S_ANSWER, False)])
def test_a_server_that_says_that_it_wants_tls_is_understood(answer, polite):
    with listener(answer, polite=polite) as port:
        text = said(f"otlp+http://127.0.0.1:{port}?timeout=5")
    assert text.startswith(f"what listens at 127.0.0.1:{port} wants TLS (")
    assert text.endswith(f"; write otlps+http://127.0.0.1:{port}.")


def test_the_port_of_the_other_protocol(way):
    with RECEIVERS[OTHER[way]]() as receiver:
        place = f"127.0.0.1:{receiver.port}"
        text = said(f"otlp+{way}://{place}?timeout=5")
    assert text.startswith(("something answers at", "what listens at"))
    assert f"; write otlp+{OTHER[way]}://{place}, or " in text
    assert text.endswith(f"port (mostly {4317 if way == 'grpc' else 4318}).")


def test_the_port_of_the_other_protocol_with_tls(files):
    with secure("http", files) as receiver:
        text = said(f"otlps+grpc://127.0.0.1:{receiver.port}?timeout=5&ca={files.file('ca.pem')}")
    assert f"; write otlps+http://127.0.0.1:{receiver.port}, or " in text
    with secure("grpc", files) as receiver:
        text = said(f"otlps+http://127.0.0.1:{receiver.port}?timeout=5&ca={files.file('ca.pem')}")
    assert f"gRPC (otlps+grpc://127.0.0.1:{receiver.port})" in text


def test_a_grpc_server_that_hangs_up_without_reading():
    with listener(SETTINGS_FRAME) as port:
        assert f"; write otlp+grpc://127.0.0.1:{port}, or " in said(f"otlp+http://127.0.0.1:{port}?timeout=5")


def test_each_fault_of_a_certificate_has_its_own_advice(way, files):
    for name, ca, advice in (
        ("expired", "ca.pem", "; renew the certificate."),
        ("elsewhere", "ca.pem", "; export to a name that the collector's certificate has."),
        ("server", "client.pem", "; name the CA that signed the collector's certificate (?ca=FILE)."),
    ):
        with secure(way, files, name) as receiver:
            text = said(f"otlps+{way}://127.0.0.1:{receiver.port}?timeout=5&ca={files.file(ca)}")
        assert text.startswith(f"no TLS with the collector at 127.0.0.1:{receiver.port} (")
        assert text.endswith(advice)


def test_a_collector_that_wants_our_certificate(way, files):
    own = {"credentials": files.credentials(mutual=True)} if way == "grpc" else {"tls": files.context(mutual=True)}
    with RECEIVERS[way](**own) as receiver:
        text = said(f"otlps+{way}://127.0.0.1:{receiver.port}?timeout=5&ca={files.file('ca.pem')}")
    assert "a client certificate" in text
    assert "?cert=FILE&key=FILE" in text


@pytest.mark.parametrize("code", [302, 404, 405])
def test_a_path_where_nothing_is(code):
    with http_receiver(script=[Answer(code)]) as receiver:
        assert said(f"otlp+http://127.0.0.1:{receiver.port}").endswith(
            "; check the port (mostly 4318) and the path (mostly /v1/traces)."
        )


def test_a_grpc_server_without_otlp():
    with grpc_receiver(script=[Answer(grpc.StatusCode.UNIMPLEMENTED)]) as receiver:
        assert said(f"otlp+grpc://127.0.0.1:{receiver.port}").endswith("(UNIMPLEMENTED); check the port (mostly 4317).")


def test_a_refusal_counts_though_the_server_read_nothing_else():
    """The request breaks off, and its answer is there."""
    with listener(b"HTTP/1.1 413 Too Large\r\n\r\n") as port:
        sink = open_sink(f"otlp+http://127.0.0.1:{port}?timeout=5")
        delivery = sink.export([session(attributes={f"k{i}": "x" * 60_000 for i in range(60)})])
        sink.close()
    assert delivery.dropped == {"refused": 1}
    assert "HTTP 413" in delivery.error


def test_who_answered_before_and_hangs_up_is_away(way):
    """A collector that ends is no mistake in the URL."""
    with listener(b"") as port:
        sink = open_sink(f"otlp+{way}://127.0.0.1:{port}?timeout=5")
        with pytest.raises(ExportInterrupted, match=r"hangs up .*perhaps it wants"):
            sink.export([session()])
    last = [Answer(headers={"Connection": "close"})] if way == "http" else []
    with RECEIVERS[way](port, script=last):
        assert sink.export([session()]).sent == 1
    with listener(b"", port), pytest.raises(ExportInterrupted, match=r"no collector answers .*start one"):
        sink.export([session()])
    sink.close()
