"""A cluster without an API server: objects are put, and the decisions about them are the real ones."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock

from clovisor_py.kube.cluster import Wanted
from clovisor_py.kube.hints import hints_for
from clovisor_py.kube.objects import Owner, Pod, Ref
from clovisor_py.kube.policy import Rules, decide, why_not
from clovisor_py.model.workload import Workload

NODE = "n1"
NAMES = frozenset({"http", "grpc", "redis", "postgresql", "kafka"})


def ref(name: str, namespace: str = "shop") -> Ref:
    return Ref("Pod", namespace, name)


def pod(name: str, *ips: str, trace: str | None = "true", uid: str = "", **changes: object) -> Pod:
    labels = {} if trace is None else {"clovisor.io/trace": trace}
    made = Pod(ref(name), uid or f"uid-{name}", NODE, ips, phase="Running", labels=labels)
    return made._replace(**changes)  # type: ignore[arg-type]


class FakeCluster:
    """Thread-safe: a test changes it while an agent runs."""

    def __init__(self, *pods: Pod, rules: Rules | None = None) -> None:
        self._lock = Lock()
        self._pods = {one.ref: one for one in pods}
        self._namespaces: dict[str, Owner] = {}
        self._changed: set[Ref] = set(self._pods)
        self.rules = rules or Rules(names=NAMES)
        self.ready = self.named = True
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def _note(self, changed: Iterable[Ref]) -> None:
        self._changed.update(changed)
        os.eventfd_write(self._event, 1)

    def put(self, *pods: Pod) -> None:
        with self._lock:
            self._pods.update((one.ref, one) for one in pods)
            self._note(one.ref for one in pods)

    def delete(self, *refs: Ref) -> None:
        with self._lock:
            for one in refs:
                self._pods.pop(one, None)
            self._note(refs)

    def label_namespace(self, name: str, **labels: str) -> None:
        with self._lock:
            self._namespaces[name] = Owner(Ref("Namespace", "", name), labels=labels)
            self._note([one for one in self._pods if one.namespace == name])

    def fileno(self) -> int:
        return self._event

    def take(self) -> set[Ref]:
        with self._lock:
            changed, self._changed = self._changed, set()
            with suppress(BlockingIOError):
                os.eventfd_read(self._event)
            return changed

    def wanted(self, one: Ref) -> Wanted | None:
        found = self._pods.get(one)
        if found is None:
            return None
        decision = decide(found, [], self._namespaces.get(one.namespace), self.rules)
        return Wanted(found, decision, hints_for(found, [], decision, NAMES), why_not(found, NODE))

    def pods(self) -> Iterable[Ref]:
        return tuple(self._pods)

    def resolve(self, ip: str, port: int, time_ns: int) -> Workload | None:
        return next((self.workload(one) for one in self._pods.values() if ip in one.ips), None)

    protocols_version = 0

    def is_external(self, namespace: str, name: str) -> bool:
        return False

    def protocol_at(self, ip: str, port: int) -> str:
        return ""

    def traced_elsewhere(self, peer: Workload) -> bool:
        return False

    def sampled(self, peer: Workload) -> float:
        return 1.0

    def workload(self, one: Pod) -> Workload:
        return Workload(one.ref.name, one.ref.namespace, NODE, kind="pod", uid=one.uid)

    def expire(self) -> None:
        """Nobody is ever gone for long."""


class Notes:
    """What an operator is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, str]] = []
        self._held: set[tuple[Ref, str, str]] = set()

    def say(self, about: Ref, uid: str, reason: str, sentence: str) -> bool:
        if (about, reason, sentence) in self._held:
            return False
        self._held.add((about, reason, sentence))
        self.said.append((about.name, reason, sentence))
        return True

    def unsay(self, about: Ref, reason: str) -> None:
        self._held = {one for one in self._held if one[:2] != (about, reason)}
