"""Which connection, and who is the pod."""

from __future__ import annotations

import struct

import pytest

from clovisor_py.model.segment import ACK, FIN, FROM_POD, PEER_OPENED, POD_OPENED, SYN, TCP, TO_POD, UDP
from clovisor_py.sources import _capture_flows
from clovisor_py.sources._capture_flows import Connections
from clovisor_py.sources._capture_input import INBOUND, OUTBOUND

CLIENT, SERVER = b"\x0a\0\0\1", b"\x0a\0\0\2"


class Capture:
    """Packets between two ends, as `Connections` is asked about them."""

    def __init__(self, ports=(40000, 8080), transport=TCP, udp_ports=(53,)):
        self.connections = Connections(frozenset(udp_ports))
        self.ports = ports
        self.transport = transport

    def sees(self, who, flags=ACK, seq=1, ack=1, *, direction=0, ports=None, interface=0):
        ends = (CLIENT, SERVER)[:: -1 if who else 1]
        key = b"".join(ends) + struct.pack(">HH", *(ports or self.ports)[:: -1 if who else 1])
        return self.connections.entry(key, 4, self.transport, interface, direction, (seq, ack, flags))


def pod_port(entry):
    return entry[5]


@pytest.mark.parametrize("ports", [(40000, 8080), (80, 40000)])
@pytest.mark.parametrize("first", [(0, SYN), (1, SYN | ACK)])
def test_who_is_opened_is_the_pod(ports, first):
    capture = Capture(ports)
    entry = capture.sees(*first)
    assert pod_port(entry) == ports[1]
    assert entry[2] == (FROM_POD if first[0] else TO_POD)
    assert entry[7] == PEER_OPENED


def test_without_a_syn_it_is_the_lower_port():
    for who in (0, 1):
        entry = Capture().sees(who)
        assert (pod_port(entry), entry[2], entry[7]) == (8080, 1 - who, 0)
        assert pod_port(Capture((443, 40000)).sees(who)) == 443


def test_of_datagrams_it_is_the_known_port():
    assert pod_port(Capture((1000, 5353), UDP, (53, 5353)).sees(0, 0)) == 5353
    assert pod_port(Capture((1000, 5353), UDP, (53, 5353)).sees(1, 0)) == 5353
    assert pod_port(Capture((53, 5353), UDP, (53, 5353)).sees(1, 0)) == 53


@pytest.mark.parametrize("who", [0, 1])
def test_where_the_file_says_the_direction_it_is_that(who):
    assert Capture().sees(who, SYN, direction=OUTBOUND)[2] == FROM_POD
    assert Capture().sees(who, SYN, direction=OUTBOUND)[7] == POD_OPENED
    assert Capture().sees(who, SYN, direction=INBOUND)[2] == TO_POD
    assert Capture().sees(who, SYN, direction=INBOUND)[7] == PEER_OPENED
    assert Capture().sees(who, direction=INBOUND)[7] == 0


def test_both_directions_are_one_connection_and_it_stays():
    capture = Capture()
    there, back = capture.sees(0, SYN, 10), capture.sees(1, SYN | ACK, 20, 11)
    assert there[0] == back[0]
    assert (there[2], back[2]) == (TO_POD, FROM_POD)
    assert capture.sees(0, ACK, 11, 21)[:8] == there[:8]


def test_a_repeated_syn_is_the_same_connection_and_another_is_not():
    capture = Capture()
    first = capture.sees(0, SYN, 10)[0]
    assert capture.sees(1, SYN | ACK, 20, 11)[0] == first
    assert capture.sees(0, SYN, 10)[0] == first
    assert capture.sees(1, SYN | ACK, 20, 11)[0] == first
    second = capture.sees(0, SYN, 500)[0]
    assert second != first
    assert capture.sees(1, SYN | ACK, 600, 501)[0] == second
    assert capture.sees(0, ACK, 501, 601)[0] == second


