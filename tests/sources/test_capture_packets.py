"""Packets become segments or are counted, on the short way and on the long one alike, whatever their bytes are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import CookedLinux, Dot1Q, Ether

from clovisor_py.model.segment import ACK, FIN, PEER_OPENED, RST, SYN, Segment
from clovisor_py.model.segment import UDP as UDP_NUMBER
from clovisor_py.sources import _capture_packets
from clovisor_py.sources._capture_input import OUTBOUND, Interface, Mark
from clovisor_py.sources._capture_links import LINKS
from clovisor_py.sources._capture_packets import ACKS, REORDER_NS, UNKNOWN_LINK, Decoder
from tests.support.captures import REQUEST, STEPS, conversation, cut, ethernet, tcp
from tests.support.segments import EPOCH, MS, ipv4


def decode(packets, *, link=1, udp_ports=(53,), marks=None):
    """Segments and the decoder, of one block."""
    decoder = Decoder([Interface(link)], udp_ports)
    buffer, block = b"", []
    for index, (time_ns, data, wire) in enumerate(packets):
        block.append((time_ns, 0, len(buffer), len(buffer) + len(data), wire, marks[index] if marks else None))
        buffer += data
    return decoder.segments((buffer, block)), decoder


def test_a_segment_as_the_kernel_makes_it():
    segments, decoder = decode(conversation())
    assert segments[2] == Segment(
        time_ns=EPOCH + 4 * MS,
        flow_id=1,
        interface=0,
        direction=1,
        transport=6,
        pod_ip=ipv4("10.0.0.2"),
        peer_ip=ipv4("10.0.0.1"),
        pod_port=8080,
        peer_port=40000,
        seq=1001,
        ack=5001,
        tcp_flags=ACK | 8,
        window=500,
        flags=PEER_OPENED,
        length=len(REQUEST),
        data=REQUEST,
    )
    assert [segment.tcp_flags & (SYN | FIN | RST) for segment in segments] == [SYN, SYN, 0, 0, FIN, FIN]
    assert +decoder.counts == {ACKS: 2}


@pytest.mark.parametrize("size", [None, 96, 64, 54])
def test_the_short_way_and_the_long_one_agree(monkeypatch, size):
    steps = [*STEPS, (0, "R", 1, 1, b""), (0, "FA", 2000, 1, b"last words"), (0, "A", 7, 7, b"x" * 300)]
    packets = cut(conversation(steps=steps), size)
    short, _ = decode(packets)
    monkeypatch.setattr(_capture_packets, "_USUAL", {})
    long, decoder = decode(packets)
    assert short == long
    assert len(short) + decoder.counts.total() == decoder.packets == len(packets)


def test_interfaces_of_several_kinds_take_turns():
    """A connection that is seen on all of them is one, whatever stands before its IP header."""
    frames = [
        (1, conversation()),
        (101, conversation(bytes)),
        (113, conversation(lambda packet: CookedLinux() / packet)),
        (9999, conversation()),
    ]
    decoder = Decoder([Interface(link) for link, _ in frames], ())
    buffer, block = b"", []
    for packets in zip(*(packets for _, packets in frames), strict=True):
        for interface, (time_ns, data, wire) in enumerate(packets):
            block.append((time_ns, interface, len(buffer), len(buffer) + len(data), wire, None))
            buffer += data
    expected, _ = decode(conversation())
    assert decoder.segments((buffer, block)) == [segment for segment in expected for _ in range(3)]
    assert +decoder.counts == {ACKS: 6, UNKNOWN_LINK: 8} and decoder.unknown_links == {9999}


def test_datagrams_of_the_ports_that_are_looked_at():
    def datagram(sport, dport, data=b"query", **fields):
        return bytes(ethernet(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=sport, dport=dport, **fields) / data))

    packets = [datagram(4000, 53), datagram(53, 4000), datagram(4000, 5353), datagram(4000, 54)]
    segments, decoder = decode([(EPOCH, data, len(data)) for data in packets], udp_ports=(53, 5353))
    assert [(one.pod_port, one.direction, one.transport, one.data) for one in segments] == [
        (53, 1, UDP_NUMBER, b"query"),
        (53, 0, UDP_NUMBER, b"query"),
        (5353, 1, UDP_NUMBER, b"query"),
    ]
    assert +decoder.counts == {"UDP of other ports": 1}
    odd = [datagram(1, 53, b"query, padded", len=13), datagram(2, 53, len=0), datagram(3, 53, len=7), datagram(4, 53, b"")]
    segments, decoder = decode([(EPOCH, data, len(data)) for data in odd])
    assert [segment.data for segment in segments] == [b"query", b"query", b""]
    assert +decoder.counts == {"malformed": 1}


def test_what_only_our_own_file_knows_is_put_back():
    told = Mark(OUTBOUND, flags=4, packets=3, turn_age_ns=9, lost=2, rtt_us=7, cgroup_id=5, vlan=12)
    (segment,), _ = decode(conversation(steps=STEPS[3:4]), marks=[told])
    assert (segment.direction, segment.flags, segment[-6:]) == (0, 4, (3, 9, 2, 7, 5, 12))


def test_tcp_headers_that_are_none():
    data = bytearray(bytes(ethernet(tcp(0, "PA", 1, 1, b"data"))))
    data[14 + 20 + 12] = 0x40  # a header of 16 bytes
    short = bytes(data)
    data[14 + 20 + 12] = 0xF0  # one that is longer than the packet
    _, decoder = decode([(EPOCH, one, len(one)) for one in (short, bytes(data))])
    assert +decoder.counts == {"malformed": 2}


def test_times_that_are_a_little_wrong_are_put_right():
    """Several queues of a network card in one file: the answer stands before its question."""
    packets = conversation()
    mixed = [packets[index] for index in (1, 0, 2, 5, 3, 4, 7, 6)]
    assert decode(mixed)[0] == decode(packets)[0]


def test_a_clock_that_was_set_back_leaves_the_order():
    before = conversation()
    after = [(time_ns - REORDER_NS - 100 * MS, data, wire) for time_ns, data, wire in conversation(steps=STEPS[3:])]
    found = [segment.time_ns for segment in decode(before + after)[0]]
    assert found[:6] == [segment.time_ns for segment in decode(before)[0]]
    assert len(found) == 10


PACKETS = [
    data
    for link in (ethernet, lambda p: Ether() / Dot1Q(vlan=1) / p)
    for v6 in (0, 1)
    for _, data, _ in conversation(link, v6=v6)
]
PACKETS += [bytes(ethernet(IP(dst="10.0.0.2") / UDP(dport=4789) / (b"\x08" + bytes(7)) / ethernet(tcp(0, "A", 1, 1, b"x"))))]


@given(st.sampled_from(PACKETS), st.randoms(use_true_random=False), st.sampled_from(sorted(LINKS)))
def test_any_bytes_are_a_segment_or_a_count(data, source: random.Random, link):
    mutated = bytearray(data)
    for _ in range(source.randrange(8)):
        mutated[source.randrange(len(mutated))] = source.randrange(256)
    mutated = bytes(mutated[: source.randrange(len(mutated) + 1)])
    segments, decoder = decode([(1, mutated, len(data))] * 2, link=link)
    fragments = decoder.fragments
    assert len(segments) + decoder.counts.total() + fragments.waiting + fragments.joined + fragments.dropped == 2
    for segment in segments:
        assert len(segment.data) <= segment.length


@given(st.sampled_from(conversation()), st.randoms(use_true_random=False))
def test_the_short_way_and_the_long_one_agree_on_any_headers(packet, source: random.Random):
    time_ns, data, wire = packet
    mutated = bytearray(data)
    for _ in range(source.randrange(4)):
        mutated[source.randrange(12, 54)] = source.randrange(256)
    packets = [(time_ns, bytes(mutated[: source.randrange(50, len(mutated) + 1)]), wire)] * 2
    short, decoder = decode(packets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_capture_packets, "_USUAL", {})
        long, other = decode(packets)
    assert short == long and +decoder.counts == +other.counts


@given(st.lists(st.tuples(st.binary(max_size=120), st.integers(0, 200))), st.sampled_from(sorted(LINKS)))
def test_noise(packets, link):
    segments, decoder = decode([(1, data, wire) for data, wire in packets], link=link)
    fragments = decoder.fragments
    assert len(segments) + decoder.counts.total() + fragments.waiting + fragments.joined + fragments.dropped == len(packets)
