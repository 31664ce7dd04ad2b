"""bpf(2) over ctypes: each command as the kernel answers it, through the datapath's own pins."""

import errno
import os
import struct

import pytest

from clovisor_py.kernel import bpf, layout
from tests.support.foreign import needs_tcx
from tests.support.kernel import LOOPBACK, open_fds, tcp

pytestmark = pytest.mark.live


def number(value):
    return struct.pack("=I", value)


@pytest.fixture
def controls(datapath):
    """A hash map, empty before and after: 8 bytes to 16."""
    fd = datapath.maps.fds["controls"]
    yield fd
    for key in list(bpf.map_keys(fd, 8)):
        bpf.map_delete(fd, key)


def test_what_is_written_is_read_until_it_is_deleted(controls):
    key, value = b"k" * 8, bytes(range(16))
    assert bpf.map_lookup(controls, key, 16) is None
    bpf.map_update(controls, key, value)
    assert bpf.map_lookup(controls, key, 16) == value
    bpf.map_update(controls, key, value[::-1])
    assert bpf.map_lookup(controls, key, 16) == value[::-1]
    assert bpf.map_delete(controls, key)
    assert not bpf.map_delete(controls, key)
    assert bpf.map_lookup(controls, key, 16) is None


@pytest.mark.parametrize("count", [0, 1, 2, bpf.BATCH - 1, bpf.BATCH, bpf.BATCH + 1, 3 * bpf.BATCH + 7])
def test_a_map_is_read_whole_in_either_way(controls, count):
    written = {struct.pack("=Q", i): struct.pack("=IIII", i, 1, 2, 3) for i in range(count)}
    for key, value in written.items():
        bpf.map_update(controls, key, value)
    assert sorted(bpf.map_keys(controls, 8)) == sorted(written)
    found = {}
    for keys, values, number_of in bpf.map_items(controls, 8, 16):
        assert (len(keys), len(values)) == (8 * number_of, 16 * number_of)
        found |= {keys[8 * i : 8 * i + 8]: values[16 * i : 16 * i + 16] for i in range(number_of)}
    assert found == written


def test_keys_may_be_deleted_while_they_are_listed(controls):
    for i in range(50):
        bpf.map_update(controls, struct.pack("=Q", i), bytes(16))
    for key in bpf.map_keys(controls, 8):
        bpf.map_delete(controls, key)
    assert list(bpf.map_keys(controls, 8)) == []


def test_an_array_has_all_its_values(datapath):
    assert bpf.map_lookup(datapath.maps.fds["pod_state"], number(layout.MAX_PODS - 1), 16) is not None
    assert bpf.map_lookup(datapath.maps.fds["pod_state"], number(layout.MAX_PODS), 16) is None


def test_sizes_are_those_of_the_layout(datapath):
    fds = datapath.maps.fds
    assert bpf.map_sizes(fds["sessions"]) == (layout.KEY.size, layout.SESSION.size, layout.MAX_SESSIONS)
    assert bpf.map_sizes(fds["controls"]) == (8, layout.CONTROL.size, layout.MAX_SESSIONS)
    assert bpf.map_sizes(fds["pods"]) == (4, layout.POD.size, layout.MAX_PODS)
    assert bpf.map_sizes(fds["stats"]) == (4, layout.STATS.size, layout.MAX_PODS)
    assert bpf.map_sizes(fds["ring"])[2] == layout.RING_BYTES


def test_a_pin_is_opened_anew(datapath):
    path = datapath.settings.pins / "again"
    before = open_fds()
    bpf.obj_pin(datapath.programs["ingress"], path)
    fd = bpf.obj_get(path)
    path.unlink()
    assert bpf.program_id(fd) == bpf.program_id(datapath.programs["ingress"])
    assert bpf.program_id(fd) != bpf.program_id(datapath.programs["egress"])
    os.close(fd)
    assert open_fds() == before


def test_refusals_are_os_errors_with_the_kernels_number(datapath):
    pins = datapath.settings.pins
    with pytest.raises(FileNotFoundError):
        bpf.obj_get(pins / "absent")
    with pytest.raises(FileExistsError):
        bpf.obj_pin(datapath.programs["ingress"], pins / "ingress")
    with pytest.raises(OSError) as caught:
        bpf.map_update(2**31 - 1, b"", b"")
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError) as caught:
        bpf.map_update(datapath.maps.fds["pod_state"], number(layout.MAX_PODS), bytes(16))
    assert caught.value.errno == errno.E2BIG
    with pytest.raises(OSError) as caught:
        bpf.prog_query(2**31 - 1, bpf.TCX_INGRESS)
    assert caught.value.errno in (errno.ENODEV, errno.EINVAL)  # the latter before Linux 6.6


def test_a_run_gives_the_return_value_as_a_signed_number_and_a_time(datapath):
    result, nanoseconds = bpf.test_run(datapath.programs["egress"], bytes(tcp(1, b"hello")), repeat=1000)
    assert result == -1
    assert nanoseconds > 0


def test_a_program_has_a_name(datapath):
    assert bpf.program_name(bpf.program_id(datapath.programs["egress"])) == "clovisor_egress"
    with pytest.raises(FileNotFoundError):
        bpf.program_name(2**31 - 1)


@needs_tcx
def test_a_tcx_link_is_gone_with_its_last_fd(datapath):
    before = bpf.tcx_query(LOOPBACK, bpf.TCX_EGRESS)
    links = [bpf.link_create(datapath.programs[name], LOOPBACK, bpf.TCX_EGRESS) for name in ("ingress", "egress")]
    ids = [bpf.program_id(datapath.programs[name]) for name in ("egress", "ingress")]  # the later one runs first
    there = [bpf.Attached(program, bpf.link_id(link)) for program, link in zip(ids, links[::-1], strict=True)]
    assert bpf.tcx_query(LOOPBACK, bpf.TCX_EGRESS) == there + before
    assert bpf.prog_query(LOOPBACK, bpf.TCX_EGRESS) == ids + [one.program for one in before]
    for link in links:
        os.close(link)
    assert bpf.tcx_query(LOOPBACK, bpf.TCX_EGRESS) == before


@needs_tcx
def test_a_link_by_its_number(datapath):
    link = bpf.link_create(datapath.programs["egress"], LOOPBACK, bpf.TCX_EGRESS)
    again = bpf.link_by_id(bpf.link_id(link))
    assert bpf.link_id(again) == bpf.link_id(link)
    bpf.link_detach(again)
    assert bpf.tcx_query(LOOPBACK, bpf.TCX_EGRESS) == []
    for fd in (link, again):
        os.close(fd)
    with pytest.raises(FileNotFoundError):
        bpf.link_by_id(2**31 - 1)
