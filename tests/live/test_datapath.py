"""The datapath through the lives and deaths of its holders: locked, adopted, replaced, removed.

A test leaves its pins to the next one, which adopts them (compiling costs a second); what needs none, or others, says so.
"""

import errno
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from clovisor_py.config import Settings
from clovisor_py.errors import AlreadyRunning, EnvironmentLacking, KernelRefused
from clovisor_py.kernel import attach, bpf, compile, layout
from clovisor_py.kernel.datapath import Datapath, _build_of
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.removal import remove_all
from clovisor_py.kernel.tc_dump import tc_dump
from tests.support.foreign import has_tcx, needs_tcx, on_hooks
from tests.support.kernel import (
    bench_settings,
    check_books,
    connection,
    drained,
    drop_pins,
    exchange,
    node,
    open_fds,
    unpack_session,
)
from tests.support.netns import pod
from tests.support.trace import wait_until

pytestmark = pytest.mark.live

HOLDER = """
import pathlib, sys, time
from clovisor_py.config import Settings
from clovisor_py.kernel import bpf
from clovisor_py.kernel.datapath import Datapath
with Datapath(Settings(pins=pathlib.Path(sys.argv[1]), hook=sys.argv[2], lease_s=3600)) as datapath:
    for ifindex in sys.argv[3:]:
        datapath.attach(int(ifindex))
    print(*(bpf.program_id(fd) for fd in datapath.programs.values()), flush=True)
    time.sleep(600)
"""
"""Opens a datapath, attaches, says its programs' ids, and waits to be killed."""
NOBODY = 2**31 - 1


@pytest.fixture(scope="module", autouse=True)
def own_node():
    """Opening a datapath strips its namespace of leftovers: these tests have one for themselves."""
    with node():
        yield
        drop_pins(bench_settings("-life").pins)


@pytest.fixture
def hook():
    """The setting of that name; `both_ways` gives either."""
    return "auto"


both_ways = pytest.mark.parametrize("hook", ["auto", "clsact"])


@pytest.fixture
def settings(hook):
    """Of a datapath that traces nothing, pinned or not."""
    chosen = bench_settings("-life", hook=hook)
    yield chosen
    for ifindex in attach.find_all():  # of a test that failed
        attach.detach(ifindex, chosen.pins, attach.OWN_CLSACT)
    if chosen.pins.exists():
        with Datapath(chosen) as datapath:
            datapath.retain(set())
            datapath.ring.discard()


@pytest.fixture
def nothing(settings):
    """No pins."""
    drop_pins(settings.pins)


@pytest.fixture
def web():
    with pod("kt-life") as made:
        yield made


@pytest.fixture
def holder(settings, web):
    """Start another process that holds the datapath and traces the pod: (process, its programs' ids)."""
    with ExitStack() as undo:

        def start(*ifindexes):
            arguments = [str(settings.pins), settings.hook, *map(str, ifindexes)]
            process = subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE, text=True)
            undo.callback(process.stdout.close)
            undo.callback(process.wait)
            undo.callback(process.kill)
            return process, [int(word) for word in process.stdout.readline().split()]

        yield start


def killed(process):
    process.kill()
    process.wait()


def ids(datapath):
    return [bpf.program_id(fd) for fd in datapath.programs.values()]


OFF, ON = ([0, 0], False), {"auto": ([1, 1], not has_tcx()), "clsact": ([1, 1], True)}


def attached(ifindex):
    """How many programs are on each hook, and whether clsact is there."""
    with tc_dump() as tc:
        return on_hooks(ifindex), tc.has_clsact(ifindex)


def cookies(datapath):
    return [unpack_session(value)["cookie"] for _, value in datapath.maps.sessions()]


@pytest.mark.usefixtures("nothing")
def test_a_new_datapath_is_pinned_and_says_so(settings):
    with Datapath(settings) as datapath:
        assert not datapath.adopted
        assert {path.name for path in settings.pins.iterdir()} == {*compile.MAPS, *compile.PROGRAMS}
        assert datapath.maps.settings()[:3] == (layout.ABI, settings.wake_bytes, compile.build_id())
        assert datapath.stale_bytes == 0


