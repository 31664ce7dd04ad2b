"""TLS through the kernel: each handshake is a session, whatever comes of it; what follows is counted to the byte."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.live_clients import BLOCK, number
from tests.support.live_truth import Call, Json, Truth
from tests.support.live_web import Live, nginx, peer, traced_pod
from tests.support.servers import serving

pytestmark = pytest.mark.live

PORT, OLD_PORT, NGINX = 8301, 8302, 8303
NAME = "shop.example"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Of a server that nobody else knows: (certificate, key)."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl (Debian: openssl)")
    folder = tmp_path_factory.mktemp("certificate")
    made, key = str(folder / "certificate"), str(folder / "key")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    command = ["openssl", "req", "-x509", "-days", "2", *curve, *names, "-keyout", key, "-out", made]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    Path(key).chmod(0o644)
    return made, key


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[str, str]) -> Iterator[Live]:
    with (
        traced_pod(tmp_path_factory.mktemp("trace"), "tls") as made,
        serving(made.pod, peer("tls", *certificate, "TLSv1_2-TLSv1_3", "h2,http/1.1"), port=PORT),
        serving(made.pod, peer("tls", *certificate, "TLSv1_3-TLSv1_3", ""), port=OLD_PORT),
    ):
        yield made


class Client:
    """One connection whose every byte is counted."""

    def __init__(self, live: Live, context: ssl.SSLContext, name: str | None = NAME, port: int = PORT) -> None:
        self.socket = live.dial(port)
        self.port = number(self.socket)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.sent = self.received = 0

    def flush(self) -> None:
        data = self.outgoing.read()
        self.socket.sendall(data)
        self.sent += len(data)

    def take(self) -> None:
        data = self.socket.recv(BLOCK)
        self.received += len(data)
        self.incoming.write(data) if data else self.incoming.write_eof()

    def shake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.flush()
                self.take()
            finally:
                self.flush()

    def echo(self, data: bytes) -> None:
        self.tls.write(data)
        self.flush()
        back = b""
        while len(back) < len(data):
            try:
                back += self.tls.read(BLOCK)
            except ssl.SSLWantReadError:
                self.take()
        assert back == data

    def close(self) -> None:
        """Say it, and read whatever the server has still to say."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            self.flush()
        while data := self.socket.recv(BLOCK):
            self.received += len(data)
        self.socket.close()


def trusting(certificate: tuple[str, str], version: str = "TLSv1_3", *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate[0])
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@contextmanager
def shaken(truth: Truth, client: Client, status: str, name: str = NAME, **told: str | bool) -> Iterator[Call]:
    """Note the handshake, and that its connection is counted afterwards, if there is one."""
    outcome = "ok" if status == "ok" else "error"
    with truth.call(client.port, "handshake", name, status, outcome=outcome, attributes=told) as call:
        yield call


def opaque(live: Live, client: Client) -> Json:
    """The session of the connection behind its handshake, to the byte."""
    session = live.wait_for(client.port, 2)[-1]
    assert (session["operation"], session["resource"], session["status"]) == ("tcp", "encrypted", "closed")
    assert (session["request"]["bytes"], session["response"]["bytes"]) == (client.sent, client.received)
    return session


