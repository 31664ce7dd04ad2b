"""TCX links beside what others have there: we are before them all, and know again what is ours."""

import errno
import os
from contextlib import ExitStack
from dataclasses import replace

import pytest

from clovisor_py.errors import AlreadyRunning, KernelRefused, TargetGone
from clovisor_py.kernel import attach, bpf, pods, tcx
from clovisor_py.kernel import clsact as by_filters
from clovisor_py.kernel.precedence import OVERTAKINGS
from clovisor_py.kernel.removal import remove_all, strip
from clovisor_py.kernel.tc_dump import tc_dump
from tests.support.foreign import (
    DROP,
    END_OF_CHAIN,
    NEXT,
    TYPES,
    clsact,
    counted,
    filters,
    link,
    needs_tcx,
    newcomer,
    on_hooks,
    on_tcx,
    program,
    put_filter,
    refused,
)
from tests.support.netns import pod
from tests.support.trace import wait_until

pytestmark = [pytest.mark.live, needs_tcx]


@pytest.fixture(params=["auto"])
def web(datapath, request, monkeypatch):
    """Its parameter: the setting `hook`."""
    monkeypatch.setattr(datapath, "settings", replace(datapath.settings, hook=request.param))
    with newcomer(datapath) as made:
        yield made


either_hook = pytest.mark.parametrize("web", ["auto", "clsact"], indirect=True)


def pin(datapath, web, hook):
    return datapath.settings.pins / f"link_{web.ifindex}_{hook}"


def ids(datapath, hook):
    return [bpf.program_id(datapath.programs[hook])]


@either_hook
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


@either_hook
def test_a_tcx_program_that_came_later_is_overtaken(datapath, web):
    """We were on links already, or filters behind it until now."""
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
            assert [filters(web, hook) for hook in TYPES] == [[], []]
    datapath.detach(web.ifindex)
    assert not clsact(web)  # it was ours from the time before


def test_who_insists_on_being_first_is_let_go_first(datapath, web):
    """Else it and we would put each other back for ever."""
    datapath.attach(web.ifindex)
    with ExitStack() as others:
        for _ in range(OVERTAKINGS):
            others.enter_context(link(web, NEXT))
            assert datapath.broken() == [web.ifindex]
            assert datapath.repair(web.ifindex)
        others.enter_context(link(web, NEXT))
        assert datapath.broken() == []
        assert not datapath.repair(web.ifindex)
        assert datapath.ahead(web.ifindex) != ()
        assert counted(datapath, web) == (6, 3, 3)  # it lets packets through to us
        fd = bpf.obj_get(pin(datapath, web, "egress"))
        bpf.link_detach(fd)
        os.close(fd)
        assert datapath.broken() == [web.ifindex]  # what is missing is put back all the same
        assert datapath.repair(web.ifindex)
    assert datapath.broken() == []
    datapath.detach(web.ifindex)
    datapath.attach(web.ifindex)
    with link(web, NEXT):
        assert datapath.repair(web.ifindex)  # nobody has insisted since


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
    fd = bpf.obj_get(pin(datapath, web, hook))
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


def test_a_pin_that_somebody_removed_is_made_again(datapath, web):
    datapath.attach(web.ifindex)
    pin(datapath, web, "ingress").unlink()
    wait_until(lambda: on_tcx(web, "ingress") == [], "the link's end")
    assert datapath.broken() == [web.ifindex]
    assert datapath.repair(web.ifindex)
    assert on_hooks(web.ifindex) == [1, 1]
    assert pin(datapath, web, "ingress").exists()
    assert counted(datapath, web) == (6, 3, 3)


def test_a_link_without_a_pin_that_somebody_holds(datapath, web):
    """One program twice the kernel would refuse, and nobody but we may want it."""
    datapath.attach(web.ifindex)
    held = bpf.obj_get(pin(datapath, web, "egress"))
    pin(datapath, web, "egress").unlink()
    datapath.attach(web.ifindex)
    assert on_hooks(web.ifindex) == [1, 1]
    assert pin(datapath, web, "egress").exists()
    os.close(held)
    held = bpf.obj_get(pin(datapath, web, "egress"))
    for hook in TYPES:
        pin(datapath, web, hook).unlink()
    datapath.detach(web.ifindex)
    assert on_hooks(web.ifindex) == [0, 0]
    os.close(held)


def test_links_of_which_nobody_knows_are_strays(datapath, web):
    links = [bpf.link_create(datapath.programs[hook], web.ifindex, TYPES[hook]) for hook in TYPES]
    with link(web, NEXT):
        assert datapath.strays() == attach.find_all() == [web.ifindex]
        assert attach.find_all([web.ifindex]) == []
        datapath.detach(web.ifindex)
        assert on_hooks(web.ifindex) == [1, 1]  # the other's
        assert datapath.strays() == []
    for each in links:
        os.close(each)


