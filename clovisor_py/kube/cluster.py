"""The cluster as a node's agent wants it: what is to be done with each pod of this node, and who is behind an address.

Two kinds of watches feed it. The pods of this node, found by the API server (field selector), are what filters are attached
for; they come on a connection of their own, which no other traffic delays. All pods, Services and what owns or holds them
are the index that names both ends of a session. A change anywhere comes out of `take` as the pods of this node that it may
concern.

For one thread; the watches have theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Final, NamedTuple

from clovisor_py.kube import read, resources
from clovisor_py.kube.agents import Agents, tells_calls
from clovisor_py.kube.client import Client
from clovisor_py.kube.hints import hints_for
from clovisor_py.kube.index import Index
from clovisor_py.kube.objects import Owner, Pod, Ref, Slice
from clovisor_py.kube.policy import Decision, Rules, decide, why_not
from clovisor_py.kube.spoken import Spoken
from clovisor_py.kube.watch import Change, Pace, State, Watch, Watcher
from clovisor_py.model.workload import Workload

NODES_SHOWN: Final = 5
"""Right names in place of a wrong one: so many are told, the rest is counted."""
UNKNOWN_NODE: Final = (
    "the API server knows no node {}, so no pod is traced: say which this is with --node or CLOVISOR_NODE ({})."
)
OWN_PODS: Final = "pods of this node"
"""The name of that watch; all others are called as RBAC calls them."""

_OWNERS: Final = (
    *(resources.NODES, resources.NAMESPACES, resources.REPLICASETS, resources.DEPLOYMENTS),
    *(resources.STATEFULSETS, resources.DAEMONSETS, resources.JOBS, resources.CRONJOBS),
)


class Wanted(NamedTuple):
    """What the API server wants for one pod of this node."""

    pod: Pod
    decision: Decision
    hints: Mapping[int, str]
    """Port to protocol: annotation, Service, port names."""
    obstacle: str
    """Why it cannot be traced though it were selected, as part of a sentence; empty where it can."""

    @property
    def traced(self) -> bool:
        return self.decision.traced and not self.obstacle

    @property
    def settings(self) -> tuple[object, ...]:
        """What may change while it is traced."""
        decision = self.decision
        return self.hints, decision.capture, decision.egress, decision.redact, decision.sample


def watches(node: str) -> list[Watch]:
    """All that an agent on this node watches."""
    return [
        Watch(OWN_PODS, resources.PODS, read.pod, field_selector=f"spec.nodeName={node}"),
        *(Watch(one.plural, one, partial(read.owner, one.kind)) for one in _OWNERS),
        Watch(resources.SLICES.plural, resources.SLICES, read.slice_),
        Watch(resources.SERVICES.plural, resources.SERVICES, read.service),
        Watch(resources.PODS.plural, resources.PODS, read.peer),
    ]


class Cluster:
    """From `with` to its end. `names`: those of all protocols; `clock`: wall clock, ns."""

    def __init__(
        self,
        client: Client,
        node: str,
        rules: Rules,
        names: Collection[str],
        *,
        pace: Pace | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.node = node
        self._watcher = Watcher(client, watches(node), pace)
        self._rules, self._names, self._clock = rules, frozenset(names), clock
        self.index = Index()
        self._spoken = Spoken(self.index, self._decide, self._names)
        self._pods: dict[Ref, Pod] = {}
        self._wanted: dict[Ref, Wanted] = {}
        """As decided last; nothing has changed since for those that are here."""
        self._slices: dict[str, dict[Ref, Slice]] = {}
        """By namespace: only slices of a pod's own namespace can have its hints."""
        self._agents = Agents()
        self._elsewhere: dict[str, bool] = {}
        """By uid: whether a pod of another node is to be traced there. As decided since the latest change."""
        self._sampled: dict[str, float] = {}
        """By uid: how many of a pod's sessions become spans. Likewise."""

    def __enter__(self) -> Cluster:
        self._watcher.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._watcher.__exit__(kind, error, trace)

    def fileno(self) -> int:
        """Readable while `take` would have something to answer."""
        return self._watcher.fileno()

    @property
    def ready(self) -> bool:
        """Which pods are to be traced is known, as far as the API server tells us: all that says so was listed, or refused."""
        states = {state.name: state for state in self._watcher.states()}
        own, _ = states.pop(OWN_PODS), states.pop(resources.PODS.plural)
        return own.synced_s is not None and all(map(_answered, states.values()))

    @property
    def named(self) -> bool:
        """Who is behind which address is known, in the same sense; pods of all nodes take longest."""
        return all(map(_answered, self._watcher.states()))

    def unknown_node(self) -> str:
        """A sentence where the API server has no node of this agent's name (yet): it would wait for pods that never come."""
        plural = resources.NODES.plural
        listed = any(state.name == plural and state.synced_s is not None for state in self._watcher.states())
        if not listed or self._watcher.known(plural, Ref("Node", "", self.node)) is not None:
            return ""
        names = sorted(ref.name for ref in self._watcher.objects(plural))
        more = f" and {len(names) - NODES_SHOWN} more" if len(names) > NODES_SHOWN else ""
        return UNKNOWN_NODE.format(self.node, f"there are {', '.join(names[:NODES_SHOWN])}{more}" if names else "there is none")

    def states(self) -> list[State]:
        """How each watch is doing. Any thread."""
        return self._watcher.states()

    def set_rules(self, rules: Rules) -> set[Ref]:
        """The agent's settings have changed; answers whom that may concern."""
        self._rules = rules
        self._wanted.clear()
        self._elsewhere.clear()
        self._sampled.clear()
        return set(self._pods)

    def take(self) -> set[Ref]:
        """The pods of this node that are new, gone, or perhaps to be treated otherwise, since the last call. Never blocks."""
        if not (changes := self._watcher.changes()):
            return set()  # nearly always
        self._elsewhere.clear()
        self._sampled.clear()
        now = self._clock()
        concerned: set[Ref] = set()
        namespaces: set[str] = set()
        addresses: set[str] = set()
        for change in changes:
            if change.watch == OWN_PODS:
                self._own(change)
                concerned.add(change.ref)
                continue
            self.index.apply(change, now)
            self._agents.apply(change)
            self._spoken.note(change)
            if change.watch == resources.SLICES.plural:
                addresses.update(self._slice(change))
            elif change.ref.kind == "Namespace":
                namespaces.add(change.ref.name)
            elif isinstance(change.new or change.old, Owner) and _matters(change):
                namespaces.add(change.ref.namespace)
        if namespaces or addresses:
            concerned |= {
                ref for ref, pod in self._pods.items() if ref.namespace in namespaces or not addresses.isdisjoint(pod.ips)
            }
        for ref in concerned:
            self._wanted.pop(ref, None)
        return concerned

    def wanted(self, ref: Ref) -> Wanted | None:
        """What is wanted for a pod of this node now; None for one that is gone."""
        if (known := self._wanted.get(ref)) is not None:
            return known
        pod = self._pods.get(ref)
        if pod is None:
            return None
        decision = self._decide(pod)
        hints = hints_for(pod, self._slices.get(ref.namespace, {}).values(), decision, self._names)
        wanted = self._wanted[ref] = Wanted(pod, decision, hints, why_not(pod, self.node))
        return wanted

    def pods(self) -> Iterable[Ref]:
        """All of this node."""
        return tuple(self._pods)

    def find(self, ref: Ref) -> Pod | None:
        """A pod of whatever node. Any thread."""
        found = self._watcher.known(resources.PODS.plural, ref)
        return found if isinstance(found, Pod) else None

    def resolve(self, ip: str, port: int, time_ns: int) -> Workload | None:
        """Who had this address at that time."""
        return self.index.resolve(ip, port, time_ns)

    def workload(self, pod: Pod) -> Workload:
        """A pod of this node; its Service is for the index to know."""
        owners = self.index.chain(pod.owner)
        top = owners[-1].owner or owners[-1].ref if owners else pod.owner
        owner = f"{top.kind.lower()}/{top.name}" if top is not None else ""
        names = pod.service_name, pod.service_version
        return Workload(pod.ref.name, pod.ref.namespace, self.node, owner, "", "pod", pod.uid, "", *names)

    def is_external(self, namespace: str, name: str) -> bool:
        """Whether that is a Service of type ExternalName: its name leads out of the cluster."""
        return self.index.is_external(namespace, name)

    def protocol_at(self, ip: str, port: int) -> str:
        """What the server there is said to speak, as a protocol's name; empty where nobody says."""
        return self._spoken.at(ip, port)

    @property
    def protocols_version(self) -> int:
        """Another one: `protocol_at` may answer otherwise."""
        return self._spoken.version

    def traced_elsewhere(self, peer: Workload) -> bool:
        """Whether the agent of another node is there and tells of this pod's calls: it has the same rules."""
        if peer.kind != "pod" or peer.node == self.node or not self._agents.on(peer.node):
            return False
        known = self._elsewhere.get(peer.uid)
        if known is None:
            found = self.find(Ref("Pod", peer.namespace, peer.name))
            same = found is not None and found.uid == peer.uid
            known = found is not None and same and tells_calls(self._decide(found)) and not why_not(found, found.node)
            self._elsewhere[peer.uid] = known
        return known

    def sampled(self, peer: Workload) -> float:
        """Of a pod's sessions, those that become spans, from 0 to 1: as it says itself, else as the settings do."""
        known = self._sampled.get(peer.uid)
        if known is None:
            found = self.find(Ref("Pod", peer.namespace, peer.name))
            said = None if found is None or found.uid != peer.uid else self._decide(found).sample
            known = self._sampled[peer.uid] = self._rules.sample if said is None else said
        return known

    def expire(self) -> None:
        """Now and then: forget who is long gone."""
        self.index.expire(self._clock())

    def _decide(self, pod: Pod) -> Decision:
        namespace = self.index.owner(Ref("Namespace", "", pod.ref.namespace))
        return decide(pod, self.index.chain(pod.owner), namespace, self._rules)

    def _own(self, change: Change) -> None:
        if isinstance(change.new, Pod):
            self._pods[change.ref] = change.new
        else:
            self._pods.pop(change.ref, None)

    def _slice(self, change: Change) -> set[str]:
        """Remember it; the addresses whose hints it may change."""
        known = self._slices.setdefault(change.ref.namespace, {})
        if isinstance(change.new, Slice):
            known[change.ref] = change.new
        else:
            known.pop(change.ref, None)
        if not known:
            del self._slices[change.ref.namespace]
        return {address for one in (change.old, change.new) if isinstance(one, Slice) for address in one.addresses}


def _answered(state: State) -> bool:
    return state.synced_s is not None or bool(state.problem)


def _matters(change: Change) -> bool:
    """Whether an owner says something of its pods, or did; most of a cluster's ReplicaSets never do."""
    return any(isinstance(one, Owner) and (one.labels or one.annotations or one.owner) for one in (change.old, change.new))