@pytest.mark.parametrize(("version", "shown"), [("TLSv1_2", "1.2"), ("TLSv1_3", "1.3")])
@pytest.mark.parametrize("protocols", [(), ("h2", "http/1.1"), ("http/1.1",)])
def test_a_handshake_and_all_bytes_behind_it(
    live: Live, certificate: tuple[str, str], version: str, shown: str, protocols: tuple[str, ...]
) -> None:
    truth, clients = Truth(), []
    for sizes in ((), (1,), (1, 100, 20_000), (300_000,)):
        client = Client(live, trusting(certificate, version, *protocols))
        with shaken(truth, client, "ok", **{"tls.protocol.version": shown, "tls.established": True}) as call:
            client.shake()
        cipher = client.tls.cipher()
        assert cipher is not None
        if version == "TLSv1_3":
            call.attributes = {**call.attributes, "tls.cipher": cipher[0]}
        elif protocols:
            call.attributes = {**call.attributes, "tls.next_protocol": client.tls.selected_alpn_protocol()}
        for size in sizes:
            client.echo(bytes(size))
        client.close()
        truth.note(client.port, "tcp", "encrypted", "closed")
        clients.append((client, len(sizes)))
    live.check(truth)
    for client, turns in clients:
        assert opaque(live, client)["attributes"]["clovisor.client.turns"] >= turns
        offered = live.of(client.port)[0]["attributes"].get("clovisor.tls.client_protocols", [])
        assert offered == list(protocols)


def test_an_old_session_goes_on(live: Live, certificate: tuple[str, str]) -> None:
    context = trusting(certificate, "TLSv1_3")
    truth = Truth()
    first = Client(live, context)
    with shaken(truth, first, "ok", **{"tls.resumed": False}):
        first.shake()
    first.echo(b"the ticket comes before it")
    again = Client(live, context)
    again.tls = context.wrap_bio(again.incoming, again.outgoing, server_hostname=NAME, session=first.tls.session)
    first.close()
    with shaken(truth, again, "ok", **{"tls.resumed": True}):
        again.shake()
    assert again.tls.session_reused
    again.close()
    for client in (first, again):
        truth.note(client.port, "tcp", "encrypted", "closed")
        opaque(live, client)
    live.check(truth)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_client_that_rejects_the_certificate(live: Live, version: str) -> None:
    """This library says so in the clear, also in TLS 1.3: it has not changed its own keys yet."""
    truth = Truth()
    status = "unknown_ca"
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    client = Client(live, context)
    with (
        shaken(truth, client, status, **{"tls.established": False, "clovisor.tls.alert_sender": "client"}),
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        client.shake()
    client.close()
    live.check(truth)


def test_no_version_in_common(live: Live, certificate: tuple[str, str]) -> None:
    truth = Truth()
    client = Client(live, trusting(certificate, "TLSv1_2"), port=OLD_PORT)
    with (
        shaken(truth, client, "protocol_version", **{"tls.established": False, "clovisor.tls.alert_sender": "server"}),
        pytest.raises(ssl.SSLError),
    ):
        client.shake()
    client.socket.close()
    live.check(truth)


def test_no_protocol_and_no_name(live: Live, certificate: tuple[str, str]) -> None:
    """Python's servers take any ALPN or none; who gives no name is known by none."""
    truth = Truth()
    context = trusting(certificate, "TLSv1_3", "mqtt")
    context.check_hostname = False
    client = Client(live, context, name=None)
    with shaken(truth, client, "ok", name=""):
        client.shake()
    client.close()
    opaque(live, client)
    truth.note(client.port, "tcp", "encrypted", "closed")
    live.check(truth)


def test_nginx_and_the_client_of_openssl(live: Live, certificate: tuple[str, str]) -> None:
    tls = "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3;".format(*certificate)
    client = ["openssl", "s_client", "-connect", f"{live.pod.ipv4}:{NGINX}", "-servername", NAME, "-CAfile", certificate[0]]
    truth = Truth()
    with serving(live.pod, nginx("ssl http2", tls), port=NGINX):
        for options in (["-tls1_2", "-alpn", "h2"], ["-tls1_3", "-alpn", "h2"]):
            done = subprocess.run([*client, *options], capture_output=True, timeout=30, input=b"", check=True)
            assert b"Verify return code: 0" in done.stdout
            assert b"ALPN protocol: h2" in done.stdout
        for version in ("1.2", "1.3"):
            truth.note((NGINX, "tls", version), "handshake", NAME, "ok", attributes={"tls.protocol.version": version})
        live.check(truth, lambda s: (s["server"]["port"], s["protocol"], s["attributes"].get("tls.protocol.version")))
