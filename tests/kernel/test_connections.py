import re
from pathlib import Path
from socket import IPPROTO_TCP, IPPROTO_UDP

import pytest

from clovisor_py.kernel.connections import SEQ_KNOWN, Open, open_connections
from clovisor_py.kernel.layout import FIN_SEEN, KEY, PEER_OPENED, POD_OPENED, RST_SEEN, SESSION, SIDE_FIELDS, SIDES_AT

BOTH = SEQ_KNOWN | SEQ_KNOWN << 1


def entry(state, *, pod_port=80, peer_port=41000, segments=(3, 3), transport=IPPROTO_TCP, ifindex=7):
    fields = [0] * (SIDES_AT[1] + len(SIDE_FIELDS))
    fields[4] = state
    for at, number in zip(SIDES_AT, segments, strict=True):
        fields[at + SIDE_FIELDS.index("segments")] = number
    return KEY.pack(ifindex, bytes(16), bytes(16), pod_port, peer_port, transport, 0), SESSION.pack(*fields)


def found(*entries):
    return open_connections(entries).get(7, {})


@pytest.mark.parametrize(
    ("state", "ports", "where", "expected"),
    [
        (PEER_OPENED | BOTH, {}, ("server", 80), Open(1)),
        (POD_OPENED | BOTH, {"pod_port": 500, "peer_port": 5432}, ("client", 5432), Open(1)),
        (BOTH, {}, ("server", 80), Open(1, older=1)),
        (BOTH, {"pod_port": 41000, "peer_port": 9092}, ("client", 9092), Open(1, older=1)),
        (SEQ_KNOWN, {"segments": (3, 0)}, ("server", 80), Open(1, older=1)),
        (PEER_OPENED | SEQ_KNOWN << 1, {"segments": (0, 3)}, ("server", 80), Open(1, one_direction=1)),
        (PEER_OPENED | SEQ_KNOWN, {"segments": (3, 0)}, ("server", 80), Open(1, one_direction=1)),
        (PEER_OPENED | SEQ_KNOWN << 1, {"segments": (0, 0)}, ("server", 80), Open(1)),
    ],
)
def test_what_is_certain(state, ports, where, expected):
    assert found(entry(state, **ports)) == {where: expected}


@pytest.mark.parametrize("state", [RST_SEEN, FIN_SEEN | FIN_SEEN << 1])
def test_what_has_ended_is_not_open(state):
    assert found(entry(BOTH | state)) == {}


def test_half_closed_is_open_and_udp_is_no_connection():
    assert found(entry(PEER_OPENED | BOTH | FIN_SEEN)) == {("server", 80): Open(1)}
    assert found(entry(0, transport=IPPROTO_UDP)) == {}


def test_they_add_up_by_pod():
    entries = [entry(PEER_OPENED | BOTH, peer_port=port) for port in (41000, 41001)] + [entry(BOTH), entry(BOTH, ifindex=8)]
    assert found(*entries) == {("server", 80): Open(3, older=1)}
    assert open_connections(entries)[8] == {("server", 80): Open(1, older=1)}


def test_the_bit_is_the_headers():
    header = (Path(__file__).parents[2] / "ebpf" / "clovisor.h").read_text()
    assert int(re.search(r"#define CV_SEQ_KNOWN (\w+)", header)[1], 16) == SEQ_KNOWN
