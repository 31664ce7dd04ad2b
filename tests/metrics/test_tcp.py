"""TCP by pair, from entries as the kernel has them: what is new since the last look is added, once, under the right names."""

from __future__ import annotations

import pytest

from clovisor_py.kernel.layout import FIN_SEEN, PEER_OPENED, POD_OPENED, RST_SEEN, SESSION, SIDE_FIELDS, SIDES_AT
from clovisor_py.metrics import tcp as module
from clovisor_py.metrics.exposition import Exposition
from clovisor_py.metrics.red import UNKNOWN, Red
from clovisor_py.metrics.routes import OTHER
from clovisor_py.metrics.tcp import COUNTS, NAMED, PAIRS, Tcp
from clovisor_py.model.session import Side
from clovisor_py.snapshot import Snapshot
from tests.support.sessions import pod

MAPPED = b"\0" * 10 + b"\xff\xff"
POD, PEER = MAPPED + bytes([10, 0, 0, 2]), MAPPED + bytes([10, 0, 0, 9])


def entry(cookie=1, state=PEER_OPENED, rtt_us=0, created=0, **counts):
    """`from_pod` and `to_pod`: names of SIDE_FIELDS to numbers."""
    fields = [0] * len(SESSION.unpack(bytes(SESSION.size)))
    fields[0], fields[1], fields[4], fields[6] = cookie, created, state, rtt_us
    for at, side in zip(SIDES_AT, ("from_pod", "to_pod"), strict=True):
        for name, number in counts.get(side, {}).items():
            fields[at + SIDE_FIELDS.index(name)] = number
    return tuple(fields)


def place(pod_port=80, peer_port=40000, interface=7):
    return interface, POD, PEER, pod_port, peer_port, 6, 0


def name(session):
    server = pod("cart-1", "cart")
    if session.side is Side.SERVER:
        session.server_workload = server
    else:
        session.client_workload = server


@pytest.fixture
def tcp():
    return Tcp(name)


def look(tcp, *entries, over=False):
    for one in entries:
        tcp.look(place(), one, over, 0)
    tcp.done()


def test_what_is_new_since_the_last_look(tcp):
    look(tcp, entry(from_pod={"bytes": 100, "segments": 3, "packets": 4}, to_pod={"bytes": 10, "retransmits": 1, "packets": 2}))
    look(tcp, entry(from_pod={"bytes": 100, "segments": 3, "packets": 4}, to_pod={"bytes": 10, "retransmits": 1, "packets": 2}))
    grown = entry(
        from_pod={"bytes": 150, "segments": 4, "packets": 5, "zero_windows": 2},
        to_pod={"bytes": 10, "retransmits": 3, "packets": 4},
    )
    look(tcp, grown, over=True)
    [pair] = tcp.pairs()
    assert (pair.client, pair.server_namespace, pair.server, pair.side) == ("10.0.0.9", "shop", "cart", Side.SERVER)
    assert (pair.connections, pair.open, pair.resets) == (1, 0, 0)
    assert dict(zip(COUNTS, pair.received, strict=True)) == {"bytes": 150, "segments": 4, "retransmits": 0, "zero_windows": 2}
    assert dict(zip(COUNTS, pair.sent, strict=True)) == {"bytes": 10, "segments": 0, "retransmits": 3, "zero_windows": 0}


@pytest.mark.parametrize(
    ("state", "ports", "side"),
    [
        (POD_OPENED, (80, 40000), Side.CLIENT),
        (PEER_OPENED, (40000, 80), Side.SERVER),
        (0, (40000, 80), Side.CLIENT),
        (0, (80, 40000), Side.SERVER),
    ],
)
def test_who_is_the_client(tcp, state, ports, side):
    tcp.look(place(*ports), entry(state=state, from_pod={"bytes": 5, "packets": 1}), False, 0)
    [pair] = tcp.pairs()
    assert pair.side is side
    assert (pair.sent if side is Side.CLIENT else pair.received)[0] == 5


def test_a_reset_is_one_however_often_it_is_seen(tcp):
    first, last = entry(to_pod={"packets": 1}), entry(state=PEER_OPENED | RST_SEEN, to_pod={"packets": 1})
    look(tcp, first)
    look(tcp, last)
    look(tcp, last, over=True)
    look(tcp, entry(cookie=2, state=PEER_OPENED | FIN_SEEN, to_pod={"packets": 3}), over=True)
    [pair] = tcp.pairs()
    assert (pair.connections, pair.open, pair.resets) == (2, 0, 1)


def test_round_trips_are_counted_while_something_passes(tcp):
    for packets in (1, 1, 2):
        look(tcp, entry(rtt_us=300, to_pod={"packets": packets}))
    [pair] = tcp.pairs()
    assert (pair.rtt.count, pair.rtt.total_ns) == (2, 600_000)


def test_one_that_vanished_with_its_veth_is_not_open(tcp):
    look(tcp, entry(), entry(cookie=2))
    assert [pair.open for pair in tcp.pairs()] == [2]
    look(tcp, entry())
    assert [(pair.open, pair.connections) for pair in tcp.pairs()] == [(1, 2)]


def told(tcp):
    """(connections, open, resets, bytes from the client) of the pairs, OTHER included."""
    return [(pair.connections, pair.open, pair.resets, pair.sent[0]) for pair in tcp.pairs()]


