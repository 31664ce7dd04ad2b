"""Every shape of packet: what is read from it, or under which counter it passed by."""

import socket

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption_Router_Alert, fragment
from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import Dot1AD, Dot1Q

from clovisor_py.kernel.layout import Counter
from clovisor_py.model.segment import FROM_POD, TO_POD
from clovisor_py.model.segment import TCP as TCP_NUMBER
from clovisor_py.model.segment import UDP as UDP_NUMBER
from tests.support.kernel import (
    ETHER,
    LONGEST,
    LOOPBACK,
    PEER_IP,
    PEER_PORT,
    POD_IP,
    POD_PORT,
    address,
    tcp,
)
from tests.support.packets import AUTHENTICATION, HELLO, PEER6, POD6, QUERY, SEGMENT, V4, V6

pytestmark = pytest.mark.live


def padded(packet, size=60):
    return bytes(packet).ljust(size, b"\xee")


def whole(record, payload=HELLO):
    """What is the same in all shapes of SEGMENT."""
    assert (record.seq, record.ack, record.window) == (77, 88, 500)
    assert (record.pod_port, record.peer_port) == (POD_PORT, PEER_PORT)
    assert (record.direction, record.transport, record.interface) == (FROM_POD, TCP_NUMBER, LOOPBACK)
    assert (record.length, record.data, record.packets) == (len(payload), payload, 1)
    assert record.tcp_flags == 0x18


@pytest.mark.parametrize(
    ("packet", "vlan"),
    [
        pytest.param(ETHER / V4 / SEGMENT, 0, id="plain"),
        pytest.param(ETHER / IP(src=POD_IP, dst=PEER_IP, options=[IPOption_Router_Alert()]) / SEGMENT, 0, id="IP option"),
        pytest.param(ETHER / IP(src=POD_IP, dst=PEER_IP, options=[b"\1"] * 40) / SEGMENT, 0, id="40 bytes of IP options"),
        pytest.param(ETHER / IP(src=POD_IP, dst=PEER_IP, tos=0xFF, flags="DF", ttl=1) / SEGMENT, 0, id="DF"),
        pytest.param(ETHER / Dot1Q(vlan=42, prio=7) / V4 / SEGMENT, 42, id="one tag"),
        pytest.param(ETHER / Dot1AD(vlan=7) / V4 / SEGMENT, 7, id="one service tag"),
        pytest.param(ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=4094) / V4 / SEGMENT, 4094, id="QinQ"),
        pytest.param(padded(ETHER / V4 / SEGMENT, 90), 0, id="padded"),
    ],
)
def test_ipv4(rig, packet, vlan):
    (record,) = rig.send(FROM_POD, packet)
    whole(record)
    assert (record.pod_ip, record.peer_ip) == (address(POD_IP), address(PEER_IP))
    assert record.vlan == vlan
    assert rig.counted()[Counter.CAPTURED] == 1


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(ETHER / V6 / SEGMENT, id="plain"),
        pytest.param(ETHER / V6 / IPv6ExtHdrHopByHop() / SEGMENT, id="hop by hop"),
        pytest.param(ETHER / V6 / IPv6ExtHdrRouting(addresses=["fd00::5"]) / SEGMENT, id="routing"),
        pytest.param(
            ETHER / V6 / IPv6ExtHdrDestOpt(options=[HBHOptUnknown(optlen=30, optdata=bytes(30))]) / SEGMENT, id="destination"
        ),
        pytest.param(ETHER / V6 / AUTHENTICATION / SEGMENT, id="authentication"),
        pytest.param(
            ETHER / V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting() / AUTHENTICATION / SEGMENT,
            id="four kinds",
        ),
        pytest.param(ETHER / Dot1Q(vlan=3) / V6 / IPv6ExtHdrDestOpt() / SEGMENT, id="tagged"),
    ],
)
def test_ipv6(rig, packet):
    (record,) = rig.send(FROM_POD, packet)
    whole(record)
    assert record.pod_ip == socket.inet_pton(socket.AF_INET6, POD6)
    assert record.peer_ip == socket.inet_pton(socket.AF_INET6, PEER6)


def chain(count):
    packet = ETHER / V6
    for _ in range(count):
        packet = packet / IPv6ExtHdrDestOpt()
    return packet / SEGMENT


def test_six_extension_headers_are_read_and_seven_are_too_many(rig):
    (record,) = rig.send(FROM_POD, chain(6))
    whole(record)
    assert rig.send(FROM_POD, chain(7)) == []
    assert rig.counted()[Counter.OTHER] == 1


def fragments():
    first, later = fragment(V4 / UDP(sport=53, dport=53) / bytes(1200), 800)
    yield pytest.param(ETHER / first, id="first of v4")
    yield pytest.param(ETHER / later, id="last of v4")
    yield pytest.param(ETHER / IP(src=POD_IP, dst=PEER_IP, flags="MF") / SEGMENT, id="v4, more to come")
    yield pytest.param(ETHER / V6 / IPv6ExtHdrFragment(m=1) / SEGMENT, id="first of v6")
    yield pytest.param(ETHER / V6 / IPv6ExtHdrFragment(offset=100) / SEGMENT, id="last of v6")
    yield pytest.param(ETHER / V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(m=1) / SEGMENT, id="v6, behind another header")


@pytest.mark.parametrize("packet", list(fragments()))
def test_fragments_are_counted_and_passed_over(rig, packet):
    assert rig.send(FROM_POD, packet) == []
    assert rig.counted() == {Counter.FRAGMENTS: 1}


OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7)]


