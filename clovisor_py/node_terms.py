"""What holds at the veth of each pod of this node: who may hear of it, how much of it is hidden, what its ports speak, and how
many of its sessions become spans.

Two facts decide, and have no other names (`node_taps` says what follows from them): a pod is *enabled*, or *tapped*, or both.
How much is hidden is what the pod says itself, else the agent's settings; of a tapped one, what who taps asks for, if that is
more. All of it holds from the first segment on, and open connections follow (`flows.following`).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from functools import partial

from clovisor_py.agent import Agent
from clovisor_py.kernel.targets import Veth
from clovisor_py.kube.agents import tells_calls
from clovisor_py.kube.cluster import Wanted
from clovisor_py.kube.egress import permits
from clovisor_py.kube.objects import Ref
from clovisor_py.naming import ClusterDirectory, Containers
from clovisor_py.protocols._redaction import Level, stricter
from clovisor_py.roster import ClusterView, Local


class NodeTerms:
    """Tells `agent` and `directory` of each pod's veth; `private` is kept here, and read by who hands sessions on."""

    def __init__(
        self,
        agent: Agent,
        directory: ClusterDirectory,
        cluster: ClusterView,
        private: set[int],
        ratios: MutableMapping[int, float],
        redact: str,
    ) -> None:
        self._agent, self._directory, self._cluster, self._ratios = agent, directory, cluster, ratios
        self.private = private
        """Interfaces of pods that are tapped and not enabled: what is seen there is for taps alone."""
        self.tapped: Mapping[Ref, str] = {}
        """Pods of this node that somebody looks at now, and how much is hidden from them at least."""
        self.redact = redact
        self.hints: Mapping[int, str] = {}
        """What holds where nobody says anything of a pod."""

    def traced(self, wanted: Wanted) -> bool:
        """Whether filters of ours belong on its veth: it is enabled or tapped, and nothing hinders."""
        return wanted.traced or (wanted.pod.ref in self.tapped and not wanted.obstacle)

    def level(self, local: Local) -> str:
        """How much is hidden of a pod."""
        own = Level(local.wanted.decision.redact or self.redact)
        asked = self.tapped.get(local.wanted.pod.ref)
        return own.value if asked is None else stricter(own, asked).value

    def begin(self, local: Local, veth: Veth) -> None:
        """Everything, before filters are on this veth. Raises UsageError for a hint that names no protocol."""
        self._directory.assign(veth.ifindex, self._cluster.workload(local.wanted.pod))
        self.keep(local, veth)
        self.hold(local, veth)

    def keep(self, local: Local, veth: Veth) -> None:
        """Its containers, and who may hear of it, as the API server and taps say now."""
        pod, enabled, calls = local.wanted.pod, local.wanted.traced, tells_calls(local.wanted.decision)
        self._directory.contain(veth.ifindex, Containers(pod.only_container, pod.containers))
        (self.private.discard if enabled else self.private.add)(veth.ifindex)
        self._directory.tell(veth.ifindex, enabled, calls)

    def hold(self, local: Local, veth: Veth) -> None:
        """How it is read and sampled from now on, on open connections too. Raises UsageError for a hint of no protocol."""
        decision = local.wanted.decision
        if decision.sample is None:
            self._ratios.pop(veth.ifindex, None)
        else:
            self._ratios[veth.ifindex] = decision.sample
        allowed = None if decision.egress is None else partial(permits, decision.egress)
        hints, said = {**self.hints, **decision.hints}, partial(self.said, local)
        self._agent.set_terms(veth.ifindex, hints, self.level(local), decision.capture, allowed, said)

    def said(self, local: Local, ip: str, port: int) -> str:
        """What a pod's own port, or a server that it calls, is said to speak."""
        if ip in local.wanted.pod.ips:
            return local.wanted.hints.get(port, "")
        return self._cluster.protocol_at(ip, port)

    def end(self, ifindex: int) -> None:
        """To be called when its flows have ended, and not before: they are as private as it was."""
        self.private.discard(ifindex)
        self._ratios.pop(ifindex, None)
