"""`tools/bench kernel`: ns that the program spends on a packet, by `bpf_prog_test_run`; nothing is attached anywhere.

Every run is short and begins afresh (no session, an empty ring), because a full ring is cheap: the counters printed
under each figure show what really happened to the packets. A packet that is repeated unchanged is a retransmission;
the lines "new bytes" and "new flow" move the packet on each time by a small program in front, whose own cost with the
empty program behind it is their baseline. Pins are in a folder of their own, and never meet those of a running Clovisor.
"""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from clovisor_py.config import Settings
from clovisor_py.errors import KernelRefused
from clovisor_py.kernel import bpf, layout
from clovisor_py.kernel import compile as loader
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.maps import Maps, Pod
from clovisor_py.kernel.ring import Ring
from tools._bench import machine, programs

IFINDEX: Final = 1
"""`lo`: the test run wants an interface that exists; nothing is put on it."""
CONTEXT: Final = struct.pack("=40xI148x", IFINDEX)
"""A struct __sk_buff with nothing but its ifindex."""
REPEATS: Final = 2000
"""Packets of a run: 2,000 records of 1,400 bytes are half of the ring."""
POD: Final = Pod(
    slot=0,
    mode=layout.Mode.FULL,
    head_bytes=4096,
    quota=layout.MAX_SESSIONS,
    pod_ns_per_kib=1,  # budgets that are kept but never used up: 1 TB/s
    flow_ns_per_kib=1,
    burst_ns=100_000_000,
    released=0,
)


def packet(*headers: Packet, payload: int = 0, flags: str = "PA") -> bytes:
    """A frame to the pod's port 80."""
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for header in headers:
        frame /= header
    return bytes(frame / TCP(sport=5555, dport=80, flags=flags, seq=1000, ack=1) / Raw(b"x" * payload))


IPV4: Final = IP(src="10.0.0.1", dst="10.0.0.2")
IPV6: Final = IPv6(src="fd00::1", dst="fd00::2")


@dataclass(frozen=True)
class Case:
    """A kind of packet, and what stands before the program (`step`) if each repetition is to be another packet."""

    name: str
    packet: bytes
    step: str = ""
    lease: bool = True
    asked: bool = True


ACK: Final = packet(IPV4, flags="A")
CASES: Final = (
    Case("lease off", ACK, lease=False),
    Case("pod not asked for", ACK, asked=False),
    Case("bare ACK", ACK),
    Case("100 B, repeated", packet(IPV4, payload=100)),
    Case("1,400 B, repeated", packet(IPV4, payload=1400)),
    Case("100 B, repeated, IPv6", packet(IPV6, payload=100)),
    Case("100 B, repeated, VLAN", packet(Dot1Q(vlan=42), IPV4, payload=100)),
    Case("100 B, new bytes", packet(IPV4, payload=100), "step_seq_100"),
    Case("1,400 B, new bytes", packet(IPV4, payload=1400), "step_seq_1400"),
    Case("100 B, new bytes, IPv6", packet(IPV6, payload=100), "step_seq_100_ipv6"),
    Case("100 B, new bytes, VLAN", packet(Dot1Q(vlan=42), IPV4, payload=100), "step_seq_100_vlan"),
    Case("new flow: SYN", packet(IPV4, flags="S"), "step_port"),
    Case("new flow: 100 B", packet(IPV4, payload=100), "step_port"),
)


class Bench:
    """The pinned programs and maps, and one pod on `lo` for which the program is asked."""

    def __init__(self, pins: Path, undo: ExitStack) -> None:
        def opened(name: str) -> int:
            fd = bpf.obj_get(pins / name)
            undo.callback(os.close, fd)
            return fd

        self.maps = Maps(pins)
        undo.callback(self.maps.close)
        self.ring = Ring(self.maps.fds["ring"])
        undo.callback(self.ring.close)
        self.program = opened("egress")
        self.yardsticks = {name: opened(name) for name in programs.NAMES}
        self.next = opened("next")

    def run(self, case: Case) -> int:
        """Nanoseconds a packet, from a fresh state."""
        self._prepare(case)
        program = self.program
        if case.step:
            program = self.yardsticks[case.step]
            self._put_behind(self.program)
        self.time(program, case.packet, 1)  # the first packet opens the session
        return self.time(program, case.packet, REPEATS)

    def baseline(self, case: Case) -> int:
        """The same with the empty program in the place of ours."""
        if not case.step:
            return self.time(self.yardsticks["empty"], case.packet, REPEATS)
        self._put_behind(self.yardsticks["empty"])
        return self.time(self.yardsticks[case.step], case.packet, REPEATS)

    @staticmethod
    def time(program: int, frame: bytes, repeats: int) -> int:
        """Nanoseconds a packet. Raises KernelRefused where the program does not say "pass on"."""
        result, ns = bpf.test_run(program, frame, repeats, CONTEXT)
        if result != -1:
            raise KernelRefused(f"a program answered {result} instead of -1: the figures would mean nothing.")
        return ns

    def counters(self) -> str:
        """What the latest run did to the pod's counters and the node's."""
        stats = self.maps.stats(POD.slot)
        found = {counter.name: stats[counter] for counter in Counter}
        found |= {name.upper(): value - self._passed[name] for name, value in self.maps.node_stats().items()}
        return " ".join(f"{name} {value:,}" for name, value in found.items() if value)

    def _put_behind(self, program: int) -> None:
        bpf.map_update(self.next, struct.pack("=I", 0), struct.pack("=I", program))

    def _prepare(self, case: Case) -> None:
        lease = time.monotonic_ns() + 60 * 10**9 if case.lease else 0
        self.maps.set_settings(Settings().wake_bytes, 0, lease)
        self.maps.clear_slot(POD.slot)
        if case.asked:
            self.maps.set_pod(IFINDEX, POD)
        else:
            self.maps.delete_pod(IFINDEX)
        for key, _ in list(self.maps.sessions()):
            self.maps.delete_session(key)
        self.ring.discard()
        self._passed = self.maps.node_stats()


@contextmanager
def loaded() -> Iterator[Bench]:
    """The programs in a folder of pins of this process, gone when the block ends."""
    pins = Settings().pins.with_name(f"clovisor-bench-{os.getpid()}")
    with ExitStack() as undo:
        pins.mkdir()
        undo.callback(_remove, pins)
        loader.load(pins)
        subprocess.run([sys.executable, "-m", programs.__name__, str(pins)], check=True, timeout=loader.COMPILE_TIMEOUT_S)
        yield Bench(pins, undo)


def _remove(pins: Path) -> None:
    for pin in pins.iterdir():
        pin.unlink()
    pins.rmdir()


def main(runs: int) -> None:
    """Print ns a packet for each case, `runs` times."""
    machine.heading(
        f"kernel: ns a packet, {runs} runs of {REPEATS:,} packets each; in the last column what the empty program takes"
    )
    with loaded() as bench:
        for name in ("empty", *programs.CLOCKS):
            figures = [bench.time(bench.yardsticks[name], ACK, REPEATS) for _ in range(runs)]
            machine.figure(f"yardstick: {programs.CLOCKS.get(name, 'empty program')}", figures, "ns")
        for case in CASES:
            empty = statistics.median(bench.baseline(case) for _ in range(runs))
            figures = [bench.run(case) for _ in range(runs)]
            beside = f"{statistics.median(figures) - empty:,.0f} above {'step' if case.step else 'empty'} {empty:.0f}"
            machine.figure(case.name, figures, "ns", beside)
            machine.line(f"    {bench.counters()}")
