import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clovisor_py.errors import EnvironmentLacking, KernelRefused, TargetGone, UsageError
from clovisor_py.kernel import netns, pods
from clovisor_py.kernel.links import addresses, link_exists, link_names, refusal
from tests.support.netns import pod, require_namespaces
from tests.support.nginx import BIG, nginx_in


def mounts() -> list[str]:
    """Mount points under /run/netns, other than the folder itself, which stays one as with `ip netns`."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{netns.NETNS_DIR}/")]


@pytest.fixture
def name():
    require_namespaces()
    name = f"cvt{os.getpid()}-own"
    yield name
    netns.delete(name)


@pytest.mark.parametrize("wrong", ["", "a/b", "..", ".", "x" * 256])
def test_what_cannot_be_a_name(wrong):
    with pytest.raises(UsageError):
        netns.path_of(wrong)


def test_refusals_say_what_to_do():
    assert isinstance(refusal("making a veth", 1), EnvironmentLacking)
    assert "root" in str(refusal("making a veth", 13))
    assert isinstance(refusal("making a veth", 95), EnvironmentLacking)
    assert isinstance(refusal("making a veth", 22), KernelRefused)
    assert isinstance(refusal("attaching to interface 5", 19), TargetGone)


def test_link_names_are_at_most_15_characters_and_differ():
    made = {pods.link_name(f"{'a-very-long-namespace-name'}-{number}") for number in range(100)}
    assert len(made) == 100
    assert max(map(len, made)) <= 15


def test_links_without_privilege():
    assert link_names()[1] == "lo"
    assert link_exists(1)
    assert not link_exists(2**31 - 1)
    assert not link_exists(2**40)
    assert not link_exists(0)
    assert addresses(None).get(1) is None  # of host scope, which is no address of a pod


@pytest.mark.live
def test_create_and_delete(name):
    before = mounts()
    netns.create(name)
    assert netns.exists(name)
    assert name in netns.names()
    assert netns.call_inside(name, link_names)[1] == "lo"
    assert link_names() != netns.call_inside(name, link_names)
    netns.delete(name)
    assert not netns.exists(name)
    netns.delete(name)  # absent is as good as deleted
    assert mounts() == before


@pytest.mark.live
def test_a_name_is_given_once(name):
    netns.create(name)
    with pytest.raises(KernelRefused, match=f"ip netns delete {name}"):
        netns.create(name)
    assert netns.exists(name)


@pytest.mark.live
def test_a_half_made_name_is_deleted(name):
    netns.NETNS_DIR.mkdir(exist_ok=True)
    netns.path_of(name).touch()
    netns.delete(name)
    assert not netns.exists(name)


@pytest.mark.live
def test_a_failure_while_making_leaves_nothing(name, monkeypatch):
    def no(*_):
        raise OSError(1, "no")

    monkeypatch.setattr(netns, "_mount", no)
    with pytest.raises(EnvironmentLacking, match="root"):
        netns.create(name)
    assert not netns.exists(name)


@pytest.mark.live
def test_what_a_function_raises_inside_comes_out(name):
    netns.create(name)

    def broken():
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        netns.call_inside(name, broken)
    with pytest.raises(KernelRefused, match="no-such-namespace"):
        netns.call_inside("no-such-namespace", broken)


@pytest.mark.live
def test_a_command_runs_inside_without_a_mount_of_its_own(name):
    netns.create(name)
    look = "import os, socket; print(os.readlink('/proc/self/ns/net'), os.readlink('/proc/self/ns/mnt'))"
    with netns.spawn(name, [sys.executable, "-c", look], stdout=subprocess.PIPE) as process:
        inside_net, inside_mnt = process.communicate(timeout=20)[0].decode().split()
    assert process.returncode == 0
    assert inside_net != str(Path("/proc/self/ns/net").readlink())
    assert inside_mnt == str(Path("/proc/self/ns/mnt").readlink())


@pytest.mark.live
@pytest.mark.parametrize("where", ["there", "no-such-namespace"])
def test_a_command_that_cannot_start_says_why(name, where):
    netns.create(name)
    where, command = (name, "no-such-command") if where == "there" else (where, "true")
    with netns.spawn(where, [command], stderr=subprocess.PIPE) as process:
        said = process.communicate(timeout=20)[1].decode()
    assert process.returncode == 125
    assert said.startswith("netns_exec: ")
    assert "No such file" in said


@pytest.mark.live
def test_end_asks_then_kills(name):
    netns.create(name)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with netns.spawn(name, [sys.executable, "-c", stubborn], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline()
        mild = netns.spawn(name, ["sleep", "60"])
        netns.end([process, mild], patience_s=0.2)
        assert process.returncode == -9
        assert mild.returncode == -15
        netns.end([process, mild])  # once more is no error


@pytest.mark.live
def test_a_pod_is_reached_at_once_over_both_families():
    with pod("reach") as one:
        for address in (one.ipv4, one.ipv6):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with one.call(lambda family=family: socket.socket(family, socket.SOCK_STREAM)) as server:
                server.bind((address, 0))
                server.listen()
                port = server.getsockname()[1]
                socket.create_connection((address, port), timeout=5).close()
        assert one.call(link_names).keys() - {1}
        assert link_names()[one.ifindex] == one.veth
    assert one.veth not in link_names().values()
    assert not netns.exists(one.namespace)


@pytest.mark.live
def test_a_pod_goes_even_when_its_block_fails():
    with pytest.raises(ZeroDivisionError), pod("fails") as one:
        raise ZeroDivisionError
    assert one.veth not in link_names().values()
    assert not netns.exists(one.namespace)


@pytest.mark.live
def test_a_pod_that_the_kernel_refuses(name):
    netns.create(name)
    with pytest.raises(KernelRefused, match="no-such"):
        pods.add_pod("no-such", ["10.0.0.1/24"])
    pods.add_pod(name, [])
    with pytest.raises(KernelRefused, match=name):
        pods.add_pod(name, [])
    pods.delete_link(pods.link_name(name))
    pods.delete_link(pods.link_name(name))


@pytest.mark.live
def test_nginx_in_a_pod_counts_what_it_serves():
    with pod("nginx") as one, nginx_in(one) as nginx:
        for ipv6 in (False, True):
            with socket.create_connection((one.ipv6 if ipv6 else one.ipv4, 80), timeout=5) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /big HTTP/1.0\r\n\r\n")
                got = 0
                while data := client.recv(1 << 20):
                    got += len(data)
            assert got > BIG + 612
        assert nginx.wait_for(4) == 4
        assert {(line.status, line.request) for line in nginx.served()} == {(200, "GET / HTTP/1.1"), (200, "GET /big HTTP/1.0")}
    assert nginx.process.returncode is not None
    assert not nginx.folder.exists()


@pytest.mark.live
def test_a_spawned_command_dies_with_its_parent(name):
    netns.create(name)
    parent = (
        "import sys; from clovisor_py.kernel import netns\n"
        f"print(netns.spawn({name!r}, ['sleep', '60']).pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        process.kill()
    assert _gone(pid)


def _gone(pid):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        status = Path(f"/proc/{pid}/stat")
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False
