"""TCX programs of others run before clsact and may end the chain: there we are on links, before all of them."""

import errno
import os

import pytest

from clovisor_py.errors import KernelRefused, TargetGone
from clovisor_py.kernel import attach, bpf, pods
from tests.support.foreign import DROP, END_OF_CHAIN, NEXT, TYPES, clsact, counted, link, newcomer, refused
from tests.support.netns import pod

pytestmark = pytest.mark.live


@pytest.fixture
def web(datapath):
    with newcomer(datapath) as made:
        try:
            bpf.prog_query(made.ifindex, bpf.TCX_INGRESS)
        except OSError:
            pytest.skip("needs TCX (Linux 6.6)")
        yield made


def test_a_tcx_program_that_ends_the_chain_does_not_blind_us(datapath, web):
    with link(web, END_OF_CHAIN):
        datapath.attach(web.ifindex)
        assert datapath.maps.attached()[web.ifindex] == attach.OWN_TCX
        assert counted(datapath, web) == (6, 3, 3)
        datapath.attach(web.ifindex)  # again, as a successor does
        assert counted(datapath, web) == (6, 3, 3)
        datapath.detach(web.ifindex)
        assert [len(bpf.prog_query(web.ifindex, attach_type)) for attach_type in TYPES.values()] == [1, 1]
    assert not clsact(web)


def test_a_tcx_program_that_came_later_is_overtaken(datapath, web):
    datapath.attach(web.ifindex)
    with link(web, END_OF_CHAIN):
        assert counted(datapath, web) == (0, 0, 0)  # blind
        assert datapath.repair(web.ifindex)
        assert counted(datapath, web) == (6, 3, 3)
        with link(web, END_OF_CHAIN):
            assert counted(datapath, web) == (0, 0, 0)
            assert datapath.repair(web.ifindex)
            assert counted(datapath, web) == (6, 3, 3)
            assert not datapath.repair(web.ifindex)
    datapath.detach(web.ifindex)
    assert not clsact(web)  # it was ours from the time before


def test_on_links_we_stay_on_links_when_the_other_has_gone(datapath, web):
    with link(web, END_OF_CHAIN):
        datapath.attach(web.ifindex)
    assert not datapath.repair(web.ifindex)
    datapath.attach(web.ifindex)
    assert [bpf.prog_query(web.ifindex, TYPES[hook]) for hook in TYPES] == [
        [bpf.program_id(fd)] for fd in datapath.programs.values()
    ]
    assert counted(datapath, web) == (6, 3, 3)


@pytest.mark.parametrize("hook", TYPES)
def test_a_link_that_somebody_detached_is_put_back(datapath, web, hook):
    with link(web, END_OF_CHAIN):
        datapath.attach(web.ifindex)
    fd = bpf.obj_get(datapath.settings.pins / f"link_{web.ifindex}_{hook}")
    bpf.link_detach(fd)
    os.close(fd)
    assert datapath.broken() == [web.ifindex]
    assert datapath.repair(web.ifindex)
    assert datapath.broken() == []
    assert counted(datapath, web) == (6, 3, 3)


def test_a_link_that_is_refused_is_a_sentence(datapath, web, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))

    with link(web, NEXT):
        monkeypatch.setattr(bpf, "link_create", refuse)
        with pytest.raises(KernelRefused, match=f"attaching to interface {web.ifindex} failed"):
            datapath.attach(web.ifindex)
    assert web.ifindex not in datapath.maps.attached()


def test_a_tcx_program_behind_ours_still_decides(datapath, web):
    with link(web, DROP):
        datapath.attach(web.ifindex)
        assert refused(web)
        datapath.detach(web.ifindex)
        assert refused(web)
    assert not refused(web)


@pytest.mark.usefixtures("web")
def test_an_interface_that_went_away_with_its_links(datapath):
    with pod("kt-gone") as gone, link(gone, NEXT):
        datapath.attach(gone.ifindex)
        assert len(list(datapath.settings.pins.glob("link_*"))) == 2
        pods.delete_link(gone.veth)
        with pytest.raises(TargetGone, match=f"interface {gone.ifindex}"):
            datapath.repair(gone.ifindex)
        datapath.detach(gone.ifindex)
        assert gone.ifindex not in datapath.maps.attached()
        assert not list(datapath.settings.pins.glob("link_*"))
