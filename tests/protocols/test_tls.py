"""TLS against what OpenSSL says on the wire: every version, how handshakes end, and who ended them."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, AttributeValue, Kind, Message
from clovisor_py.protocols import _tls_hello as hello
from clovisor_py.protocols import tls
from clovisor_py.protocols._api import Evidence
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols.tls import PROTOCOL
from tests.support.parser_contract import damage, every_delivery, foreign_bytes
from tests.support.parser_harness import PLAIN, Script, check, run

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
Talk = Callable[..., Script]

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CHANGE = b"\x14\x03\x03\0\1\1"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for `shop.example`, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on the PATH to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    names = ["-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example"]
    command = ["openssl", "req", "-x509", *curve, "-nodes", "-keyout", str(key), "-out", str(chain), *names]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


@pytest.fixture
def contexts(certificate: tuple[Path, Path]) -> Contexts:
    """A client that trusts the server."""
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.load_verify_locations(certificate[0])
    server.load_cert_chain(*certificate)
    return client, server


@pytest.fixture
def talk(contexts: Contexts) -> Talk:
    def between(**how: object) -> Script:
        return handshake(*contexts, **how)  # type: ignore[arg-type]

    return between


class End:
    """One end of a connection without a network."""

    def __init__(self, context: ssl.SSLContext, **how: object) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, **how)  # type: ignore[arg-type]
        self.done = False

    def step(self, data: bytes) -> bytes:
        """What it answers."""
        self.incoming.write(data)
        try:
            if self.done:
                self.tls.read(100)
            else:
                self.tls.do_handshake()
                self.done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.done = True
        return self.outgoing.read()


def handshake(
    client: ssl.SSLContext,
    server: ssl.SSLContext,
    session: ssl.SSLSession | None = None,
    keep: list[ssl.SSLSession] | None = None,
    name: str = "shop.example",
) -> Script:
    """What both say until both are done, and one word of the server."""
    ends = (End(client, server_hostname=name, session=session), End(server, server_side=True))
    script: list[tuple[int, bytes | int]] = []
    said = b""
    for turn in range(12):
        who = turn % 2
        said = ends[who].step(said)
        if said:
            script.append((who, said))
    try:
        ends[1].tls.write(b"hello, client")
        said = ends[1].outgoing.read()
        script.append((SERVER, said))
        ends[0].step(said)
        if keep is not None and ends[0].tls.session is not None:
            keep.append(ends[0].tls.session)
    except ssl.SSLError:
        pass
    return script


def of(script: Script) -> tuple[Message, Message, int]:
    """The request, the response put together of its parts, and who ended it."""
    out = run(PROTOCOL, script)
    assert not out.violations
    (asker, asked, _), *parts, (sender, told, _) = out.messages
    assert (asker, asked.kind, asked.operation, told.kind) == (CLIENT, Kind.REQUEST, "handshake", Kind.RESPONSE)
    assert {(whose, part.kind) for whose, part, _ in parts} <= {(SERVER, Kind.PART)}
    assert {part.correlation for _, part, _ in out.messages} == {"handshake"}
    assert out.before_close == len(out.messages)
    whole: dict[str, AttributeValue] = {}
    for _, part, _ in [*parts, (sender, told, 0)]:
        whole.update(part.attributes)
    told.attributes = whole
    return asked, told, sender


def test_tls_1_3(talk: Talk) -> None:
    asked, told, sender = of(talk())
    assert asked.resource == "shop.example"
    assert asked.attributes == {
        "tls.protocol.name": "tls",
        "server.address": "shop.example",
        "clovisor.tls.client_version": "1.3",
    }
    assert (told.status, told.error, told.hands_to, sender) == ("ok", False, "encrypted", CLIENT)
    assert told.attributes == {
        "tls.protocol.name": "tls",
        "tls.protocol.version": "1.3",
        "tls.cipher": "TLS_AES_256_GCM_SHA384",
        "tls.established": True,
        "tls.resumed": False,
    }


@pytest.mark.parametrize(("version", "name"), [(V12, "1.2"), (ssl.TLSVersion.TLSv1_1, "1.1"), (ssl.TLSVersion.TLSv1, "1.0")])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_versions_end_with_the_servers_word(contexts: Contexts, talk: Talk, version: ssl.TLSVersion, name: str) -> None:
    for context in contexts:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
    contexts[0].maximum_version = version
    contexts[1].set_alpn_protocols(["h2", "http/1.1"])
    contexts[0].set_alpn_protocols(["spdy", "http/1.1"])
    asked, told, sender = of(talk())
    assert (told.status, sender, told.attributes["tls.protocol.version"]) == ("ok", SERVER, name)
    assert asked.attributes["clovisor.tls.client_version"] == name
    assert asked.attributes["clovisor.tls.client_protocols"] == ["spdy", "http/1.1"]
    assert told.attributes["tls.next_protocol"] == "http/1.1"
    assert str(told.attributes["tls.cipher"]).startswith("TLS_ECDHE_ECDSA_WITH_AES_256_")
    assert told.attributes["tls.resumed"] is False


@pytest.mark.parametrize("version", [V12, V13])
def test_a_resumed_session(contexts: Contexts, version: ssl.TLSVersion) -> None:
    contexts[0].maximum_version = version
    kept: list[ssl.SSLSession] = []
    of(handshake(*contexts, keep=kept))
    _, told, _ = of(handshake(*contexts, session=kept[0]))
    assert (told.status, told.attributes["tls.resumed"]) == ("ok", True)


def test_a_server_that_wants_another_key(contexts: Contexts, talk: Talk) -> None:
    contexts[1].set_ecdh_curve("secp384r1")
    script = talk()
    assert [sender for sender, _ in script[:5]] == [CLIENT, SERVER, CLIENT, SERVER, CLIENT]
    asked, told, sender = of(script)
    assert (asked.resource, told.status, sender) == ("shop.example", "ok", CLIENT)
    assert told.attributes["clovisor.tls.hello_retry"] is True
    check(PROTOCOL, script[:5])


@pytest.mark.parametrize(("version", "name"), [(V12, "1.2"), (V13, "1.3")])
def test_a_client_that_rejects_the_certificate(contexts: Contexts, version: ssl.TLSVersion, name: str) -> None:
    """OpenSSL does so in the clear in TLS 1.3, too; of others only the length shows it, see below."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.maximum_version = version
    _, told, sender = of(handshake(client, contexts[1]))
    assert (told.status, told.error, sender, told.hands_to) == ("unknown_ca", True, CLIENT, None)
    assert told.attributes["tls.established"] is False
    assert told.attributes["clovisor.tls.alert_sender"] == "client"
    assert told.attributes["error.type"] == "unknown_ca"
    assert told.attributes["tls.protocol.version"] == name


