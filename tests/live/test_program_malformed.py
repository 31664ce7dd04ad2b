"""What is not for us, contradicts itself, is cut short or changed at random: always passed, always counted."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, LLC, Dot1AD, Dot1Q

from clovisor_py.kernel.layout import Counter
from clovisor_py.model.segment import FROM_POD, TO_POD
from tests.support.kernel import ETHER, PEER_IP, POD_IP, Rig, check_books, tcp
from tests.support.packets import AUTHENTICATION, HELLO, PEER6, POD6, QUERY, SEGMENT, V4, V6

pytestmark = pytest.mark.live


def other():
    yield pytest.param(ETHER / V4 / UDP(sport=999, dport=8125) / QUERY, id="UDP on another port")
    yield pytest.param(ETHER / ARP(pdst=POD_IP), id="ARP")
    yield pytest.param(ETHER / V4 / ICMP() / HELLO, id="ICMP")
    yield pytest.param(ETHER / IPv6(src=POD6, dst=PEER6, nh=58) / bytes(16), id="ICMPv6")
    yield pytest.param(ETHER / IPv6(src=POD6, dst=PEER6, nh=59), id="no next header")
    yield pytest.param(ETHER / LLC() / bytes(40), id="802.3")
    yield pytest.param(ETHER / Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / V4 / SEGMENT, id="three tags")


@pytest.mark.parametrize("packet", list(other()))
def test_what_is_neither_tcp_nor_watched_udp(rig, packet):
    assert rig.send(FROM_POD, packet) == []
    assert rig.counted() == {Counter.OTHER: 1}


def malformed():
    def v4(**fields):
        return ETHER / IP(src=POD_IP, dst=PEER_IP, **fields) / SEGMENT

    yield pytest.param(v4(ihl=4), id="IHL too short")
    yield pytest.param(v4(ihl=15), id="IHL into the payload")
    yield pytest.param(v4(version=6), id="version 6 in an IPv4 frame")
    yield pytest.param(v4(len=2000), id="IP longer than the packet")
    yield pytest.param(v4(len=19), id="IP shorter than its header")
    yield pytest.param(v4(len=39), id="IP shorter than TCP's header")
    yield pytest.param(ETHER / IPv6(src=POD6, dst=PEER6, plen=2000) / SEGMENT, id="IPv6 longer than the packet")
    yield pytest.param(ETHER / IPv6(src=POD6, dst=PEER6, plen=19) / SEGMENT, id="IPv6 shorter than TCP's header")
    yield pytest.param(ETHER / IPv6(version=4, src=POD6, dst=PEER6) / SEGMENT, id="version 4 in an IPv6 frame")
    yield pytest.param(ETHER / V6 / IPv6ExtHdrDestOpt(len=255) / SEGMENT, id="an extension beyond the end")
    yield pytest.param(tcp(FROM_POD, HELLO, dataofs=4), id="data offset too short")
    yield pytest.param(tcp(FROM_POD, HELLO, dataofs=15), id="data offset beyond the end")
    yield pytest.param(ETHER / V4 / UDP(sport=53, dport=53, len=7) / QUERY, id="UDP shorter than its header")
    yield pytest.param(ETHER / V4 / UDP(sport=53, dport=53, len=200) / QUERY, id="UDP longer than the packet")


@pytest.mark.parametrize("packet", list(malformed()))
def test_what_contradicts_itself(rig, packet):
    assert rig.send(FROM_POD, packet) == []
    assert rig.counted() == {Counter.MALFORMED: 1}


TRUNCATABLE = {
    "v4": ETHER / V4 / SEGMENT,
    "QinQ": ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=8) / V4 / SEGMENT,
    "v6": ETHER / V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / AUTHENTICATION / SEGMENT,
    "UDP": ETHER / V4 / UDP(sport=53, dport=53) / QUERY,
}


@pytest.mark.parametrize("name", TRUNCATABLE)
def test_cut_short_at_every_byte(rig, name):
    packet = bytes(TRUNCATABLE[name])
    tried = 0
    for size in range(14, len(packet)):
        try:
            rig.run(FROM_POD, packet[:size])
        except OSError:
            continue  # test_run itself refuses what is too short for the frame's type
        tried += 1
    assert tried > len(packet) - 60
    assert rig.records() == []
    assert rig.counted() == {Counter.MALFORMED: tried}


def mutations():
    """A packet, and what to do to it: bytes overwritten, then cut or prolonged."""
    edits = st.lists(st.tuples(st.integers(0, 140), st.integers(0, 255)), max_size=6)
    return st.tuples(st.sampled_from(sorted(TRUNCATABLE)), edits, st.integers(14, 200), st.sampled_from([FROM_POD, TO_POD]))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations())
def test_whatever_the_packet_it_passes_and_the_books_balance(datapath, mutation):
    name, edits, size, direction = mutation
    packet = bytearray(bytes(TRUNCATABLE[name]).ljust(size, b"\xdd")[:size])
    for at, value in edits:
        if at < size:
            packet[at] = value
    rig = Rig(datapath)
    before = rig.stats
    try:
        rig.run(direction, bytes(packet))
    except OSError:
        return  # refused by test_run before our program
    after = rig.stats
    check_books(after)
    seen = after.since(before)
    ways = (Counter.SEGMENTS, Counter.CONTROLS, Counter.ACKS, Counter.FRAGMENTS, Counter.OTHER, Counter.MALFORMED)
    assert sum(seen[way] for way in ways) == 1
    for record in rig.records():
        assert len(record.data) <= record.length <= size
        assert record.transport in (6, 17)
        assert record.data in bytes(packet)
