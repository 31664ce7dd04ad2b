"""Explain: why a pod is or is not traced, and what of its traffic is not seen, step by step. Pure: facts in, sentences out.

The order is that of the way of the data: chosen, placed, attached, passing, read. The first step that stops it is the last
one that is told, because what would come after it has no meaning.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

from clovisor_py.snapshot import CUT, FLOW_BUDGET, LOST, POD_BUDGET, SEEN, Pod, Port, Snapshot, State

STALE_S: Final = 10.0
"""A snapshot that is older comes from an agent that hangs: it publishes one a second."""
NAMES_SHOWN: Final = 3
ENOUGH: Final = 16
"""Segments after which it is remarkable that all of them went one way."""
ENCRYPTED: Final = "encrypted"
UNKNOWN: Final = "unknown protocol"
SILENT: Final = "nothing was said"
WRONG_HINT: Final = "mend the annotation clovisor.io/ports, or the Service's port name"
TRACE_LABEL: Final = "clovisor.io/trace"


class Mark(str, Enum):
    """What a step found."""

    OK = "ok"
    PROBLEM = "problem"
    """Sessions are not seen that the operator may expect."""
    NOTE = "note"
    """Something is seen in part only."""


class Step(NamedTuple):
    """One line of the explanation; `remedy` is what to do, where something can be done."""

    mark: Mark
    title: str
    text: str
    remedy: str = ""


def steps(snapshot: Snapshot, pod: Pod, now: float) -> list[Step]:
    """The explanation; `now` in seconds since the epoch, on the agent's machine."""
    return [*_agent(snapshot, now), *_pod(snapshot, pod, now), *_exporters(snapshot)]


def similar(snapshot: Snapshot, namespace: str, name: str) -> list[str]:
    """Pods of this node that may have been meant, as `namespace/name`."""
    refs = [pod.ref for pod in snapshot.pods]
    begin = [ref for ref in refs if ref.startswith(f"{namespace}/{name}") or ref.endswith(f"/{name}")]
    own = [pod.name for pod in snapshot.pods if pod.namespace == namespace]  # what all have in common makes nothing alike
    close = [f"{namespace}/{one}" for one in difflib.get_close_matches(name, own, NAMES_SHOWN)]
    others = [pod.ref for pod in snapshot.pods if pod.namespace != namespace]
    return (begin or close or difflib.get_close_matches(f"{namespace}/{name}", others, NAMES_SHOWN))[:NAMES_SHOWN]


def ago(seconds: float) -> str:
    """`8 s ago`, `12 min ago`, `3 h ago`, `2 days ago`."""
    return f"{age(seconds)} ago"


def age(seconds: float) -> str:
    """`8 s`, `12 min`, `3 h`, `2 days`."""
    whole = max(int(seconds), 0)
    for size, unit in ((172_800, "days"), (7_200, "h"), (120, "min")):
        if whole >= size:
            return f"{whole // (86_400 if unit == 'days' else size // 2)} {unit}"
    return f"{whole} s"


def _agent(snapshot: Snapshot, now: float) -> Iterator[Step]:
    if snapshot.starting:
        text = "it is starting, and has not looked at all pods yet"
        yield Step(Mark.NOTE, "agent", text, "ask again in a moment")
    if now - snapshot.taken > STALE_S:
        text = f"it last said something {ago(now - snapshot.taken)}: what follows may be no longer so"
        yield Step(Mark.PROBLEM, "agent", text, "see its log")
    for problem in snapshot.problems:
        yield Step(Mark.NOTE, "agent", problem)
    away = [each for each in snapshot.resources if not each.synced]
    if away:
        names = ", ".join(each.name for each in away)
        why = next((each.problem for each in away if each.problem), "not listed yet")
        yield Step(Mark.NOTE, "API server", f"{names}: {why.rstrip('.')}. Tracing goes on with what is known")