@pytest.mark.parametrize(("client", "server", "offered"), [(V13, V12, "1.3"), (V12, V13, "1.2")])
def test_no_common_version(
    contexts: Contexts, talk: Talk, client: ssl.TLSVersion, server: ssl.TLSVersion, offered: str
) -> None:
    contexts[0].minimum_version = contexts[0].maximum_version = client
    contexts[1].minimum_version = contexts[1].maximum_version = server
    asked, told, sender = of(talk())
    assert (told.status, told.error, sender) == ("protocol_version", True, SERVER)
    assert told.attributes == {
        "tls.protocol.name": "tls",
        "tls.established": False,
        "error.type": "protocol_version",
        "clovisor.tls.alert_sender": "server",
    }
    assert asked.attributes["clovisor.tls.client_version"] == offered


def test_both_show_certificates(contexts: Contexts, certificate: tuple[Path, Path]) -> None:
    client, server = contexts
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(certificate[0])
    client.maximum_version = V12
    _, told, sender = of(handshake(*contexts))
    assert (told.status, told.attributes["clovisor.tls.alert_sender"], sender) == ("handshake_failure", "server", SERVER)
    client.load_cert_chain(*certificate)
    for version in (V12, V13):
        client.maximum_version = version
        assert of(handshake(*contexts))[1].status == "ok"


@pytest.mark.parametrize("version", [V12, V13])
def test_every_delivery_gives_the_same_messages(contexts: Contexts, talk: Talk, version: ssl.TLSVersion) -> None:
    contexts[0].maximum_version = version
    check(PROTOCOL, talk())


# Made by hand