def test_the_verifier_is_far_from_its_limit(settings):
    """Kernels refuse at a million instructions looked at, and each counts otherwise: a state more is easily a tenfold."""
    with Datapath(settings) as datapath:
        looked_at = [
            int(line.split()[1])
            for fd in datapath.programs.values()
            for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
            if line.startswith("verified_insns:")
        ]
    if not looked_at:
        pytest.skip("needs a kernel that counts what its verifier looks at (5.16)")
    assert max(looked_at) < 150_000


def test_there_is_one_at_a_time_and_the_other_is_named(settings):
    with Datapath(settings):
        with (
            pytest.raises(AlreadyRunning, match=rf"another Clovisor \(pid {os.getpid()}\) .*: stop it first\.$"),
            Datapath(settings),
        ):
            pass
        with pytest.raises(AlreadyRunning):
            remove_all(settings.pins)
    with Datapath(settings):
        pass  # now there is room


def test_another_process_is_named(settings, holder):
    process, _ = holder()
    with pytest.raises(AlreadyRunning, match=rf"\(pid {process.pid}\)"), Datapath(settings):
        pass


@both_ways
def test_what_a_killed_one_left_is_adopted(settings, holder, web, hook):
    with connection(web) as ends:
        process, programs = holder(web.ifindex)
        exchange(*ends, 2)
        killed(process)
        assert attached(web.ifindex) == ON[hook]
        exchange(*ends)  # nobody is there, and the kernel goes on
        with Datapath(settings) as datapath:
            assert datapath.adopted
            assert ids(datapath) == programs
            (cookie,) = cookies(datapath)
            records = [record for record in drained(datapath, web.ifindex) if record.length]
            assert len(records) == 6
            assert {record.flow_id for record in records} == {cookie}
            datapath.attach(web.ifindex)
            assert attached(web.ifindex) == ON[hook]
            exchange(*ends)
            assert cookies(datapath) == [cookie]
            assert datapath.stats(web.ifindex)[Counter.SEGMENTS] == 2  # since this one attached
            check_books(datapath.stats(web.ifindex))
            datapath.detach(web.ifindex)
    assert attached(web.ifindex) == OFF


@both_ways
def test_what_nobody_wants_any_more_is_let_go(settings, holder, web):
    process, _ = holder(web.ifindex)
    killed(process)
    with Datapath(settings) as datapath:
        assert datapath.retain(set()) == [web.ifindex]
        assert attached(web.ifindex) == OFF


def test_a_backlog_from_before_the_lease_ran_out_is_forgotten(settings, holder, web):
    process, _ = holder(web.ifindex)
    with connection(web) as ends:
        exchange(*ends)
        killed(process)
        maps = Datapath(settings)
        with maps:
            waiting = maps.ring.waiting
            assert waiting > 0
            assert maps.stale_bytes == 0
            maps.maps.set_settings(1, compile.build_id(), 1)  # long over
        with Datapath(settings) as datapath:
            assert datapath.adopted
            assert datapath.stale_bytes == waiting
            assert drained(datapath, web.ifindex) == []
            exchange(*ends)
            assert len(drained(datapath, web.ifindex)) == 2


def test_controls_of_a_predecessor_are_swept_with_their_flows(settings, holder, web, monkeypatch):
    monkeypatch.setattr("clovisor_py.kernel.sweep.CLOSED_LINGER_NS", 0)
    process, _ = holder(web.ifindex)
    with connection(web) as ends:
        exchange(*ends)
        killed(process)
    with Datapath(settings) as datapath:
        (cookie,) = cookies(datapath)
        datapath.capture(cookie, "head")
    with Datapath(settings) as datapath:
        assert datapath.maps.controlled() == {cookie}
        datapath.sweep(idle_ns=0)
        assert datapath.maps.controlled() == set()


