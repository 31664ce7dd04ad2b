"""Which nodes have an agent that tells of its pods.

The span of a call that another node's pod made may be named as a parent only if somebody will send it: its labels say that the
pod is traced, and a ready agent there (a pod of the manifests' DaemonSet, `read.pod` knows it) says by whom. An agent that was
started by hand has no pod, so nothing is known of it, and nothing is guessed.

For one thread.
"""

from __future__ import annotations

from clovisor_py.kube.changes import Change
from clovisor_py.kube.objects import Pod, Ref
from clovisor_py.kube.policy import Decision

NOTHING = "none"
"""Of `clovisor.io/capture`: nobody reads the pod's calls, so that the other end cannot know their spans."""


class Agents:
    """Empty at first; `apply` every change of the watch of all pods."""

    def __init__(self) -> None:
        self._on: dict[str, frozenset[Ref]] = {}
        """By node; two while one is replaced."""

    def apply(self, change: Change) -> None:
        """One change; of another pod it changes nothing."""
        for one, present in ((change.old, False), (change.new, True)):
            if isinstance(one, Pod) and one.agent:
                there = self._on.get(one.node, frozenset()) - {one.ref}
                self._set(one.node, there | {one.ref} if present else there)

    def on(self, node: str) -> bool:
        """Whether one is ready there."""
        return node in self._on

    def _set(self, node: str, there: frozenset[Ref]) -> None:
        if there:
            self._on[node] = there
        else:
            self._on.pop(node, None)


def tells_calls(decision: Decision) -> bool:
    """Whether every call that such a pod makes is read and told of: no part of them is left out, by what it says itself."""
    return decision.traced and decision.capture != NOTHING and decision.egress is None
