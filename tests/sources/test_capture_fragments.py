"""IP fragments: whole again, in any order, cut, overlapping, and bounded when their rest never comes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, fragment6

from clovisor_py.sources import _capture_fragments
from clovisor_py.sources._capture_fragments import LIFETIME_NS, Fragments
from clovisor_py.sources._capture_ip import Fragment
from clovisor_py.sources.pcap import INCOMPLETE
from tests.support.captures import ethernet, pcap, read
from tests.support.segments import EPOCH, MS

ANSWER = bytes(range(256)) * 12
V4 = IP(src="10.0.0.2", dst="10.0.0.1", id=77) / UDP(sport=53, dport=4000) / ANSWER
V6 = IPv6(src="fd00::2", dst="fd00::1") / IPv6ExtHdrFragment(id=77) / UDP(sport=53, dport=4000) / ANSWER
PIECES = {4: [bytes(ethernet(part)) for part in fragment(V4, 800)], 6: [bytes(ethernet(part)) for part in fragment6(V6, 900)]}


def packets(pieces, size=None):
    return [(EPOCH + index * MS, piece[:size], len(piece)) for index, piece in enumerate(pieces)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("seed", range(4))
def test_a_datagram_in_pieces_is_whole_again(tmp_path, version, seed):
    pieces = random.Random(seed).sample(PIECES[version], len(PIECES[version]))
    segments, source = read(tmp_path / "x.pcap", pcap(packets(pieces)))
    assert [(segment.data, segment.time_ns) for segment in segments] == [(ANSWER, EPOCH + (len(pieces) - 1) * MS)]
    assert source.passed_over() == {}


@pytest.mark.parametrize("version", [4, 6])
def test_a_piece_that_is_missing_is_counted(tmp_path, version):
    for missing in range(len(PIECES[version])):
        pieces = [piece for index, piece in enumerate(PIECES[version]) if index != missing]
        segments, source = read(tmp_path / "x.pcap", pcap(packets(pieces)))
        assert segments == []
        assert source.passed_over() == {INCOMPLETE: len(pieces)}


@pytest.mark.parametrize("version", [4, 6])
def test_cut_pieces_keep_their_length(tmp_path, version):
    segments, _ = read(tmp_path / "x.pcap", pcap(packets(PIECES[version], 500)))
    assert [segment.length for segment in segments] == [len(ANSWER)]
    assert 300 < len(segments[0].data) < 500
    assert ANSWER.startswith(segments[0].data)


def test_a_fragmented_tcp_segment(tmp_path):
    from tests.support.captures import tcp

    data = b"x" * 3000
    whole = tcp(0, "PA", 1001, 5001, data, id=9)
    pieces = [bytes(ethernet(part)) for part in fragment(whole, 1000)]
    segments, _ = read(tmp_path / "x.pcap", pcap(packets(pieces)))
    assert [(segment.seq, segment.length, segment.data) for segment in segments] == [(1001, 3000, data)]


def part(offset, more, number=1):
    return Fragment((b"a", b"b", number, 17), offset, more)


def ledger(fragments):
    return fragments.waiting, fragments.joined, fragments.dropped


def test_the_first_copy_wins():
    fragments = Fragments()
    assert fragments.add(part(0, True), b"A" * 16, 16, 1) is None
    assert fragments.add(part(0, True), b"B" * 16, 16, 2) is None
    assert fragments.add(part(8, False), b"C" * 24, 24, 3) == (b"A" * 16 + b"C" * 16, 32)
    assert ledger(fragments) == (0, 2, 1)


def test_the_longer_of_two_at_one_place():
    fragments = Fragments()
    fragments.add(part(0, True), b"A" * 8, 8, 1)
    fragments.add(part(0, True), b"A" * 16, 16, 1)
    assert fragments.add(part(16, False), b"C", 1, 3) == (b"A" * 16 + b"C", 17)
    assert ledger(fragments) == (0, 2, 1)


def test_what_never_comes_is_waited_for_so_long():
    fragments = Fragments()
    fragments.add(part(0, True), b"A" * 8, 8, 1)
    fragments.add(part(0, True, 2), b"A" * 8, 8, 1 + LIFETIME_NS)
    assert ledger(fragments) == (2, 0, 0)
    fragments.add(part(8, True, 2), b"A" * 8, 8, 2 + LIFETIME_NS)
    assert ledger(fragments) == (2, 0, 1)


def test_bounds(monkeypatch):
    monkeypatch.setattr(_capture_fragments, "MAX_DATAGRAMS", 3)
    monkeypatch.setattr(_capture_fragments, "MAX_BYTES", 100)
    monkeypatch.setattr(_capture_fragments, "MAX_PIECES", 5)
    fragments = Fragments()
    for number in range(10):
        fragments.add(part(0, True, number), b"x" * 8, 8, 1)
    assert ledger(fragments) == (3, 0, 7)
    fragments.add(part(8, True, 9), b"x" * 96, 96, 1)
    assert ledger(fragments) == (0, 0, 11)
    for offset in range(6):
        fragments.add(part(offset * 8, True), b"x" * 8, 8, 1)
    assert ledger(fragments) == (0, 0, 17)
    assert fragments._bytes == 0


@given(
    st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.integers(0, 30), st.integers(0, 3), st.booleans()), max_size=60)
)
def test_any_fragments_whatsoever(pieces):
    fragments = Fragments()
    for time_ns, (place, more, length, number, cut) in enumerate(pieces):
        data = b"x" * (length // 2 if cut else length)
        whole = fragments.add(part(place * 8, more, number), data, length, time_ns)
        if whole is not None:
            assert len(whole[0]) <= whole[1]
    assert sum(ledger(fragments)) == len(pieces)
    assert fragments._bytes >= 0
