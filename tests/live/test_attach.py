"""Filters and links on a real veth: what is put on, what others put there, and what is left when we go."""

import errno
import os

import pytest

from clovisor_py.errors import KernelRefused, TargetGone
from clovisor_py.kernel import attach, pods
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.links import netlink
from tests.support.foreign import (
    DROP,
    END_OF_CHAIN,
    ETH_P_IP,
    NEXT,
    PARENTS,
    clsact,
    counted,
    drop_filter,
    filters,
    newcomer,
    put_filter,
    refused,
)
from tests.support.netns import pod

pytestmark = pytest.mark.live

NOBODY = 2**31 - 1


@pytest.fixture
def web(datapath):
    with newcomer(datapath) as made:
        yield made


def test_first_of_all_on_both_hooks_with_a_name_of_our_own(datapath, web):
    datapath.attach(web.ifindex)
    for hook in PARENTS:
        assert filters(web, hook) == [(1, 0xC105, f"clovisor_{hook}")]
    assert counted(datapath, web) == (6, 3, 3)
    assert web.ifindex in attach.find_all()


def test_attaching_twice_does_not_double(datapath, web):
    for _ in range(3):
        datapath.attach(web.ifindex)
    assert [len(filters(web, hook)) for hook in PARENTS] == [1, 1]
    assert counted(datapath, web) == (6, 3, 3)


def test_clsact_goes_with_us_if_we_brought_it(datapath, web):
    datapath.attach(web.ifindex)
    datapath.attach(web.ifindex)  # still ours
    assert datapath.maps.attached()[web.ifindex] == attach.OWN_CLSACT
    datapath.detach(web.ifindex)
    assert not clsact(web)
    assert web.ifindex not in datapath.maps.attached()
    datapath.detach(web.ifindex)  # twice is no error


def test_a_clsact_that_was_there_stays(datapath, web):
    with netlink("being somebody else") as route:
        route.tc("add", "clsact", web.ifindex)
    datapath.attach(web.ifindex)
    datapath.detach(web.ifindex)
    assert clsact(web)


def test_our_clsact_stays_as_long_as_somebody_uses_it(datapath, web):
    datapath.attach(web.ifindex)
    put_filter(web, "ingress", NEXT)
    datapath.detach(web.ifindex)
    assert [entry[2] for entry in filters(web, "ingress")] == ["foreign"]


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_filter_behind_ours_still_decides(datapath, web, ours_first):
    if ours_first:
        datapath.attach(web.ifindex)
    put_filter(web, "ingress", DROP)
    datapath.attach(web.ifindex)
    before = datapath.stats(web.ifindex)
    assert refused(web)
    assert (
        datapath.stats(web.ifindex).since(before)[Counter.CONTROLS] >= 2
    )  # the SYN, and the answer that was dropped behind us
    datapath.detach(web.ifindex)
    assert filters(web, "ingress") == [(5, 1, "foreign")]
    assert refused(web)
    drop_filter(web, "ingress", 5, 1)
    assert not refused(web)


def test_a_filter_with_our_preference_runs_behind_ours(datapath, web):
    put_filter(web, "ingress", END_OF_CHAIN, preference=1)
    datapath.attach(web.ifindex)
    assert set(filters(web, "ingress")) == {(1, attach.HANDLE, "clovisor_ingress"), (1, 1, "foreign")}
    assert counted(datapath, web) == (6, 3, 3)


def test_a_preference_that_another_kind_of_filter_holds_is_left_to_it(datapath, web):
    """A preference belongs to one protocol, as to one classifier."""
    put_filter(web, "ingress", NEXT, preference=1, protocol=ETH_P_IP)
    datapath.attach(web.ifindex)
    assert filters(web, "ingress") == [(1, 1, "foreign"), (2, attach.HANDLE, "clovisor_ingress")]
    assert counted(datapath, web) == (6, 3, 3)
    datapath.attach(web.ifindex)
    assert len(filters(web, "ingress")) == 2


@pytest.mark.parametrize("hook", PARENTS)
def test_a_filter_that_somebody_removed_is_put_back(datapath, web, hook):
    datapath.attach(web.ifindex)
    assert not datapath.repair(web.ifindex)
    drop_filter(web, hook, 1, attach.HANDLE)
    assert datapath.repair(web.ifindex)
    assert [len(filters(web, each)) for each in PARENTS] == [1, 1]
    assert not datapath.repair(web.ifindex)


