"""The machine, as /proc tells of it; and, as root, this one."""

import os
import socket
import sys
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from clovisor_py.errors import EnvironmentLacking
from clovisor_py.kernel import lock
from clovisor_py.kernel.machine import DEFAULT_PINS, Machine
from clovisor_py.kernel.probe import CAPABILITIES, require_bpffs, require_root
from tests.support.kernel import node


def proc_with(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(pins=tmp_path, proc=tmp_path)


def test_capabilities_are_read_from_the_status_file(tmp_path):
    status = "Name:\tpython3\nCapPrm:\tffffffffffffffff\nCapEff:\t000000c000001000\n"
    held = proc_with(tmp_path, self__status=status).capabilities()
    assert held == sum(1 << CAPABILITIES[name] for name in ("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"))


@pytest.mark.skipif(sys.byteorder == "big", reason="/proc/net/udp is in host order")
@pytest.mark.parametrize(
    ("bound", "asked", "found"),
    [
        ("0100007F:1AAF", IPv4Address("127.0.0.1"), True),
        ("00000000:1AAF", IPv4Address("127.0.0.1"), True),
        ("0100007F:1AB0", IPv4Address("127.0.0.1"), False),
        ("0200000A:1AAF", IPv4Address("127.0.0.1"), False),
        ("00000000000000000000000001000000:1AAF", IPv6Address("::1"), True),
        ("00000000000000000000000000000000:1AAF", IPv4Address("127.0.0.1"), True),
        ("0000000000000000FFFF00000100007F:1AAF", IPv4Address("127.0.0.1"), True),
        ("00000000000000000000000001000000:1AAF", IPv4Address("127.0.0.1"), False),
    ],
)
def test_udp_listeners_are_read_from_proc(tmp_path, bound, asked, found):
    row = f"  sl  local_address rem_address\n  12: {bound} 00000000:0000 07 00000000:00000000\n"
    assert proc_with(tmp_path, net__udp=row).listens_udp(asked, 6831) is found


def test_a_lock_is_found_by_device_and_inode(tmp_path):
    at = tmp_path.stat()
    device = f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}"
    rows = f"1: POSIX  ADVISORY  WRITE 7 {device}:{at.st_ino} 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 ff:ff:{at.st_ino} 0 EOF\n"
    machine = proc_with(tmp_path, locks=rows)
    assert machine.holder() is None
    (tmp_path / "locks").write_text(f"{rows}3: FLOCK  ADVISORY  WRITE 9 {device}:{at.st_ino} 0 EOF\n")
    assert machine.holder() == 9


def test_this_machine_is_read_without_privileges():
    machine = Machine()
    assert machine.release()[0].isdigit()
    assert machine.filesystem(Path("/proc")) == 0x9FA0
    assert machine.filesystem(Path("/nowhere")) is None
    assert machine.resolve("127.0.0.1", 6831) == IPv4Address("127.0.0.1")
    assert machine.resolve("nowhere.invalid", 6831) is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.1", 0)) as tcp:
        udp.bind(("127.0.0.1", 0))
        assert machine.listens_udp(IPv4Address("127.0.0.1"), udp.getsockname()[1])
        assert machine.answers_tcp(IPv4Address("127.0.0.1"), tcp.getsockname()[1])
        closed = tcp.getsockname()[1]
    assert not machine.answers_tcp(IPv4Address("127.0.0.1"), closed)


@pytest.fixture
def root():
    try:
        require_root()
    except EnvironmentLacking as error:
        pytest.skip(str(error))


def namespaces():
    """The network namespaces that this process's threads are in."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found.add((task / "ns/net").readlink())
    return found


@pytest.mark.live
def test_trying_clsact_leaves_nothing_behind(root):
    files = len(list(Path("/proc/self/fd").iterdir()))
    Machine().add_clsact()
    assert "probe0" not in dict(socket.if_nameindex()).values()
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    deadline = time.monotonic() + 5  # Python's join returns a moment before the kernel's thread is gone
    while len(namespaces()) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert namespaces() == {Path("/proc/thread-self/ns/net").readlink()}


@pytest.mark.live
def test_who_traces_is_found_by_its_pins_and_by_its_network_namespace(root):
    folder, other = (DEFAULT_PINS.with_name(f"probe-test-{os.getpid()}{end}") for end in ("", "-other"))
    try:
        require_bpffs(folder)
    except EnvironmentLacking as error:
        pytest.skip(str(error))
    with node():
        assert Machine(pins=folder).holder() is None
        held = lock.hold(folder)
        try:
            assert Machine(pins=folder).holder() == Machine(pins=other).holder() == os.getpid()
            with node():
                assert Machine(pins=folder).holder() == os.getpid()
                assert Machine(pins=other).holder() is None
        finally:
            held.release()
            folder.rmdir()
