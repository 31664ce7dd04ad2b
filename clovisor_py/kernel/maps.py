"""The pinned maps, opened and typed: what the kernel tells, and what user space decides.

Two owners, never one value with both (see ebpf/clovisor.h): methods that write touch only `settings`, `pods`, `controls`,
`udp_ports` and `attached`; the rest is read, and `sessions` entries are deleted when they are over.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from clovisor_py.kernel import bpf, layout
from clovisor_py.kernel.compile import MAPS

POSSIBLE_CPUS: Final = Path("/sys/devices/system/cpu/possible")
ZERO: Final = struct.pack("=I", 0)

_log = logging.getLogger(__name__)


def possible_cpus() -> int:
    """How many values a per-CPU map has: all CPUs that could ever be there (`0-3,8`)."""
    last = POSSIBLE_CPUS.read_text().strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1


def attached_at(pins: Path) -> dict[int, int]:
    """What whoever made these pins put on each veth, whatever else is pinned there; nothing where that cannot be read."""
    try:
        fd = bpf.obj_get(pins / "attached")
    except OSError as error:
        _log.debug("no memory of what was attached in %s (%s)", pins, error)
        return {}
    try:
        return _flags(fd) if bpf.map_sizes(fd)[:2] == (4, 4) else {}
    finally:
        os.close(fd)


def _flags(fd: int) -> dict[int, int]:
    values = ((key, bpf.map_lookup(fd, key, 4)) for key in list(bpf.map_keys(fd, 4)))
    return {struct.unpack("=I", key)[0]: struct.unpack("=I", value)[0] for key, value in values if value}


class Pod(NamedTuple):
    """struct cv_pod."""

    slot: int
    mode: int
    head_bytes: int
    quota: int
    pod_ns_per_kib: int
    flow_ns_per_kib: int
    burst_ns: int
    released: int


@dataclass(frozen=True, slots=True)
class Stats:
    """struct cv_stats, summed over CPUs: counters by `layout.Counter`, and turn latencies [direction][log2 ns]."""

    count: tuple[int, ...]
    turn_ns: tuple[tuple[int, ...], tuple[int, ...]]

    def since(self, earlier: Stats) -> Stats:
        """What was added after `earlier`."""
        count = tuple(a - b for a, b in zip(self.count, earlier.count, strict=True))
        first, second = (
            tuple(a - b for a, b in zip(now, then, strict=True))
            for now, then in zip(self.turn_ns, earlier.turn_ns, strict=True)
        )
        return Stats(count, (first, second))

    def __getitem__(self, counter: layout.Counter) -> int:
        return self.count[counter]


class Maps:
    """All maps under a folder of pins. Raises OSError where one is not there."""

    def __init__(self, pins: Path) -> None:
        self._cpus = possible_cpus()
        self.fds: dict[str, int] = {}
        try:
            for name in MAPS:
                self.fds[name] = bpf.obj_get(pins / name)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the fds; the pins stay."""
        for fd in self.fds.values():
            os.close(fd)
        self.fds.clear()

    # settings, udp_ports

    def settings(self) -> tuple[int, int, int, int]:
        """(abi, wake_bytes, build, lease_until_ns)"""
        value = bpf.map_lookup(self.fds["settings"], ZERO, layout.SETTINGS.size) or bytes(layout.SETTINGS.size)
        abi, wake_bytes, build, lease = layout.SETTINGS.unpack(value)
        return abi, wake_bytes, build, lease

    def set_settings(self, wake_bytes: int, build: int, lease_until_ns: int) -> None:
        """`lease_until_ns` is on CLOCK_MONOTONIC; 0 silences the programs."""
        bpf.map_update(self.fds["settings"], ZERO, layout.SETTINGS.pack(layout.ABI, wake_bytes, build, lease_until_ns))

    def set_udp_ports(self, ports: tuple[int, ...]) -> None:
        """Watch these UDP ports and no others."""
        fd, wanted = self.fds["udp_ports"], {struct.pack("=H", port) for port in ports}
        for key in list(bpf.map_keys(fd, 2)):
            if key not in wanted:
                bpf.map_delete(fd, key)
        for key in wanted:
            bpf.map_update(fd, key, b"\1")

    # pods and what became of them

    def pods(self) -> dict[int, Pod]:
        """All traced pods by ifindex."""
        keys = list(bpf.map_keys(self.fds["pods"], 4))
        values = ((key, bpf.map_lookup(self.fds["pods"], key, layout.POD.size)) for key in keys)
        return {struct.unpack("=I", key)[0]: Pod(*layout.POD.unpack(value)) for key, value in values if value}

    def pod(self, ifindex: int) -> Pod | None:
        """One of them, at the price of one look."""
        value = bpf.map_lookup(self.fds["pods"], struct.pack("=I", ifindex), layout.POD.size)
        return Pod(*layout.POD.unpack(value)) if value else None

    def set_pod(self, ifindex: int, pod: Pod) -> None:
        """Insert or replace."""
        bpf.map_update(self.fds["pods"], struct.pack("=I", ifindex), layout.POD.pack(*pod))

    def delete_pod(self, ifindex: int) -> None:
        """From now on its packets pass unseen."""
        bpf.map_delete(self.fds["pods"], struct.pack("=I", ifindex))

    def clear_slot(self, slot: int) -> None:
        """Zero the state and statistics that another pod left in a slot."""
        key = struct.pack("=I", slot)
        bpf.map_update(self.fds["pod_state"], key, bytes(layout.POD_STATE.size))
        bpf.map_update(self.fds["stats"], key, bytes(layout.STATS.size * self._cpus))

    def opened(self, slot: int) -> int:
        """Sessions that the kernel has opened for a pod."""
        value = bpf.map_lookup(self.fds["pod_state"], struct.pack("=I", slot), layout.POD_STATE.size)
        return int(layout.POD_STATE.unpack(value)[1]) if value else 0

    def stats(self, slot: int) -> Stats:
        """Sums over CPUs."""
        value = bpf.map_lookup(self.fds["stats"], struct.pack("=I", slot), layout.STATS.size * self._cpus) or b""
        sums = tuple(map(sum, zip(*layout.STATS.iter_unpack(value), strict=True))) or (0,) * (layout.STATS.size // 8)
        turns, half = sums[layout.COUNTERS :], layout.BUCKETS
        return Stats(sums[: layout.COUNTERS], (turns[:half], turns[half:]))

    def lost(self, slot: int) -> int:
        """The sum of `layout.LOSSES` over CPUs: unpacking all of a pod's counters takes 20 times as long."""
        value = bpf.map_lookup(self.fds["stats"], struct.pack("=I", slot), layout.STATS.size * self._cpus) or b""
        return sum(map(sum, layout.LOST.iter_unpack(value)))

    def node_stats(self) -> dict[str, int]:
        """What passed untouched: lease off, pod not asked for."""
        sums = {}
        for index, name in enumerate(layout.NODE_COUNTERS):
            value = bpf.map_lookup(self.fds["node_stats"], struct.pack("=I", index), 8 * self._cpus) or b""
            sums[name] = sum(number for (number,) in struct.iter_unpack("=Q", value))
        return sums

    # sessions and controls

    def sessions(self) -> Iterator[tuple[bytes, bytes]]:
        """(packed key, packed session) of every connection that the kernel tracks."""
        key_size, value_size = layout.KEY.size, layout.SESSION.size
        for keys, values, count in bpf.map_items(self.fds["sessions"], key_size, value_size):
            for i in range(count):
                yield keys[i * key_size : (i + 1) * key_size], values[i * value_size : (i + 1) * value_size]

    def session(self, key: bytes) -> bytes | None:
        """The packed session of a connection, if the kernel tracks it."""
        return bpf.map_lookup(self.fds["sessions"], key, layout.SESSION.size)

    def delete_session(self, key: bytes) -> bool:
        """Whether it was there."""
        return bpf.map_delete(self.fds["sessions"], key)

    def control(self, cookie: int) -> tuple[int, int, int, int] | None:
        """(mode, skipping, skip_until of FROM_POD, of TO_POD), or None."""
        value = bpf.map_lookup(self.fds["controls"], struct.pack("=Q", cookie), layout.CONTROL.size)
        if value is None:
            return None
        mode, skipping, from_pod, to_pod = layout.CONTROL.unpack(value)
        return mode, skipping, from_pod, to_pod

    def set_control(self, cookie: int, mode: int, skipping: int, from_pod: int, to_pod: int) -> None:
        """Raises OSError (E2BIG) where the map is full."""
        value = layout.CONTROL.pack(mode, skipping, from_pod, to_pod)
        bpf.map_update(self.fds["controls"], struct.pack("=Q", cookie), value)

    def delete_control(self, cookie: int) -> None:
        """The flow is over."""
        bpf.map_delete(self.fds["controls"], struct.pack("=Q", cookie))

    def controlled(self) -> set[int]:
        """Cookies that have a control."""
        return {struct.unpack("=Q", key)[0] for key in bpf.map_keys(self.fds["controls"], 8)}

    # what user space remembers of veths

    def attached(self) -> dict[int, int]:
        """What was put on each veth: ifindex to the flags of `attach.py`."""
        return _flags(self.fds["attached"])

    def set_attached(self, ifindex: int, flags: int | None) -> None:
        """Remember, or with None forget."""
        key = struct.pack("=I", ifindex)
        if flags is None:
            bpf.map_delete(self.fds["attached"], key)
        else:
            bpf.map_update(self.fds["attached"], key, struct.pack("=I", flags))
