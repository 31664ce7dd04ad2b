"""Which pods of this node are tapped, decided once a turn in the engine's thread: what `taps` needs of the node's agent.

Two facts about a pod, and what follows from them:

  enabled   an operator's mark on it, its owner or its namespace says so (`Wanted.traced`): everybody may hear of it
  tapped    somebody looks at it now, through `clovisor trace pod/…` (`NodeAgent.tapped`)
  traced    enabled or tapped: our filters are on its veth
  private   tapped and not enabled: taps alone may hear of it; no exporter, no metric that names it

A pod hides as much as the strictest of those who tap it asks for. Whenever that changes, what was read at the level of before
comes out at once and never later (`flows.following`), so a tap that is given a pod's interface from then on sees only what
hides enough.

A tap goes from stage to stage (`tap.Stage`). One that is leaving gives up at once what is not its alone; the pods that were are
detached, tell it what was open, and let it go. What its targets mean is looked at once a second, so that a new pod of a tapped
Deployment is seen within a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

from clovisor_py.agent_report import Every
from clovisor_py.explain import similar
from clovisor_py.kube.objects import Pod, Ref
from clovisor_py.node import NodeAgent
from clovisor_py.roster import Local
from clovisor_py.snapshot import Pod as Facts
from clovisor_py.snapshot import Snapshot, count_segments
from clovisor_py.tap import Stage, Tap
from clovisor_py.tap_targets import means
from clovisor_py.tap_wire import Begun, Tapped
from clovisor_py.taps import Taps, wanted_by

SECOND: Final = 1.0
PATIENCE_S: Final = 3.0
"""How long a first answer waits for veths that are not there yet; then it says what it knows."""
STARTING: Final = (
    "the agent of node {} is starting: the API server has not told it yet which pods there are. Ask again in a moment."
)
ELSEWHERE: Final = "{} runs on node {}, and this is {}: run this there."
NOWHERE: Final = "no node has been chosen yet for {}: kubectl describe {} says why."
UNKNOWN: Final = "the agent of node {} knows no {}; {}"
NONE_HERE: Final = "no pod of {} runs on node {}: kubectl get pods -o wide says where they are."
CANNOT: Final = "{} cannot be traced: {}; clovisor explain {} says more."


class NodeTaps:
    """`turn` is called every 20 ms. `find` names pods of other nodes."""

    def __init__(self, node: NodeAgent, taps: Taps, name: str, find: Callable[[Ref], Pod | None]) -> None:
        self._node, self._taps, self._name, self._find = node, taps, name, find
        self._second = Every(SECOND)

    def turn(self, now: float) -> None:
        """Costs nothing while nobody taps."""
        taps = self._taps.open_now
        if not taps and not self._node.tapped:
            return
        second = self._second.due(now)
        for tap in taps:
            self._go_on(tap, now, second)
        self._tell()
        for tap in taps:
            self._follow(tap)

    def _go_on(self, tap: Tap, now: float, second: bool) -> None:
        match tap.stage:
            case Stage.OVER:
                self._taps.forget(tap)
            case Stage.LEAVING if tap.refs:
                self._count(tap)
                tap.refs = frozenset()  # what is its alone is detached next, and tells then what was open
            case Stage.LEAVING if not tap.interfaces:
                tap.let_go.set()
            case Stage.ASKED:
                self._begin(tap, now)
            case Stage.AWAITED:
                self._answer(tap, now)
            case Stage.OPEN if second:
                self._look_again(tap)
                self._count(tap)

    def _begin(self, tap: Tap, now: float) -> None:
        tap.began, tap.since = now, time.time()
        if not self._node.begun:
            tap.refuse(STARTING.format(self._name))
            return
        tap.refs = frozenset(self._meant(tap))
        if sentence := self._objection(tap):
            tap.refs = frozenset()
            tap.refuse(sentence)

    def _answer(self, tap: Tap, now: float) -> None:
        pods = self._locals(tap)
        if now - tap.began < PATIENCE_S and any(not (local.veth or local.problem or _obstacle(local)) for local in pods):
            return
        tap.answer(Begun(self._name, tuple(self._tapped(local) for local in pods)))

    def _look_again(self, tap: Tap) -> None:
        now = frozenset(self._meant(tap))
        for ref in sorted(tap.refs - now):
            tap.remark(f"{ref} is gone")
        for ref in sorted(now - tap.refs):
            tap.remark(f"{ref} has come")
        tap.refs = now

    def _tell(self) -> None:
        """The node's agent, which pods are tapped now."""
        wanted = wanted_by(tap for tap in self._taps.open_now if not tap.over.is_set())
        if wanted != self._node.tapped:
            self._node.tap(wanted)

    def _follow(self, tap: Tap) -> None:
        """Where its pods are now; one that is leaving keeps those that were its alone, until they have been detached."""
        if tap.leaving.is_set() and not tap.refs:
            tap.interfaces &= self._node.private - self._interfaces(self._node.tapped)
        elif (found := self._interfaces(tap.refs)) != tap.interfaces:
            tap.interfaces = found
            self._count(tap)

    def _interfaces(self, refs: Iterable[Ref]) -> frozenset[int]:
        """Those of these pods that are traced."""
        pods = (self._node.pods.get(ref) for ref in refs)
        return frozenset(local.veth.ifindex for local in pods if local is not None and local.veth is not None)

    def _count(self, tap: Tap) -> None:
        for local in self._locals(tap):
            if local.veth is None or (stats := self._node.agent.datapath.stats(local.veth.ifindex)) is None:
                continue
            counts = {(one.stage, one.reason): one.number for one in count_segments(stats)}
            key = local.wanted.pod.ref, local.veth.ifindex
            first, _ = tap.counted.get(key, ({} if local.since >= tap.since else counts, counts))
            tap.counted[key] = first, counts

    def _meant(self, tap: Tap) -> Iterable[Ref]:
        for ref, local in self._node.pods.items():
            owner = self._node.owner_of(local)
            if any(means(target, local.wanted.pod, owner) for target in tap.targets):
                yield ref

    def _locals(self, tap: Tap) -> list[Local]:
        return [local for ref in sorted(tap.refs) if (local := self._node.pods.get(ref)) is not None]

    def _objection(self, tap: Tap) -> str:
        """Why nothing can be seen; empty where something can."""
        for target in tap.targets:
            if target.kind == "Pod" and target not in tap.refs:
                return self._where_is(target)
        pods = self._locals(tap)
        if not pods:
            return NONE_HERE.format(" or ".join(map(str, tap.targets)), self._name)
        if all(map(_obstacle, pods)):
            ref = pods[0].wanted.pod.ref
            return CANNOT.format(ref, _obstacle(pods[0]), ref)
        return ""

    def _where_is(self, target: Ref) -> str:
        if (pod := self._find(target)) is not None and pod.node != self._name:
            if not pod.node:
                return NOWHERE.format(target, f"pod {target.name} -n {target.namespace}")
            return ELSEWHERE.format(target, pod.node, self._name)
        here = Snapshot(pods=tuple(Facts(ref.namespace, ref.name) for ref in self._node.pods))
        close = similar(here, target.namespace, target.name)
        meant = f"did you mean {' or '.join(close)}?" if close else "`clovisor pods -a` lists those of this node."
        return UNKNOWN.format(self._name, target, meant)

    def _tapped(self, local: Local) -> Tapped:
        pod, veth = local.wanted.pod, local.veth
        return Tapped(
            namespace=pod.ref.namespace,
            name=pod.ref.name,
            veth="" if veth is None else veth.name,
            ips=pod.ips,
            enabled=local.wanted.traced,
            because=local.wanted.decision.because,
            redact=self._node.terms.level(local),
            problem=_obstacle(local) or local.problem,
        )


def _obstacle(local: Local) -> str:
    return local.wanted.obstacle
