"""The typed maps: what is written comes back, sums are over CPUs, and sets become exactly what was asked for."""

import os
import struct

import pytest

from clovisor_py.kernel import bpf, layout
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.maps import Maps, Pod, Stats, possible_cpus
from clovisor_py.model.segment import FROM_POD, TO_POD
from tests.support.kernel import LOOPBACK, SLOT, Talk, open_fds, require_kernel, tcp

pytestmark = pytest.mark.live

POD = Pod(slot=3, mode=1, head_bytes=4096, quota=7, pod_ns_per_kib=11, flow_ns_per_kib=13, burst_ns=2**40, released=2**33)


@pytest.fixture
def maps(rig):
    return rig.datapath.maps


def test_pods(maps):
    maps.set_pod(99, POD)
    assert maps.pods()[99] == POD
    maps.set_pod(99, POD._replace(mode=2))
    assert maps.pods()[99].mode == 2
    maps.delete_pod(99)
    maps.delete_pod(99)
    assert 99 not in maps.pods()


def test_settings(maps, rig):
    _, wake_bytes, build, lease = maps.settings()
    maps.set_settings(1234, 2**64 - 1, 5)
    assert maps.settings() == (layout.ABI, 1234, 2**64 - 1, 5)
    maps.set_settings(wake_bytes, build, lease)


def test_udp_ports_are_those_and_no_others(maps, rig):
    def watched():
        return {struct.unpack("=H", key)[0] for key in bpf.map_keys(maps.fds["udp_ports"], 2)}

    assert watched() == set(rig.datapath.settings.udp_ports) == {53}
    maps.set_udp_ports((53, 5353, 65535))
    assert watched() == {53, 5353, 65535}
    maps.set_udp_ports(())
    assert watched() == set()
    maps.set_udp_ports((53,))


def test_controls(maps):
    assert maps.control(5) is None
    maps.set_control(5, 2, 3, 2**32 - 1, 7)
    assert maps.control(5) == (2, 3, 2**32 - 1, 7)
    assert maps.controlled() == {5}
    maps.delete_control(5)
    maps.delete_control(5)
    assert maps.controlled() == set()


def test_what_was_attached(maps):
    maps.set_attached(9, 3)
    maps.set_attached(8, 0)
    assert maps.attached() == {9: 3, 8: 0}
    maps.set_attached(9, None)
    maps.set_attached(8, None)
    assert maps.attached() == {}


def on_each_cpu(function):
    """Call it once on every CPU that this process may use; how many there are."""
    allowed = os.sched_getaffinity(0)
    try:
        for cpu in allowed:
            os.sched_setaffinity(0, {cpu})
            function()
    finally:
        os.sched_setaffinity(0, allowed)
    return len(allowed)


def test_stats_are_summed_over_cpus(maps, rig):
    cpus = on_each_cpu(lambda: rig.run(TO_POD, tcp(TO_POD, b"hello")))
    assert maps.stats(SLOT)[Counter.SEGMENTS] == cpus
    assert maps.stats(SLOT)[Counter.RETRANSMITS] == cpus - 1
    assert maps.stats(SLOT + 1).count == (0,) * layout.COUNTERS


def test_losses_are_summed_over_their_kinds_and_cpus(maps):
    one = layout.STATS.pack(*(1 << min(at, layout.COUNTERS) for at in range(layout.STATS.size // 8)))
    bpf.map_update(maps.fds["stats"], struct.pack("=I", SLOT + 1), one * possible_cpus())
    assert maps.lost(SLOT + 1) == possible_cpus() * sum(1 << counter for counter in layout.LOSSES)
    assert maps.lost(SLOT + 1) == sum(maps.stats(SLOT + 1)[counter] for counter in layout.LOSSES)


def test_node_stats_are_summed_over_cpus(maps, rig):
    maps.delete_pod(LOOPBACK)
    before = maps.node_stats()
    cpus = on_each_cpu(lambda: rig.run(TO_POD, tcp(TO_POD, b"hello")))
    assert maps.node_stats() == before | {"not_asked": before["not_asked"] + cpus}


def test_a_slot_is_cleared_on_all_cpus(maps, rig):
    on_each_cpu(lambda: Talk(rig).peer(b"hello"))
    assert maps.opened(SLOT) == 1
    maps.clear_slot(SLOT)
    assert maps.opened(SLOT) == 0
    assert maps.stats(SLOT) == Stats((0,) * layout.COUNTERS, ((0,) * layout.BUCKETS,) * 2)


def test_since_is_what_was_added(maps, rig):
    talk = Talk(rig)
    talk.peer(b"question")
    earlier = maps.stats(SLOT)
    talk.pod(b"answer")
    added = maps.stats(SLOT).since(earlier)
    assert (added[Counter.SEGMENTS], added[Counter.BYTES], added[Counter.BYTES_TO_POD]) == (1, 6, 0)
    assert (sum(added.turn_ns[FROM_POD]), sum(added.turn_ns[TO_POD])) == (1, 0)


def test_sessions_are_all_listed_and_deleted(maps, rig):
    for port in range(1, 1200):
        rig.run(TO_POD, tcp(TO_POD, b"x", ports=(80, port)))
    listed = dict(maps.sessions())
    assert len(listed) == 1000  # the bench pod's quota
    assert {layout.KEY.unpack(key)[3:5] for key in listed} == {(80, port) for port in range(1, 1001)}
    assert all(maps.delete_session(key) for key in listed)
    assert not any(maps.delete_session(key) for key in listed)
    assert list(maps.sessions()) == []


def test_without_pins_there_are_no_maps(tmp_path):
    require_kernel()
    before = open_fds()
    with pytest.raises(OSError):
        Maps(tmp_path)
    assert open_fds() == before


@pytest.mark.parametrize(("said", "cpus"), [("0\n", 1), ("0-3\n", 4), ("0-3,8\n", 9), ("0-1,4-7\n", 8)])
def test_possible_cpus_are_counted_to_the_last(tmp_path, monkeypatch, said, cpus):
    (tmp_path / "possible").write_text(said)
    monkeypatch.setattr("clovisor_py.kernel.maps.POSSIBLE_CPUS", tmp_path / "possible")
    assert possible_cpus() == cpus
