"""What holds however our programs are put on a veth: on TCX links, on a clsact of ours, or on one that is somebody's."""

import errno
import os
import socket
import subprocess
import time
from dataclasses import replace
from threading import Thread

import pytest

from clovisor_py.errors import KernelRefused, TargetGone
from clovisor_py.kernel import attach, bpf, pods, tcx
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.links import netlink
from clovisor_py.kernel.tc_dump import TcDump
from tests.support.foreign import (
    TYPES,
    clsact,
    counted,
    drop_filter,
    filters,
    has_tcx,
    needs_tcx,
    newcomer,
    on_hooks,
    on_tcx,
    put_filter,
)
from tests.support.netns import pod

pytestmark = pytest.mark.live

NOBODY = 2**31 - 1
ROUNDS = 20
"""Of attaching and detaching."""
SETTLE_S = 0.02
"""Of traffic before and after each of them."""


@pytest.fixture(params=["auto", "clsact", "somebody's clsact"])
def way(request):
    return request.param


@pytest.fixture
def web(datapath, way, monkeypatch):
    """A veth on which attaching goes this way."""
    hook = "clsact" if way == "clsact" else "auto"
    monkeypatch.setattr(datapath, "settings", replace(datapath.settings, hook=hook))
    with newcomer(datapath) as made:
        if way == "somebody's clsact":
            add_clsact(made)
        yield made
        datapath.detach(made.ifindex)
        assert clsact(made) == (way == "somebody's clsact")


def add_clsact(web):
    with netlink("being somebody else") as route:
        route.tc("add", "clsact", web.ifindex)


def unhook(datapath, web, hook):
    """Take our program off this hook, as somebody might who has root."""
    if not on_tcx(web, hook):
        return drop_filter(web, hook, 1, attach.HANDLE)
    fd = bpf.obj_get(tcx.pin_of(datapath.settings.pins, web.ifindex, hook))
    bpf.link_detach(fd)
    return os.close(fd)


def test_links_where_nobody_has_a_clsact_and_filters_where_somebody_has(datapath, web, way):
    datapath.attach(web.ifindex)
    by_links = way == "auto" and has_tcx()
    flags = {"auto": attach.OWN_TCX if has_tcx() else attach.OWN_CLSACT, "clsact": attach.OWN_CLSACT}.get(way, 0)
    assert datapath.maps.attached()[web.ifindex] == flags
    assert clsact(web) != by_links
    for hook in TYPES:
        assert filters(web, hook) == ([] if by_links else [(1, 0xC105, f"clovisor_{hook}")])
        assert on_tcx(web, hook) == ([bpf.program_id(datapath.programs[hook])] if by_links else [])
    assert counted(datapath, web) == (6, 3, 3)
    assert attach.find_all() == [web.ifindex]


def test_attaching_twice_does_not_double(datapath, web):
    for _ in range(3):
        datapath.attach(web.ifindex)
    assert on_hooks(web.ifindex) == [1, 1]
    assert counted(datapath, web) == (6, 3, 3)


def test_a_dump_that_missed_the_qdisc_doubles_nothing(datapath, web, monkeypatch):
    """Of all interfaces' qdiscs, while others come and go: the filters themselves are asked for."""
    datapath.attach(web.ifindex)
    monkeypatch.setattr(datapath, "settings", replace(datapath.settings, hook="auto"))
    monkeypatch.setattr(TcDump, "has_clsact", lambda *_: False)
    datapath.attach(web.ifindex)
    monkeypatch.undo()
    assert on_hooks(web.ifindex) == [1, 1]
    assert counted(datapath, web) == (6, 3, 3)