def record(kind: int, data: bytes, version: bytes = b"\3\3") -> bytes:
    return bytes((kind,)) + version + len(data).to_bytes(2, "big") + data


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


def sized(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size, "big") + data


def server_name(name: bytes) -> bytes:
    return extension(0, sized(b"\0" + sized(name)))


def client_hello(*extensions: bytes, version: bytes = b"\3\3") -> bytes:
    return message(1, version + bytes(32) + b"\0" + b"\0\4\x13\1\x13\2" + b"\1\0" + sized(b"".join(extensions)))


def server_hello(*extensions: bytes, version: bytes = b"\3\3", cipher: bytes = b"\xc0\x2f", random: bytes = bytes(32)) -> bytes:
    return message(2, version + random + b"\0" + cipher + b"\0" + sized(b"".join(extensions)))


NAMED = client_hello(server_name(b"Shop.Example"), extension(43, b"\6\x7a\x7a\3\4\3\3"))
VERSION_13 = extension(43, b"\3\4")
ANSWER_13 = record(22, server_hello(VERSION_13, cipher=b"\x13\1")) + CHANGE + record(23, bytes(900))
FINISHED = CHANGE + record(23, bytes(53))
FLIGHT_12 = server_hello() + message(11, bytes(700)) + message(14, b"")
SCRIPTS: dict[str, Script] = {
    "1.3": [(CLIENT, record(22, NAMED, b"\3\1")), (SERVER, ANSWER_13), (CLIENT, FINISHED), (SERVER, record(23, bytes(30)))],
    "1.2, packed": [
        (CLIENT, record(22, NAMED[:50]) + record(22, NAMED[50:])),
        (SERVER, record(22, FLIGHT_12)),
        (CLIENT, record(22, message(16, bytes(66))) + CHANGE + record(22, bytes(40))),
        (SERVER, record(22, message(4, bytes(200))) + CHANGE + record(22, bytes(40))),
    ],
    "1.2, resumed, in pieces": [
        (CLIENT, record(22, NAMED)),
        (SERVER, record(22, server_hello()[:3]) + record(22, server_hello()[3:]) + CHANGE + record(22, bytes(40))),
        (CLIENT, CHANGE + record(22, bytes(40))),
    ],
    "refused": [(CLIENT, record(22, NAMED)), (SERVER, record(21, b"\1\x70") + record(21, b"\2\x28"))],
    "early data": [
        (CLIENT, record(22, client_hello(VERSION_13, extension(42, b""))) + record(23, bytes(19))),
        (SERVER, ANSWER_13),
    ],
}


test_every_delivery_of_what_others_say_too = every_delivery(PROTOCOL, SCRIPTS)
test_damage_is_survived = damage(PROTOCOL, SCRIPTS)
test_bytes_of_no_protocol_are_survived = foreign_bytes(PROTOCOL)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.sampled_from((1, 2)))
def test_any_hello_is_survived(body: bytes, kind: int) -> None:
    run(PROTOCOL, [(kind - 1, record(22, message(kind, b"\3\3" + body)) + record(23, bytes(20)))])


def test_packed_records_and_tickets() -> None:
    _, told, sender = of(SCRIPTS["1.2, packed"])
    assert (told.status, told.attributes["tls.resumed"], sender) == ("ok", False, SERVER)
    assert told.attributes["tls.cipher"] == "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    _, told, _ = of(SCRIPTS["1.2, resumed, in pieces"])
    assert told.attributes["tls.resumed"] is True


def test_a_warning_ends_nothing() -> None:
    _, told, _ = of(SCRIPTS["refused"])
    assert told.status == "handshake_failure"


def test_who_closes_has_not_agreed() -> None:
    _, told, sender = of([(CLIENT, record(22, NAMED)), (SERVER, record(22, FLIGHT_12)), (CLIENT, record(21, b"\1\0"))])
    assert (told.status, told.error, sender) == ("close_notify", True, CLIENT)
    _, told, sender = of([(CLIENT, record(22, NAMED) + record(21, b"\2\x5a"))])
    assert (told.status, sender) == ("user_canceled", CLIENT)


def test_with_early_data_the_server_ends_the_handshake() -> None:
    _, told, sender = of(SCRIPTS["early data"])
    assert (told.status, sender) == ("ok", SERVER)


