"""What a node's agent knows, as the facts that it publishes: made from the agent's own state, in its thread.

Reading the kernel's counters of every pod each second would be half of what an agent at rest costs, so what has not moved is
not read again until the next full look.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from clovisor_py import __version__
from clovisor_py.agent_report import Every, Sessions
from clovisor_py.errors import ClovisorError
from clovisor_py.exporters._worker import Ledger
from clovisor_py.kernel.connections import Open, Where, open_connections
from clovisor_py.kernel.layout import Counter
from clovisor_py.kube.policy import FINISHED
from clovisor_py.kube.watch import State as Watching
from clovisor_py.metrics.by_pod import ByPod, with_open
from clovisor_py.model.session import Session
from clovisor_py.node import NodeAgent
from clovisor_py.node_veths import NOT_ATTACHED
from clovisor_py.roster import Local
from clovisor_py.snapshot import Exporter, Pod, Resource, Snapshot, State, Unparsed, count_segments

FULL_S: Final = 5.0
"""How old the counters of a quiet pod may be, and the number of its open connections."""
WATCHED: Final = ("lists", "watches", "gone", "events", "failures", "unreadable")
"""Counts of a watch that are told."""
AHEAD_LOOKS: Final = 8
"""Pods a second whose veths are looked at for programs ahead of ours, at some system calls each."""

_log = logging.getLogger(__name__)


class Snapshots:
    """Makes them. `node`: this node's name; `watching` says how the watches do."""

    def __init__(self, agent: NodeAgent, node: str, by_pod: ByPod) -> None:
        self._agent, self._node, self._by_pod = agent, node, by_pod
        self._last = Snapshot(node=node, version=__version__, started=agent.started)
        self._written = -1
        self._open: Mapping[int, Mapping[Where, Open]] = {}
        self._full = Every(0.0)
        self._ahead: dict[tuple[str, int], str] = {}
        """What runs before our filters, by uid and ifindex; the one that was looked at longest ago comes first."""

    def take(self, now: float, watching: Sequence[Watching]) -> Snapshot:
        """Of this moment; `now` is monotonic. What only the kernel counts may be FULL_S old where nothing was captured."""
        agent, core = self._agent, self._agent.agent
        written, full = core.datapath.ring.written, self._full.due(now)
        if full:
            self._full = Every(FULL_S)
            self._open = open_connections(core.datapath.maps.sessions())
        before = {} if full or written != self._written else {(pod.uid, pod.ifindex): pod for pod in self._last.pods}
        self._written = written
        self._look_ahead()
        report = core.report(look=False)
        self._last = Snapshot(
            node=self._node,
            version=__version__,
            started=agent.started,
            taken=time.time(),
            pods=tuple(self._pod(local, before) for local in agent.pods.values()),
            resources=tuple(_resource(one) for one in watching),
            exporters=tuple(
                Exporter(url, one.offered, one.sent, one.waiting, one.dropped, one.left_out)
                for url, one in core.ledgers().items()
            ),
            engine={name: count for name, count in report.engine.items() if isinstance(count, int)},
            unparsed=tuple(Unparsed(*row) for row in report.unparsed),
            starting=not agent.begun,
            shedding=core.shedding.active,
            shed_s=report.shed_seconds,
            repairs=report.repairs + agent.veths.moved + agent.veths.strays,
            own={**agent.counts(), "filters repaired": report.repairs, "kernel blind_seconds": round(report.blind_seconds)},
            cpu_share=core.settings.cpu_share,
            allowed=core.shedding.allowed,
        )
        return self._last

    def _look_ahead(self) -> None:
        """Whose filters are behind somebody else's: a few pods each time, those that are new first."""
        traced = {(one.wanted.pod.uid, one.veth.ifindex) for one in self._agent.pods.values() if one.veth is not None}
        known = [key for key in self._ahead if key in traced]
        for key in [*(traced - self._ahead.keys()), *known][:AHEAD_LOOKS]:
            self._ahead.pop(key, None)
            try:
                self._ahead[key] = ", ".join(self._agent.agent.datapath.ahead(key[1]))
            except ClovisorError as error:  # it is going, mostly
                _log.debug("what runs before our filters on interface %d is not known: %s", key[1], error)
        self._ahead = {key: names for key, names in self._ahead.items() if key in traced}

    def _pod(self, local: Local, before: Mapping[tuple[str, int], Pod]) -> Pod:
        pod, decision, veth = local.wanted.pod, local.wanted.decision, local.veth
        facts = Pod(
            namespace=pod.ref.namespace,
            name=pod.ref.name,
            uid=pod.uid,
            node=pod.node,
            ips=pod.ips,
            state=_state(local),
            selected=decision.traced,
            because=decision.because,
            problem=local.problem or local.wanted.obstacle,
            problem_at=local.problem_at if local.problem else 0.0,
            mistakes=tuple(mistake.sentence for mistake in decision.problems),
        )
        if veth is None:
            return facts
        facts = facts._replace(veth=veth.name, ifindex=veth.ifindex, netnsid=veth.netnsid, since=local.since)
        facts = facts._replace(ahead=self._ahead.get((pod.uid, veth.ifindex), ""))
        if (known := before.get((pod.uid, veth.ifindex))) is not None and known.since == local.since:
            return facts._replace(
                segments=known.segments,
                bytes=known.bytes,
                turns=known.turns,
                turn_ns=known.turn_ns,
                sessions=known.sessions,
                ports=known.ports,
            )
        return self._counted(facts)

    def _counted(self, facts: Pod) -> Pod:
        stats, seen = self._agent.agent.datapath.stats(facts.ifindex), self._by_pod.of(facts.ifindex)
        facts = facts._replace(sessions=seen.outcomes.copy(), ports=with_open(seen.facts(), self._open.get(facts.ifindex, {})))
        if stats is None:
            return facts
        return facts._replace(
            segments=count_segments(stats),
            bytes=(stats[Counter.BYTES], stats[Counter.BYTES_TO_POD]),
            turns=(stats[Counter.TURNS], stats[Counter.TURNS_TO_POD]),
            turn_ns=stats.turn_ns,
        )


def _state(local: Local) -> State:
    pod = local.wanted.pod
    if pod.host_network:
        return State.HOST_NETWORK  # whoever asks for it
    if not local.wanted.decision.traced:
        return State.TRACED if local.veth is not None else State.NOT_SELECTED  # it is tapped
    if pod.phase in FINISHED or not pod.ips:
        return State.NOT_RUNNING
    if local.veth is not None:
        return State.TRACED
    return State.REFUSED if local.reason == NOT_ATTACHED else State.NO_VETH


def _resource(one: Watching) -> Resource:
    since = 0.0 if one.synced_s is None else time.time() - one.synced_s
    counts = {name: getattr(one, name) for name in WATCHED}
    return Resource(one.name, one.synced_s is not None and not one.problem, since, one.objects, one.problem, counts)


class Counting:
    """Hands sessions on, and counts them by pod on the way."""

    def __init__(self, onwards: Sessions, by_pod: ByPod) -> None:
        self._onwards, self._by_pod = onwards, by_pod

    def offer(self, sessions: Sequence[Session]) -> None:
        """Take these. Never blocks."""
        for session in sessions:
            self._by_pod.add(session)
        self._onwards.offer(sessions)

    def ledgers(self) -> Mapping[str, Ledger]:
        """Export URL to its counts."""
        return self._onwards.ledgers()
