"""The reader's end of the ring: order, wrapping, limits, what a successor finds, and when the kernel wakes it."""

import select
from pathlib import Path

import pytest

from clovisor_py.kernel import ring as ring_module
from clovisor_py.kernel.layout import RECORD, RING_BYTES, Mode
from clovisor_py.kernel.ring import HEADER, Ring
from clovisor_py.model.segment import FROM_POD, TO_POD
from tests.support.kernel import LONGEST, Talk, tcp

pytestmark = pytest.mark.live


@pytest.fixture
def ring(rig):
    rig.reset(Mode.FULL)
    return rig.datapath.ring


def test_an_empty_ring(ring):
    assert ring.waiting == 0
    assert ring.read(0) == []
    assert ring.discard() == 0
    ring.wait(0.0)


def test_records_come_in_their_order_and_once(ring, rig):
    for i in range(100):
        rig.run(TO_POD, tcp(TO_POD, b"%d" % i, seq=i))
    assert [record.data for record in ring.read(0)] == [b"%d" % i for i in range(100)]
    assert ring.read(0) == []


def test_a_batch_has_its_limit(ring, rig):
    for i in range(10):
        rig.run(TO_POD, tcp(TO_POD, b"x", seq=i))
    assert [record.seq for record in ring.read(0, limit=4)] == [0, 1, 2, 3]
    assert [record.seq for record in ring.read(0, limit=4)] == [4, 5, 6, 7]
    assert [record.seq for record in ring.read(0, limit=4)] == [8, 9]


def test_times_are_moved_to_the_wall_clock(ring, rig):
    talk = Talk(rig)
    (kernel,) = talk.peer(b"x")
    rig.run(TO_POD, tcp(TO_POD, b"y"))
    (moved,) = ring.read(10**18)
    assert moved.time_ns > 10**18 + kernel.time_ns


@pytest.mark.parametrize("in_order", [True, False], ids=["loads in order", "with a barrier"])
def test_records_survive_the_end_of_the_ring(ring, rig, monkeypatch, in_order):
    """Three times around it; sizes differ, so that records lie across the end."""
    monkeypatch.setattr(ring_module, "LOADS_IN_ORDER", in_order)
    written = read = 0
    sizes = (1, 300, LONGEST, 2000)
    start = ring._consumer[0]
    while ring._consumer[0] - start < 3 * RING_BYTES:
        for _ in range(300):
            size = sizes[written % 4]
            rig.run(TO_POD, ETHERNET[size])
            written += 1
        for record in ring.read(0):
            size = sizes[read % 4]
            assert (record.length, record.data) == (size, PAYLOAD[:size])
            read += 1
    assert read == written


PAYLOAD = bytes(i * 31 & 255 for i in range(LONGEST))
ETHERNET = {size: bytes(tcp(TO_POD, PAYLOAD[:size])) for size in (1, 300, LONGEST, 2000)}


def test_what_waits_is_counted_and_may_be_forgotten(ring, rig):
    rig.run(TO_POD, tcp(TO_POD, b"x"), repeat=10)
    each = HEADER + RECORD.size + 256
    assert ring.waiting == 10 * each
    assert ring.discard() == 10 * each
    assert ring.read(0) == []
    assert len(rig.send(TO_POD, tcp(TO_POD, b"y"))) == 1


def test_a_successor_goes_on_where_the_last_one_stopped(ring, rig):
    for i in range(6):
        rig.run(TO_POD, tcp(TO_POD, b"x", seq=i))
    assert len(ring.read(0, limit=2)) == 2
    successor = Ring(rig.datapath.maps.fds["ring"])
    assert [record.seq for record in successor.read(0, limit=3)] == [2, 3, 4]
    successor.close()
    assert [record.seq for record in ring.read(0)] == [5]


def test_a_closed_ring_leaves_no_mapping(ring, rig):
    def mappings():
        return Path("/proc/self/maps").read_text().count("bpf-map")

    before = mappings()
    other = Ring(rig.datapath.maps.fds["ring"])
    assert mappings() > before
    other.close()
    assert mappings() == before


@pytest.fixture
def wakes(ring, rig):
    """Set how many bytes wake the reader; answers whether a record did."""
    maps = rig.datapath.maps
    _, usual, build, lease = maps.settings()
    epoll = select.epoll()
    epoll.register(maps.fds["ring"], select.EPOLLIN | select.EPOLLET)

    def woken(wake_bytes, records=1):
        maps.set_settings(wake_bytes, build, lease)
        epoll.poll(0)  # what is there when it is registered counts as news once
        rig.run(FROM_POD, tcp(FROM_POD, b"x"), repeat=records)
        return bool(epoll.poll(0.2))

    yield woken
    epoll.close()
    maps.set_settings(usual, build, lease)


def test_the_kernel_wakes_the_reader_by_bytes_not_by_records(wakes):
    assert not wakes(1 << 31, records=100)
    assert wakes(1)
    assert not wakes(1 << 31)
    assert wakes(1 << 16, records=4 * (1 << 16) // 376)
