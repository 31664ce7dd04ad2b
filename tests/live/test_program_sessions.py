"""The kernel's memory of connections: when it is a new one, who opened it, and how many a pod may have."""

import struct

import pytest
from scapy.layers.inet import IP, UDP

from clovisor_py.kernel import bpf, layout, pods
from clovisor_py.kernel.layout import MAX_SESSIONS, Counter, Mode
from clovisor_py.kernel.links import link_names
from clovisor_py.model.segment import FIN, FROM_POD, PEER_OPENED, POD_OPENED, RST, SYN, TO_POD, TURN
from tests.support.kernel import ETHER, LOOPBACK, PEER_IP, POD_IP, SLOT, Talk, check_books, tcp

pytestmark = pytest.mark.live

OPENED = POD_OPENED | PEER_OPENED


def live(rig):
    """What the pod's quota is measured by."""
    maps = rig.datapath.maps
    return maps.opened(SLOT) - maps.pods()[LOOPBACK].released


def test_who_opened_is_known_from_the_syn(rig):
    (syn,) = Talk(rig, ports=(1, 2)).pod(flags="S")
    assert syn.flags & OPENED == POD_OPENED
    (syn,) = Talk(rig, ports=(3, 4)).peer(flags="S")
    assert syn.flags & OPENED == PEER_OPENED
    assert live(rig) == 2


def test_a_syn_ack_alone_opens_nothing_but_says_who_opened_what_we_know(rig):
    talk = Talk(rig)
    assert talk.pod(flags="SA") == []
    talk.pod(b"x")
    (record,) = talk.pod(flags="SA", seq=1000)
    assert record.flags & OPENED == PEER_OPENED


def test_one_connection_has_one_cookie(rig):
    talk = Talk(rig)
    records = talk.peer(flags="S") + talk.pod(flags="SA") + talk.peer(b"question") + talk.pod(b"answer")
    records += talk.peer(flags="FA") + talk.pod(flags="FA")
    assert {record.flow_id for record in records} == {rig.session()["cookie"]}
    assert [record.tcp_flags & (SYN | FIN) for record in records] == [SYN, SYN, 0, 0, FIN, FIN]
    assert rig.session()["state"] & (layout.FIN_SEEN * 3) == layout.FIN_SEEN * 3


def test_a_reset_is_remembered(rig):
    talk = Talk(rig).opened_by_peer()
    rig.records()
    (record,) = talk.pod(flags="R")
    assert record.tcp_flags & RST
    assert rig.session()["state"] & layout.RST_SEEN


def test_a_repeated_syn_is_the_same_connection(rig):
    talk = Talk(rig)
    records = [*talk.peer(flags="S"), *talk.peer(flags="S", seq=5000), *talk.pod(flags="SA"), *talk.pod(flags="SA", seq=1000)]
    assert len({record.flow_id for record in records}) == 1
    assert live(rig) == 1
    (first,) = talk.peer(b"question")
    assert (first.seq, first.flags & TURN) == (5001, TURN)


def test_a_syn_that_comes_again_after_payload_is_the_same_connection(rig):
    talk = Talk(rig).opened_by_peer()
    talk.peer(b"question")
    cookie = rig.session()["cookie"]
    talk.peer(flags="S", seq=5000)
    talk.pod(flags="SA", seq=1000)
    assert rig.session()["cookie"] == cookie
    assert [side["high_seq"] for side in rig.session()["side"]] == [1001, 5001 + len(b"question")]


def test_a_repeated_syn_with_payload_is_the_same_connection(rig):
    """TCP Fast Open: the kernel repeats such a SYN without its payload."""
    talk = Talk(rig)
    (first,) = talk.peer(b"question", flags="S")
    (again,) = talk.peer(flags="S", seq=5000)
    assert again.flow_id == first.flow_id


def test_another_syn_on_the_same_addresses_is_another_connection(rig):
    cookies = set()
    for start in range(10):
        talk = Talk(rig, starts=(1000 + 7 * start, 5000 + 7 * start)).opened_by_peer()
        (question,) = [record for record in rig.records() + talk.peer(b"question") if record.length]
        assert (question.length, question.turn_age_ns) == (8, 0)
        cookies.add(question.flow_id)
        talk.peer(flags="FA")
        talk.pod(flags="FA")
        rig.records()
    assert len(cookies) == 10
    assert live(rig) == 1  # each took the place of the one before
    assert rig.session()["side"][TO_POD]["bytes"] == len(b"question")


def test_a_pod_has_a_quota(rig):
    rig.reset(quota=3)
    talks = [Talk(rig, ports=(80, port)) for port in range(5)]
    records = [record for talk in talks for record in talk.peer(flags="S")]
    assert len(records) == len(rig.sessions()) == 3
    assert rig.counted() == {Counter.CONTROLS: 5, Counter.CONTROLS_LOST: 2, Counter.RECORDS: 3}
    assert [len(talk.peer(b"question")) for talk in talks] == [1, 1, 1, 0, 0]
    assert rig.counted()[Counter.LOST_QUOTA] == 2


