"""What an agent is asked for and what it hands on: its report, where its sessions go, and how it keeps time."""

from __future__ import annotations

import time
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from clovisor_py.exporters._worker import Ledger
from clovisor_py.flows.crash import Crash
from clovisor_py.kernel.maps import Stats
from clovisor_py.metrics.red import Red
from clovisor_py.model.session import Session


@dataclass(frozen=True, slots=True)
class Report:
    """What an agent saw and did not see, up to now."""

    seconds: float
    """From attaching to the end, or until now."""
    red: Red
    shown: Red
    """Only what was exported."""
    filtered: int
    """Sessions that did not match the filter."""
    pods: Mapping[str, Stats]
    """Kernel counters by veth name, since it was attached."""
    engine: Mapping[str, int]
    unparsed: Sequence[tuple[int, str, int]]
    """(server port, reason, flows) of what could not be read, most frequent first."""
    exporters: Mapping[str, Ledger]
    """By export URL; complete after the end only."""
    shed_seconds: float
    """Seconds in which pods were allowed less than the setting."""
    repairs: int
    blind_seconds: float = 0.0
    """Seconds in which the kernel captured nothing, because this process did not renew its lease."""
    crashes: Mapping[Crash, int] = field(default_factory=dict)
    """Parsers that failed, and how often."""


class Sessions(typing.Protocol):
    """Where sessions go: a Fanout."""

    def offer(self, sessions: Sequence[Session]) -> None:
        """Take these. Never blocks."""

    def ledgers(self) -> Mapping[str, Ledger]:
        """Export URL to its counts."""


class Every:
    """Says once per period that it is time."""

    def __init__(self, period_s: float) -> None:
        self._period = period_s
        self._next = time.monotonic() + period_s

    def due(self, now: float) -> bool:
        if now < self._next:
            return False
        self._next = now + self._period
        return True