@both_ways
def test_pins_of_another_build_are_replaced(settings, holder, web, monkeypatch):
    process, programs = holder(web.ifindex)
    killed(process)
    monkeypatch.setattr(compile, "build_id", lambda: 1234)
    with Datapath(settings) as datapath:
        assert not datapath.adopted
        assert set(ids(datapath)).isdisjoint(programs)
        assert attached(web.ifindex) == OFF
        assert datapath.maps.pods() == {}


def test_pins_of_another_abi_or_not_all_there_are_no_build(settings, monkeypatch):
    pins = settings.pins
    with Datapath(settings) as datapath:
        assert _build_of(pins) == compile.build_id()
        monkeypatch.setattr(layout, "ABI", layout.ABI + 1)
        assert _build_of(pins) is None
        monkeypatch.undo()
        (pins / "sessions").unlink()
        assert _build_of(pins) is None
        bpf.obj_pin(datapath.maps.fds["sessions"], pins / "sessions")
        assert _build_of(pins) == compile.build_id()


@both_ways
def test_a_program_pin_that_is_missing_is_refused_and_all_can_be_removed(settings, web, hook):
    with Datapath(settings) as datapath:
        datapath.attach(web.ifindex)
    (settings.pins / "egress").unlink()
    with pytest.raises(KernelRefused, match="clovisor detach"), Datapath(settings):
        pass
    assert attached(web.ifindex) == ON[hook]
    assert remove_all(settings.pins) == [web.ifindex]
    assert attached(web.ifindex) == OFF
    assert not settings.pins.exists()


@both_ways
def test_removing_leaves_nothing(settings, web, hook):
    with Datapath(settings) as datapath:
        datapath.attach(web.ifindex)
        assert attached(web.ifindex) == ON[hook]
        datapath.remove()
    assert not settings.pins.exists()
    assert attached(web.ifindex) == OFF
    assert attach.find_all() == []
    assert remove_all(settings.pins) == []  # no error
    assert not settings.pins.exists()


@pytest.mark.parametrize("hook", ["clsact"])
def test_closing_leaves_everything_and_without_pins_filters_are_still_found(settings, web, hook):
    before = open_fds()
    with Datapath(settings) as datapath:
        datapath.attach(web.ifindex)
    assert open_fds() == before
    assert attached(web.ifindex) == ON[hook]
    drop_pins(settings.pins)
    assert attach.find_all() == [web.ifindex]
    assert remove_all(settings.pins) == [web.ifindex]
    assert attached(web.ifindex)[0] == [0, 0]
    assert not settings.pins.exists()


@needs_tcx
def test_links_go_with_their_pins(settings, web):
    with Datapath(settings) as datapath:
        datapath.attach(web.ifindex)
    assert attached(web.ifindex) == ([1, 1], False)
    drop_pins(settings.pins)
    wait_until(lambda: attached(web.ifindex) == OFF, "the links' end")
    assert attach.find_all() == []