@pytest.mark.parametrize("other", ["auto", "clsact"])
def test_what_is_attached_in_one_way_stays_so(datapath, web, other, monkeypatch):
    """Both at once would count twice; a successor may be told another way."""
    datapath.attach(web.ifindex)
    before = [(filters(web, hook), on_tcx(web, hook)) for hook in TYPES]
    monkeypatch.setattr(datapath, "settings", replace(datapath.settings, hook=other))
    datapath.attach(web.ifindex)
    assert [(filters(web, hook), on_tcx(web, hook)) for hook in TYPES] == before
    assert counted(datapath, web) == (6, 3, 3)


@pytest.mark.parametrize("hook", TYPES)
def test_what_somebody_removed_is_put_back(datapath, web, hook):
    datapath.attach(web.ifindex)
    assert not datapath.repair(web.ifindex)
    unhook(datapath, web, hook)
    assert datapath.broken() == [web.ifindex]
    assert datapath.repair(web.ifindex)
    assert on_hooks(web.ifindex) == [1, 1]
    assert datapath.broken() == []
    assert counted(datapath, web) == (6, 3, 3)


def test_a_new_name_changes_nothing(datapath, web):
    datapath.attach(web.ifindex)
    name = f"r{web.veth}"[:15]
    try:
        subprocess.run(["ip", "link", "set", web.veth, "name", name], check=True)
        assert datapath.broken() == []
        datapath.attach(web.ifindex)
        assert on_hooks(web.ifindex) == [1, 1]
        assert counted(datapath, web) == (6, 3, 3)
    finally:
        subprocess.run(["ip", "link", "set", name, "name", web.veth], check=True)


def test_an_interface_that_went_away(datapath, web, way):
    with pod("kt-gone") as gone:
        if way == "somebody's clsact":
            add_clsact(gone)
        datapath.attach(gone.ifindex)
        pods.delete_link(gone.veth)
        assert datapath.broken() == [gone.ifindex]
        assert datapath.ahead(gone.ifindex) == ()
        with pytest.raises(TargetGone, match=f"interface {gone.ifindex}"):
            datapath.repair(gone.ifindex)
        datapath.detach(gone.ifindex)
        assert gone.ifindex not in datapath.maps.attached()
        assert datapath.strays() == []
        assert not tcx.pinned(datapath.settings.pins)


def test_its_number_goes_to_another_interface(datapath, web, way):
    """What was remembered, and pinned, is of the one that is no more."""
    with pod("kt-dead") as dead:
        datapath.attach(dead.ifindex)
        pods.delete_link(dead.veth)
        with netlink("making a veth of that number") as route:
            route.link("add", ifname="kt-again", kind="veth", peer="kt-again2", index=dead.ifindex)
            if way == "somebody's clsact":
                route.tc("add", "clsact", dead.ifindex)
    try:
        assert datapath.broken() == [dead.ifindex]
        assert datapath.repair(dead.ifindex)
        assert on_hooks(dead.ifindex) == [1, 1]
        assert datapath.broken() == []
        datapath.detach(dead.ifindex)
        assert on_hooks(dead.ifindex) == [0, 0]
        assert not tcx.pinned(datapath.settings.pins)
    finally:
        pods.delete_link("kt-again")


def test_an_interface_that_never_was(datapath, web):
    with pytest.raises(TargetGone, match=f"interface {NOBODY}"):
        datapath.attach(NOBODY)
    assert NOBODY not in datapath.maps.pods()
    assert NOBODY not in datapath.maps.attached()


def test_a_refusal_is_ours_and_leaves_nothing(datapath, web, monkeypatch, way):
    """What is not a SCHED_CLS program the kernel refuses."""
    monkeypatch.setitem(datapath.programs, "egress", datapath.maps.fds["pods"])
    with pytest.raises(KernelRefused, match="clovisor doctor"):
        datapath.attach(web.ifindex)
    monkeypatch.undo()
    assert on_hooks(web.ifindex) == [0, 0]
    assert clsact(web) == (way == "somebody's clsact")
    assert web.ifindex not in datapath.maps.pods()
    assert web.ifindex not in datapath.maps.attached()


