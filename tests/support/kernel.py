"""The kernel program on a bench: crafted packets in by bpf_prog_test_run, return value, records and counters out.

`node` moves the test's thread into a network namespace of its own, so that neither another test run nor a Clovisor on this
machine meets it: opening a datapath takes leftover filters off the interfaces of its namespace. Pins carry the pid.
Fixtures: `datapath` (per module: compiling costs a second) and `rig` (per test: an empty pod behind loopback, the books
checked afterwards); `tests/kernel/conftest.py` and `tests/live/conftest.py` offer them.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from clovisor_py.config import Settings
from clovisor_py.kernel import bpf, layout
from clovisor_py.kernel.datapath import Datapath
from clovisor_py.kernel.layout import Counter, Mode
from clovisor_py.kernel.links import netlink
from clovisor_py.kernel.maps import Pod, Stats
from clovisor_py.model.segment import FROM_POD, TO_POD, Segment
from tests.support.netns import Pod as NetnsPod

BPFFS: Final = Path("/sys/fs/bpf")
LOOPBACK: Final = 1
SLOT: Final = 7
"""Of the pod on loopback; not 0, which a missing look-up would also give."""
PASS: Final = -1
"""TC_ACT_UNSPEC."""
HOOKS: Final = {FROM_POD: "ingress", TO_POD: "egress"}
POD_IP, PEER_IP = "10.1.2.3", "192.0.2.9"
POD_PORT, PEER_PORT = 8080, 40000
MAPPED: Final = bytes(10) + b"\xff\xff"
"""An IPv4 address in a record begins with it."""
ETHER: Final = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
LONGEST: Final = 3400
"""Payload that test_run takes on kernels where it is held to one page."""
UNBOUNDED: Final = {"pod_bytes_per_s": 0, "flow_bytes_per_s": 0}
LONG_LEASE_S: Final = 3600.0
PATIENCE_S: Final = 10.0

_SKB_IFINDEX, _SKB_GSO_SEGS, _SKB_BYTES = 40, 164, 192
_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def require_kernel() -> None:
    """Skip, naming what lacks."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it loads eBPF programs")
    if not (BPFFS.is_mount() and os.access(BPFFS, os.W_OK)):
        pytest.skip("needs a bpffs: mount -t bpf bpf /sys/fs/bpf")
    if importlib.util.find_spec("bcc") is None:
        pytest.skip("needs bcc (Debian: python3-bpfcc)")


@contextmanager
def node() -> Iterator[None]:
    """A network namespace of this thread's own, with loopback up, until the block ends."""
    require_kernel()
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET):
            pytest.skip(f"needs to make network namespaces ({os.strerror(ctypes.get_errno())})")
        with netlink("starting lo") as route:
            route.link("set", index=LOOPBACK, state="up")
        yield
    finally:
        assert _libc.setns(home, _CLONE_NEWNET) == 0
        os.close(home)


def bench_settings(name: str = "", **changes: Any) -> Settings:
    """Settings with pins of this test run; no budgets and a lease that outlives it, where `changes` do not say otherwise."""
    pins = BPFFS / f"clovisor-test-{os.getpid()}{name}"
    return Settings(**({"pins": pins, "lease_s": LONG_LEASE_S} | UNBOUNDED | changes))


def open_fds() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def drop_pins(pins: Path) -> None:
    """Whatever a failed test left; what is attached by links goes with them."""
    with suppress(FileNotFoundError):
        for pin in list(pins.iterdir()):
            pin.unlink()
        pins.rmdir()


@pytest.fixture(scope="module")
def datapath() -> Iterator[Datapath]:
    """An open datapath in a namespace of its own, removed at the end of the module."""
    settings = bench_settings()
    with node():
        try:
            with Datapath(settings) as opened:
                yield opened
                opened.remove()
        finally:
            drop_pins(settings.pins)


@dataclass
class Rig:
    """One pod behind loopback, and crafted packets through the two programs as if they passed its veth."""

    datapath: Datapath

    def reset(self, mode: Mode = Mode.DETECT, **changes: int) -> None:
        """An empty pod, no sessions, no records; `changes` are fields of struct cv_pod."""
        maps = self.datapath.maps
        for key, _ in list(maps.sessions()):
            maps.delete_session(key)
        for cookie in maps.controlled():
            maps.delete_control(cookie)
        maps.clear_slot(SLOT)
        self.configure(LOOPBACK, SLOT, mode, **changes)
        self.datapath.heartbeat()
        self.datapath.ring.discard()

    def configure(self, ifindex: int, slot: int, mode: Mode, **changes: int) -> Pod:
        """Set a pod, its counters untouched."""
        pod = Pod(slot, mode, 4096, 1000, 0, 0, 100_000_000, 0)._replace(**changes)
        self.datapath.maps.set_pod(ifindex, pod)
        return pod

    def run(self, direction: int, packet: Packet | bytes, *, segs: int = 0, repeat: int = 1, ifindex: int = LOOPBACK) -> None:
        """One packet (`repeat`: so often), which must pass."""
        context = bytearray(_SKB_BYTES)
        struct.pack_into("=I", context, _SKB_IFINDEX, ifindex)
        struct.pack_into("=I", context, _SKB_GSO_SEGS, segs)
        result, _ = bpf.test_run(self.datapath.programs[HOOKS[direction]], bytes(packet), repeat, bytes(context))
        assert result == PASS

    def send(self, direction: int, packet: Packet | bytes, *, segs: int = 0, ifindex: int = LOOPBACK) -> list[Segment]:
        """The records that one packet leaves."""
        self.run(direction, packet, segs=segs, ifindex=ifindex)
        return self.records()

    def records(self) -> list[Segment]:
        """What the ring holds, times on CLOCK_MONOTONIC."""
        return self.datapath.ring.read(0)

    @property
    def stats(self) -> Stats:
        return self.datapath.maps.stats(SLOT)

    def counted(self) -> dict[Counter, int]:
        """The counters that are not zero."""
        return {counter: number for counter, number in zip(Counter, self.stats.count, strict=True) if number}

    def sessions(self) -> list[dict[str, Any]]:
        """The kernel's sessions, `side` a list of two."""
        return [unpack_session(value) for _, value in self.datapath.maps.sessions()]

    def session(self) -> dict[str, Any]:
        """The only one."""
        (one,) = self.sessions()
        return one