def _pod(snapshot: Snapshot, pod: Pod, now: float) -> Iterator[Step]:
    if pod.state is State.OTHER_NODE or (pod.node and snapshot.node and pod.node != snapshot.node):
        where = f"it runs on {pod.node}" if pod.node else "no node has been chosen for it"
        yield Step(Mark.PROBLEM, "node", f"{where}, and this is {snapshot.node}", "ask the agent there")
        return
    mistakes = [Step(Mark.NOTE, "mistake", mistake) for mistake in pod.mistakes]
    selected = _selected(pod)
    if selected is not None and selected.mark is Mark.PROBLEM:
        yield from (*mistakes, selected)
        return
    yield from [selected] if selected is not None else []
    yield from mistakes
    if stopped := _place(pod):
        yield stopped
        return
    yield _veth(pod, now)
    if pod.problem:
        when = f"{ago(now - pod.problem_at)}: " if pod.problem_at else ""
        yield Step(Mark.NOTE, "problem", f"{when}{pod.problem}")
    yield from _traffic(snapshot, pod)
    for port in pod.ports:
        yield from _port(snapshot, pod, port)


def _selected(pod: Pod) -> Step | None:
    """None where it makes no difference: to enable a pod without a veth would not help."""
    if pod.selected:
        return Step(Mark.OK, "selected", pod.because)
    if pod.state is State.HOST_NETWORK:
        return None
    because, remedy = pod.because or f"no label {TRACE_LABEL}", f"clovisor enable pod/{pod.name} -n {pod.namespace}"
    if pod.state is State.TRACED:
        text = f"{because}; traced only for as long as `clovisor trace` looks at it"
        return Step(Mark.NOTE, "selected", text, remedy)
    return Step(Mark.PROBLEM, "selected", because, remedy)


def _place(pod: Pod) -> Step | None:
    """What keeps a pod that was chosen from being attached to."""
    problem = pod.problem.rstrip(".")
    if pod.state is State.HOST_NETWORK:
        text = "it uses its host's network, and so has no veth of its own: it cannot be traced, enabled or not"
        return Step(Mark.PROBLEM, "network", text, "trace the pods that it talks to: they are the other end")
    if pod.state is State.NOT_RUNNING:
        return Step(Mark.PROBLEM, "running", problem or "it does not run, or has no address yet", f"kubectl get pod {pod.name}")
    if pod.state is State.NO_VETH:
        text = problem or f"no interface of this host leads to {' or '.join(pod.ips) or 'it'}"
        return Step(Mark.PROBLEM, "veth", text, "a CNI without veths (macvlan, SR-IOV) cannot be traced")
    if pod.state is State.REFUSED:
        return Step(Mark.PROBLEM, "attached", problem or "the kernel refused our filters", "clovisor doctor")
    if pod.state is not State.TRACED:
        return Step(Mark.PROBLEM, "attached", problem or "not yet: the agent is about to", "ask again in a second")
    return None


def _veth(pod: Pod, now: float) -> Step:
    behind = f" (namespace id {pod.netnsid})" if pod.netnsid is not None else ""
    attached = f"{pod.veth}{behind}, traced by this agent for {age(now - pod.since)}"
    if pod.ahead:
        text = f"{attached}, but {pod.ahead} runs before our filters and may keep packets from us"
        return Step(Mark.PROBLEM, "veth", text, f"tc filter show dev {pod.veth} ingress; bpftool net show dev {pod.veth}")
    return Step(Mark.OK, "veth", f"{attached}, our filters come first")


def _traffic(snapshot: Snapshot, pod: Pod) -> Iterator[Step]:
    seen, lost = pod.ended(SEEN), pod.ended(LOST)
    over, fast = pod.ended(LOST, POD_BUDGET) + pod.ended(CUT, POD_BUDGET), pod.ended(CUT, FLOW_BUDGET)
    if not seen:
        text = "nothing with a payload has passed its veth since then (loopback in the pod never does)"
        yield Step(Mark.NOTE, "traffic", text)
        return
    reasons = [f"{each.reason} {each.number:,}" for each in pod.segments if each.stage == LOST]
    why = f" ({', '.join(reasons)})" if reasons else ""
    yield Step(Mark.NOTE if lost else Mark.OK, "traffic", f"{seen:,} segments seen, {lost:,} lost{why}")
    if over or fast or snapshot.shedding:
        yield _budget(snapshot, over, fast)
    if _goes_one_way(pod):
        yield _one_way(pod)


def _goes_one_way(pod: Pod) -> bool:
    return pod.ended(SEEN) >= ENOUGH and not all(pod.bytes)