def test_what_a_predecessor_has_told_is_not_told_again():
    tcp = Tcp(name, since_ns=100)
    old, reset = {"created": 99}, {"created": 99, "cookie": 2, "state": PEER_OPENED | RST_SEEN}
    look(tcp, entry(**old, rtt_us=9, to_pod={"bytes": 10**9, "packets": 9}), entry(**reset, to_pod={"bytes": 7, "packets": 1}))
    assert told(tcp) == [(0, 2, 0, 0)] and tcp.pairs()[0].rtt.count == 0
    new = entry(cookie=3, created=100, to_pod={"bytes": 30, "packets": 1})
    look(tcp, entry(**old, to_pod={"bytes": 10**9 + 5, "packets": 10}), new)
    assert told(tcp) == [(1, 2, 0, 35)]
    tcp.look(place(), entry(cookie=4, created=99, to_pod={"bytes": 8, "packets": 1}), True, 0)  # over at the first look
    look(tcp, entry(**old, state=PEER_OPENED | RST_SEEN, to_pod={"bytes": 10**9 + 6, "packets": 11}), new, over=True)
    assert told(tcp) == [(1, 0, 1, 36)]


def test_old_ones_beyond_those_that_are_named_are_open_and_nothing_else(monkeypatch):
    monkeypatch.setattr(module, "NAMED", 1)
    tcp = Tcp(name, since_ns=100)
    for packets in (1, 2):
        look(tcp, *(entry(cookie, created=9, to_pod={"bytes": 50 * packets, "packets": packets}) for cookie in (1, 2)))
    assert told(tcp) == [(0, 2, 0, 50)]


@pytest.mark.parametrize("waits", [False, True])
def test_what_a_connection_was_in_private_is_not_told(tcp, waits, monkeypatch):
    def seen(number, **more):
        look(tcp, entry(to_pod={"bytes": number, "packets": number}, **more))

    tcp.private = {7}
    seen(7000)
    assert tcp.pairs() == []
    tcp.private = set()
    if waits:
        monkeypatch.setattr(module, "NAMED", 0)
        seen(7001)
        assert tcp.pairs() == []
        monkeypatch.undo()
    seen(7002)
    seen(7005)
    assert told(tcp) == [(0, 1, 0, 3)]
    tcp.private = {7}
    seen(8000, state=PEER_OPENED | RST_SEEN)
    assert told(tcp) == [(0, 0, 0, 3)]
    tcp.private = set()
    seen(8000, state=PEER_OPENED | RST_SEEN)
    assert told(tcp) == [(0, 1, 0, 3)]


def test_one_that_ends_in_private_is_open_no_more(tcp):
    look(tcp, entry(to_pod={"bytes": 1, "packets": 1}))
    tcp.private = {7}
    look(tcp, entry(to_pod={"bytes": 5, "packets": 2}), over=True)
    assert told(tcp) == [(1, 0, 0, 1)]


def test_a_last_look_between_two_rounds(tcp):
    look(tcp, entry(to_pod={"bytes": 1, "packets": 1}), entry(cookie=2))
    tcp.look(place(), entry(state=PEER_OPENED | RST_SEEN, to_pod={"bytes": 5, "packets": 2}), True, 0)
    tcp.look(place(), entry(cookie=3, to_pod={"bytes": 10, "packets": 1}), True, 0)
    assert told(tcp) == [(3, 1, 1, 15)]
    look(tcp, entry(cookie=2))
    assert told(tcp) == [(3, 1, 1, 15)]


def test_too_many_at_once_wait_or_are_others(tcp):
    for cookie in range(NAMED + 5):
        tcp.look(place(), entry(cookie), cookie >= NAMED + 3, 0)
    tcp.done()
    named, other = tcp.pairs()
    assert (named.connections, other.server, other.connections, other.open, tcp.unnamed) == (NAMED, OTHER, 2, 0, 2)
    for cookie in range(NAMED + 3):
        tcp.look(place(), entry(cookie), False, 0)
    assert tcp.pairs()[0].connections == NAMED + 3


def test_pairs_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "NAMED", 10 * PAIRS)
    tcp = Tcp(lambda session: None)
    for number in range(PAIRS + 10):
        peer = MAPPED + number.to_bytes(4, "big")
        tcp.look((7, POD, peer, 80, 40000, 6, 0), entry(number), False, 0)
    assert len(tcp.pairs()) == PAIRS + 1
    assert tcp.overflowed == tcp.pairs()[-1].connections == 10


def test_no_addresses_and_nothing_of_who_is_only_looked_at():
    tcp = Tcp(lambda session: None, addresses=False)
    tcp.private = {8}
    tcp.look(place(interface=8), entry(), False, 0)
    assert tcp.pairs() == []
    tcp.look(place(interface=7), entry(), False, 0)
    assert [(pair.client, pair.server) for pair in tcp.pairs()] == [(UNKNOWN, UNKNOWN)]


def test_as_metrics(tcp):
    look(tcp, entry(rtt_us=300, from_pod={"bytes": 7, "packets": 1}))
    page = Exposition(Red, Snapshot, lambda: tcp).render()[0].decode()
    ends = 'client="10.0.0.9",client_namespace="",server="cart",server_namespace="shop",side="server"'
    lines = {line.replace(" ", "") for line in page.splitlines()}

    def told(name, number, more=""):
        inside = ",".join(sorted(filter(None, [*ends.split(","), *more.split(",")])))
        return any(
            line.startswith(name + "{") and set(inside.split(",")) == set(line[len(name) + 1 : line.rindex("}")].split(","))
            and float(line.rpartition("}")[2]) == number
            for line in lines
        )  # fmt: skip

    assert told("clovisor_tcp_connections_total", 1)
    assert told("clovisor_tcp_connections_open", 1)
    assert told("clovisor_tcp_bytes_total", 7, 'sender="server"')
    assert told("clovisor_tcp_rtt_seconds_count", 1)
    assert told("clovisor_tcp_rtt_seconds_bucket", 0, 'le="0.00025"')
    assert told("clovisor_tcp_rtt_seconds_bucket", 1, 'le="0.0005"')