def test_a_clsact_that_somebody_removed_is_put_back(datapath, web):
    datapath.attach(web.ifindex)
    with netlink("being somebody else") as route:
        route.tc("del", "clsact", web.ifindex)
    assert datapath.repair(web.ifindex)
    assert counted(datapath, web) == (6, 3, 3)


def test_an_interface_that_went_away(datapath):
    with pod("kt-gone") as web:
        datapath.attach(web.ifindex)
        pods.delete_link(web.veth)
        with pytest.raises(TargetGone, match=f"interface {web.ifindex}"):
            datapath.repair(web.ifindex)
        datapath.detach(web.ifindex)
        assert web.ifindex not in datapath.maps.attached()


def test_an_interface_that_never_was(datapath):
    with pytest.raises(TargetGone, match=f"interface {NOBODY}"):
        datapath.attach(NOBODY)
    assert NOBODY not in datapath.maps.pods()
    assert NOBODY not in datapath.maps.attached()


def test_a_refusal_is_ours_and_leaves_nothing(datapath, web, monkeypatch):
    """What is not a SCHED_CLS program netlink refuses."""
    monkeypatch.setitem(datapath.programs, "egress", datapath.maps.fds["pods"])
    with pytest.raises(KernelRefused, match="clovisor doctor"):
        datapath.attach(web.ifindex)
    monkeypatch.undo()
    assert [len(filters(web, hook)) for hook in PARENTS] == [0, 0]
    assert not clsact(web)
    assert web.ifindex not in datapath.maps.pods()
    assert web.ifindex not in datapath.maps.attached()


def test_a_clsact_is_known_as_ours_before_it_is_there(datapath, web, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(attach, "_put_filter", killed)
    with pytest.raises(KeyboardInterrupt):
        datapath.attach(web.ifindex)
    assert clsact(web)
    assert datapath.maps.attached()[web.ifindex] == attach.OWN_CLSACT
    datapath.detach(web.ifindex)
    assert not clsact(web)


def test_a_clsact_that_somebody_added_at_the_same_time_stays(datapath, web, monkeypatch):
    with netlink("being somebody else") as route:
        route.tc("add", "clsact", web.ifindex)
    look, first = attach._has_clsact, [False]
    monkeypatch.setattr(attach, "_has_clsact", lambda *given: first.pop() if first else look(*given))
    with pytest.raises(KernelRefused):
        datapath.attach(web.ifindex)
    assert clsact(web)


def test_a_want_of_files_is_a_sentence(datapath, web, monkeypatch):
    def no_more(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    datapath.attach(web.ifindex)
    monkeypatch.setattr(attach, "tc_dump", no_more)
    with pytest.raises(KernelRefused, match="looking at the filters failed"):
        datapath.broken()


def test_all_veths_are_looked_at_in_one_go(datapath, web):
    with pod("kt-other") as other:
        for each in (web, other):
            datapath.attach(each.ifindex)
        assert datapath.broken() == []
        drop_filter(other, "egress", 1, attach.HANDLE)
        assert datapath.broken() == [other.ifindex]
        assert datapath.repair(other.ifindex)
        assert datapath.broken() == []
    assert datapath.broken() == [other.ifindex]  # gone
    datapath.detach(other.ifindex)
    assert datapath.broken() == []


def test_a_slot_is_reused_and_begins_at_zero(datapath, web):
    datapath.attach(web.ifindex)
    assert counted(datapath, web) == (6, 3, 3)
    assert len([key for key, _ in datapath.maps.sessions()]) >= 1
    datapath.detach(web.ifindex)
    assert list(datapath.maps.sessions()) == []
    datapath.attach(web.ifindex)
    assert datapath.stats(web.ifindex)[Counter.SEGMENTS] == 0
    assert counted(datapath, web) == (6, 3, 3)


def test_retain_detaches_all_others(datapath, web):
    with pod("kt-other") as other:
        datapath.attach(web.ifindex)
        datapath.attach(other.ifindex)
        assert datapath.retain({web.ifindex}) == [other.ifindex]
        assert [len(filters(other, hook)) for hook in PARENTS] == [0, 0]
        assert [len(filters(web, hook)) for hook in PARENTS] == [1, 1]
        assert datapath.stats(other.ifindex) is None