def test_only_the_answer_to_a_new_syn_was_captured():
    capture = Capture()
    first = capture.sees(0, SYN, 10)[0]
    second = capture.sees(1, SYN | ACK, 20, 501)
    assert second[0] != first
    assert pod_port(second) == 8080
    assert capture.sees(1, SYN | ACK, 999, 777)[0] != second[0]


def test_a_handshake_in_disorder_is_one_connection():
    capture = Capture()
    first = capture.sees(1, SYN | ACK, 20, 11)[0]
    assert capture.sees(0, SYN, 10)[0] == first
    capture = Capture()
    first = capture.sees(0, ACK, 11, 21)[0]
    assert capture.sees(1, SYN | ACK, 20, 11)[0] == first
    assert capture.sees(0, SYN, 10)[0] == first


def test_both_ends_open_at_once():
    capture = Capture()
    assert capture.sees(0, SYN, 10)[0] == capture.sees(1, SYN, 20)[0]


def test_a_syn_on_a_connection_that_was_seen_in_its_middle_is_a_new_one():
    capture = Capture()
    first = capture.sees(0, ACK, 5000, 7000)[0]
    assert capture.sees(0, SYN, 10)[0] != first


def test_sequence_numbers_come_round():
    capture = Capture()
    first = capture.sees(0, ACK, 0, 0)[0]
    assert capture.sees(0, SYN, 0xFFFF_FFFF)[0] == first
    assert capture.sees(1, SYN | ACK, 0xFFFF_FFFF, 0)[0] == first


def test_those_that_were_silent_longest_are_forgotten(monkeypatch):
    monkeypatch.setattr(_capture_flows, "GENERATION", 20)
    capture = Capture()
    busy = capture.sees(0, ports=(1, 80))[0]
    silent = capture.sees(0, ports=(2, 80))[0]
    for port in range(1000, 1100):
        assert capture.sees(0, ports=(1, 80))[0] == capture.sees(1, ports=(1, 80))[0] == busy
        capture.sees(port % 2, ports=(port, 80))
        assert len(capture.connections.young) + len(capture.connections._old) <= 42
    assert capture.sees(0, ports=(2, 80))[0] != silent
    assert capture.sees(0, ports=(1099, 80))[0] == capture.sees(1, ports=(1099, 80))[0]


def test_what_ended_is_remembered_for_its_latecomers_only(monkeypatch):
    monkeypatch.setattr(_capture_flows, "ENDED", 20)
    capture = Capture()
    for port in range(1000, 1100):
        number = capture.sees(0, SYN, 1, ports=(port, 80))[0]
        key = next(reversed(capture.connections.young))
        capture.connections.end(key, 4, number, FIN)
        capture.connections.end(key, 4, number, FIN)
        assert not capture.connections.young and len(capture.connections._ended) <= 20
    assert len(capture.connections._ended) >= 17
    assert capture.sees(0, ports=(1099, 80))[0] == number
    assert capture.sees(0, ports=(1000, 80))[0] > number


def test_an_address_is_kept_once_and_not_for_ever(monkeypatch):
    monkeypatch.setattr(_capture_flows, "ADDRESSES", 20)
    capture = Capture()
    first, second = capture.sees(0, ports=(1000, 80)), capture.sees(1, ports=(1001, 80))
    assert (first[3], first[4]) == (_capture_flows.MAPPED + SERVER, _capture_flows.MAPPED + CLIENT)
    assert first[3] is second[3] and first[4] is second[4]
    for number in range(100):
        source, ports = struct.pack(">II", number, 0xFFFF_FFFF), struct.pack(">HH", 1000, 80)
        entry = capture.connections.entry(source + ports, 4, TCP, 0, 0, (1, 1, ACK))
        assert entry[4] == _capture_flows.MAPPED + source[:4]
        assert len(capture.connections._addresses) <= 20
    assert capture.sees(0, ports=(1002, 80))[3:5] == first[3:5]
