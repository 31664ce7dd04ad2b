"""Filters onto the veths of pods, and off them: what the node's agent has decided of a pod, done.

A pod's veth is found by its address. Whatever is refused is that pod's own trouble: it is remembered with the pod, told to its
operator if it lasts, and tried again after ever longer pauses. What cannot be taken off is a stray, of which nothing is read,
and is taken off when that can be done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Final

from clovisor_py.agent import Agent
from clovisor_py.errors import ClovisorError
from clovisor_py.kernel.pod_veths import PodVeths
from clovisor_py.kernel.targets import Veth
from clovisor_py.kube.objects import Ref
from clovisor_py.node_terms import NodeTerms
from clovisor_py.roster import Local, Report

NO_VETH: Final = "NoVeth"
NOT_ATTACHED: Final = "NotAttached"
"""Reasons of Events."""
TAKEN: Final = "its veth {} is that of {}, which the API server still lists at the same address"

_log = logging.getLogger(__name__)


class NodeVeths:
    """`pods`: all of this node, which the node's agent keeps; `began` is told of each ifindex from where counts begin anew."""

    def __init__(
        self, agent: Agent, terms: NodeTerms, report: Report, pods: Mapping[Ref, Local], began: Callable[[int], None]
    ) -> None:
        self._agent, self._terms, self._report, self._pods, self._began = agent, terms, report, pods, began
        self._veths = PodVeths()
        self._looked = False
        """The veths are those of now: once a turn is enough."""
        self.failing: set[Ref] = set()
        """Pods that are to be tried again some time."""
        self.moved = 0
        """Pods whose veth had become another one."""
        self.strays = 0
        """Filters of ours that nobody wanted any more, and that were taken off."""

    def turn(self) -> None:
        """Time has passed: what was seen of the veths may be old."""
        self._looked = False

    def look(self, anew: bool) -> None:
        """At all veths, once a turn; where that fails, what was seen last holds. `anew`: as in `PodVeths`."""
        if not self._looked:
            self._looked = True
            with self._agent.troubles.at("looking for the pods' veths"):
                self._veths.veths_by_address(anew=anew)

    def attach(self, local: Local, now: float) -> None:
        """Onto the veth that its address leads to; `now` is monotonic, s."""
        reason, found = NO_VETH, self._find(local)
        if isinstance(found, Veth) and (other := self.tracing(found.ifindex)) is not None:
            if not other.wanted.pod.deleted:
                found = TAKEN.format(found.name, other.wanted.pod.ref)
            else:
                self.detach(other)
        if isinstance(found, Veth):
            try:
                self._put_on(local, found)
            except (ClovisorError, OSError) as error:
                reason, found = NOT_ATTACHED, str(error)
        if isinstance(found, Veth):
            self.clear(local)
        else:
            self._fail(local, reason, found, now)

    def follow(self, local: Local) -> bool:
        """Off the veth where its address leads to another; whether it is where it was."""
        if local.veth is None:
            return False
        found = self._find(local)
        if isinstance(found, Veth) and found.ifindex != local.veth.ifindex:
            self.moved += 1
            _log.warning("%s has moved from %s to %s.", local.wanted.pod.ref, local.veth.name, found.name)
            self.detach(local)
        return local.veth is not None

    def detach(self, local: Local) -> None:
        """What was open has been told when this ends; a pod that is traced nowhere is let be."""
        if local.veth is None:
            return
        veth, local.veth = local.veth, None
        self.drop(veth.ifindex)
        self._terms.end(veth.ifindex)
        _log.info("no longer tracing %s on %s", local.wanted.pod.ref, veth.name)

    def clear(self, local: Local) -> None:
        """Nothing hinders it any more."""
        self.failing.discard(local.wanted.pod.ref)
        if local.recover():
            self._report.unsay(local.wanted.pod.ref, NO_VETH)
            self._report.unsay(local.wanted.pod.ref, NOT_ATTACHED)

    def tracing(self, ifindex: int) -> Local | None:
        """The pod whose filters are on this veth."""
        return next((local for local in self._pods.values() if local.veth and local.veth.ifindex == ifindex), None)

    def drop(self, ifindex: int) -> None:
        """Nothing of ours is on it any more, or it is a stray from now on; its flows have ended in any case."""
        with self._taking_off(ifindex):
            self._agent.drop(ifindex)

    def remove_strays(self) -> None:
        """Off with what nobody wants: a predecessor's, or what could not be taken off before."""
        strays: list[int] = []
        with self._agent.troubles.at("looking for filters that nobody wants"):
            strays = self._agent.datapath.strays()
        for ifindex in strays:
            with self._taking_off(ifindex):
                self._agent.drop(ifindex)
                self.strays += 1

    def _taking_off(self, ifindex: int) -> AbstractContextManager[None]:
        return self._agent.troubles.at(f"taking our filters off interface {ifindex}")

    def leave(self) -> None:
        """Private pods are not for a successor: it must not read what nobody may hear."""
        for local in self._pods.values():
            if local.veth is not None and local.veth.ifindex in self._terms.private:
                self.detach(local)

    def abandon(self) -> None:
        """The same, after a failure: nothing more is read. There is nothing to do after `leave`."""
        for ifindex in self._terms.private:
            with self._taking_off(ifindex):
                self._agent.datapath.detach(ifindex)

    def _find(self, local: Local) -> Veth | str:
        self.look(anew=local.attempts > 1)
        return self._veths.of(local.wanted.pod.ips)

    def _put_on(self, local: Local, veth: Veth) -> None:
        """Names and terms first: they hold from the first segment on."""
        decision = local.wanted.decision
        self._began(veth.ifindex)
        try:
            self._terms.begin(local, veth)
            self._agent.add(veth, decision.capture or "detect")
        except (ClovisorError, OSError):
            self._agent.forget(veth.ifindex)
            self._terms.end(veth.ifindex)
            raise
        local.veth, local.since = veth, time.time()
        _log.info("tracing %s on %s (%s)", local.wanted.pod.ref, veth.name, decision.because)

    def _fail(self, local: Local, reason: str, why: str, now: float) -> None:
        pod = local.wanted.pod
        self.failing.add(pod.ref)
        if local.fail(reason, why, now) and not pod.deleted:
            self._report.say(pod.ref, pod.uid, reason, f"it cannot be traced: {why.rstrip('.')}.")
