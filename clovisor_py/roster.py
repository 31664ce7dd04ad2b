"""Roster: what the node's agent knows of one pod, and what it needs of the cluster to know it.

A pod that cannot be traced is tried again after pauses that double; who asks gets one answer in all that time, and only after
a while: a veth may be some milliseconds younger than its pod's address.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from clovisor_py.kernel.targets import Veth
from clovisor_py.kube.cluster import Wanted
from clovisor_py.kube.objects import Pod, Ref
from clovisor_py.model.workload import Workload

PAUSE_S: Final = 0.1
"""Before the second attempt; doubles with each further one."""
LONGEST_PAUSE_S: Final = 30.0
REPORT_S: Final = 3.0
"""A pod that still fails after so long is somebody's business."""


class ClusterView(typing.Protocol):
    """What a `kube.cluster.Cluster` is here."""

    @property
    def ready(self) -> bool:
        """Which pods are to be traced is known."""

    @property
    def named(self) -> bool:
        """Who is behind which address is known, too."""

    def fileno(self) -> int:
        """Readable when `take` has something to answer; -1 where nothing tells."""

    def take(self) -> set[Ref]:
        """The pods of this node that are new, gone, or to be treated otherwise, since the last call. Never blocks."""

    def wanted(self, ref: Ref) -> Wanted | None:
        """What is wanted for a pod of this node now; None for one that is gone."""

    def pods(self) -> Iterable[Ref]:
        """All of this node."""

    def resolve(self, ip: str, port: int, time_ns: int) -> Workload | None:
        """Who had this address at that time."""

    def is_external(self, namespace: str, name: str) -> bool:
        """Whether that is a Service of type ExternalName."""

    def protocol_at(self, ip: str, port: int) -> str:
        """What the server there is said to speak; empty where nobody says."""

    @property
    def protocols_version(self) -> int:
        """Another one: `protocol_at` may answer otherwise."""

    def traced_elsewhere(self, peer: Workload) -> bool:
        """Whether the agent of another node is there and tells of this pod's calls."""

    def sampled(self, peer: Workload) -> float:
        """Of a traced pod's sessions, those that become spans: from 0 to 1."""

    def workload(self, pod: Pod) -> Workload:
        """A pod of this node as sessions name it."""

    def expire(self) -> None:
        """Forget who is long gone."""


class Report(typing.Protocol):
    """What a `kube.reporter.Reporter` is here."""

    def say(self, about: Ref, uid: str, reason: str, sentence: str) -> bool:
        """Something is wrong with an object."""

    def unsay(self, about: Ref, reason: str) -> None:
        """Nothing of that kind is wrong with it any more."""


@dataclass(slots=True)
class Local:
    """One pod of this node."""

    wanted: Wanted
    veth: Veth | None = None
    """Where our filters are; None: nowhere."""
    since: float = 0.0
    """When they were attached, s since the epoch."""
    problem: str = ""
    """Why it is not traced though it is wanted, as part of a sentence."""
    reason: str = ""
    """The same as an Event's reason."""
    problem_at: float = 0.0
    """Since when, s since the epoch."""
    attempts: int = 0
    """That failed in a row."""
    next_try: float = 0.0
    """Monotonic, s; 0: at once."""
    _failing_since: float = 0.0

    def wants(self, now: float) -> bool:
        """Whether it is time for another attempt."""
        return bool(self.attempts) and self.next_try <= now

    def fail(self, reason: str, problem: str, now: float) -> bool:
        """An attempt failed; whether that is worth a word."""
        if not self.attempts:
            self._failing_since = now
        if problem != self.problem:
            self.reason, self.problem, self.problem_at = reason, problem, time.time()
        self.next_try = now + min(PAUSE_S * 2.0 ** min(self.attempts, 16), LONGEST_PAUSE_S)
        self.attempts += 1
        return now - self._failing_since >= REPORT_S

    def recover(self) -> bool:
        """It is as it should be; whether it was not."""
        failed, self.attempts, self.next_try = bool(self.attempts), 0, 0.0
        self.reason = self.problem = ""
        return failed
