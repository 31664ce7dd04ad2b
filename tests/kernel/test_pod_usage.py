"""What pods use, from trees of files as both versions of control groups have them."""

from __future__ import annotations

import pytest

from clovisor_py.kernel import pod_usage as module
from clovisor_py.kernel.pod_usage import PAUSE_S, PodUsage, Traffic, Usage, hierarchies

UID, OTHER = "a7db6e05-0c78-424f-b0a0-9984cec53b79", "c5ac904c-681b-4b38-bd0b-655f3d49d57d"
V2 = {
    "cpu.stat": "usage_usec 1500000\nuser_usec 1\n",
    "memory.current": "1000\n",
    "memory.stat": "anon 1\ninactive_file 300\n",
    "memory.events": "low 0\noom_kill 2\n",
    "io.stat": "8:0 rbytes=4096 wbytes=100 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=4 wbytes=1\n",
}
V1 = {
    "cpuacct": {"cpuacct.usage": "1500000000\n"},
    "memory": {
        "memory.usage_in_bytes": "1000\n",
        "memory.stat": "inactive_file 9\ntotal_inactive_file 300\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
    },
    "blkio": {
        "blkio.throttle.io_service_bytes": "8:0 Read 4096\n8:0 Write 100\n8:16 Read 4\n8:16 Write 1\n8:0 Total 9\nTotal 9\n"
    },
}
ALL = Usage(1.5, 1000, 700, 2, 4100, 101)
IN_V1 = ALL._replace(oom_kills=None)
"""The pod's own count there is 0 when a process in one of its containers was killed (seen on Linux 6.18)."""


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def mount(root, kind, options, at="/"):
    return f"1 2 0:3 {at} {root} rw,relatime shared:5 - {kind} {kind} {options}\n"


def fill(folder, files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)


@pytest.fixture
def mounts(tmp_path):
    return tmp_path / "mountinfo"


@pytest.mark.parametrize(
    "folder",
    [
        f"kubepods/burstable/pod{UID}",
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice",
        f"docker/abc/kubelet/kubepods/pod{UID}",
    ],
)
def test_version_2(tmp_path, mounts, folder):
    mounts.write_text(mount(tmp_path / "cg", "cgroup2", "rw"))
    fill(tmp_path / "cg" / folder, V2)
    assert PodUsage(mounts).read([UID]) == {UID: ALL}


def test_version_1_and_what_the_unified_hierarchy_has_beside_it(tmp_path, mounts):
    text = mount(tmp_path / "unified", "cgroup2", "rw")
    for controller, files in V1.items():
        text += mount(tmp_path / controller, "cgroup", f"rw,{controller}")
        fill(tmp_path / controller / "kubepods" / f"pod{UID}", files)
    mounts.write_text(text)
    assert PodUsage(mounts).read([UID]) == {UID: IN_V1}
    fill(tmp_path / "unified" / "kubepods" / f"pod{OTHER}", {"cpu.stat": "usage_usec 5\n"})
    assert PodUsage(mounts).read([UID, OTHER]) == {UID: IN_V1, OTHER: Usage(cpu_s=5e-6)}


def test_what_is_not_there_is_not_known(tmp_path, mounts):
    assert PodUsage(mounts).read([UID]) == {}
    mounts.write_text(mount(tmp_path / "cg", "cgroup2", "rw"))
    assert PodUsage(mounts).read([UID]) == {}
    fill(tmp_path / "cg" / f"pod{UID}", {"memory.current": "max\n"})
    assert PodUsage(mounts).read([UID]) == {}


def test_a_new_pod_is_looked_for_after_a_pause(tmp_path, mounts):
    clock = Clock()
    mounts.write_text(mount(tmp_path / "cg", "cgroup2", "rw"))
    usage = PodUsage(mounts, clock=clock)
    assert usage.read([UID]) == {}
    fill(tmp_path / "cg" / f"pod{UID}", V2)
    assert usage.read([UID]) == {}
    clock.now += PAUSE_S
    assert usage.read([UID]) == {UID: ALL}
    clock.now += PAUSE_S
    assert usage.read([UID]) == {UID: ALL}
    assert usage.searches == 2


def test_the_mount_that_shows_most(tmp_path):
    own, host = tmp_path / "own", tmp_path / "a folder"
    text = mount(own, "cgroup2", "rw", "/../../kubepods/pod1") + mount(
        str(host).replace(" ", "\\040"), "cgroup2", "rw", "/../.."
    )
    (tmp_path / "mounts").write_text(text)
    assert hierarchies(tmp_path / "mounts") == {"unified": host}


def test_a_search_ends(tmp_path, mounts, monkeypatch):
    monkeypatch.setattr(module, "MAX_FOLDERS", 5)
    mounts.write_text(mount(tmp_path / "cg", "cgroup2", "rw"))
    for number in range(10):
        (tmp_path / "cg" / str(number)).mkdir(parents=True)
    usage = PodUsage(mounts)
    usage.read([UID])
    assert usage.beyond == 1


def test_what_the_veth_receives_the_pod_has_sent(tmp_path):
    table = tmp_path / "dev"
    table.write_text(
        "Inter-|   Receive                |  Transmit\n face |bytes packets errs drop|bytes\n"
        "vethc1a2:  100  2 0 3 0 0 0 0  5000 6 0 7 0 0 0 0\n"
    )
    assert PodUsage(interfaces=table).traffic() == {"vethc1a2": Traffic(5000, 6, 7, 100, 2, 3)}
    assert PodUsage(interfaces=tmp_path / "none").traffic() == {}
