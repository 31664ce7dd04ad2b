"""Every link type, with the same conversation in it."""

from __future__ import annotations

import struct

import pytest
from scapy.contrib.mpls import MPLS
from scapy.layers.l2 import CookedLinux, Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE

from tests.support.captures import REQUEST, RESPONSE, SEGMENTS, conversation, cut, ethernet, pcap, read
from tests.support.segments import EPOCH, MS, ipv4


def raw(packet):
    return packet


def before(head, ethertype_at=None):
    """The packet behind these bytes, with its ethertype put into them."""

    def wrap(packet):
        made = bytearray(head)
        if ethertype_at is not None:
            struct.pack_into(">H", made, ethertype_at, 0x0800 if packet.version == 4 else 0x86DD)
        return bytes(made) + bytes(packet)

    return wrap


def nflog(order):
    def wrap(packet):
        data = bytes(packet)
        other = struct.pack(order + "HH", 5, 10) + b"x" + bytes(3)
        return b"\x02\x00\x00\x01" + other + struct.pack(order + "HH", len(data) + 4, 9) + data

    return wrap


WRAPS = [
    pytest.param(1, ethernet, id="Ethernet"),
    pytest.param(1, lambda p: Ether() / Dot1Q(vlan=7) / p, id="VLAN"),
    pytest.param(1, lambda p: Ether() / Dot1Q(vlan=0) / p, id="priority tag"),
    pytest.param(1, lambda p: Ether() / Dot1AD(vlan=3) / Dot1Q(vlan=7) / p, id="QinQ"),
    pytest.param(1, lambda p: Ether() / MPLS(label=3, s=0) / MPLS(label=4, s=1) / p, id="MPLS"),
    pytest.param(1, lambda p: Ether(type=0x8847) / MPLS(s=1) / bytes(4) / ethernet(p), id="Ethernet over MPLS"),
    pytest.param(1, lambda p: Ether() / PPPoE() / PPP() / p, id="PPPoE"),
    pytest.param(1, before(bytes(12) + b"\x01\x00\xaa\xaa\x03\0\0\0\0\0", 20), id="LLC and SNAP"),
    pytest.param(0, before(b"\x02\0\0\0"), id="NULL"),
    pytest.param(108, before(b"\0\0\0\x02"), id="LOOP"),
    pytest.param(9, before(b"\xff\x03\x00\x21"), id="PPP"),
    pytest.param(9, before(b"\x21"), id="PPP, compressed"),
    pytest.param(50, before(b"\xff\x03\x00\x21"), id="PPP in HDLC"),
    pytest.param(51, before(b"\x11\x00\0\1\0\x80\x00\x21"), id="PPPoE without Ethernet"),
    pytest.param(104, before(b"\x0f\x00\0\0", 2), id="Cisco HDLC"),
    pytest.param(113, lambda p: CookedLinux() / p, id="cooked v1"),
    pytest.param(276, before(bytes(20), 0), id="cooked v2"),
    pytest.param(239, nflog("<"), id="NFLOG"),
    pytest.param(239, nflog(">"), id="NFLOG, big-endian"),
    *(pytest.param(link, raw, id=f"raw {link}") for link in (12, 14, 101, 228)),
]


@pytest.mark.parametrize(("link", "wrap"), WRAPS)
def test_a_conversation_in_it(tmp_path, link, wrap):
    segments, source = read(tmp_path / "x.pcap", pcap(conversation(wrap), link=link))
    assert [segment.data for segment in segments] == [b"", b"", REQUEST, RESPONSE, b"", b""]
    assert [segment.time_ns for segment in segments] == [EPOCH + step * MS for step in (1, 2, 4, 6, 7, 8)]
    assert {(s.pod_ip, s.pod_port, s.peer_ip, s.peer_port) for s in segments} == {
        (ipv4("10.0.0.2"), 8080, ipv4("10.0.0.1"), 40000)
    }
    assert source.packets == 8
    assert source.passed_over() == {}


@pytest.mark.parametrize(("link", "wrap"), [(1, ethernet), (276, before(bytes(20), 0)), (229, raw), (101, raw)])
def test_ipv6_in_it(tmp_path, link, wrap):
    segments, _ = read(tmp_path / "x.pcap", pcap(conversation(wrap, v6=True), link=link))
    assert [segment.data for segment in segments if segment.data] == [REQUEST, RESPONSE]
    assert len(segments) == SEGMENTS


@pytest.mark.parametrize(("link", "wrap"), WRAPS)
def test_cut_anywhere_it_is_counted(tmp_path, link, wrap):
    """Every packet is a segment, or has its reason; nothing is raised."""
    packets = conversation(wrap)
    for size in range(max(len(data) for _, data, _ in packets)):
        segments, source = read(tmp_path / "x.pcap", pcap(cut(packets, size), link=link))
        assert len(segments) + sum(source._decoder.counts.values()) == source.packets == 8
        for segment in segments:
            whole = (REQUEST, RESPONSE)[segment.direction ^ 1] if segment.length else b""
            assert segment.length == len(whole)
            assert whole.startswith(segment.data)


@pytest.mark.parametrize(
    ("link", "data"),
    [
        (1, bytes(Ether(type=0x0806)) + bytes(28)),
        (1, bytes(12) + b"\x00\x26" + b"\x42\x42\x03" + bytes(40)),
        (1, bytes(Ether(type=0x8847)) + b"\0\0\1\0" + b"\x99" * 40),
        (1, bytes(Ether(type=0x8864)) + bytes(6) + b"\xc0\x21" + bytes(40)),
        (101, b"\x99" * 40),
        (108, b"\0\0\0\2" + b"\x99" * 40),
        (239, b"\x02\0\0\1" + b"\xff" * 40),
        (276, b"\x08\x06" + bytes(60)),
    ],
)
def test_what_is_not_ip_is_counted(tmp_path, link, data):
    segments, source = read(tmp_path / "x.pcap", pcap([(EPOCH, data, len(data))], link=link))
    assert segments == []
    assert source.passed_over() == {"not IP": 1}