def _one_way(pod: Pod) -> Step:
    """Some pods only talk (they ship logs), so this is a fact; it is a problem where the engine has seen that it is one, and
    where a server answers what nobody asked: of connections that come in past the veth not even the opening is seen.
    """
    mute = pod.bytes[0] > 0 and any(port.older and port.side == "server" for port in pod.ports)
    sure = mute or any(port.one_direction for port in pod.ports)
    way, other = ("leaves", "enters") if pod.bytes[0] else ("enters", "leaves")
    text = f"all that was seen {way} the pod; if anything {other} it, the CNI takes it past the veth (bpf_redirect_peer)"
    return Step(Mark.PROBLEM if sure else Mark.NOTE, "one direction", text, "turn such routing off in the CNI")


def _budget(snapshot: Snapshot, over: int, fast: int) -> Step:
    parts = [f"the pod's bytes a second were used up for {over:,} segments"] if over else []
    parts += [f"one connection's for {fast:,}"] if fast else []
    if snapshot.shedding:
        parts.append("the agent is at its share of a core and allows pods less now")
    remedy = "raise cpu_share" if snapshot.shedding else "raise pod_bytes_per_s or flow_bytes_per_s" if parts else ""
    return Step(Mark.NOTE, "budget", "; ".join(parts) + ". Turns and counters stay complete", remedy)


def _port(snapshot: Snapshot, pod: Pod, port: Port) -> Iterator[Step]:
    """What is not read of the connections to one server port."""
    title = f":{port.port}" if port.port else "other ports"
    title = f"→ {title}" if port.side == "client" else title
    unread = dict(port.unread)
    if port.older:  # they have no session yet; the engine may have given them up
        for each in snapshot.unparsed:
            if each.port == port.port:
                unread.setdefault(each.reason, 0)
    if port.server_names or ENCRYPTED in unread:
        names = ", ".join(port.server_names[:NAMES_SHOWN])
        said = f" (SNI {names})" if names else ""
        yield Step(Mark.NOTE, title, f"TLS: handshakes only{said}. Plain text is not visible on the wire.")
    if port.older:
        count = "1 connection" if port.older == 1 else f"{port.older:,} connections"
        what = f"{port.protocols[0]} is" if port.protocols else "a protocol is"
        text = f"{count} older than the agent: {what} recognised from the next request on"
        if _goes_one_way(pod):
            text = f"{count} of which the opening was not seen: older than the agent, or half of it goes another way"
        yield Step(Mark.NOTE if port.sessions else Mark.PROBLEM, title, text)
    if port.one_direction:
        text = f"{port.one_direction:,} of which only one direction passes the veth: no answer can be told from none"
        yield Step(Mark.PROBLEM, title, text)
    for reason, flows in sorted(unread.items(), key=lambda item: (-item[1], item[0])):
        if reason not in (ENCRYPTED, SILENT):
            yield _unread(title, port, reason, flows)


def _unread(title: str, port: Port, reason: str, flows: int) -> Step:
    count = f"{flows:,} connections" if flows > 1 else "a connection"
    if reason != UNKNOWN:
        remedy = "please report it" if "failed" in reason else WRONG_HINT if reason.startswith("hinted") else ""
        return Step(Mark.NOTE, title, f"{count} given up: {reason}", remedy)
    mark = Mark.NOTE if port.protocols else Mark.PROBLEM
    remedy = f'annotation clovisor.io/ports: "{port.port}=PROTOCOL" (clovisor protocols)' if port.port else ""
    return Step(mark, title, f"protocol unknown on {count}: only counted, with turns and latency", remedy)


def _exporters(snapshot: Snapshot) -> Iterator[Step]:
    for each in snapshot.exporters:
        if dropped := [f"{reason} {number:,}" for reason, number in each.dropped.items() if number]:
            yield Step(Mark.NOTE, "export", f"{each.url} got {each.sent:,} of {each.offered:,}; dropped: {', '.join(dropped)}")


def verdict(pod: Pod, found: Sequence[Step]) -> str:
    """The last line."""
    problems = sum(step.mark is Mark.PROBLEM for step in found)
    if pod.state is not State.TRACED:
        return "It is not traced."
    if not problems:
        return "It is traced."
    return f"It is traced, with {problems} problem{'s' if problems > 1 else ''}."
