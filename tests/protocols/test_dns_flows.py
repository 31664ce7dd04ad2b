"""DNS through the engine: what the sessions of whole conversations say."""

from __future__ import annotations

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.session import Outcome, Session
from clovisor_py.protocols.dns import PROTOCOL
from tests.protocols.test_dns import (
    AAAA,
    ADDRESS,
    AXFR,
    CNAME,
    EDNS,
    INVERSE,
    MULTICAST,
    NETBIOS,
    RESPONSE,
    SHOP,
    A,
    answer,
    header,
    name,
    query,
    record,
    soa,
    tcp,
)
from tests.support.segments import MS, SECOND, Conversation


def sessions(*conversations: Conversation) -> list[Session]:
    pipeline = Pipeline(protocols={"dns": PROTOCOL})
    segments = sorted((s for c in conversations for s in c.segments), key=lambda s: s.time_ns)
    found = pipeline.feed(segments)
    end = segments[-1].time_ns + 60 * SECOND
    found += pipeline.tick(end) + pipeline.close(end)
    assert pipeline.ledger.parser_crashes == 0
    return found


def udp(**how: object) -> Conversation:
    return Conversation(udp=True, server_port=53, pod_is_client=True, **how)


def test_two_lookups_of_one_socket() -> None:
    """What every resolver of every pod does: A and AAAA at once, answered in any order, the name tried with a suffix first."""
    talk = udp().client(query(1, A, SHOP)).client(query(2, AAAA, SHOP))
    talk.server(answer(2, AAAA, SHOP, flags=0x8183)).server(answer(1, A, SHOP, ADDRESS))
    first, second = sessions(talk)
    assert (first.protocol, first.operation, first.resource, first.status) == ("dns", "AAAA", SHOP, "NXDOMAIN")
    assert (first.outcome, first.duration_ns) == (Outcome.ERROR, MS)
    assert (second.operation, second.status, second.outcome, second.duration_ns) == ("A", "NOERROR", Outcome.OK, 3 * MS)
    assert (second.server.port, second.transport) == (53, "udp")


def test_both_ends_may_use_the_port() -> None:
    (found,) = sessions(udp(client_port=53).client(query(1, A, "lab")).server(answer(1, A, "lab")))
    assert (found.client.ip, found.outcome) == ("10.0.0.2", Outcome.OK)


def test_who_is_not_answered_times_out() -> None:
    found = {s.resource: s.outcome for s in sessions(udp().client(query(1, A, "lab")).server(answer(1, A, "other")))}
    assert found["lab"] is Outcome.TIMEOUT


def test_a_datagram_that_was_cut_is_paired() -> None:
    long = answer(1, A, "lab", *[ADDRESS] * 100, extra=EDNS)
    (found,) = sessions(udp().client(query(1, A, "lab")).server(long, captured=128))
    assert (found.status, found.truncated, found.outcome) == ("NOERROR", True, Outcome.OK)
    assert found.response is not None and found.response.bytes == len(long)


def test_multicast_is_one_way() -> None:
    talk = Conversation(udp=True, server_port=5353, client_port=5353, pod_is_client=True)
    for _, what in MULTICAST:
        talk.client(what)
    assert [(s.outcome, s.operation, s.resource) for s in sessions(talk)] == [(Outcome.ONE_WAY, "PTR", "_ipp._tcp.local")] * 2


def test_a_datagram_of_something_else_harms_nothing() -> None:
    bad = header(1, 0, 1) + b"\xc0\x0c\0\1\0\1"
    talk = udp().client(query(1, A, "lab")).client(bad).client(b"short").server(bad).server(answer(1, A, "lab"))
    (found,) = sessions(talk)
    assert (found.resource, found.status) == ("lab", "NOERROR")


def test_what_names_no_protocol_is_dns_where_a_name_server_is_asked() -> None:
    for asked in (INVERSE, NETBIOS):
        (found,) = sessions(udp().client(asked).server(header(7 if asked is INVERSE else 1, 0x8984)))
        assert (found.status, found.outcome) == ("NOTIMP", Outcome.ERROR)
        elsewhere = Conversation(udp=True, server_port=137, pod_is_client=True).client(asked).server(asked)
        assert [s.protocol for s in sessions(elsewhere) if s.protocol == "dns"] == []


def test_a_transfer_over_tcp_lasts_until_its_last_record() -> None:
    talk = Conversation(server_port=53).handshake().client(tcp(query(3, AXFR, "lab")))
    talk.server(tcp(answer(3, AXFR, "lab", soa(9)))).server(
        tcp(header(3, RESPONSE, 0, 1) + record(CNAME, name("a"), name("b")))
    )
    talk.server(tcp(header(3, RESPONSE, 0, 1) + soa(9).replace(b"\xc0\x0c", name("lab")))).close()
    (found,) = sessions(talk)
    assert (found.operation, found.status, found.duration_ns, found.ttfb_ns) == ("AXFR", "NOERROR", 3 * MS, MS)
    assert found.attributes["clovisor.dns.answer.count"] == 3


def test_tcp_in_the_middle_with_a_response_first() -> None:
    talk = Conversation(server_port=53).server(tcp(answer(9, A, "old"))).client(tcp(query(1, A, "lab")))
    found = next(s for s in sessions(talk.server(tcp(answer(1, A, "lab", ADDRESS)))) if s.resource == "lab")
    assert (found.status, found.duration_ns, found.client.ip) == ("NOERROR", MS, "10.0.0.1")
