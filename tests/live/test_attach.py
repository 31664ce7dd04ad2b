"""Filters on a real veth (hook: clsact): what is put on, what others put there, and what is left when we go.

What holds for filters and links alike is in test_attach_ways.py, links alone are in test_attach_tcx.py.
"""

from dataclasses import replace

import pytest

from clovisor_py.errors import KernelRefused
from clovisor_py.kernel import attach
from clovisor_py.kernel import clsact as ours
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.links import netlink
from clovisor_py.kernel.tc_dump import TcDump
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

pytestmark = pytest.mark.live


@pytest.fixture
def web(datapath, monkeypatch):
    monkeypatch.setattr(datapath, "settings", replace(datapath.settings, hook="clsact"))
    with newcomer(datapath) as made:
        yield made


def test_first_of_all_on_both_hooks_with_a_name_of_our_own(datapath, web):
    datapath.attach(web.ifindex)
    for hook in PARENTS:
        assert filters(web, hook) == [(1, 0xC105, f"clovisor_{hook}")]
    assert counted(datapath, web) == (6, 3, 3)
    assert web.ifindex in attach.find_all()


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


def test_a_clsact_that_somebody_put_in_the_place_of_ours_is_theirs(datapath, web):
    datapath.attach(web.ifindex)
    with netlink("being somebody else") as route:
        route.tc("del", "clsact", web.ifindex)
        route.tc("add", "clsact", web.ifindex)
    assert datapath.broken() == [web.ifindex]
    assert datapath.repair(web.ifindex)
    assert datapath.maps.attached()[web.ifindex] == 0
    datapath.detach(web.ifindex)
    assert clsact(web)


def test_a_filter_that_comes_while_we_go_keeps_our_clsact(datapath, web, monkeypatch):
    def dropped_beside_another(*given):
        drop(*given)
        if not foreign(web):
            put_filter(web, "ingress", NEXT)

    drop = ours._drop_filter
    monkeypatch.setattr(ours, "_drop_filter", dropped_beside_another)
    datapath.attach(web.ifindex)
    datapath.detach(web.ifindex)
    assert foreign(web)


def foreign(web):
    return "foreign" in [entry[2] for entry in filters(web, "ingress")]


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


def test_a_clsact_is_known_as_ours_before_it_is_there(datapath, web, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ours, "_put_filter", killed)
    with pytest.raises(KeyboardInterrupt):
        datapath.attach(web.ifindex)
    assert clsact(web)
    assert datapath.maps.attached()[web.ifindex] == attach.OWN_CLSACT
    datapath.detach(web.ifindex)
    assert not clsact(web)


def test_a_clsact_that_somebody_added_at_the_same_time_stays(datapath, web, monkeypatch):
    with netlink("being somebody else") as route:
        route.tc("add", "clsact", web.ifindex)
    look, first = TcDump.has_clsact, [False]
    monkeypatch.setattr(TcDump, "has_clsact", lambda *given: first.pop() if first else look(*given))
    with pytest.raises(KernelRefused):
        datapath.attach(web.ifindex)
    assert clsact(web)