@pytest.mark.parametrize(("cipher", "size"), [(b"\x13\1", 19), (b"\x13\5", 11)])
def test_the_length_of_an_alert_gives_it_away(cipher: bytes, size: int) -> None:
    answer = record(22, server_hello(VERSION_13, cipher=cipher)) + record(23, bytes(900))
    start = [(CLIENT, record(22, NAMED)), (SERVER, answer)]
    assert of([*start, (CLIENT, CHANGE + record(23, bytes(size)))])[1].status == "encrypted_alert"
    assert of([*start, (CLIENT, CHANGE + record(23, bytes(size + 34)))])[1].status == "ok"


def test_who_hangs_up_in_the_middle_has_not_answered() -> None:
    for flight in (ANSWER_13, record(22, FLIGHT_12)):
        out = run(PROTOCOL, [(CLIENT, record(22, NAMED)), (SERVER, flight)])
        assert {part.kind for part in out.of(SERVER)} == {Kind.PART}
        assert "tls.protocol.version" in out.of(SERVER)[0].attributes
        assert not any("tls.established" in part.attributes for part in out.of(SERVER))


def test_a_hello_that_was_cut_tells_its_front() -> None:
    whole = record(22, NAMED + bytes(2))
    for end in range(len(NAMED)):
        for asked in run(PROTOCOL, [(CLIENT, whole[:end])]).of(CLIENT):
            assert asked.incomplete
            assert asked.resource in ("", "shop.example")
    assert run(PROTOCOL, [(CLIENT, whole[:80])]).of(CLIENT)[0].resource == "shop.example"


def test_a_hello_is_recognised_whatever_records_it_is_cut_into() -> None:
    for size in range(1, 12):
        pieces = b"".join(record(22, NAMED[at : at + size]) for at in range(0, len(NAMED), size))
        assert PROTOCOL.recognise(pieces[:200]) is Evidence.REQUEST
        assert run(PROTOCOL, [(CLIENT, pieces)]).of(CLIENT)[0].resource == "shop.example"
        assert all(PROTOCOL.recognise(pieces[:end]) is not Evidence.NO for end in range(1, 60))


def test_drafts_and_ssl_3() -> None:
    draft = message(2, b"\x7f\x12" + bytes(32) + b"\x13\2" + sized(extension(41, b"\0\0")))
    start = (CLIENT, record(22, NAMED))
    _, told, _ = of([start, (SERVER, record(22, draft) + record(23, bytes(99))), (CLIENT, FINISHED)])
    assert (told.attributes["tls.protocol.version"], told.attributes["tls.resumed"]) == ("1.3", True)
    old = record(22, message(2, b"\3\0" + bytes(32) + b"\0\0\x0a\0"), b"\3\0")
    _, told, _ = of([start, (SERVER, old + CHANGE)])
    assert (told.attributes["tls.protocol.name"], told.attributes["tls.protocol.version"]) == ("ssl", "3")
    assert told.attributes["tls.cipher"] == "TLS_RSA_WITH_3DES_EDE_CBC_SHA"


OLD_HELLO = b"\x80\x2e\1\3\1\0\x15\0\0\0\x10" + bytes(21) + bytes(16)


def test_a_hello_of_ssl_2() -> None:
    script: Script = [(CLIENT, OLD_HELLO), (SERVER, record(22, server_hello(version=b"\3\1")) + CHANGE)]
    asked, told, _ = of(script)
    assert (asked.resource, asked.attributes["clovisor.tls.client_version"]) == ("", "1.0")
    assert told.attributes["tls.protocol.version"] == "1.0"
    check(PROTOCOL, script)
    assert PROTOCOL.recognise(OLD_HELLO) is Evidence.REQUEST


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a_b.example", "a_b.example"),
        (b"10.0.0.1", "10.0.0.1"),
        (b"xn--caf-dma.example.", "xn--caf-dma.example"),
        (b"", ""),
        (b"a b", ""),
        (b"a\x1b[2J", ""),
        (b"caf\xc3\xa9", ""),
        (b"-a", ""),
        (b"a" * 254, "a" * 254),
        (b"a" * 257, ""),
    ],
)
def test_a_server_name_is_a_name(name: bytes, shown: str) -> None:
    (asked,) = run(PROTOCOL, [(CLIENT, record(22, client_hello(server_name(name))))]).of(CLIENT)
    assert asked.resource == shown
    assert asked.attributes.get("server.address", "") == shown