def test_a_dead_pin_is_a_stray(datapath, web):
    fd = bpf.link_create(datapath.programs["egress"], web.ifindex, TYPES["egress"])
    bpf.obj_pin(fd, pin(datapath, web, "egress"))
    bpf.link_detach(fd)
    os.close(fd)
    assert datapath.strays() == [web.ifindex]
    datapath.detach(web.ifindex)
    assert datapath.strays() == []


def test_killed_after_the_first_link(datapath, web, monkeypatch):
    create = bpf.link_create

    def killed(fd, ifindex, attach_type):
        if attach_type == bpf.TCX_EGRESS:
            raise KeyboardInterrupt
        return create(fd, ifindex, attach_type)

    monkeypatch.setattr(bpf, "link_create", killed)
    with pytest.raises(KeyboardInterrupt):
        datapath.attach(web.ifindex)
    monkeypatch.setattr(bpf, "link_create", create)
    assert datapath.maps.attached()[web.ifindex] == attach.OWN_TCX
    assert on_hooks(web.ifindex) == [1, 0]
    datapath.attach(web.ifindex)
    assert on_hooks(web.ifindex) == [1, 1]


def test_killed_between_links_and_filters(datapath, web, monkeypatch):
    """A successor finds both, and keeps one."""
    monkeypatch.setattr(datapath, "settings", replace(datapath.settings, hook="clsact"))
    datapath.attach(web.ifindex)
    tcx.put(web.ifindex, datapath.programs, datapath.settings.pins)
    assert on_hooks(web.ifindex) == [2, 2]
    datapath.attach(web.ifindex)
    assert [on_tcx(web, hook) for hook in TYPES] == [ids(datapath, hook) for hook in TYPES]
    assert [filters(web, hook) for hook in TYPES] == [[], []]
    assert counted(datapath, web) == (6, 3, 3)


def test_what_another_build_left(datapath, web):
    """Its links are known by their pins, whatever its programs are called, and by the programs' names."""
    other = datapath.settings.pins.with_name(f"{datapath.settings.pins.name}-older")
    other.mkdir()
    with program(NEXT) as fd:
        made = bpf.link_create(fd, web.ifindex, bpf.TCX_EGRESS)
        bpf.obj_pin(made, other / f"link_{web.ifindex}_egress")
        os.close(made)
    with link(web, NEXT):
        assert strip(other) == [web.ifindex]
        assert on_hooks(web.ifindex) == [1, 1]
    assert not other.exists()
    datapath.attach(web.ifindex)
    with pytest.raises(AlreadyRunning):
        remove_all(other)  # a Clovisor of other pins is one all the same
    other.mkdir()
    assert strip(other) == [web.ifindex]  # as if it were dead
    assert on_hooks(web.ifindex) == [0, 0]
    datapath.detach(web.ifindex)


def test_who_runs_before_us_is_named(datapath, web, monkeypatch):
    datapath.attach(web.ifindex)
    assert datapath.ahead(web.ifindex) == ()
    with link(web, NEXT):
        (number,) = {on_tcx(web, hook)[0] for hook in TYPES}
        assert datapath.ahead(web.ifindex) == (f"program {number}",)  # it has no name
        monkeypatch.setattr(bpf, "program_name", lambda _: "cil_from_host")
        assert datapath.ahead(web.ifindex) == ("cil_from_host",)
        datapath.repair(web.ifindex)
        assert datapath.ahead(web.ifindex) == ()


@pytest.mark.parametrize("web", ["clsact"], indirect=True)
def test_who_runs_before_our_filter_is_named(datapath, web):
    put_filter(web, "egress", NEXT, preference=1, protocol=0x0800)
    datapath.attach(web.ifindex)
    assert datapath.ahead(web.ifindex) == ("foreign",)
    with link(web, NEXT):
        (number,) = {on_tcx(web, hook)[0] for hook in TYPES}
        assert datapath.ahead(web.ifindex) == (f"program {number}", "foreign")
    with tc_dump() as tc:
        by_filters.take_off(tc, web.ifindex, qdisc_too=False)
    assert datapath.ahead(web.ifindex) == ()  # not there at all: that is another trouble


def test_a_name_that_may_not_be_asked_is_a_number(datapath, web, monkeypatch):
    """Without CAP_SYS_ADMIN; ours are known by their number then."""

    def not_permitted(_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(bpf, "program_name", not_permitted)
    datapath.attach(web.ifindex)
    with link(web, NEXT):
        (number,) = {on_tcx(web, hook)[0] for hook in TYPES}
        assert datapath.ahead(web.ifindex) == (f"program {number}",)
        assert attach.find_all() == []
        assert attach.find_all(ids=ids(datapath, "egress")) == [web.ifindex]
