"""Options, extension headers, tunnels, and lengths that are not what they seem."""

from __future__ import annotations

import pytest
from scapy.contrib.erspan import ERSPAN_II
from scapy.layers.inet import IP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
from scapy.layers.l2 import GRE, Ether
from scapy.layers.vxlan import VXLAN

from tests.support.captures import REQUEST, RESPONSE, SEGMENTS, conversation, ethernet, pcap, read
from tests.support.packets import AUTHENTICATION
from tests.support.segments import EPOCH

OUTER, OUTER6 = IP(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")


def geneve(ethertype, options=0):
    return bytes([options, 0]) + ethertype.to_bytes(2, "big") + bytes(4) + bytes(options * 4)


TUNNELS = [
    pytest.param(lambda p: OUTER / UDP(sport=9, dport=4789) / VXLAN(vni=7) / ethernet(p), id="VXLAN"),
    pytest.param(lambda p: OUTER6 / UDP(sport=9, dport=8472) / VXLAN(vni=7) / ethernet(p), id="VXLAN over IPv6"),
    pytest.param(lambda p: OUTER / UDP(sport=9, dport=6081) / geneve(0x6558, 3) / ethernet(p), id="GENEVE"),
    pytest.param(
        lambda p: OUTER / UDP(sport=9, dport=6081) / geneve(0x0800 if p.version == 4 else 0x86DD) / p,
        id="GENEVE without Ethernet",
    ),
    pytest.param(lambda p: OUTER / GRE() / p, id="GRE"),
    pytest.param(lambda p: OUTER / GRE(chksum_present=1, key_present=1, seqnum_present=1) / p, id="GRE with everything"),
    pytest.param(lambda p: OUTER / GRE(proto=0x6558) / ethernet(p), id="Ethernet over GRE"),
    pytest.param(lambda p: OUTER / GRE(seqnum_present=1, proto=0x88BE) / ERSPAN_II() / ethernet(p), id="ERSPAN"),
    pytest.param(lambda p: OUTER / GRE(proto=0x88BE) / ethernet(p), id="ERSPAN I"),
    pytest.param(lambda p: OUTER / GRE(seqnum_present=1, proto=0x22EB) / bytes(12) / ethernet(p), id="ERSPAN III"),
    pytest.param(
        lambda p: OUTER / GRE(seqnum_present=1, proto=0x22EB) / (bytes(11) + b"\1" + bytes(8)) / ethernet(p),
        id="ERSPAN III with a platform header",
    ),
    pytest.param(
        lambda p: OUTER / GRE(proto=0x880B) / (b"\xff\x03\0" + (b"\x21" if p.version == 4 else b"\x57") + bytes(p)), id="PPTP"
    ),
    pytest.param(lambda p: OUTER / p, id="IPIP"),
    pytest.param(lambda p: OUTER6 / p, id="IPv4 in IPv6"),
    pytest.param(lambda p: OUTER / OUTER6 / OUTER / p, id="three deep"),
]


@pytest.mark.parametrize("tunnel", TUNNELS)
@pytest.mark.parametrize("v6", [False, True])
def test_what_is_in_a_tunnel_is_what_is_seen(tmp_path, tunnel, v6):
    packets = conversation(lambda packet: ethernet(tunnel(packet)), v6=v6)
    segments, source = read(tmp_path / "x.pcap", pcap(packets))
    assert [segment.data for segment in segments if segment.data] == [REQUEST, RESPONSE]
    assert len(segments) == SEGMENTS
    assert source.passed_over() == {}


def test_a_tunnel_has_a_bottom(tmp_path):
    packet = ethernet(OUTER)
    for _ in range(9):
        packet /= OUTER.copy()
    packets = conversation(lambda inner: packet / inner)
    assert read(tmp_path / "x.pcap", pcap(packets))[1].passed_over() == {"not IP": 8}


@pytest.mark.parametrize("payload", [b"", b"\x08", b"\x08" + bytes(40), b"\0" * 40, b"\x08\0\0\0\0\0\7\0" + b"\xff" * 40])
@pytest.mark.parametrize("port", [4789, 6081])
def test_a_datagram_on_a_tunnels_port_that_is_none(tmp_path, port, payload):
    data = bytes(ethernet(OUTER / UDP(sport=9, dport=port) / payload))
    assert read(tmp_path / "x.pcap", pcap([(EPOCH, data, len(data))]))[1].passed_over() == {"UDP of other ports": 1}
    segments, _ = read(tmp_path / "x.pcap", pcap([(EPOCH, data, len(data))]), udp_ports=(port,))
    assert [segment.data for segment in segments] == [payload]


def test_ipv4_options(tmp_path):
    segments, _ = read(tmp_path / "x.pcap", pcap(conversation(options=[("Timestamp", (1, 2))])))
    assert [segment.data for segment in segments if segment.data] == [REQUEST, RESPONSE]
    alert = pcap([(time, data, wire) for time, data, wire in _with_ip_options()])
    segments, _ = read(tmp_path / "x.pcap", alert)
    assert [segment.data for segment in segments if segment.data] == [REQUEST, RESPONSE]


def _with_ip_options():
    def wrap(packet):
        packet = packet.copy()
        packet.options, packet.ihl, packet.len = [IPOption_Router_Alert()], None, None
        return ethernet(packet)

    return conversation(wrap)


EXTENSIONS = [
    IPv6ExtHdrHopByHop(),
    IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["fd00::9"]),
    IPv6ExtHdrFragment(),
    AUTHENTICATION,
]