def test_protocols_are_bounded_and_printable() -> None:
    names = [b"h2", b"\x0a\x0a", b"", b"x\n", b"y" * 33, *[b"p%d" % n for n in range(20)]]
    offer = extension(16, sized(b"".join(sized(name, 1) for name in names)))
    (asked,) = run(PROTOCOL, [(CLIENT, record(22, client_hello(offer)))]).of(CLIENT)
    assert asked.attributes["clovisor.tls.client_protocols"] == ["h2", *[f"p{n}" for n in range(hello.MAX_PROTOCOLS - 1)]]


# In the middle, and broken


@pytest.mark.parametrize("first", [record(23, bytes(100)), CHANGE, record(22, message(16, bytes(66))), record(21, bytes(26))])
@pytest.mark.parametrize("sender", [CLIENT, SERVER])
def test_behind_the_handshake_the_flow_is_handed_away(first: bytes, sender: int) -> None:
    out = run(PROTOCOL, [(sender, first), (1 - sender, record(23, bytes(100)))])
    assert [(m.kind, m.hands_to) for _, m, _ in out.messages] == [(Kind.INTERIM, "encrypted")]
    assert not out.violations


def test_a_lost_certificate_does_not_hide_how_it_ends() -> None:
    seen = record(22, server_hello()) + record(22, message(11, bytes(700)))[:99]
    rest = record(22, message(16, bytes(66))) + CHANGE
    script = [(CLIENT, record(22, NAMED)), (SERVER, seen), (SERVER, 2000), (CLIENT, rest), (SERVER, CHANGE)]
    out = run(PROTOCOL, script)
    assert [(m.kind, m.incomplete, m.status) for m in out.of(SERVER)] == [
        (Kind.PART, False, ""),
        (Kind.PART, False, ""),
        (Kind.RESPONSE, False, "ok"),
    ]
    assert out.of(SERVER)[-1].attributes["tls.resumed"] is False


def test_a_lost_hello_of_the_client_does_not_hide_the_answer() -> None:
    script = [(CLIENT, record(22, NAMED)[:80]), (CLIENT, 500), (SERVER, ANSWER_13), (CLIENT, FINISHED)]
    asked, told = run(PROTOCOL, script).of(CLIENT)
    assert (asked.incomplete, asked.resource, told.kind, told.status) == (True, "shop.example", Kind.RESPONSE, "ok")


def test_without_the_servers_hello_the_flow_is_handed_away() -> None:
    start: Script = [(CLIENT, record(22, NAMED)), (SERVER, record(22, FLIGHT_12)[:20]), (SERVER, 2000)]
    out = run(PROTOCOL, [*start, (CLIENT, record(22, message(16, bytes(66)))), (SERVER, CHANGE)])
    assert [(m.kind, m.hands_to) for _, m, _ in out.messages] == [(Kind.REQUEST, None), (Kind.INTERIM, "encrypted")]


def test_resync() -> None:
    parser = tls.TlsParser(PLAIN)
    assert parser.resync(CLIENT, record(22, NAMED)) == 0
    assert parser.parse(CLIENT, Cursor(record(22, NAMED))) is not None
    assert parser.resync(CLIENT, b"GET / HTTP/1.1") is None
    assert parser.resync(SERVER, b"") is None
    assert parser.resync(SERVER, record(23, bytes(99))) == 0
    left = parser.parse(SERVER, Cursor(record(23, bytes(99))))
    assert left is not None and left.hands_to == "encrypted"


def test_after_it_was_handed_away_nothing_is_read() -> None:
    parser = tls.TlsParser(PLAIN)
    assert parser.parse(CLIENT, Cursor(record(23, bytes(100)))) is not None
    assert parser.parse(SERVER, Cursor(b"anything")) is None
    assert parser.gap(CLIENT, 10**6)
    assert parser.end(SERVER) is None
    assert parser.resync(SERVER, record(23, bytes(100))) is None