@pytest.mark.parametrize(
    "options", [OPTIONS, [("NOP", None)] * 40, [("Timestamp", (1, 2))]], ids=["SYN's", "40 bytes", "usual"]
)
def test_tcp_options_are_no_payload(rig, options):
    (record,) = rig.send(FROM_POD, tcp(FROM_POD, HELLO, options=options))
    assert (record.length, record.data) == (len(HELLO), HELLO)


@pytest.mark.parametrize("flags", ["S", "FA", "R", "RA"])
def test_control_packets_leave_a_record_without_payload(rig, flags):
    rig.send(FROM_POD, tcp(FROM_POD, HELLO, seq=1))
    (record,) = rig.send(FROM_POD, tcp(FROM_POD, flags=flags, seq=19))
    assert (record.seq, record.length, record.data, record.packets) == (19, 0, b"", 0)
    assert record.tcp_flags == int(TCP(flags=flags).flags)
    assert rig.counted()[Counter.CONTROLS] == 1


@pytest.mark.parametrize("flags", ["FA", "R", "SA"])
def test_the_end_of_a_connection_that_nobody_knew_opens_none(rig, flags):
    assert rig.send(FROM_POD, tcp(FROM_POD, flags=flags)) == []
    assert rig.counted() == {Counter.CONTROLS: 1}
    assert rig.sessions() == []


def test_fin_with_payload(rig):
    (record,) = rig.send(FROM_POD, tcp(FROM_POD, HELLO, flags="FPA"))
    assert (record.data, record.tcp_flags & 1) == (HELLO, 1)
    assert rig.counted()[Counter.CAPTURED] == 1
    assert Counter.CONTROLS not in rig.counted()


def test_the_payload_of_a_syn_begins_one_further(rig):
    """TCP Fast Open: the SYN itself takes a sequence number."""
    (record,) = rig.send(TO_POD, tcp(TO_POD, HELLO, flags="S", seq=100))
    assert (record.seq, record.data) == (101, HELLO)
    assert rig.session()["side"][TO_POD]["bytes"] == len(HELLO)
    assert rig.session()["side"][TO_POD]["high_seq"] == 101 + len(HELLO)


def test_an_acknowledgement_leaves_nothing_but_a_count(rig):
    assert rig.send(FROM_POD, padded(tcp(FROM_POD, flags="A"))) == []
    assert rig.counted() == {Counter.ACKS: 1}


def test_ethernet_padding_is_no_payload(rig):
    assert rig.send(FROM_POD, padded(tcp(FROM_POD, flags="A"), 64)) == []
    (record,) = rig.send(FROM_POD, padded(tcp(FROM_POD, b"x"), 64))
    assert (record.length, record.data) == (1, b"x")


def test_big_tcp_has_its_length_from_the_packet(rig):
    packet = ETHER / IP(src=POD_IP, dst=PEER_IP, len=0) / SEGMENT
    (record,) = rig.send(FROM_POD, packet)
    whole(record)
    (record,) = rig.send(FROM_POD, ETHER / IPv6(src=POD6, dst=PEER6, plen=0) / SEGMENT)
    whole(record)


def test_gso_is_counted_in_packets(rig):
    (record,) = rig.send(FROM_POD, ETHER / V4 / SEGMENT, segs=44)
    assert record.packets == 44
    assert rig.counted()[Counter.PACKETS] == 44
    assert rig.counted()[Counter.SEGMENTS] == 1
    assert rig.session()["side"][FROM_POD]["packets"] == 44


def test_a_zero_window_is_noted(rig):
    rig.send(FROM_POD, tcp(FROM_POD, HELLO, window=0))
    rig.send(TO_POD, tcp(TO_POD, HELLO))
    assert [side["zero_windows"] for side in rig.session()["side"]] == [1, 0]


@pytest.mark.parametrize("ip", [V4, V6], ids=["v4", "v6"])
@pytest.mark.parametrize("ports", [(53, 999), (999, 53)])
def test_dns(rig, ip, ports):
    (record,) = rig.send(FROM_POD, padded(ETHER / ip / UDP(sport=ports[0], dport=ports[1]) / QUERY, 120))
    assert (record.transport, record.data, record.length) == (UDP_NUMBER, QUERY, len(QUERY))
    assert (record.pod_port, record.peer_port) == ports
    assert (record.seq, record.ack, record.tcp_flags, record.window) == (0, 0, 0, 0)


def test_the_same_datagram_again_is_no_retransmission(rig):
    for _ in range(2):
        (record,) = rig.send(FROM_POD, ETHER / V4 / UDP(sport=999, dport=53) / QUERY)
        assert not record.flags & 8
    assert rig.session()["side"][FROM_POD]["bytes"] == 2 * len(QUERY)


def test_the_pods_end_comes_first_in_both_directions(rig):
    (out,) = rig.send(FROM_POD, tcp(FROM_POD, HELLO))
    (into,) = rig.send(TO_POD, tcp(TO_POD, HELLO))
    assert (out.direction, into.direction) == (FROM_POD, TO_POD)
    for record in (out, into):
        assert (record.pod_ip, record.pod_port) == (address(POD_IP), POD_PORT)
        assert (record.peer_ip, record.peer_port) == (address(PEER_IP), PEER_PORT)
    assert out.flow_id == into.flow_id == rig.session()["cookie"]


@pytest.mark.parametrize("size", [1, 255, 256, 257, 2047, 2048, 2049, LONGEST])
def test_every_size_class_of_record(rig, size):
    payload = bytes(i * 7 & 255 for i in range(size))
    (record,) = rig.send(FROM_POD, tcp(FROM_POD, payload))
    assert (record.length, record.data) == (size, payload)
    assert rig.counted()[Counter.CAPTURED_BYTES] == size