def unpack_session(value: bytes) -> dict[str, Any]:
    """struct cv_session by its fields' names."""
    fields = layout.SESSION.unpack(value)
    head, size = fields[: -2 * len(layout.SIDE_FIELDS)], len(layout.SIDE_FIELDS)
    names = ("cookie", "created_ns", "due_ns", "speaker", "state", "lost", "rtt_us")
    sides = (fields[-2 * size : -size], fields[-size:])
    return dict(zip(names, head, strict=True)) | {"side": [dict(zip(layout.SIDE_FIELDS, s, strict=True)) for s in sides]}


def check_books(stats: Stats) -> None:
    """Every payload segment ended in exactly one place, and those places that are bounded by others keep to it."""
    assert stats[Counter.SEGMENTS] == sum(stats[end] for end in layout.ENDS), stats
    assert stats[Counter.RETRANSMITS] + stats[Counter.TURNS] + stats[Counter.TURNS_TO_POD] <= stats[Counter.SEGMENTS]
    assert stats[Counter.CONTROLS_LOST] <= stats[Counter.CONTROLS]
    assert stats[Counter.PACKETS] >= stats[Counter.SEGMENTS] - sum(stats[lost] for lost in BEFORE_A_SESSION)
    assert sum(stats.turn_ns[0]) <= stats[Counter.TURNS]
    assert sum(stats.turn_ns[1]) <= stats[Counter.TURNS_TO_POD]


BEFORE_A_SESSION: Final = (Counter.LOST_QUOTA, Counter.LOST_MAP)


@pytest.fixture
def rig(datapath: Datapath) -> Iterator[Rig]:
    """A fresh pod in `detect` mode without budgets; afterwards its books must balance."""
    bench = Rig(datapath)
    bench.reset()
    yield bench
    check_books(bench.stats)


def address(text: str) -> bytes:
    """A dotted quad as records have it."""
    return MAPPED + bytes(map(int, text.split(".")))


def tcp(direction: int, payload: bytes = b"", *, ports: tuple[int, int] = (POD_PORT, PEER_PORT), **fields: Any) -> Packet:
    """An Ethernet frame between the pod and its peer; `fields` are scapy's of TCP, `ports` the pod's and the peer's."""
    pod, peer = (POD_IP, ports[0]), (PEER_IP, ports[1])
    (source, sport), (destination, dport) = (pod, peer) if direction == FROM_POD else (peer, pod)
    segment = TCP(sport=sport, dport=dport, **({"flags": "PA", "window": 1000} | fields))
    return ETHER / IP(src=source, dst=destination) / segment / payload


class Talk:
    """A TCP connection, packet by packet: each end's sequence numbers go on by themselves unless they are given."""

    def __init__(self, rig: Rig, *, ports: tuple[int, int] = (POD_PORT, PEER_PORT), starts: tuple[int, int] = (1000, 5000)):
        self.rig = rig
        self.ports = ports
        self.next = list(starts)
        self.ifindex = LOOPBACK
        self.pod = partial(self.say, FROM_POD)
        self.peer = partial(self.say, TO_POD)

    def say(self, direction: int, payload: bytes = b"", *, seq: int | None = None, **fields: Any) -> list[Segment]:
        """The records that this packet leaves."""
        at = self.next[direction] if seq is None else seq
        flags = str(fields.get("flags", "PA"))
        if seq is None:
            self.next[direction] = (at + len(payload) + ("S" in flags) + ("F" in flags)) % 2**32
        packet = tcp(direction, payload, ports=self.ports, seq=at, ack=self.next[not direction], **fields)
        return self.rig.send(direction, packet, ifindex=self.ifindex)

    def opened_by_peer(self) -> Talk:
        """After the three packets of a connection to the pod."""
        self.peer(flags="S")
        self.pod(flags="SA")
        self.peer(flags="A")
        return self


QUESTION, ANSWER = b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def connection(server: NetnsPod, client: NetnsPod | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """An open connection to a pod, from another one or the host: (client's end, server's end)."""
    with server.call(lambda: socket.create_server((server.ipv4, 0))) as listener:
        where = listener.getsockname()
        opened = client.call(partial(_connect, where)) if client else _connect(where)
        with opened, listener.accept()[0] as accepted:
            accepted.settimeout(PATIENCE_S)
            yield opened, accepted


def _connect(where: tuple[str, int]) -> socket.socket:
    return socket.create_connection(where, timeout=PATIENCE_S)


def exchange(client: socket.socket, server: socket.socket, times: int = 1) -> None:
    """A question and its answer over an open connection."""
    for _ in range(times):
        client.sendall(QUESTION)
        assert server.recv(4096) == QUESTION
        server.sendall(ANSWER)
        assert client.recv(4096) == ANSWER


def drained(datapath: Datapath, ifindex: int) -> list[Segment]:
    """All records of one veth that the ring holds; those of others are dropped."""
    batches = iter(lambda: datapath.ring.read(0), [])
    return [record for batch in batches for record in batch if record.interface == ifindex]