def test_a_want_of_files_is_a_sentence(datapath, web, monkeypatch):
    def no_more(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    datapath.attach(web.ifindex)
    monkeypatch.setattr(attach, "tc_dump", no_more)
    for look in (datapath.broken, lambda: datapath.ahead(web.ifindex)):
        with pytest.raises(KernelRefused, match="looking at the filters failed"):
            look()
    monkeypatch.undo()


def test_all_veths_are_looked_at_in_one_go(datapath, web):
    with pod("kt-other") as other:
        for each in (web, other):
            datapath.attach(each.ifindex)
        assert datapath.broken() == []
        unhook(datapath, other, "egress")
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
        assert on_hooks(other.ifindex) == [0, 0]
        assert on_hooks(web.ifindex) == [1, 1]
        assert datapath.stats(other.ifindex) is None


class Stream:
    """Numbered datagrams to a pod and from it, as fast as may be without filling a buffer; which came at all."""

    def __init__(self, web):
        inside = web.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        inside.bind((web.ipv4, 0))
        outside.bind((web.host_ipv4, 0))
        inside.connect(outside.getsockname())
        outside.connect(inside.getsockname())
        self.sockets, self.sent, self.came = (inside, outside), [0, 0], [set(), set()]
        self._threads = [Thread(target=self._receive, args=(end,)) for end in (0, 1)] + [Thread(target=self._send)]
        self._over = False

    def __enter__(self):
        for end in self.sockets:
            end.settimeout(0.5)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        for thread in self._threads[::-1]:
            thread.join()
        for end in self.sockets:
            end.close()

    def lost(self):
        return [len({*range(sent)} - came) for sent, came in zip(self.sent, self.came, strict=True)]

    def _send(self):
        while not self._over:
            for end, socket_of in enumerate(self.sockets):
                socket_of.send(b"%d" % self.sent[end])
                self.sent[end] += 1
            time.sleep(0.0002)

    def _receive(self, end):
        """What the other end of `end` gets; until nothing comes any more."""
        while True:
            try:
                self.came[end].add(int(self.sockets[not end].recv(64)))
            except TimeoutError:
                if self._over:
                    return


@needs_tcx
@pytest.mark.parametrize("way", ["auto", "somebody's clsact"], indirect=True)
def test_attaching_and_detaching_lose_no_packet(datapath, web):
    """A clsact of ours loses one now and then: that is why it is not the way where there is another."""
    with Stream(web) as stream:
        for _ in range(ROUNDS):
            time.sleep(SETTLE_S)
            datapath.attach(web.ifindex)
            time.sleep(SETTLE_S)
            datapath.detach(web.ifindex)
    assert min(stream.sent) > 10 * ROUNDS
    assert stream.lost() == [0, 0]


@needs_tcx
@pytest.mark.parametrize("way", ["somebody's clsact"], indirect=True)
def test_where_links_are_asked_for_a_clsact_is_left_alone(datapath, web, monkeypatch):
    monkeypatch.setattr(datapath, "settings", replace(datapath.settings, hook="tcx"))
    put_filter(web, "ingress", 0)
    datapath.attach(web.ifindex)
    assert [entry[2] for entry in filters(web, "ingress")] == ["foreign"]
    assert [len(on_tcx(web, hook)) for hook in TYPES] == [1, 1]
    assert counted(datapath, web) == (6, 3, 3)


@pytest.mark.parametrize("way", ["auto"], indirect=True)
def test_a_kernel_without_tcx_gets_a_clsact(datapath, web, monkeypatch):
    def never_heard_of(*_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(bpf, "tcx_query", never_heard_of)
    datapath.attach(web.ifindex)
    assert datapath.maps.attached()[web.ifindex] == attach.OWN_CLSACT
    assert clsact(web)
    assert datapath.broken() == []
    assert datapath.strays() == []
    assert datapath.ahead(web.ifindex) == ()
    datapath.detach(web.ifindex)
    assert not clsact(web)
