from __future__ import annotations

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import CookedLinux

from clovisor_py.sources import _capture_copies
from clovisor_py.sources._capture_copies import AT_ONCE_NS, Copies
from tests.support.captures import enhanced, ethernet, interface, option, pcap, read, section
from tests.support.segments import EPOCH

QUERY = IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=4000, dport=53) / b"query"


def test_on_several_interfaces_it_is_one(tmp_path):
    data = bytes(ethernet(QUERY))
    packets = [enhanced((EPOCH + number, data, len(data)), number=number, ns_per_tick=1000) for number in (0, 1, 2)]
    names = [interface(1, option(2, b"%d" % number)) for number in range(3)]
    segments, source = read(tmp_path / "x", section() + b"".join(names + packets))
    assert [segment.data for segment in segments] == [b"query"]
    assert source.passed_over() == {"copies of datagrams on other interfaces": 2}


def test_a_cooked_capture_is_of_all_interfaces(tmp_path):
    data = bytes(CookedLinux() / QUERY)
    packets = [(EPOCH + number * 20_000, data, len(data)) for number in range(3)]
    assert len(read(tmp_path / "x", pcap(packets, link=113))[0]) == 1


def test_on_one_interface_it_was_said_twice(tmp_path):
    data = bytes(ethernet(QUERY))
    assert len(read(tmp_path / "x", pcap([(EPOCH, data, len(data))] * 2))[0]) == 2


def test_what_is_no_copy():
    copies = Copies()
    assert not copies.is_copy(b"a", b"x", 1, 0, 113)
    assert copies.is_copy(b"a", b"x", 1 + AT_ONCE_NS, 0, 113)
    assert not copies.is_copy(b"a", b"x", 2 + AT_ONCE_NS, 0, 113), "later"
    assert not copies.is_copy(b"b", b"x", 2 + AT_ONCE_NS, 0, 113), "by others"
    assert not copies.is_copy(b"a", b"y", 2 + AT_ONCE_NS, 0, 113), "something else"
    assert not copies.is_copy(b"a", b"x", 2 + AT_ONCE_NS, 0, 113), "after something else"
    assert not copies.is_copy(b"a", b"x", 2 + AT_ONCE_NS, 0, 1), "on the same interface"


def test_a_bound(monkeypatch):
    monkeypatch.setattr(_capture_copies, "REMEMBERED", 3)
    copies = Copies()
    for number in range(10):
        assert not copies.is_copy(b"%d" % number, b"x", 1, 0, 113)
    assert len(copies._latest) == 3
    assert copies.is_copy(b"9", b"x", 1, 0, 113)
    assert not copies.is_copy(b"0", b"x", 1, 0, 113)