@pytest.mark.parametrize("extension", EXTENSIONS, ids=lambda extension: extension.name)
def test_ipv6_extension_headers(tmp_path, extension):
    def wrap(packet):
        inside = packet.payload.copy()
        packet = packet.copy()
        packet.remove_payload()
        packet.nh = 51 if extension is AUTHENTICATION else None
        return ethernet(packet / extension.copy() / inside)

    segments, source = read(tmp_path / "x.pcap", pcap(conversation(wrap, v6=True)))
    assert [segment.data for segment in segments if segment.data] == [REQUEST, RESPONSE]
    assert source.passed_over() == {}


def test_a_chain_without_an_end_is_none(tmp_path):
    data = bytes(ethernet(IPv6(src="fd00::1", dst="fd00::2", nh=60) / ((b"\x3c\0" + bytes(6)) * 100)))
    assert read(tmp_path / "x.pcap", pcap([(EPOCH, data, len(data))]))[1].passed_over() == {"not IP": 1}


@pytest.mark.parametrize("v6", [False, True])
def test_padding_is_no_payload(tmp_path, v6):
    packets = [(time_ns, data + b"\xee" * 9, wire + 9) for time_ns, data, wire in conversation(v6=v6)]
    segments, _ = read(tmp_path / "x.pcap", pcap(packets))
    assert [segment.data for segment in segments if segment.data] == [REQUEST, RESPONSE]
    assert len(segments) == SEGMENTS


@pytest.mark.parametrize("v6", [False, True])
def test_a_length_that_is_left_to_the_network_card(tmp_path, v6):
    """Segmentation offload: IP says 0, and the packet's own length counts."""
    fields = {"plen": 0} if v6 else {"len": 0}
    segments, _ = read(tmp_path / "x.pcap", pcap(conversation(v6=v6, **fields)))
    assert [(segment.length, segment.data) for segment in segments if segment.data] == [
        (len(REQUEST), REQUEST),
        (len(RESPONSE), RESPONSE),
    ]


def test_other_transports_are_counted(tmp_path):
    data = bytes(Ether() / OUTER.copy() / bytes(40))
    data = data[:23] + b"\x84" + data[24:]
    assert read(tmp_path / "x.pcap", pcap([(EPOCH, data, len(data))]))[1].passed_over() == {"neither TCP nor UDP": 1}
