"""pcap files: byte orders, resolutions, variants, and where they break."""

from __future__ import annotations

import struct

import pytest

from clovisor_py.sources import _capture_input
from clovisor_py.sources._capture_input import LONGEST
from tests.support.captures import REQUEST, RESPONSE, SEGMENTS, broken, conversation, pcap, read
from tests.support.segments import EPOCH, MS

PACKETS = [(time_ns + 123_456, data, wire) for time_ns, data, wire in conversation()]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("variant", ["", "nano", "modified"])
def test_every_variant(tmp_path, order, variant):
    how = {variant: True} if variant else {}
    segments, _ = read(tmp_path / "x.pcap", pcap(PACKETS, order=order, **how))
    exact = 123_456 if variant == "nano" else 123_000
    assert [segment.time_ns for segment in segments] == [EPOCH + step * MS + exact for step in (1, 2, 4, 6, 7, 8)]
    assert [segment.data for segment in segments if segment.data] == [REQUEST, RESPONSE]


def test_bits_about_checksums_in_the_link_type(tmp_path):
    assert len(read(tmp_path / "x.pcap", pcap(PACKETS, link=0x1400_0001))[0]) == SEGMENTS


@pytest.mark.parametrize("chunk", [1, 7, 60, 61, 4096])
def test_chunks_may_end_anywhere(tmp_path, monkeypatch, chunk):
    whole = read(tmp_path / "x.pcap", pcap(PACKETS))[0]
    monkeypatch.setattr(_capture_input.Input.read, "__defaults__", (chunk,))
    assert read(tmp_path / "x.pcap", pcap(PACKETS))[0] == whole


def test_cut_anywhere_what_is_before_is_there(tmp_path):
    data = pcap(PACKETS)
    ends = [len(pcap(PACKETS[:count])) for count in range(len(PACKETS) + 1)]
    for size in range(1, len(data)):
        if size in ends:
            continue
        segments, said = broken(tmp_path / "x.pcap", data[:size])
        whole = sum(end <= size for end in ends) - 1
        assert len(segments) == (0, 1, 2, 2, 3, 3, 4, 5)[max(whole, 0)]
        assert ("no capture" if size < 4 else "in its header" if size < 24 else f"{ends[whole]:,} bytes from") in said


def test_a_packet_that_is_too_long_is_damage(tmp_path):
    data = pcap(PACKETS) + struct.pack("<IIII", 1, 1, LONGEST + 1, LONGEST + 1) + bytes(LONGEST + 100)
    segments, said = broken(tmp_path / "x.pcap", data)
    assert len(segments) == SEGMENTS
    assert said.startswith(f"it is damaged {len(pcap(PACKETS)):,} bytes from its beginning")


def test_an_unknown_link_type_is_said(tmp_path):
    assert broken(tmp_path / "x.pcap", pcap(PACKETS, link=147)) == (
        [],
        "its link type, 147, is not read here; capture on an Ethernet, raw IP or 'any' interface.",
    )
