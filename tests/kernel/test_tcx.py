"""TCX links as they are: pinned, alive or dead, ours or not. What attaching makes of them: tests/live/test_attach_tcx.py."""

import errno
import os

import pytest

from clovisor_py.kernel import bpf, tcx
from tests.support.foreign import NEXT, needs_tcx, program
from tests.support.kernel import LOOPBACK, open_fds

pytestmark = [pytest.mark.live, needs_tcx]
NOBODY = 2**31 - 1


@pytest.fixture
def pins(datapath):
    """Where links are pinned; afterwards none of loopback is left."""
    yield datapath.settings.pins
    tcx.take_off(LOOPBACK, datapath.settings.pins)
    assert [tcx.programs(LOOPBACK, hook) for hook in datapath.programs] == [[], []]


def test_before_all_others_and_once_however_often(datapath, pins):
    with program(NEXT) as fd:
        other = bpf.link_create(fd, LOOPBACK, bpf.TCX_EGRESS)
        tcx.put(LOOPBACK, datapath.programs, pins)
        before = tcx.programs(LOOPBACK, "egress")
        assert [one.program for one in before] == [bpf.program_id(datapath.programs["egress"]), bpf.program_id(fd)]
        assert [one.link for one in before] == [tcx.link_of(pins, LOOPBACK, "egress"), bpf.link_id(other)]
        fds = open_fds()
        tcx.put(LOOPBACK, datapath.programs, pins)
        assert tcx.programs(LOOPBACK, "egress") == before
        assert open_fds() == fds
        os.close(other)


def test_pins_are_found_whatever_their_links_do(datapath, pins):
    assert tcx.pinned(pins) == set()
    tcx.put(LOOPBACK, datapath.programs, pins)
    assert tcx.pinned(pins) == {LOOPBACK}
    link = tcx.link_of(pins, LOOPBACK, "ingress")
    fd = bpf.obj_get(tcx.pin_of(pins, LOOPBACK, "ingress"))
    bpf.link_detach(fd)
    os.close(fd)
    assert tcx.programs(LOOPBACK, "ingress") == []
    assert tcx.link_of(pins, LOOPBACK, "ingress") == link  # dead, and pinned
    tcx.take_off(LOOPBACK, pins)
    assert tcx.pinned(pins) == set()
    assert tcx.link_of(pins, LOOPBACK, "ingress") == 0
    tcx.take_off(LOOPBACK, pins)  # twice is no error
    assert tcx.pinned(pins / "absent") == set()


def test_ours_by_number_or_name(datapath):
    number = bpf.program_id(datapath.programs["ingress"])
    assert tcx.name(number) == "clovisor_ingres"  # the kernel keeps 15 characters
    assert tcx.ours(number)
    with program(NEXT) as fd:
        other = bpf.program_id(fd)
        assert tcx.name(other) == ""
        assert not tcx.ours(other, [number])
        assert tcx.ours(other, [other])
    assert tcx.name(NOBODY) == ""


def test_an_interface_that_is_not_there():
    assert tcx.programs(NOBODY, "ingress") == []
    with pytest.raises(OSError) as caught:
        tcx.available(NOBODY)
    assert caught.value.errno == errno.ENODEV


def test_a_kernel_that_has_none(monkeypatch):
    def never_heard_of(*_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    assert tcx.available(LOOPBACK)
    monkeypatch.setattr(bpf, "tcx_query", never_heard_of)
    assert not tcx.available(LOOPBACK)
    assert tcx.programs(LOOPBACK, "egress") == []


def test_what_the_kernel_says_otherwise_is_not_swallowed(monkeypatch):
    def not_permitted(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(bpf, "tcx_query", not_permitted)
    for look in (tcx.available, lambda ifindex: tcx.programs(ifindex, "egress")):
        with pytest.raises(PermissionError):
            look(LOOPBACK)
    monkeypatch.setattr(bpf, "program_name", lambda _: never_read())
    with pytest.raises(OSError, match="Input/output"):
        tcx.name(1)


def never_read():
    raise OSError(errno.EIO, os.strerror(errno.EIO))
