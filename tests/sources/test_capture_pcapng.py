"""pcapng files: every block that matters, both byte orders, several interfaces and sections, and where they break."""

from __future__ import annotations

import struct

import pytest

from clovisor_py.sources import _capture_input, _capture_pcapng
from clovisor_py.sources._capture_input import LONGEST
from tests.support.captures import (
    REQUEST,
    RESPONSE,
    SEGMENTS,
    block,
    broken,
    conversation,
    cut,
    enhanced,
    interface,
    option,
    pcapng,
    read,
    section,
)
from tests.support.segments import EPOCH, MS

PACKETS = conversation()
TIMES = [EPOCH + step * MS for step in (1, 2, 4, 6, 7, 8)]


@pytest.mark.parametrize("order", "<>")
def test_both_byte_orders(tmp_path, order):
    segments, source = read(tmp_path / "x", pcapng(PACKETS, order=order))
    assert [segment.time_ns for segment in segments] == TIMES
    assert [segment.data for segment in segments if segment.data] == [REQUEST, RESPONSE]
    assert (source.packets, source.lost) == (8, 0)


@pytest.mark.parametrize("chunk", [1, 7, 60, 61, 4096])
def test_chunks_may_end_anywhere(tmp_path, monkeypatch, chunk):
    data = pcapng(PACKETS) + block(0xBAD, bytes(500)) + enhanced((TIMES[-1] + MS, *PACKETS[3][1:]))
    whole = read(tmp_path / "x", data)[0]
    assert len(whole) == SEGMENTS + 1
    monkeypatch.setattr(_capture_input.Input.read, "__defaults__", (chunk,))
    assert read(tmp_path / "x", data)[0] == whole


@pytest.mark.parametrize(
    ("options", "ns_per_tick", "offset_s"),
    [
        ([option(9, b"\x06")], 1000, 0),
        ([option(9, b"\x09")], 1, 0),
        ([option(9, b"\x03")], MS, 0),
        ([option(9, b"\x09"), option(14, struct.pack("<q", 3600)), option(0, b"")], 1, 3600),
        ([option(14, struct.pack("<q", -3600))], 1000, -3600),
    ],
)
def test_clocks(tmp_path, options, ns_per_tick, offset_s):
    blocks = [enhanced(packet, ns_per_tick=ns_per_tick) for packet in PACKETS]
    segments, _ = read(tmp_path / "x", section() + interface(1, *options) + b"".join(blocks))
    assert [segment.time_ns for segment in segments] == [time_ns + offset_s * 1_000_000_000 for time_ns in TIMES]


@pytest.mark.parametrize(("resolution", "ticks", "ns"), [(0x8A, 1 << 10, 10**9), (0x0C, 10**12, 10**9), (0xBF, 1 << 63, 10**9)])
def test_odd_clocks(tmp_path, resolution, ticks, ns):
    head = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFF_FFFF, PACKETS[3][2], PACKETS[3][2])
    data = section() + interface(1, option(9, bytes([resolution]))) + block(6, head + PACKETS[3][1])
    assert [segment.time_ns for segment in read(tmp_path / "x", data)[0]] == [ns]


def test_interfaces_have_link_types_of_their_own(tmp_path):
    ethernet, raw = conversation(), conversation(lambda packet: packet)
    data = section() + interface(1, option(2, b"eth0")) + interface(101)
    data += b"".join(enhanced((raw if index % 2 else ethernet)[index], number=index % 2) for index in range(8))
    segments, source = read(tmp_path / "x", data)
    assert [segment.data for segment in segments if segment.data] == [REQUEST, RESPONSE]
    assert len({segment.flow_id for segment in segments}) == 1, "a tap has an interface for each direction"
    assert [(one.link, one.name, one.pod) for one in source.interfaces] == [(1, "eth0", False), (101, "", False)]


def test_a_packet_seen_on_two_interfaces_is_repeated_not_doubled(tmp_path):
    blocks = [enhanced(packet, number=number) for packet in PACKETS for number in (0, 1)]
    segments, _ = read(tmp_path / "x", section() + interface(1) + interface(1, option(2, b"veth")) + b"".join(blocks))
    assert len(segments) == 2 * SEGMENTS
    assert len({segment.flow_id for segment in segments}) == 1


def test_where_directions_are_told_an_interface_is_a_veth(tmp_path):
    """The client's and the server's, as a node has them: a flow at each, with the pod where it is."""
    data = section() + interface(1, option(2, b"client")) + interface(1, option(2, b"server"))
    for index, packet in enumerate(PACKETS):
        who = index in (1, 4, 5, 7)
        for number in (0, 1):
            leaves = who == number
            data += enhanced(packet, option(2, struct.pack("<I", 2 if leaves else 1)), number=number)
    segments, _ = read(tmp_path / "x", data)
    by_interface = {number: [segment for segment in segments if segment.interface == number] for number in (0, 1)}
    assert [len(found) for found in by_interface.values()] == [SEGMENTS, SEGMENTS]
    assert {segment.pod_port for segment in by_interface[0]} == {40000}
    assert {segment.pod_port for segment in by_interface[1]} == {8080}
    assert len({segment.flow_id for segment in segments}) == 2


