"""The node's agent: what the API server wants becomes attached filters, and stays so.

What is wanted (the pods of this node that are to be traced) and what is (the filters on the veths) are compared for a pod
whenever the API server says something new of it, and for all of them every few seconds, by what is there and not by what was
done. So a missed event, a crash, a CNI that took filters off or gave a pod another veth all end the same way.

One pod's trouble is its own: it is tried again after ever longer pauses, said once, and the others go on; so is a look that
fails. Without the API server everything stays as it was. The datapath is left to a successor when this ends, but for the pods
that are private; a new agent touches nothing, and reads nothing, before it knows what is wanted. `node_terms` says what holds
for a pod, `node_taps` who is traced and private.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Set
from types import TracebackType
from typing import Final

from clovisor_py.agent import Agent
from clovisor_py.agent_report import Every, Sessions
from clovisor_py.config import Settings
from clovisor_py.kernel.cgroups import Cgroups
from clovisor_py.kernel.conntrack import Conntrack
from clovisor_py.kernel.links import addresses
from clovisor_py.kernel.targets import Veth
from clovisor_py.kube.objects import Ref
from clovisor_py.naming import ClusterDirectory
from clovisor_py.node_start import await_answers, await_names
from clovisor_py.node_terms import NodeTerms
from clovisor_py.node_veths import NodeVeths
from clovisor_py.protocols._api import Protocol
from clovisor_py.roster import ClusterView, Local, Report
from clovisor_py.translation import Translation

FULL_S: Final = 5.0
"""How long a difference that nobody told of may last."""
SLICE_S: Final = 0.05
"""How long pods are attached and detached before the ring is read again: a hundred of them take longer than a ring may wait."""
RETELL_S: Final = 0.5
"""How often open connections may follow what is newly said of servers: it looks at each of them."""
BEGINNING_S: Final = 1.0
"""The same before the ring is read at all: between two heartbeats."""
ANEW: Final = 12
"""Every so many full comparisons all namespaces are asked for their addresses again, also those that have told them."""

BAD_SETTING: Final = "BadTraceSetting"
"""Reason of Events."""

_log = logging.getLogger(__name__)


class NodeAgent:
    """From `with` to its end; `run` in between. For one thread.

    `sessions` takes what is seen (a Fanout); `report(object, uid, reason, sentence)` and `unsay(object)` tell an operator what
    is wrong with an object, and that it no longer is. `private`: see NodeTerms; `sessions` heeds it. `began`: see
    NodeVeths.
    """

    def __init__(
        self,
        settings: Settings,
        sessions: Sessions,
        cluster: ClusterView,
        report: Report,
        *,
        protocols: Mapping[str, Protocol] | None = None,
        private: set[int] | None = None,
        ratios: MutableMapping[int, float] | None = None,
        began: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.pods: dict[Ref, Local] = {}
        """All pods of this node, traced or not."""
        self._cluster, self._report = cluster, report
        self._conntrack, self._cgroups = Conntrack(), Cgroups()
        self.directory = self._names()
        private = set() if private is None else private
        self.agent = Agent(
            settings,
            sessions,
            protocols=protocols,
            directory=self.directory,
            leave=True,
            lost=self._lost,
            private=private,
            by_operation=True,
        )
        self.terms = NodeTerms(self.agent, self.directory, cluster, private, {} if ratios is None else ratios, settings.redact)
        self.veths = NodeVeths(self.agent, self.terms, report, self.pods, began)
        self._due: dict[Ref, None] = {}
        """To be looked at, the oldest first."""
        self._full = Every(FULL_S)
        self._comparisons = 0
        self._retell, self._told = Every(RETELL_S), cluster.protocols_version
        self.started = time.time()
        self.begun = False
        """All pods have been looked at once."""

    def __enter__(self) -> NodeAgent:
        self.agent.__enter__()
        self._conntrack.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.veths.abandon()
        self._conntrack.close()
        self.agent.__exit__(kind, error, trace)

    def _names(self) -> ClusterDirectory:
        """Who is at both ends of a session."""
        cluster, translation = self._cluster, Translation(self._conntrack, addresses)
        external, elsewhere, ratio = cluster.is_external, cluster.traced_elsewhere, cluster.sampled
        return ClusterDirectory(cluster.resolve, self._cgroups.container, translation, external, elsewhere, ratio)

    def run(self, stop: Callable[[], bool], also: Callable[[float], None] | None = None) -> None:
        """Until `stop()`. `also` is called often, with the monotonic time, for whatever else has to be done in this thread."""
        if not await_answers(self._cluster, stop, also):
            return
        self._begin()
        await_names(self._cluster, self.agent.datapath, stop, also)
        if (news := self._cluster.fileno()) >= 0:
            self.agent.datapath.ring.wake_on(news)

        def turn(now: float) -> None:
            self._turn(now)
            if also is not None:
                also(now)

        self.agent.run(stop, turn)

    def finish(self) -> None:
        """End what is open. What is attached stays, but for private pods: a successor must not read what nobody may hear."""
        self.veths.leave()
        self.agent.finish()

    def apply(self, redact: str, hints: Mapping[int, str]) -> None:
        """What holds where nobody says anything of a pod; open connections follow."""
        self.terms.redact, self.terms.hints = redact, hints
        for local in self.pods.values():
            self._hold(local)

    def concern(self, refs: Iterable[Ref]) -> None:
        """Look at these pods again: settings have changed."""
        self._due.update(dict.fromkeys(refs))

    def tap(self, pods: Mapping[Ref, str]) -> None:
        """These are tapped from now on, and no others: pod to how much is to be hidden of it at least.

        Afterwards nothing comes out of them that was read while less was hidden.
        """
        before, self.terms.tapped = self.terms.tapped, pods
        for ref in before.keys() | pods.keys():
            if before.get(ref) != pods.get(ref):
                self._due[ref] = None
                if (local := self.pods.get(ref)) is not None and self.terms.traced(local.wanted):
                    self._hold(local)

    def counts(self) -> dict[str, int]:
        """What this and its parts count of themselves, by `PART EVENT`."""
        cgroups = {f"cgroups {name}": getattr(self._cgroups, name) for name in ("readings", "postponed", "beyond")}
        veths = {"moved": self.veths.moved, "strays": self.veths.strays, "refused": self.agent.troubles.count}
        own = {**{f"filters {name}": number for name, number in veths.items()}, **self.agent.tracing()}
        datapath = self.agent.datapath
        kernel = {"controls refused": datapath.controls_refused, "ring stale bytes": datapath.stale_bytes}
        return {**own, **cgroups, **self.directory.counts(), **kernel}

    @property
    def private(self) -> Set[int]:
        """Interfaces of pods that are tapped and not enabled: what is seen there is for taps alone."""
        return self.terms.private

    @property
    def tapped(self) -> Mapping[Ref, str]:
        """Pods of this node that somebody looks at now, and how much is hidden from them at least."""
        return self.terms.tapped

    def owner_of(self, local: Local) -> str:
        """What controls it in the end: `deployment/cart`; empty where nothing does."""
        return self._cluster.workload(local.wanted.pod).owner

    def _begin(self) -> None:
        """Everything at once; afterwards nothing of a predecessor is left that nobody wants."""
        self._cluster.take()
        self._due.update(dict.fromkeys(self._cluster.pods()))
        self.agent.datapath.heartbeat()
        while self._due:
            self._work(time.monotonic(), BEGINNING_S)
            self.agent.datapath.heartbeat()
        self.veths.remove_strays()
        self.begun = True
        traced = sum(local.veth is not None for local in self.pods.values())
        _log.info("%d of the %d pods of this node are traced.", traced, len(self.pods))

    def _turn(self, now: float) -> None:
        self.veths.turn()
        self.concern(self._cluster.take())
        if self._full.due(now):
            self._comparisons += 1
            self.veths.look(anew=self._comparisons % ANEW == 0)
            self.veths.remove_strays()
            self.concern([*self._cluster.pods(), *self.pods])
            self._cluster.expire()
        if self.veths.failing:
            self.concern(ref for ref in self.veths.failing if self.pods[ref].wants(now))
        if self._due:
            self._work(now)
        if self._told != self._cluster.protocols_version and self._retell.due(now):
            self._told = self._cluster.protocols_version
            self.agent.retell()

    def _work(self, now: float, slice_s: float | None = None) -> None:
        """As many of those that are due as there is time for."""
        until, cpu = time.monotonic() + (slice_s or SLICE_S), time.process_time()
        while self._due and time.monotonic() < until:
            ref = next(iter(self._due))
            del self._due[ref]
            with self.agent.troubles.at(f"looking after {ref}"):
                self._compare(ref, now)
        self.veths.turn()
        self.agent.shedding.excuse(time.process_time() - cpu)

    def _compare(self, ref: Ref, now: float) -> None:
        """One pod, as it is wanted and as it is."""
        wanted, local = self._cluster.wanted(ref), self.pods.get(ref)
        if local is not None and (wanted is None or wanted.pod.uid != local.wanted.pod.uid):
            self.veths.detach(local)
            self.veths.clear(local)
            del self.pods[ref]
            local = None
        if wanted is None:
            return
        if local is None:
            local = self.pods[ref] = Local(wanted)
        before, local.wanted = local.wanted, wanted
        if not any(problem.on == ref for problem in wanted.decision.problems):
            self._report.unsay(ref, BAD_SETTING)
        for problem in wanted.decision.problems:
            self._report.say(problem.on, problem.uid, BAD_SETTING, problem.sentence)
        if not self.terms.traced(wanted):
            self.veths.detach(local)
            self.veths.clear(local)
            return
        if local.veth is not None:
            self.terms.keep(local, local.veth)
        if self.veths.follow(local) and wanted.settings != before.settings:
            self._hold(local)
        if local.veth is None and local.next_try <= now:
            self.veths.attach(local, now)

    def _hold(self, local: Local) -> None:
        """Its terms have changed."""
        if local.veth is not None:
            self.terms.hold(local, local.veth)

    def _lost(self, veth: Veth) -> None:
        """It has vanished, mostly with its pod, of which the API server will tell soon; else the pod will get another."""
        if (local := self.veths.tracing(veth.ifindex)) is not None:
            self.veths.detach(local)
            self.concern([local.wanted.pod.ref])
        else:
            self.veths.drop(veth.ifindex)