@pytest.mark.parametrize(
    ("sender", "data"),
    [
        (CLIENT, b"GET / HTTP/1.1\r\n"),
        (CLIENT, b"\x16\x04"),
        (CLIENT, b"\x16\x03\5"),
        (CLIENT, b"\x16\x03\1\0\0"),
        (CLIENT, b"\x16\x03\1\x50\0"),
        (CLIENT, b"\x14\3\3\0\2"),
        (CLIENT, record(21, b"\7\7")),
        (CLIENT, record(22, message(1, b"\2\0" + bytes(50)))),
        (CLIENT, record(22, message(1, b"\3\3" + bytes(32) + b"\xff"))),
        (CLIENT, record(22, message(1, b"\3"))),
        (CLIENT, record(22, b"\1\1\0\0")),
        (SERVER, record(22, message(2, b"\3\3" + bytes(33)))),
        (CLIENT, b"\x80\x2e\1\0\2" + bytes(50)),
    ],
)
def test_what_is_no_tls_is_refused(sender: int, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        tls.TlsParser(PLAIN).parse(sender, Cursor(data))


def test_a_hello_is_bounded() -> None:
    big = message(1, b"\3\3" + bytes(hello.MAX_HELLO + 10))
    pieces = [(CLIENT, record(22, big[at : at + 16000])) for at in range(0, len(big), 16000)]
    assert "a hello of more" in run(PROTOCOL, pieces).violations[0]
    run(PROTOCOL, [(CLIENT, record(22, b"\1") * 20000)])


# Recognition


def test_hellos_are_recognised_at_their_eleventh_byte() -> None:
    for data, sure in ((record(22, NAMED), Evidence.REQUEST), (record(22, FLIGHT_12), Evidence.RESPONSE)):
        assert {PROTOCOL.recognise(data[:end]) for end in range(11)} == {Evidence.MORE}
        assert {PROTOCOL.recognise(data[:end]) for end in range(11, len(data))} == {sure}


@pytest.mark.parametrize(
    ("data", "evidence"),
    [
        (record(21, b"\2\x28"), Evidence.RESPONSE),
        (record(21, b"\2\x28")[:6], Evidence.MORE),
        (record(21, b"\2\xee"), Evidence.NO),
        (record(23, bytes(50)), Evidence.EITHER),
        (record(23, bytes(50))[:40], Evidence.MORE),
        (record(23, bytes(50)) * 2 + b"\x17\3\3\1", Evidence.EITHER),
        (record(23, bytes(50)) + b"\x17\3\3\1", Evidence.MORE),
        (record(23, bytes(50)) + b"x", Evidence.NO),
        (record(23, bytes(5)), Evidence.NO),
        (CHANGE + record(22, bytes(40)), Evidence.EITHER),
        (record(22, message(12, bytes(80))), Evidence.RESPONSE),
        (record(22, message(16, bytes(80))), Evidence.REQUEST),
        (record(22, message(7, bytes(80))), Evidence.NO),
        (record(22, message(12, bytes(80)))[:-60] + b"\x17", Evidence.RESPONSE),
        (record(22, b"\x0c\0\xff\xff" + bytes(20)), Evidence.NO),
        (record(22, b"\xaf" * 40), Evidence.NO),
        (record(22, message(1, b"\2\0" + bytes(50))), Evidence.NO),
        (b"", Evidence.MORE),
        (b"\x16\x03", Evidence.MORE),
        (b"\x16\x02", Evidence.NO),
        (b"\x18\x03\3\0\x10", Evidence.NO),
        (OLD_HELLO[:10], Evidence.MORE),
        (b"\x80\x2e\1\0", Evidence.NO),
        (b"\x80\0\0\3", Evidence.NO),
        (b"\x82\x84\xff\xff", Evidence.NO),
        (b"GET / HTTP/1.1\r\n", Evidence.NO),
        (b"*1\r\n$4\r\nPING\r\n", Evidence.NO),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Evidence.NO),
    ],
)
def test_recognise(data: bytes, evidence: Evidence) -> None:
    assert PROTOCOL.recognise(data) is evidence


@settings(max_examples=300, deadline=None)
@given(st.sampled_from((b"", b"\x16\3\3", b"\x17\3\3", b"\x80")), st.binary(max_size=300))
def test_random_bytes_are_not_recognised(start: bytes, data: bytes) -> None:
    assert PROTOCOL.recognise(start + data) in (Evidence.NO, Evidence.MORE)