@pytest.mark.parametrize("order", "<>")
def test_simple_and_old_packets(tmp_path, order):
    time_ns, data, wire = PACKETS[3]
    simple = block(3, struct.pack(order + "I", wire) + data, order)
    ticks = time_ns // 1000
    head = struct.pack(order + "HHIIII", 0, 7, ticks >> 32, ticks & 0xFFFF_FFFF, len(data), wire)
    old = block(2, head + data + bytes(-len(data) % 4) + option(2, struct.pack(order + "I", 1), order), order)
    segments, _ = read(tmp_path / "x", section(order) + interface(order=order) + old + simple)
    assert [(segment.time_ns, segment.data) for segment in segments] == [(time_ns, REQUEST)] * 2
    assert segments[0].pod_port == 8080


def test_a_simple_packet_is_cut_by_its_interface(tmp_path):
    _time_ns, data, wire = PACKETS[3]
    simple = block(3, struct.pack("<I", wire) + data[:70])
    segments, _ = read(tmp_path / "x", section() + interface(1, snaplen=70) + simple)
    assert [(segment.length, segment.data) for segment in segments] == [(len(REQUEST), REQUEST[:16])]


def test_sections_begin_again(tmp_path):
    other = section(">") + interface(276, order=">") + interface(1, order=">")
    packets = b"".join(enhanced(packet, number=1, order=">") for packet in PACKETS)
    segments, source = read(tmp_path / "x", pcapng(PACKETS) + other + packets + pcapng(PACKETS))
    assert len(segments) == 3 * SEGMENTS
    assert [one.link for one in source.interfaces] == [1, 276]
    assert {segment.interface for segment in segments} == {0}


def test_what_the_machine_lost_is_told(tmp_path):
    def statistics(number, *counts):
        options = b"".join(option(code, struct.pack("<Q", count)) for code, count in zip((5, 7), counts, strict=False))
        return block(5, struct.pack("<III", number, 0, 0) + options)

    data = pcapng(PACKETS) + interface(1, option(2, b"b")) + statistics(0, 1) + statistics(0, 5, 2) + statistics(1, 10)
    assert (
        read(tmp_path / "x", data + statistics(9, 1) + block(5, struct.pack("<III", 0, 0, 0) + option(5, b"odd")))[1].lost == 10
    )


def test_a_long_block_that_nobody_wants_is_stepped_over(tmp_path):
    data = section() + block(0xA, bytes(3 * LONGEST)) + interface() + b"".join(map(enhanced, PACKETS))
    assert len(read(tmp_path / "x", data)[0]) == SEGMENTS
    assert "breaks off" in broken(tmp_path / "x", pcapng(PACKETS) + block(0xA, bytes(3 * LONGEST))[:-100])[1]


def test_a_packet_of_an_unknown_link_type_is_said_at_the_end(tmp_path):
    data = section() + interface(1) + interface(147) + enhanced(PACKETS[0], number=1) + b"".join(map(enhanced, PACKETS))
    segments, said = broken(tmp_path / "x", data)
    assert len(segments) == SEGMENTS
    assert "link type 147" in said


def test_cut_anywhere_what_is_before_is_there(tmp_path):
    data = pcapng(PACKETS)
    ends = [len(section()), *(len(pcapng(PACKETS[:count])) for count in range(len(PACKETS) + 1))]
    for size in range(1, len(data)):
        if size not in ends:
            segments, said = broken(tmp_path / "x", data[:size])
            assert len(segments) == (0, 0, 1, 2, 2, 3, 3, 4, 5)[max(sum(end <= size for end in ends) - 1, 0)]
            assert ("no capture" if size < 4 else "breaks off") in said


DAMAGES = {
    "no interface": section() + enhanced(PACKETS[0]),
    "no interface for a simple one": section() + block(3, bytes(60)),
    "length 0": pcapng([]) + struct.pack("<III", 6, 0, 0),
    "odd length": pcapng([]) + struct.pack("<IIIII", 6, 17, 0, 0, 17),
    "lengths that differ": pcapng([]) + enhanced(PACKETS[0])[:-4] + bytes(4),
    "longer than its block": pcapng([]) + block(6, struct.pack("<IIIII", 0, 0, 0, 99, 99) + bytes(40)),
    "too long for a packet": pcapng([]) + struct.pack("<II", 6, LONGEST + 4) + bytes(100),
    "too short for a packet": pcapng([]) + block(6, bytes(4)) + bytes(400),
    "no byte order": section()[:8] + bytes(20),
    "another version": section()[:12] + b"\2\0" + section()[14:],
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_said_where_it_is(tmp_path, name):
    good = pcapng(PACKETS)
    segments, said = broken(tmp_path / "x", good + DAMAGES[name])
    assert len(segments) == SEGMENTS
    assert said.startswith("it is damaged ")


def test_interfaces_without_end_are_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(_capture_pcapng, "MAX_INTERFACES", 5)
    names = [interface(1, option(2, b"%d" % number)) for number in range(6)]
    assert read(tmp_path / "x", section() + b"".join(names[:5]))[0] == []
    assert "damaged" in broken(tmp_path / "x", section() + b"".join(names))[1]
    assert "damaged" in broken(tmp_path / "x", section() + names[0] * 6)[1]


def test_cut_packets(tmp_path):
    segments, _ = read(tmp_path / "x", pcapng(cut(PACKETS, 64)))
    assert [(segment.length, segment.data) for segment in segments if segment.length] == [
        (len(REQUEST), REQUEST[:10]),
        (len(RESPONSE), RESPONSE[:10]),
    ]
