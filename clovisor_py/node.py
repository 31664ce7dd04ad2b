"""The node's agent: what the API server wants becomes attached filters, and stays so.

What is wanted (the pods of this node that are to be traced) and what is (the filters on the veths) are compared for a pod
whenever the API server says something new of it, and for all of them every few seconds, by what is there and not by what was
done. So a missed event, a crash, a CNI that took filters off or gave a pod another veth all end the same way.

One pod's trouble is its own: it is tried again after ever longer pauses, said once, and the others go on. Without the API
server everything stays as it was. The datapath is left to a successor when this ends; a new agent touches nothing, and reads
nothing, before it knows what is wanted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Final

from clovisor_py.agent import Agent, Every, Sessions
from clovisor_py.config import Settings
from clovisor_py.errors import ClovisorError
from clovisor_py.kernel.cgroups import Cgroups
from clovisor_py.kernel.conntrack import Conntrack
from clovisor_py.kernel.links import addresses
from clovisor_py.kernel.pod_veths import PodVeths
from clovisor_py.kernel.targets import Veth
from clovisor_py.kube.cluster import Wanted
from clovisor_py.kube.egress import permits
from clovisor_py.kube.objects import Ref
from clovisor_py.naming import ClusterDirectory, Containers
from clovisor_py.node_start import await_answers, await_names
from clovisor_py.protocols._api import Protocol
from clovisor_py.protocols._redaction import Level, stricter
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

NO_VETH: Final = "NoVeth"
NOT_ATTACHED: Final = "NotAttached"
BAD_SETTING: Final = "BadTraceSetting"
"""Reasons of Events."""
TAKEN: Final = "its veth {} is that of {}, which the API server still lists at the same address"

_log = logging.getLogger(__name__)


class NodeAgent:
    """From `with` to its end; `run` in between. For one thread.

    `sessions` takes what is seen (a Fanout); `report(object, uid, reason, sentence)` and `unsay(object)` tell an operator what
    is wrong with an object, and that it no longer is.
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
    ) -> None:
        self.private: set[int] = set() if private is None else private
        """Interfaces that are traced only because somebody looks: their sessions are for nobody else (`sessions` heeds it)."""
        self.looked_at: Mapping[Ref, str] = {}
        """Pods of this node that somebody looks at now, and how much is hidden from them at least."""
        self._redact = settings.redact
        self._hints: Mapping[int, str] = {}
        self._conntrack = Conntrack()
        self.directory = ClusterDirectory(
            cluster.resolve, Cgroups().container, Translation(self._conntrack, addresses), cluster.is_external
        )
        self.agent = Agent(
            settings,
            sessions,
            protocols=protocols,
            directory=self.directory,
            leave=True,
            lost=self._lost,
        )
        self._cluster, self._report = cluster, report
        self._veths = PodVeths()
        self._looked = False
        """The veths are those of now: once a turn is enough."""
        self.pods: dict[Ref, Local] = {}
        """All pods of this node, traced or not."""
        self._due: dict[Ref, None] = {}
        """To be looked at, the oldest first."""
        self._failing: set[Ref] = set()
        """Of `pods`, those that are to be tried again some time."""
        self._full = Every(FULL_S)
        self._comparisons = 0
        self._retell, self._told = Every(RETELL_S), cluster.protocols_version
        self.started = time.time()
        self.begun = False
        """All pods have been looked at once."""
        self.moved = 0
        """Pods whose veth had become another one."""
        self.strays = 0
        """Filters of ours that nobody wanted any more, and that were taken off."""

    def __enter__(self) -> NodeAgent:
        self.agent.__enter__()
        self._open_conntrack()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._conntrack.close()
        self.agent.__exit__(kind, error, trace)

    def _open_conntrack(self) -> None:
        try:
            self._conntrack.open()
        except ClovisorError as error:  # it only names more of who is behind a Service
            _log.warning("whom Services lead to is told by the API server alone: %s", error)

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
        """End what is open; what is attached stays."""
        self.agent.finish()

    def apply(self, redact: str, hints: Mapping[int, str]) -> None:
        """What holds where nobody says anything of a pod; open connections follow."""
        self._redact, self._hints = redact, hints
        for local in self.pods.values():
            self._set_terms(local, local.veth)

    def concern(self, refs: Iterable[Ref]) -> None:
        """Look at these pods again: settings have changed."""
        self._due.update(dict.fromkeys(refs))

    def look_at(self, pods: Mapping[Ref, str]) -> None:
        """These are traced for as long as they are here, also where nobody enabled them."""
        before, self.looked_at = self.looked_at, pods
        for ref in before.keys() | pods.keys():
            if before.get(ref) != pods.get(ref):
                self._due[ref] = None
                if (local := self.pods.get(ref)) is not None:
                    self._set_terms(local, local.veth)

    def owner_of(self, local: Local) -> str:
        """What controls it in the end: `deployment/cart`; empty where nothing does."""
        return self._cluster.workload(local.wanted.pod).owner

    def redact_of(self, local: Local) -> str:
        """How much is hidden of a pod: as it says itself, else the agent's settings; or more, where who looks asks for that."""
        own = Level(local.wanted.decision.redact or self._redact)
        asked = self.looked_at.get(local.wanted.pod.ref)
        return own.value if asked is None else stricter(own, asked).value

    def _to_trace(self, wanted: Wanted) -> bool:
        return wanted.traced or (wanted.pod.ref in self.looked_at and not wanted.obstacle)

    def _begin(self) -> None:
        """Everything at once; afterwards nothing of a predecessor is left that nobody wants."""
        self._cluster.take()
        self._due.update(dict.fromkeys(self._cluster.pods()))
        self.agent.datapath.heartbeat()
        while self._due:
            self._work(time.monotonic(), BEGINNING_S)
            self.agent.datapath.heartbeat()
        self._remove_strays()
        self.begun = True
        traced = sum(local.veth is not None for local in self.pods.values())
        _log.info("%d of the %d pods of this node are traced.", traced, len(self.pods))

    def _turn(self, now: float) -> None:
        self.concern(self._cluster.take())
        if self._full.due(now):
            self._comparisons += 1
            self._veths.veths_by_address(anew=self._comparisons % ANEW == 0)
            self._looked = True
            self._remove_strays()
            self.concern([*self._cluster.pods(), *self.pods])
            self._cluster.expire()
        if self._failing:
            self.concern(ref for ref in self._failing if self.pods[ref].wants(now))
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
            self._compare(ref, now)
        self._looked = False
        self.agent.excuse(time.process_time() - cpu)

    def _compare(self, ref: Ref, now: float) -> None:
        """One pod, as it is wanted and as it is."""
        wanted, local = self._cluster.wanted(ref), self.pods.get(ref)
        if local is not None and (wanted is None or wanted.pod.uid != local.wanted.pod.uid):
            self._detach(local)
            self._clear(local)
            del self.pods[ref]
            self._failing.discard(ref)
            local = None
        if wanted is None:
            return
        if local is None:
            local = self.pods[ref] = Local(wanted)
        before, local.wanted = local.wanted, wanted
        if local.veth is not None:
            self._name_containers(local, local.veth)
        if not any(problem.on == ref for problem in wanted.decision.problems):
            self._report.unsay(ref, BAD_SETTING)
        for problem in wanted.decision.problems:
            self._report.say(problem.on, problem.uid, BAD_SETTING, problem.sentence)
        traced = self._to_trace(wanted)
        if local.veth is not None:
            self._keep_private(local, local.veth)
        if not traced:
            self._detach(local)
            self._clear(local)
        elif not self._moved(local) and wanted.settings != before.settings:
            self._set_terms(local, local.veth)
        if traced and local.veth is None and local.next_try <= now:
            self._attach(local, now)

    def _moved(self, local: Local) -> bool:
        """Whether the pod is traced nowhere (any more): its address leads to another veth than its filters are on."""
        if local.veth is None:
            return True
        found = self._find(local)
        if isinstance(found, Veth) and found.ifindex != local.veth.ifindex:
            self.moved += 1
            _log.warning("%s has moved from %s to %s.", local.wanted.pod.ref, local.veth.name, found.name)
            self._detach(local)
        return local.veth is None

    def _find(self, local: Local) -> Veth | str:
        if not self._looked:
            self._veths.veths_by_address(anew=local.attempts > 1)
            self._looked = True
        return self._veths.of(local.wanted.pod.ips)

    def _attach(self, local: Local, now: float) -> None:
        reason, found = NO_VETH, self._find(local)
        if isinstance(found, Veth) and (other := self._tracing(found.ifindex)) is not None:
            if not other.wanted.pod.deleted:
                found = TAKEN.format(found.name, other.wanted.pod.ref)
            else:
                self._detach(other)
        if isinstance(found, Veth):
            try:
                self._put_on(local, found)
            except ClovisorError as error:
                reason, found = NOT_ATTACHED, str(error)
        if isinstance(found, str):
            self._failing.add(local.wanted.pod.ref)
            if local.fail(reason, found, now) and not local.wanted.pod.deleted:
                self._report.say(
                    local.wanted.pod.ref, local.wanted.pod.uid, reason, f"it cannot be traced: {found.rstrip('.')}."
                )
            return
        self._clear(local)

    def _clear(self, local: Local) -> None:
        """Nothing hinders it any more."""
        self._failing.discard(local.wanted.pod.ref)
        if local.recover():
            self._report.unsay(local.wanted.pod.ref, NO_VETH)
            self._report.unsay(local.wanted.pod.ref, NOT_ATTACHED)

    def _put_on(self, local: Local, veth: Veth) -> None:
        """Names and terms first: they hold from the first segment on."""
        pod, capture = local.wanted.pod, local.wanted.decision.capture
        self.directory.assign(veth.ifindex, self._cluster.workload(pod))
        self._name_containers(local, veth)
        self._keep_private(local, veth)
        try:
            self._set_terms(local, veth)
            self.agent.add(veth, capture or "detect")
        except ClovisorError:
            self.agent.drop(veth.ifindex)
            self.private.discard(veth.ifindex)
            raise
        local.veth, local.since = veth, time.time()
        _log.info("tracing %s on %s (%s)", pod.ref, veth.name, local.wanted.decision.because)

    def _keep_private(self, local: Local, veth: Veth) -> None:
        (self.private.discard if local.wanted.traced else self.private.add)(veth.ifindex)
        self.directory.tell(veth.ifindex, local.wanted.traced)

    def _name_containers(self, local: Local, veth: Veth) -> None:
        pod = local.wanted.pod
        self.directory.contain(veth.ifindex, Containers(pod.only_container, pod.containers))

    def _set_terms(self, local: Local, veth: Veth | None) -> None:
        if veth is None:
            return
        decision = local.wanted.decision
        allowed = None if decision.egress is None else partial(permits, decision.egress)
        hints, said = {**self._hints, **decision.hints}, partial(self._said, local)
        self.agent.set_terms(veth.ifindex, hints, self.redact_of(local), decision.capture, allowed, said)

    def _said(self, local: Local, ip: str, port: int) -> str:
        """What a pod's own port, or a server that it calls, is said to speak."""
        if ip in local.wanted.pod.ips:
            return local.wanted.hints.get(port, "")
        return self._cluster.protocol_at(ip, port)

    def _tracing(self, ifindex: int) -> Local | None:
        """The pod whose filters are on this veth."""
        return next((local for local in self.pods.values() if local.veth and local.veth.ifindex == ifindex), None)

    def _detach(self, local: Local) -> None:
        if local.veth is None:
            return
        veth, local.veth = local.veth, None
        try:
            self.agent.drop(veth.ifindex)
        except ClovisorError as error:  # it is a stray now, and is taken off when that can be done
            _log.warning("%s keeps filters for now: %s", veth.name, error)
        self.private.discard(veth.ifindex)  # not before: what was open has just ended
        _log.info("no longer tracing %s on %s", local.wanted.pod.ref, veth.name)

    def _lost(self, veth: Veth) -> None:
        """It has vanished, mostly with its pod, of which the API server will tell soon; else the pod will get another."""
        if (local := self._tracing(veth.ifindex)) is not None:
            self._detach(local)
            self.concern([local.wanted.pod.ref])
        else:
            self.agent.drop(veth.ifindex)

    def _remove_strays(self) -> None:
        for ifindex in self.agent.datapath.strays():
            self.strays += 1
            try:
                self.agent.drop(ifindex)
            except ClovisorError as error:
                _log.warning("a filter that nobody wants stays for now: %s", error)
