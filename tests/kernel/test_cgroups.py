from __future__ import annotations

import os
import subprocess

import pytest

from clovisor_py.kernel import cgroups
from clovisor_py.kernel.cgroups import PAUSE_S, SHARE, Cgroups, mounted

ID, OTHER = "a1" * 32, "b2" * 32
LINE = "41 31 0:38 {} {} rw,relatime shared:5 - {} x rw"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def tree(tmp_path):
    """Folders have inodes everywhere."""

    def make(*path):
        folder = tmp_path.joinpath(*path)
        folder.mkdir(parents=True, exist_ok=True)
        return folder.stat().st_ino

    return make


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def asked(tmp_path, clock):
    return Cgroups(lambda: tmp_path, clock)


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(ID, id="cgroupfs driver"),
        pytest.param(f"cri-containerd-{ID}.scope", id="containerd by systemd"),
        pytest.param(f"crio-{ID}.scope", id="cri-o"),
        pytest.param(f"docker-{ID}.scope", id="docker"),
        pytest.param(f"kubepods-burstable-pod1.slice:cri-containerd:{ID}", id="a path that systemd was not asked to make"),
    ],
)
def test_every_runtimes_name_of_the_folder(tree, asked, folder):
    assert asked.container(tree("kubepods.slice", "kubepods-pod1.slice", folder)) == ID


def test_a_containers_own_cgroups_are_the_containers(tree, asked):
    assert asked.container(tree("kubepods", "pod1", ID, "init.scope", "deeper")) == ID
    assert asked.readings == 2


def test_what_is_no_containers(tree, asked):
    assert asked.container(tree("system.slice", "cron.service")) == ""
    assert asked.container(tree("kubepods", "pod1", ID[:-1])) == ""
    assert asked.container(0) == ""


def test_one_look_finds_all_that_is_there_and_is_remembered(tree, asked):
    first, second = tree("kubepods", "pod1", ID), tree("kubepods", "pod1", OTHER)
    assert [asked.container(one) for one in (first, second, first, second)] == [ID, OTHER, ID, OTHER]
    assert asked.readings == 1


def test_a_new_one_waits_for_the_next_look(tree, asked, clock):
    asked.container(tree("kubepods", "pod1", ID))
    new = tree("kubepods", "pod2", OTHER)
    assert (asked.container(new), asked.postponed) == ("", 1)
    clock.now += PAUSE_S
    assert (asked.container(new), asked.postponed) == (OTHER, 1)


def test_what_takes_long_is_done_less_often(tree, clock, tmp_path):
    """A tree of thousands: reading it may not take more than its share of the engine's time."""
    took = 0.15

    def slow():
        clock.now += took / 2  # there are two readings: the id is not found without what is below containers
        return tmp_path

    asked = Cgroups(slow, clock)
    asked.container(1)
    new = tree("kubepods", "pod1", ID)
    for pause, found in ((PAUSE_S, ""), (took / SHARE - PAUSE_S - 0.01, ""), (0.02, ID)):
        clock.now += pause
        assert asked.container(new) == found
    assert (asked.readings, asked.postponed) == (3, 2)


def test_one_that_has_ended_keeps_its_name_and_one_that_was_never_found_is_not_looked_for_again(tree, asked, clock, tmp_path):
    known = tree("kubepods", "pod1", ID)
    assert asked.container(known) == ID
    (tmp_path / "kubepods" / "pod1" / ID).rmdir()
    clock.now += PAUSE_S
    assert [asked.container(1), asked.container(known)] == ["", ID]
    readings = asked.readings
    clock.now += PAUSE_S
    assert asked.container(1) == "" and asked.readings == readings


def test_a_tree_without_end_is_not_read_to_its_end(tree, asked, clock, monkeypatch):
    monkeypatch.setattr(cgroups, "MAX_FOLDERS", 3)
    for number in range(5):
        tree(f"slice{number}")
    assert asked.container(1) == "" and asked.beyond == asked.readings == 2


def test_what_is_remembered_is_bounded(tree, asked, clock, monkeypatch):
    monkeypatch.setattr(cgroups, "KEPT", 4)
    first = tree(ID)
    for unknown in range(1, 9):
        clock.now += PAUSE_S
        assert asked.container(unknown) == ""
        assert asked.container(first) == ID
        assert len(asked._known) <= 5


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        pytest.param([("/", "/sys/fs/cgroup", "cgroup2")], "/sys/fs/cgroup", id="unified"),
        pytest.param(
            [("/", "/sys/fs/cgroup/memory", "cgroup"), ("/", "/sys/fs/cgroup/unified", "cgroup2")],
            "/sys/fs/cgroup/unified",
            id="hybrid",
        ),
        pytest.param([("/", "/sys/fs/cgroup/memory", "cgroup")], None, id="legacy"),
        pytest.param(
            [("/", "/sys/fs/cgroup", "cgroup2"), ("/../../..", "/host/sys/fs/cgroup", "cgroup2")],
            "/host/sys/fs/cgroup",
            id="a pod with a cgroup namespace",
        ),
        pytest.param(
            [("/kubepods/pod1/x", "/sys/fs/cgroup", "cgroup2"), ("/", "/host/sys/fs/cgroup", "cgroup2")],
            "/host/sys/fs/cgroup",
            id="a pod without",
        ),
        pytest.param([("/", r"/a\040b", "cgroup2")], "/a b", id="a folder with a space"),
    ],
)
def test_where_the_hierarchy_is(tmp_path, mounts, found):
    file = tmp_path / "mountinfo"
    file.write_text("".join(LINE.format(*mount) + "\n" for mount in mounts))
    assert (str(mounted(file)) if found else mounted(file)) == found


def test_no_hierarchy_no_names(tmp_path, caplog):
    assert Cgroups(lambda: None).container(7) == ""
    assert mounted(tmp_path / "absent") is None
    assert "cannot be read" in caplog.text


@pytest.mark.live
def test_on_this_kernel():
    root = mounted()
    if root is None or os.geteuid() != 0:
        pytest.skip("needs root and a mounted cgroup2")
    pod = root / f"cvt-{os.getpid()}"
    container = pod / ID
    container.mkdir(parents=True)
    try:
        assert Cgroups().container(container.stat().st_ino) == ID
        # Seen from a namespace of its own, the hierarchy that was mounted outside begins above.
        command = f"echo $$ >{container}/cgroup.procs && exec unshare --cgroup cat /proc/self/mountinfo"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=True)
        [line] = [line for line in done.stdout.splitlines() if " - cgroup2 " in line]
        assert line.split()[3:5] == ["/../..", str(root)]
    finally:
        container.rmdir()
        pod.rmdir()
