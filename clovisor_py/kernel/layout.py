"""`ebpf/clovisor.h` in Python: sizes, struct formats and counter names.

Kept by hand because it is short, and held against the compiled header by `tests/kernel/test_layout.py`: a difference
in one byte fails there. Change both, and CV_ABI, together.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

ABI: Final = 2
MAX_PODS: Final = 512
MAX_SESSIONS: Final = 65536
RING_BYTES: Final = 8 << 20
BUCKETS: Final = 40
CHUNK: Final = 16384
DETECT_BYTES: Final = 65536
RECORD_COST: Final = 256

POD_OPENED: Final = 0x01
PEER_OPENED: Final = 0x02
FIN_SEEN: Final = 0x400
RST_SEEN: Final = 0x1000


class Mode(IntEnum):
    """enum cv_mode."""

    DETECT = 0
    HEAD = 1
    FULL = 2
    NONE = 3


class Counter(IntEnum):
    """enum cv_counter: indexes of cv_stats.count."""

    SEGMENTS = 0
    CAPTURED = 1
    CUT_BUDGET = 2
    CUT_SKIP = 3
    CUT_FLOW = 4
    CUT_POD = 5
    MUTED = 6
    SHED = 7
    LOST_RING = 8
    LOST_QUOTA = 9
    LOST_MAP = 10
    LOST_LOAD = 11
    RETRANSMITS = 12
    PACKETS = 13
    ACKS = 14
    CONTROLS = 15
    CONTROLS_LOST = 16
    FRAGMENTS = 17
    OTHER = 18
    MALFORMED = 19
    RECORDS = 20
    CAPTURED_BYTES = 21
    BYTES = 22
    BYTES_TO_POD = 23
    TURNS = 24
    TURNS_TO_POD = 25


COUNTERS: Final = len(Counter)
ENDS: Final = tuple(Counter(i) for i in range(Counter.CAPTURED, Counter.LOST_LOAD + 1))
"""Every payload segment ends in exactly one of these: their sum is SEGMENTS."""
CUTS: Final = (Counter.CUT_BUDGET, Counter.CUT_SKIP, Counter.CUT_FLOW, Counter.CUT_POD)
LOSSES: Final = (Counter.SHED, Counter.LOST_RING, Counter.LOST_QUOTA, Counter.LOST_MAP, Counter.LOST_LOAD)
NODE_COUNTERS: Final = ("lease_off", "not_asked")

SETTINGS: Final = struct.Struct("=IIQQ")
"""abi, wake_bytes, build, lease_until_ns"""
POD: Final = struct.Struct("=IIIIIIQQ")
"""slot, mode, head_bytes, quota, pod_ns_per_kib, flow_ns_per_kib, burst_ns, released"""
POD_STATE: Final = struct.Struct("=QQ")
"""due_ns, opened"""
STATS: Final = struct.Struct(f"={COUNTERS + 2 * BUCKETS}Q")
LOST: Final = struct.Struct(f"={8 * LOSSES[0]}x{len(LOSSES)}Q{STATS.size - 8 * (LOSSES[-1] + 1)}x")
"""Of STATS the LOSSES alone, which are next to each other."""
KEY: Final = struct.Struct("=I16s16sHHHH")
"""ifindex, pod_ip, peer_ip, pod_port, peer_port, transport, pad"""
SESSION: Final = struct.Struct("=QQQQQII" + 2 * "QQQQQQIIIIIIIII4x")
"""cookie, created_ns, due_ns, speaker, state, lost, rtt_us, then two sides"""
SIDE_FIELDS: Final = (
    *("first_ns", "last_ns", "turn_ns", "bytes", "high_seq", "waited_ns", "segments", "packets"),
    *("turns", "retransmits", "zero_windows", "captured", "turn_captured", "skipped", "waits"),
)
SIDES_AT: Final = (7, 7 + len(SIDE_FIELDS))
"""Where in SESSION's fields each side begins."""
CONTROL: Final = struct.Struct("=IIII")
"""mode, skipping, skip_until of FROM_POD, of TO_POD"""
RECORD: Final = struct.Struct("=QQQQIIIIIIII16s16sHHHHBBBB4x")
"""time_ns, cookie, cgroup_id, turn_age_ns, ifindex, seq, ack, length, captured, lost, rtt_us, packets, pod_ip, peer_ip,
pod_port, peer_port, window, vlan, transport, direction, tcp_flags, flags"""