def test_swept_connections_give_their_places_back(rig):
    rig.reset(quota=2)
    for port in range(3):
        Talk(rig, ports=(80, port)).peer(b"question")
    assert rig.counted()[Counter.LOST_QUOTA] == 1
    swept = rig.datapath.sweep(idle_ns=0)
    assert (swept.live, swept.released) == (0, 2)
    assert live(rig) == 0
    assert [len(Talk(rig, ports=(80, port)).peer(b"question")) for port in range(3)] == [1, 1, 0]
    assert rig.counted()[Counter.LOST_QUOTA] == 2


def test_a_sweep_leaves_what_still_talks(rig):
    talk = Talk(rig).opened_by_peer()
    talk.peer(b"question")
    cookie = rig.session()["cookie"]
    rig.datapath.capture(cookie, "head")
    swept = rig.datapath.sweep(idle_ns=10**12)
    assert (swept.live, swept.released) == (1, 0)
    assert rig.datapath.maps.controlled() == {cookie}
    rig.datapath.sweep(idle_ns=0)
    assert rig.datapath.maps.controlled() == set()


@pytest.mark.parametrize("ends", ["reset", "both ends"])
def test_a_closed_connection_lingers_and_goes(rig, monkeypatch, ends):
    talk = Talk(rig).opened_by_peer()
    talk.pod(flags="R" if ends == "reset" else "FA")
    if ends == "both ends":
        assert rig.datapath.sweep(idle_ns=10**12).live == 1
        talk.peer(flags="FA")
    assert rig.datapath.sweep(idle_ns=10**12).live == 1  # its last segments may be under way
    monkeypatch.setattr("clovisor_py.kernel.sweep.CLOSED_LINGER_NS", 0)
    assert rig.datapath.sweep(idle_ns=10**12).released == 1


def test_a_udp_session_waits_less_than_a_tcp_one(rig, monkeypatch):
    Talk(rig).peer(b"question")
    rig.run(TO_POD, ETHER / IP(src=PEER_IP, dst=POD_IP) / UDP(sport=40000, dport=53) / b"question")
    assert rig.datapath.sweep(idle_ns=10**12).live == 2
    monkeypatch.setattr("clovisor_py.kernel.sweep.UDP_IDLE_NS", 0)
    swept = rig.datapath.sweep(idle_ns=10**12)
    assert (swept.live, swept.released) == (1, 1)
    monkeypatch.setattr("clovisor_py.kernel.sweep.UDP_IDLE_NS", 10**12)
    assert rig.datapath.sweep(idle_ns=0).live == 0


@pytest.fixture
def neighbour(rig):
    """The ifindex of a second pod, in another slot."""
    from clovisor_py.kernel.links import netlink

    with netlink("making a veth") as route:
        route.link("add", ifname="kt0", kind="veth", peer={"ifname": "kt1"})
    (ifindex,) = (index for index, name in link_names().items() if name == "kt0")
    rig.datapath.maps.clear_slot(SLOT + 1)
    rig.configure(ifindex, SLOT + 1, Mode.DETECT)
    yield ifindex
    check_books(rig.datapath.maps.stats(SLOT + 1))
    rig.datapath.maps.delete_pod(ifindex)
    pods.delete_link("kt0")


def test_two_pods_do_not_meet(rig, neighbour):
    rig.reset(quota=1)
    here, there = Talk(rig), Talk(rig)
    there.ifindex = neighbour
    (mine,) = here.peer(b"question")
    (theirs,) = there.peer(b"question, the same addresses")
    assert mine.flow_id != theirs.flow_id
    assert (mine.interface, theirs.interface) == (LOOPBACK, neighbour)
    for port in range(5):
        Talk(rig, ports=(1, port)).peer(b"beyond the quota")
    (answer,) = there.pod(b"answer")
    assert answer.flags & TURN
    other = rig.datapath.maps.stats(SLOT + 1)
    assert (other[Counter.SEGMENTS], other[Counter.CAPTURED], other[Counter.LOST_QUOTA]) == (2, 2, 0)
    assert rig.counted()[Counter.LOST_QUOTA] == 5
    assert len(rig.sessions()) == 2


def test_a_full_node_is_counted(rig):
    maps, blank = rig.datapath.maps, bytes(layout.SESSION.size)
    for number in range(MAX_SESSIONS):
        bpf.map_update(maps.fds["sessions"], struct.pack("=II36x", LOOPBACK, number), blank)
    assert rig.send(FROM_POD, tcp(FROM_POD, b"question")) == []
    assert rig.send(FROM_POD, tcp(FROM_POD, flags="S")) == []
    assert rig.counted() == {Counter.SEGMENTS: 1, Counter.LOST_MAP: 1, Counter.CONTROLS: 1, Counter.CONTROLS_LOST: 1}
    assert maps.opened(SLOT) == 0
    assert sum(1 for _ in maps.sessions()) == MAX_SESSIONS