def test_a_kernel_without_tcx_that_is_asked_for_it_is_refused_in_a_sentence(settings, monkeypatch):
    def never_heard_of(*_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(bpf, "tcx_query", never_heard_of)
    with pytest.raises(EnvironmentLacking, match=r"^this kernel has no TCX .*: set hook to auto or clsact\.$"):
        Datapath(replace(settings, hook="tcx")).__enter__()
    with Datapath(settings):
        pass  # unlocked


def test_where_there_is_no_bpffs(settings, tmp_path):
    chosen = Settings(**(asdict(settings) | {"pins": tmp_path / "absent" / "clovisor"}))
    with pytest.raises(EnvironmentLacking, match="mount -t bpf bpf"), Datapath(chosen):
        pass


def test_a_folder_that_is_no_bpffs_is_refused_and_unlocked(settings, tmp_path):
    chosen = Settings(**(asdict(settings) | {"pins": tmp_path / "clovisor"}))
    with pytest.raises(KernelRefused, match="mount -t bpf bpf"), Datapath(chosen):
        pass
    assert remove_all(chosen.pins) == []


def test_controls_that_find_no_room_are_counted(settings):
    with Datapath(settings) as datapath:
        for cookie in range(1, layout.MAX_SESSIONS + 1):
            datapath.maps.set_control(cookie, layout.Mode.FULL, 0, 0, 0)
        datapath.capture(2**40, "head")
        assert datapath.controls_refused == 1
        datapath.capture(5, "head")  # replaces one: needs no room
        assert datapath.controls_refused == 1
        assert datapath.maps.control(5) == (layout.Mode.HEAD, 0, 0, 0)
        datapath.remove()  # quicker than deleting them


def test_a_decision_that_the_kernel_refuses_for_whatever_reason_is_counted(settings, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with Datapath(settings) as datapath:
        monkeypatch.setattr(bpf, "map_update", refuse)
        datapath.capture(5, "head")
        datapath.skip_until(5, 0, 100)
        monkeypatch.undo()
        assert datapath.controls_refused == 2
        assert datapath.maps.control(5) is None


@both_ways
def test_pins_of_another_build_with_other_maps_are_cleaned_with_their_clsact(settings, holder, web, monkeypatch):
    process, _ = holder(web.ifindex)
    killed(process)
    (settings.pins / "sessions").unlink()
    monkeypatch.setattr(compile, "build_id", lambda: 1234)
    with Datapath(settings):
        assert attached(web.ifindex) == OFF


@both_ways
def test_a_veth_that_keeps_its_filters_stops_nothing_else(settings, web, monkeypatch):
    detach = attach.detach

    def stubborn(ifindex, *rest):
        if ifindex == NOBODY:
            raise KernelRefused("it would not come off: run `clovisor doctor`.")
        detach(ifindex, *rest)

    with Datapath(settings) as datapath:
        datapath.attach(web.ifindex)
        datapath.maps.set_attached(NOBODY, attach.OWN_CLSACT)
    monkeypatch.setattr(attach, "find_all", lambda: [NOBODY, web.ifindex])
    monkeypatch.setattr(attach, "detach", stubborn)
    with pytest.raises(KernelRefused, match="would not come off"):
        remove_all(settings.pins)
    monkeypatch.undo()
    assert attached(web.ifindex) == OFF
    assert not settings.pins.exists()


@both_ways
def test_a_look_at_one_pod_costs_the_same_however_many_there_are(settings, web, monkeypatch):
    calls, sockets = [], []
    command, socket_of = bpf._bpf, attach.tc_dump

    def cost(look, *arguments):
        calls.clear()
        look(*arguments)
        return len(calls)

    with Datapath(settings) as datapath, pod("kt-life2") as other:
        monkeypatch.setattr(bpf, "_bpf", lambda *given: calls.append(given[0]) or command(*given))
        monkeypatch.setattr(attach, "tc_dump", lambda: sockets.append(1) or socket_of())
        datapath.attach(web.ifindex)
        alone = [cost(datapath.stats, web.ifindex), cost(datapath.repair, web.ifindex)]
        datapath.attach(other.ifindex)
        assert [cost(datapath.stats, web.ifindex), cost(datapath.repair, web.ifindex)] == alone
        assert alone[0] == 1
        sockets.clear()
        assert datapath.broken() == []
        assert len(sockets) == 1
        datapath.detach(other.ifindex)


def test_a_heartbeat_that_comes_too_late_says_for_how_long_nothing_was_captured(settings):
    with Datapath(replace(settings, lease_s=0.1)) as datapath:
        assert datapath.heartbeat() == 0
        time.sleep(0.4)
        assert 0.2 < datapath.heartbeat() < 10
        assert datapath.heartbeat() == 0


def test_silenced_it_passes_everything_through_until_the_next_heartbeat(settings, web):
    with Datapath(settings) as datapath, connection(web) as ends:
        datapath.attach(web.ifindex)
        datapath.silence()
        exchange(*ends)
        assert datapath.stats(web.ifindex)[Counter.SEGMENTS] == 0
        datapath.heartbeat()
        exchange(*ends)
        assert datapath.stats(web.ifindex)[Counter.SEGMENTS] == 2
