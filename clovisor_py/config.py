"""Settings: every number that an operator may want to change, with its unit, its default, and the reason for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

CPU_SHARES: Final = (0.05, 64.0)
"""The least with which it gets anything read, and more cores than one process of Python ever uses."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the agent is built from; immutable, so that a reload is a new one."""

    pins: Path = Path("/sys/fs/bpf/clovisor")
    """Where programs and maps are pinned; the lock of the node's datapath is this folder."""

    hook: str = "auto"
    """How programs are put on a veth. `auto` takes TCX links (Linux 6.6), which lose no packet, except where somebody's clsact
    is already; `tcx` takes links there too, and nothing else; `clsact` takes filters, except where others have TCX programs."""

    lease_s: float = 10.0
    """Seconds after the last heartbeat until the kernel passes everything through and copies nothing. Long enough for a
    restart, short enough that a dead agent costs nothing."""

    poll_s: float = 0.020
    """Seconds between two looks at an idle ring. A wake-up for each record would cost a third of a busy server's rate."""

    busy_poll_s: float = 0.005
    """The same while records come: many short bursts of work disturb those who share the CPUs less than few long ones (p99
    of a traced nginx on two shared CPUs: 2.8 ms with 20 ms, 1.3 ms with 5 ms, at the same cost)."""

    wake_bytes: int = 256 * 1024
    """The kernel wakes the reader early after so many bytes on one CPU: a 32nd of the ring, so that several busy CPUs at once
    are still far from filling it."""

    cpu_share: float = 0.5
    """Share of one core that user space may use before it lowers what the kernel captures."""

    pod_bytes_per_s: int = 64 * 1024 * 1024
    """Capture budget of one pod, bytes a second (each record is charged RECORD_COST more); lowered under load."""

    flow_bytes_per_s: int = 16 * 1024 * 1024
    """Capture budget of one flow: one busy connection cannot use up its pod's."""

    head_bytes: int = 4096
    """Bytes captured of each turn in `head` mode: longer than almost every HTTP head."""

    sessions_per_pod: int = 16384
    """Connections of one pod that the kernel tracks at once; more are counted, and no pod can push out another's."""

    udp_ports: tuple[int, ...] = (53,)
    """UDP ports that are looked at; all other UDP passes unseen, as most of it is not request and response."""

    redact: str = "default"
    """How much of other people's payloads is hidden: `off`, `default` or `strict` (`protocols/_redaction`). What is hidden
    leaves no parser; the default suits a production cluster."""

    request_timeout_s: float = 30.0
    """A request without a response for so long is reported as `timeout`."""

    flow_idle_s: float = 120.0
    """A connection that said nothing for so long is forgotten (keep-alive ones come back as mid-stream)."""

    sample: float = 1.0
    """Share of the sessions that `clovisor agent` makes spans of, by trace id, where the application has not decided itself
    (the flag of its context counts first). What failed, and what took a second, is a span anyway; metrics count everything."""

    export_queue: int = 8192
    """Sessions that wait for one exporter; beyond it the oldest are dropped and counted."""
