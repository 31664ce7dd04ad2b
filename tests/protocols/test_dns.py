"""DNS against RFC 1035 and those that came after it: what a message says, over UDP and TCP, whole, cut and hostile."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.errors import ProtocolError
from clovisor_py.model.message import CLIENT, SERVER, Kind, Message
from clovisor_py.protocols import _dns_message as message
from clovisor_py.protocols import _dns_records as records
from clovisor_py.protocols import dns
from clovisor_py.protocols._api import Evidence, Setup
from clovisor_py.protocols._cursor import Cursor
from clovisor_py.protocols._redaction import OFF, STRICT
from clovisor_py.protocols.dns import PROTOCOL
from tests.support.parser_harness import Script, anything, check, mutated, run

UDP = Setup(datagrams=True)

QUERY, RESPONSE = 0x0100, 0x8180
A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT, HTTPS, IXFR, AXFR = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 65, 251, 252
POINTER = b"\xc0\x0c"
ROOT = b"\0"
EDNS = ROOT + b"\0\x29\x04\xd0\0\0\0\0\0\0"


def name(text: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode("latin-1") for label in text.split(".")) + ROOT


def record(kind: int, data: bytes, owner: bytes = POINTER) -> bytes:
    return owner + kind.to_bytes(2, "big") + b"\0\1\0\0\0\5" + len(data).to_bytes(2, "big") + data


def soa(serial: int) -> bytes:
    return record(SOA, POINTER + b"\4root" + POINTER + serial.to_bytes(4, "big") + bytes(16))


def header(ident: int, flags: int, *counts: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in (ident, flags, *counts, 0, 0, 0, 0)[:6])


def query(ident: int, kind: int, asked: str, flags: int = QUERY) -> bytes:
    return header(ident, flags, 1) + name(asked) + kind.to_bytes(2, "big") + b"\0\1"


def answer(ident: int, kind: int, asked: str, *told: bytes, flags: int = RESPONSE, extra: bytes = b"") -> bytes:
    counts = header(ident, flags, 1, len(told), 0, 1 if extra else 0)
    return counts + name(asked) + kind.to_bytes(2, "big") + b"\0\1" + b"".join(told) + extra


def tcp(*messages: bytes) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in messages)


SHOP = "shop.default.svc.cluster.local"
ADDRESS = record(A, bytes((10, 0, 0, 7)))
LOOKUPS: Script = [
    (CLIENT, query(7, A, SHOP)),
    (CLIENT, query(8, AAAA, SHOP)),
    (SERVER, answer(8, AAAA, SHOP, record(AAAA, bytes(15) + b"\1"), extra=EDNS)),
    (SERVER, answer(7, A, SHOP, record(CNAME, b"\3www" + POINTER), ADDRESS)),
    (CLIENT, query(7, A, "gone.lab")),
    (SERVER, answer(7, A, "gone.lab", flags=0x8183)),
]
PIPELINED: Script = [
    (CLIENT, tcp(query(1, A, SHOP), query(2, MX, "lab"))),
    (SERVER, tcp(answer(2, MX, "lab", record(MX, b"\0\x0a\4mail" + POINTER)), answer(1, A, SHOP, ADDRESS))),
]
TRANSFER: Script = [
    (CLIENT, tcp(query(3, AXFR, "lab"), query(4, A, "lab"))),
    (SERVER, tcp(answer(3, AXFR, "lab", soa(9), ADDRESS))),
    (SERVER, tcp(answer(4, A, "lab", ADDRESS), header(3, RESPONSE, 0, 1) + record(A, b"abcd", name("lab")))),
    (SERVER, tcp(header(3, RESPONSE, 0, 2) + record(A, b"abcd", name("lab")) + soa(9).replace(POINTER, name("lab")))),
]
UPDATE: Script = [
    (CLIENT, query(5, SOA, "lab", flags=0x2800)),
    (SERVER, header(5, 0xA805)),
    (SERVER, query(6, SOA, "lab", flags=0x2400)),
    (CLIENT, answer(6, SOA, "lab", flags=0xA400)),
]
MULTICAST: Script = [
    (CLIENT, header(0, 0, 2, 1) + name("_ipp._tcp.local") + b"\0\x0c\x80\1" + POINTER + b"\0\x0c\0\1" + record(PTR, POINTER)),
    (CLIENT, header(0, 0x8400, 0, 1) + record(PTR, b"\1x\xc0\x0c", name("_ipp._tcp.local"))),
]
SCRIPTS = {
    "lookups": (LOOKUPS, UDP),
    "multicast": (MULTICAST, UDP),
    "update": (UPDATE, UDP),
    "pipelined": (PIPELINED, Setup()),
    "transfer": (TRANSFER, Setup()),
}


def one(data: bytes, setup: Setup = UDP) -> Message:
    ((_, found, _),) = run(PROTOCOL, [(CLIENT, data)], setup).messages
    return found


def answers(*told: bytes, setup: Setup = UDP) -> object:
    return one(answer(1, A, "lab", *told), setup).attributes.get("dns.answers")


@pytest.mark.parametrize(("script", "setup"), SCRIPTS.values(), ids=SCRIPTS.keys())
def test_every_delivery_gives_the_same_messages(script: Script, setup: Setup) -> None:
    check(PROTOCOL, script, setup)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(SCRIPTS.values())).flatmap(lambda it: st.tuples(mutated(it[0]), st.just(it[1]))))
def test_damage_is_survived(case: tuple[Script, Setup]) -> None:
    run(PROTOCOL, *case)


@settings(max_examples=150, deadline=None)
@given(anything, st.sampled_from((UDP, Setup())))
def test_bytes_of_no_protocol_are_survived(script: Script, setup: Setup) -> None:
    run(PROTOCOL, script, setup)


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=12, max_size=80), st.integers(0, 2), st.integers(0, 6))
def test_any_records_behind_a_question_are_survived(tail: bytes, told: int, kind: int) -> None:
    run(PROTOCOL, [(SERVER, header(1, RESPONSE, 1, told, 1, 1) + name("a") + bytes((0, kind, 0, 1)) + tail)], UDP)


# What a message says


def test_lookups() -> None:
    out = run(PROTOCOL, LOOKUPS, UDP)
    assert [(m.kind, m.operation, m.resource) for m in out.of(CLIENT)] == [
        (Kind.REQUEST, "A", SHOP),
        (Kind.REQUEST, "AAAA", SHOP),
        (Kind.REQUEST, "A", "gone.lab"),
    ]
    assert [(m.kind, m.status, m.error, m.attributes.get("dns.answers")) for m in out.of(SERVER)] == [
        (Kind.RESPONSE, "NOERROR", False, ["::1"]),
        (Kind.RESPONSE, "NOERROR", False, [f"www.{SHOP}", "10.0.0.7"]),
        (Kind.RESPONSE, "NXDOMAIN", True, None),
    ]
    asked, told = [m.correlation for m in out.of(CLIENT)], [m.correlation for m in out.of(SERVER)]
    assert (asked[0], asked[1], asked[2]) == (told[1], told[0], told[2])
    assert out.of(SERVER)[2].attributes == {
        "dns.question.name": "gone.lab",
        "clovisor.dns.question.type": "A",
        "clovisor.dns.response.code": "NXDOMAIN",
        "clovisor.dns.answer.count": 0,
        "error.type": "NXDOMAIN",
    }


def test_an_answer_to_another_question_answers_nothing() -> None:
    asked = one(query(7, A, "lab"))
    assert asked.correlation == one(answer(7, A, "LAB")).correlation
    for other in (answer(8, A, "lab"), answer(7, AAAA, "lab"), answer(7, A, "bal")):
        assert asked.correlation != one(other).correlation


def test_names_are_compared_without_case_and_told_as_they_were_asked() -> None:
    message = one(query(7, A, "ShOp.LaB"))
    assert (message.resource, message.attributes["dns.question.name"]) == ("shop.lab", "ShOp.LaB")


@pytest.mark.parametrize(
    ("number", "word"), [(2, "NS"), (65, "HTTPS"), (255, "ANY"), (257, "CAA"), (65280, "TYPE65280"), (0, "TYPE0")]
)
def test_types(number: int, word: str) -> None:
    assert one(query(1, number, "lab")).operation == word


@pytest.mark.parametrize(("code", "word"), [(1, "FORMERR"), (2, "SERVFAIL"), (5, "REFUSED"), (9, "NOTAUTH"), (12, "RCODE12")])
def test_response_codes(code: int, word: str) -> None:
    found = one(answer(1, A, "lab", flags=RESPONSE | code))
    assert (found.status, found.error, found.attributes["error.type"]) == (word, True, word)


def test_extended_codes_and_errors_come_in_edns() -> None:
    extra = ROOT + b"\0\x29\x04\xd0\1\0\0\0\0\x12" + b"\0\x0a\0\2ab" + b"\0\x0f\0\x08\0\x16secret"
    found = one(answer(1, A, "lab", extra=extra))
    assert (found.status, found.error) == ("BADVERS", True)
    assert found.attributes["clovisor.dns.extended_error"] == "No Reachable Authority"
    assert "secret" not in repr(found)
    assert one(answer(1, A, "lab", extra=extra[:-8] + b"\1\0secret")).attributes["clovisor.dns.extended_error"] == "EDE256"


def test_an_answer_that_was_left_out_is_told() -> None:
    assert one(answer(1, A, "lab", flags=RESPONSE | 0x0200)).attributes["clovisor.dns.truncated"] is True
    assert "clovisor.dns.truncated" not in one(answer(1, A, "lab")).attributes


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (ADDRESS, "10.0.0.7"),
        (record(AAAA, bytes.fromhex("20010db8000000000000000000000001")), "2001:db8::1"),
        (record(NS, b"\2ns" + POINTER), "ns.lab"),
        (record(MX, b"\0\x0a" + ROOT), "10 ."),
        (record(SRV, b"\0\1\0\2\x14\x95\3sip" + POINTER), "1 2 5269 sip.lab"),
        (record(HTTPS, b"\0\1" + ROOT + b"\0\1\0\3\2h2"), "1 ."),
        (soa(2026), "lab 2026"),
        (record(257, b"\x80\5issueca.example"), '128 issue "ca.example"'),
        (record(257, b'\0\5issuea"\x1b'), '0 issue "a\\034\\027"'),
    ],
)
def test_answers(told: bytes, text: str) -> None:
    assert answers(told) == [text]


def test_what_is_stored_in_texts_is_told_only_where_values_are() -> None:
    text = record(TXT, b"\5a=\x1b\\b\3cde")
    assert answers(text, ADDRESS) == ["10.0.0.7"]
    assert answers(text, setup=Setup(OFF, datagrams=True)) == ["a=\\027\\092bcde"]
    assert answers(ADDRESS, setup=Setup(STRICT, datagrams=True)) is None
    long = record(TXT, (b"\xff" + b"x" * 255) * 8)
    assert answers(long, setup=Setup(OFF, datagrams=True)) == ["x" * records.MAX_TEXT]
    assert answers(record(48, b"key"), record(47, b"")) is None


def test_answers_are_bounded_and_counted() -> None:
    found = one(answer(1, A, "lab", *[ADDRESS] * 100))
    told = found.attributes["dns.answers"]
    assert isinstance(told, list) and len(told) == records.MAX_ANSWERS
    assert found.attributes["clovisor.dns.answer.count"] == 100


@pytest.mark.parametrize(("opcode", "word"), [(1, "IQUERY"), (2, "STATUS"), (4, "NOTIFY"), (5, "UPDATE")])
def test_operations_that_are_no_queries_name_their_zone(opcode: int, word: str) -> None:
    found = one(query(1, SOA, "lab", flags=opcode << 11))
    assert (found.kind, found.operation, found.resource) == (Kind.REQUEST, word, "lab")
    assert found.attributes["clovisor.dns.question.type"] == "SOA"


def test_an_answer_without_a_question_answers_the_id() -> None:
    out = run(PROTOCOL, UPDATE, UDP).messages
    assert out[0][1].correlation == out[1][1].correlation
    assert (out[1][1].kind, out[1][1].status) == (Kind.RESPONSE, "REFUSED")
    assert (out[2][1].operation, out[2][1].correlation) == ("NOTIFY", out[3][1].correlation)
    assert one(header(77, 0x8181)).correlation == "77"


def test_multicast_is_answered_by_nobody() -> None:
    asked, told = run(PROTOCOL, MULTICAST, UDP).of(CLIENT)
    assert (asked.kind, asked.operation, asked.resource) == (Kind.ONE_WAY, "PTR", "_ipp._tcp.local")
    assert (told.kind, told.operation, told.resource) == (Kind.ONE_WAY, "PTR", "_ipp._tcp.local")
    assert told.attributes["dns.answers"] == ["x._ipp._tcp.local"]
    assert one(query(0, A, "lab")).kind is Kind.REQUEST


def test_session_operations() -> None:
    keep_alive = header(3, 6 << 11) + b"\0\1\0\x08" + bytes(8)
    out = run(PROTOCOL, [(CLIENT, tcp(keep_alive)), (SERVER, tcp(header(3, 0x8000 | 6 << 11), header(0, 6 << 11)))])
    assert [(m.kind, m.operation) for _, m, _ in out.messages] == [
        (Kind.REQUEST, "DSO"),
        (Kind.RESPONSE, "DSO"),
        (Kind.ONE_WAY, "DSO"),
    ]


# Over TCP


def test_pipelined_out_of_order() -> None:
    out = run(PROTOCOL, PIPELINED)
    assert [m.operation for m in out.of(CLIENT)] == ["A", "MX"]
    assert [m.attributes["dns.answers"] for m in out.of(SERVER)] == [["10 mail.lab"], ["10.0.0.7"]]


def test_a_transfer_is_one_response_in_parts() -> None:
    out = run(PROTOCOL, TRANSFER)
    assert [(m.kind, m.correlation) for m in out.of(SERVER)] == [
        (Kind.PART, "3 AXFR lab"),
        (Kind.RESPONSE, "4 A lab"),
        (Kind.PART, "3 AXFR lab"),
        (Kind.RESPONSE, "3 AXFR lab"),
    ]
    assert out.of(SERVER)[-1].attributes["clovisor.dns.answer.count"] == 5


@pytest.mark.parametrize(
    ("kind", "told", "parts"),
    [
        (AXFR, [[soa(9), ADDRESS, soa(9)]], 0),
        (AXFR, [[soa(9)], [ADDRESS], [soa(9)]], 2),
        (AXFR, [[ADDRESS]], 0),
        (IXFR, [[soa(9)]], 0),
        (IXFR, [[soa(9), ADDRESS], [soa(9)]], 1),
        (IXFR, [[soa(9), soa(8), ADDRESS, soa(9)], [ADDRESS, soa(9)]], 1),
        (IXFR, [[soa(9), soa(7)], [soa(8)], [soa(8), soa(9)], [soa(9)]], 3),
        (AXFR, [[soa(9)], []], 1),
    ],
)
def test_where_a_transfer_ends(kind: int, told: list[list[bytes]], parts: int) -> None:
    script = [(SERVER, tcp(answer(3, kind, "lab", *some))) for some in [*told, [ADDRESS]]]
    kinds = [m.kind for m in run(PROTOCOL, [(CLIENT, tcp(query(3, kind, "lab"))), *script]).of(SERVER)]
    assert kinds == [Kind.PART] * parts + [Kind.RESPONSE] * 2


def test_a_refused_transfer_is_over() -> None:
    out = run(PROTOCOL, [(CLIENT, tcp(query(3, AXFR, "lab"))), (SERVER, tcp(answer(3, AXFR, "lab", flags=0x8005)))])
    assert [(m.kind, m.status) for m in out.of(SERVER)] == [(Kind.RESPONSE, "REFUSED")]


def test_what_waits_is_bounded() -> None:
    parser = dns.DnsParser(Setup())
    for ident in range(5000):
        assert parser.parse(CLIENT, Cursor(tcp(query(ident, AXFR, "lab")))) is not None
    assert len(parser._asked) == dns.MAX_ASKED
    assert len(parser._transfers._open) == 64


# Cut and broken


def test_a_datagram_that_was_cut_tells_what_is_there() -> None:
    whole = answer(1, A, "lab", ADDRESS, ADDRESS, extra=EDNS)
    behind_question = 12 + 5 + 4
    for end in range(len(whole)):
        found = run(PROTOCOL, [(SERVER, whole[:end])], UDP).of(SERVER)
        assert len(found) == (end >= behind_question)
        assert all(m.incomplete and m.resource == "lab" and m.status == "NOERROR" for m in found)
    told = run(PROTOCOL, [(SERVER, whole[:-12])], UDP).of(SERVER)[0].attributes["dns.answers"]
    assert told == ["10.0.0.7"]


def test_a_cut_query_is_incomplete() -> None:
    whole = header(1, QUERY, 1, 0, 0, 1) + name("lab") + b"\0\1\0\1" + EDNS
    assert not one(whole).incomplete
    cut = one(whole[:-1])
    assert (cut.kind, cut.incomplete, cut.resource) == (Kind.REQUEST, True, "lab")


def test_a_message_over_tcp_that_was_cut_tells_what_was_seen_of_it() -> None:
    long = tcp(answer(1, A, "lab", *[ADDRESS] * 200))
    out = run(PROTOCOL, [(SERVER, long[:1400]), (SERVER, len(long) - 1400), (SERVER, tcp(answer(2, A, "b")))])
    first, second = out.of(SERVER)
    assert (first.incomplete, first.resource, first.attributes["clovisor.dns.answer.count"]) == (True, "lab", 200)
    assert (second.incomplete, second.resource) == (False, "b")


def test_records_that_are_broken_do_not_hide_the_answer() -> None:
    loop = record(CNAME, b"\xc0\x31")  # points at itself
    found = one(answer(1, A, "lab", ADDRESS, loop))
    assert (found.incomplete, found.status, found.attributes["dns.answers"]) == (True, "NOERROR", ["10.0.0.7"])


def violation(data: bytes, setup: Setup = UDP) -> str:
    with pytest.raises(ProtocolError) as refused:
        dns.DnsParser(setup).parse(CLIENT, Cursor(data))
    return str(refused.value)


def test_what_is_no_dns_is_refused() -> None:
    assert "operation" in violation(query(1, A, "lab", flags=0x3800))
    assert "hundreds" in violation(header(1, 0, message.MAX_QUESTIONS + 1) + bytes(100))
    assert "points nowhere" in violation(header(1, 0, 1) + POINTER + b"\0\1\0\1")
    assert "label" in violation(header(1, 0, 1) + b"\x41a\0\0\1\0\1")
    assert "255 bytes" in violation(header(1, 0, 1) + name(".".join(["a" * 63] * 4)) + b"\0\1\0\1")
    assert "its header" in violation(b"\0\x0b" + bytes(11), Setup())
    assert "its question" in violation(tcp(query(1, A, "lab")[:-1]), Setup())
    assert "operation" in violation(b"\x7f\xff\0\1\x38\0" + bytes(20), Setup())


def test_after_a_violation_the_next_message_is_read() -> None:
    bad = tcp(header(1, 0, 1) + POINTER + b"\0\1\0\1")
    out = run(PROTOCOL, [(CLIENT, bad + tcp(query(2, A, "lab")))])
    assert (len(out.violations), [m.resource for m in out.of(CLIENT)]) == (1, ["lab"])


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (tcp(query(1, A, "lab")), 0),
        (tcp(query(1, A, "lab"))[:20], 0),
        (b"half a record" + tcp(answer(1, A, "lab", ADDRESS)), 13),
        (b"half a record" + tcp(answer(1, A, "lab", ADDRESS))[:25], None),
        (b"", None),
        (bytes(500), None),
        (b"\0\0\0\0\0\0\0\1" * 2000, None),
    ],
)
def test_resync(data: bytes, offset: int | None) -> None:
    assert dns.DnsParser(Setup()).resync(SERVER, bytearray(data)) == offset
    assert dns.DnsParser(UDP).resync(SERVER, data) is None


def test_hostile_messages_are_read_in_linear_work() -> None:
    pointers = b"".join((0xC000 | max(at - 2, 12)).to_bytes(2, "big") for at in range(12, 2000, 2))
    for tail in (pointers, POINTER * 30000, b"\x3f" * 60000, b"\0" * 60000, record(CNAME, POINTER) * 4000):
        for counts in ((1, 65535, 65535, 65535), (0, 65535, 0, 0), (200, 0, 0, 65535)):
            data = header(0, 0x8400, *counts) + name("lab") + b"\0\1\0\1" + tail
            run(PROTOCOL, [(SERVER, data[:65000])], UDP)
            run(PROTOCOL, [(SERVER, tcp(data[:65000]))])


# Recognition


@pytest.mark.parametrize("data", [what for script in (LOOKUPS, UPDATE[2:], MULTICAST) for _, what in script])
def test_datagrams_are_recognised(data: bytes) -> None:
    assert PROTOCOL.recognise_datagram is not None
    wanted = Evidence.RESPONSE if data[2] & 0x80 else Evidence.REQUEST
    assert PROTOCOL.recognise_datagram(data) is wanted
    for end in range(len(data)):
        assert PROTOCOL.recognise_datagram(data[:end]) in (Evidence.NO, wanted)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        header(1, 0x0100),
        bytes(12),
        header(0, 0x8400, 0, 1) + record(PTR, b"\1x", name("local")) + b"x",
        b"\x17\x00\x03\x2a" + bytes(44),
        b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(20),
        b"\xc3\0\0\0\1\x08" + bytes(1200),
    ],
)
def test_other_datagrams_are_not(data: bytes) -> None:
    assert PROTOCOL.recognise_datagram is not None
    assert PROTOCOL.recognise_datagram(data) is Evidence.NO


INVERSE = header(7, 0x0900, 0, 1) + name("192.0.2.4") + b"\0\1\0\1" + bytes(6)
NETBIOS = header(1, 0x0110, 1) + b"\x20" + b"CK" + b"A" * 30 + b"\0\0\x21\0\1"


@pytest.mark.parametrize(
    "data",
    [
        header(1, 0x8181),
        INVERSE,
        NETBIOS,
        header(1, 0x0110, 1) + b"\x20" + b"FHEPFCELEHFCEPFFFACACACACACACABM" + b"\0\0\x20\0\1",
    ],
)
def test_what_only_a_name_server_is_asked_so_is_left_to_its_port(data: bytes) -> None:
    assert PROTOCOL.recognise_datagram is not None
    assert PROTOCOL.recognise_datagram(data) is Evidence.MORE
    assert PROTOCOL.recognise_datagram(data + b"x") is not Evidence.REQUEST
    assert PROTOCOL.recognise(tcp(data)) is Evidence.NO


def test_an_inverse_query_is_paired_with_an_answer_that_repeats_nothing() -> None:
    out = run(PROTOCOL, [(CLIENT, INVERSE), (SERVER, header(7, 0x8984))], UDP)
    (asked,), (told,) = out.of(CLIENT), out.of(SERVER)
    assert (asked.kind, asked.operation, told.kind, told.status) == (Kind.REQUEST, "IQUERY", Kind.RESPONSE, "NOTIMP")
    assert asked.correlation == told.correlation


@pytest.mark.parametrize(
    "data",
    [
        query(1, A, "lab", flags=0x0140),
        query(1, A, "lab", flags=0x0103),
        query(1, A, "lab", flags=0x1000),
        query(1, 0x7000, "lab"),
        query(1, A, "lab")[:-1] + b"\7",
        header(1, QUERY, 2) + name("lab") + b"\0\1\0\1" + POINTER + b"\0\1\0\1",
        header(1, QUERY, 1, 1) + name("lab") + b"\0\1\0\1" + ADDRESS,
    ],
)
def test_odd_messages_are_no_evidence_and_no_objection(data: bytes) -> None:
    assert PROTOCOL.recognise_datagram is not None
    assert PROTOCOL.recognise_datagram(data) is Evidence.MORE
    assert PROTOCOL.recognise_datagram(data[:-1]) is Evidence.NO or data.endswith(ADDRESS)
    assert PROTOCOL.recognise_datagram(data + b"x") is Evidence.MORE
    assert PROTOCOL.recognise(tcp(data)) is Evidence.MORE
    assert PROTOCOL.recognise(tcp(data + b"x")) is Evidence.NO


def test_a_stream_is_recognised_when_its_first_message_is_whole() -> None:
    for data, sure in ((PIPELINED[0][1], Evidence.REQUEST), (PIPELINED[1][1], Evidence.RESPONSE)):
        assert isinstance(data, bytes)
        whole = 2 + data[1]
        assert {PROTOCOL.recognise(data[:end]) for end in range(whole)} == {Evidence.MORE}
        assert {PROTOCOL.recognise(data[:end]) for end in range(whole, len(data))} == {sure}


def test_a_long_stream_is_recognised_before_its_end() -> None:
    data = tcp(answer(1, AXFR, "lab", soa(1), *[ADDRESS] * 3000))
    assert PROTOCOL.recognise(data[:500]) is Evidence.MORE
    assert PROTOCOL.recognise(data[:4096]) is Evidence.RESPONSE


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
        b"GET / HTTP/1.1\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"*1\r\n$4\r\nPING\r\n",
        b"\0\x0c" + header(1, 0x8181),
        tcp(query(1, A, "lab") + b"x"),
        tcp(query(1, A, "lab")[:-1]),
    ],
)
def test_other_streams_are_not(data: bytes) -> None:
    assert PROTOCOL.recognise(data) is Evidence.NO


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_not_recognised(data: bytes) -> None:
    assert PROTOCOL.recognise_datagram is not None
    assert PROTOCOL.recognise_datagram(data) in (Evidence.NO, Evidence.MORE)
    assert PROTOCOL.recognise(data) in (Evidence.NO, Evidence.MORE)
