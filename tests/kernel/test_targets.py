import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from clovisor_py.errors import EnvironmentLacking, UsageError
from clovisor_py.kernel import links, netns, pods, rtnl, targets
from clovisor_py.kernel.links import Link
from clovisor_py.kernel.targets import Veth, resolve, veths_here
from tests.support.netns import pod, require_namespaces


@pytest.fixture(scope="module")
def web():
    with pod("web") as one:
        yield one


def expected(one, label):
    return [Veth(one.ifindex, one.veth, label, (one.ipv4, one.ipv6), "eth0", "veth")]


@pytest.mark.live
def test_an_interface(web):
    assert resolve(web.veth) == expected(web, web.veth)


@pytest.mark.live
def test_a_namespace_by_name_and_by_path(web):
    assert resolve(web.namespace) == expected(web, web.namespace)
    assert resolve(f"/run/netns/{web.namespace}") == expected(web, web.namespace)


@pytest.mark.live
def test_a_pid(web):
    process = web.spawn("sleep", "60")
    try:
        _until_exec(process.pid, "sleep")
        assert resolve(str(process.pid)) == expected(web, "sleep")
    finally:
        netns.end([process])
    with pytest.raises(UsageError, match=f"no interface, namespace or pid named '{process.pid}'"):
        resolve(str(process.pid))


@pytest.mark.live
def test_veths_here_are_labelled(web):
    assert expected(web, web.namespace)[0] in veths_here()


@pytest.mark.live
def test_a_namespace_without_a_veth_and_what_there_is_instead(web):
    name = f"cvt{os.getpid()}-empty"
    netns.create(name)
    try:
        with pytest.raises(UsageError, match="has no veth that ends here") as caught:
            resolve(name)
    finally:
        netns.delete(name)
    assert web.namespace in str(caught.value)
    assert name not in str(caught.value).partition("Namespaces with a veth here")[2]


@pytest.mark.live
def test_two_veths_of_one_namespace_and_both_ends_here(web):
    peer = {"ifname": f"cvt{os.getpid()}b"}
    with links.netlink("making a second veth") as route:
        route.link("add", ifname=f"cvt{os.getpid()}a", kind="veth", peer=peer)
    try:
        (first,) = resolve(f"cvt{os.getpid()}a")
        assert (first.label, first.peer_name, first.addresses) == (f"cvt{os.getpid()}a", peer["ifname"], ())
        fd = os.open(netns.path_of(web.namespace), os.O_RDONLY)
        try:
            with links.netlink("moving a veth") as route:
                route.link("set", ifname=peer["ifname"], net_ns_fd=fd)
        finally:
            os.close(fd)
        assert [veth.peer_name for veth in resolve(web.namespace)] == ["eth0", peer["ifname"]]
    finally:
        pods.delete_link(f"cvt{os.getpid()}a")


@pytest.mark.live
def test_an_interface_that_is_no_veth_says_what_it_is():
    require_namespaces()
    name = f"cvt{os.getpid()}n"
    pods.add_bridge(name, ["10.213.0.1/24"])
    try:
        (veth,) = resolve(name)
    finally:
        pods.delete_link(name)
    assert (veth.kind, veth.addresses, veth.peer_name, veth.label) == ("bridge", ("10.213.0.1",), "", name)


@pytest.mark.live
@pytest.mark.parametrize("target", ["wbe", "", ".", "..", "/no/such/file", "99999999999"])
def test_an_unknown_name_lists_the_known_ones(web, target):
    with pytest.raises(UsageError) as caught:
        resolve(target)
    assert caught.value.exit_status == 2
    assert str(caught.value).startswith(f"no interface, namespace or pid named '{target}'. Namespaces with a veth here: ")
    assert web.namespace in str(caught.value)


def test_the_loopback_interface():
    with pytest.raises(UsageError, match="loopback"):
        resolve("lo")


def test_a_process_on_the_hosts_own_network():
    with pytest.raises(UsageError, match=r"pid \d+ \(.+\) is the host's own network"):
        resolve(str(os.getpid()))


def test_a_file_that_is_no_namespace(tmp_path):
    with pytest.raises(UsageError, match="no namespace's"):
        resolve(str(tmp_path))


def test_a_process_that_may_not_be_looked_at(monkeypatch):
    def no(path, *_):
        raise PermissionError(13, "no", path)

    monkeypatch.setattr(targets.os, "open", no)
    with pytest.raises(EnvironmentLacking, match="root"):
        resolve("1")


def test_long_lists_are_cut(monkeypatch):
    many = [Link(number, f"v{number}", "veth", 2, number) for number in range(20)]
    monkeypatch.setattr(targets, "links", lambda: many)
    monkeypatch.setattr(targets, "_namespaces_by_id", dict)
    with pytest.raises(UsageError, match=r"Veths here: v0, v1, .* v11 and 8 more"):
        resolve("wbe")
    monkeypatch.setattr(targets, "links", list)
    with pytest.raises(UsageError, match="no veth here"):
        resolve("wbe")


def test_names_that_a_pod_chose_do_not_command_the_terminal(monkeypatch):
    link = Link(7, "veth7", "veth", 2, 5)
    monkeypatch.setattr(targets, "names_behind", lambda _: {2: "\x1b[2Jeth0"})
    monkeypatch.setattr(targets, "addresses", lambda _: {})
    veth = targets._veth(link, "web\x1b]0;x\x07", [link])
    assert (veth.label, veth.peer_name) == (r"web\x1b]0;x\x07", r"\x1b[2Jeth0")


@pytest.mark.live
def test_a_process_that_calls_itself_an_escape(web):
    process = web.spawn("python3", "-c", "open('/proc/self/comm', 'w').write('\x1b[2J'); import time; time.sleep(60)")
    try:
        _until_exec(process.pid, "\x1b[2J")
        assert [veth.label for veth in resolve(str(process.pid))] == [r"\x1b[2J"]
    finally:
        netns.end([process])


class FakeNetlink:
    """Answers with prepared datagrams."""

    def __init__(self, *datagrams):
        self.datagrams = list(datagrams)

    def recv(self, _):
        return self.datagrams.pop(0)


def message(kind, body=b"", flags=2):
    padding = b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body + padding


DONE = message(3, struct.pack("=i", 0))


def test_a_dump_in_several_datagrams():
    sock = FakeNetlink(message(20, b"one") + message(18, b"other"), message(20, b"two") + DONE)
    assert rtnl.collect(sock, 20) == ([b"one", b"two"], True)


def test_an_interrupted_dump_is_known():
    assert rtnl.collect(FakeNetlink(message(20, b"one", flags=0x12) + DONE), 20) == ([b"one"], False)


def test_a_refused_dump():
    with pytest.raises(PermissionError):
        rtnl.collect(FakeNetlink(message(2, struct.pack("=i", -1))), 20)


def test_an_unassigned_namespace_id_is_a_refusal():
    with pytest.raises((UsageError, EnvironmentLacking, targets.ClovisorError)):
        links.addresses(2**31 - 1)


def test_names_behind_nothing_are_those_here():
    assert links.names_behind(None) == dict(socket.if_nameindex())


def _until_exec(pid, comm):
    """Wait for the launcher to have become the command."""
    for _ in range(500):
        if Path(f"/proc/{pid}/comm").read_text().strip() == comm:
            return
        subprocess.run(["sleep", "0.01"], check=True)
    raise AssertionError(f"pid {pid} never became {comm}")
