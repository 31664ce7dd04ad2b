"""Policy: whether a pod is traced, why, and how, from what its operators wrote. Pure: objects in, a decision out.

The label `clovisor.io/trace` counts on the pod, on who controls it (the objects, not their templates) and on its namespace;
the nearer wins. Where nobody says anything the agent's settings do: what it watches, then its default. Annotations refine at
the same places, each by itself the nearer first. What makes no sense is a problem of the object that says it, in a sentence
for an Event there; everything else goes on.

A ReplicaSet's annotations do not count where a Deployment owns it: the Deployment's controller copies them there and never
takes them back, so a hint that was removed would live on in the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

from clovisor_py.kube.annotations import (
    ANNOTATIONS,
    CAPTURE,
    EGRESS,
    PORTS,
    PREFIX,
    REDACT,
    SAMPLE,
    TRACE,
    Parsed,
    read_capture,
    read_egress,
    read_ports,
    read_redact,
    read_sample,
    read_switch,
)
from clovisor_py.kube.egress import EgressRule, quoted
from clovisor_py.kube.objects import Owner, Pod, Ref

FINISHED: Final = frozenset({"Succeeded", "Failed"})
UNREADABLE_REDACT: Final = "strict"
"""A level that nobody can read may have been meant to hide more, and what is told cannot be taken back."""

Place = Pod | Owner
"""Who may carry the label: the pod, what controls it, its namespace."""
Value = TypeVar("Value")


class Watched(NamedTuple):
    """Pods that are traced without a label: of a namespace (empty: of any) and with a label (no key: with any)."""

    namespace: str = ""
    key: str = ""
    value: str = ""

    def matches(self, pod: Pod) -> bool:
        """Whether this pod is one of them."""
        labelled = not self.key or pod.labels.get(self.key) == self.value
        return labelled and self.namespace in ("", pod.ref.namespace)

    def __str__(self) -> str:
        return ":".join([self.namespace or "*", *((self.key, self.value) if self.key else ())])


@dataclass(frozen=True)
class Rules:
    """What the agent's settings say about pods."""

    default: bool = False
    """Whether a pod is traced of which nobody says anything."""
    watch: tuple[Watched, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    """Where there are any, outgoing connections are looked at only if one of those for the pod matches."""
    sample: float = 1.0
    """Of the sessions of a pod that says nothing of it, those that become spans, from 0 to 1."""
    names: frozenset[str] = frozenset()
    """All names of protocols, with their other names (`flows.detect.by_any_name`)."""


class Problem(NamedTuple):
    """What makes no sense on an object; `sentence` names the label or annotation, and what to write instead."""

    on: Ref
    sentence: str
    uid: str = ""
    """Of that object: without it `kubectl describe` would not show an Event about it."""


class Decision(NamedTuple):
    """What is to be done with one pod; of one that is not traced, what would hold if it were."""

    traced: bool
    because: str
    """Part of a sentence: `label clovisor.io/trace=true on deployment/cart`."""
    capture: str | None = None
    """`head`, `full`, `none`; None: as the protocol needs."""
    hints: Mapping[int, str] = MappingProxyType({})
    """Port to protocol name, by annotation alone (`kube.hints` adds the rest)."""
    egress: tuple[EgressRule, ...] | None = None
    """The only outgoing connections that are looked at; None: all."""
    redact: str | None = None
    """None: as the agent's settings say."""
    sample: float | None = None
    """Of its sessions, those that become spans, from 0 to 1; None: as the agent's settings say."""
    problems: tuple[Problem, ...] = ()


def decide(pod: Pod, owners: Sequence[Owner], namespace: Owner | None, rules: Rules) -> Decision:
    """The decision for a pod; `owners`: who controls it, the nearest first, as far as they are known."""
    places: list[Place] = [pod, *(owner for owner in owners if owner.ref.kind != "Node")]  # a static pod's owner is its node
    places += [namespace] if namespace is not None else []
    problems: list[Problem] = []
    traced, because = _selected(pod, places, rules, problems)
    reading = _Reading(places, problems if traced else [])  # where nothing is traced nothing hinders it
    return Decision(
        traced=traced,
        because=because,
        capture=reading.nearest(CAPTURE, read_capture),
        hints=reading.nearest(PORTS, lambda text: read_ports(text, rules.names)) or MappingProxyType({}),
        egress=reading.nearest(EGRESS, read_egress) if reading.says(EGRESS) else _egress_of(pod, rules),
        redact=reading.nearest(REDACT, _redact),
        sample=reading.nearest(SAMPLE, read_sample),
        problems=(*problems, *(reading.misplaced() if traced else ())),
    )


def why_not(pod: Pod, node: str) -> str:
    """Why this pod cannot be traced on `node`, as part of a sentence; empty where it can."""
    if pod.node != node:
        return f"it runs on node {pod.node}, and this is {node}" if pod.node else "no node has been chosen for it yet"
    if pod.host_network:
        return "it uses its host's network, and so has no veth of its own"
    if pod.phase in FINISHED:
        return f"it has finished ({pod.phase})"
    return "" if pod.ips else "it has no address yet"


def _selected(pod: Pod, places: Sequence[Place], rules: Rules, problems: list[Problem]) -> tuple[bool, str]:
    lacking = f"no label {TRACE}"
    for place in places:
        if (text := place.labels.get(TRACE)) is None:
            continue
        said = read_switch(text)
        problems += _problems(place, "label", TRACE, said.mistakes)
        if said.value is not None:
            return said.value, f"label {TRACE}={text} on {_short(place.ref)}"
        lacking = f"no label {TRACE} that can be read"
    for watched in rules.watch:
        if watched.matches(pod):
            return True, f"the agent's settings watch {watched}"
    return rules.default, f"{lacking}, and the agent's default is {'to trace' if rules.default else 'not to'}"


class _Reading:
    """The annotations of all places, the nearest first."""

    def __init__(self, places: Sequence[Place], problems: list[Problem]) -> None:
        self._places = [(place, {} if _copied(place) else place.annotations) for place in places]
        self._problems = problems

    def says(self, key: str) -> bool:
        return any(key in written for _, written in self._places)

    def nearest(self, key: str, parse: Callable[[str], Parsed[Value]]) -> Value | None:
        """The nearest that can be read, and the problems of those passed on the way."""
        for place, written in self._places:
            if key in written:
                parsed = parse(written[key])
                self._problems += _problems(place, "annotation", key, parsed.mistakes)
                if parsed.value is not None:
                    return parsed.value
        return None

    def misplaced(self) -> Iterator[Problem]:
        """Labels that should be annotations, the other way round, and words that are none of ours."""
        for place, written in self._places:
            for key in ANNOTATIONS:
                if key in place.labels:
                    yield Problem(place.ref, f"{key} on {_short(place.ref)} is a label: write it as an annotation.", place.uid)
            for key in written:
                if key == TRACE:
                    yield Problem(place.ref, f"{key} on {_short(place.ref)} is an annotation: write it as a label.", place.uid)
                elif key.startswith(PREFIX) and key not in ANNOTATIONS:
                    known = ", ".join(ANNOTATIONS)
                    what = f"annotation {quoted(key)} on {_short(place.ref)}"
                    yield Problem(place.ref, f"{what} is unknown; there are {known}.", place.uid)


def _copied(place: Place) -> bool:
    return place.ref.kind == "ReplicaSet" and place.owner is not None and place.owner.kind == "Deployment"


def _egress_of(pod: Pod, rules: Rules) -> tuple[EgressRule, ...] | None:
    """Of the agent's rules those for this pod; None where the agent has none at all."""
    return tuple(rule for rule in rules.egress if pod.ref.name.startswith(rule.pod_prefix)) if rules.egress else None


def _redact(text: str) -> Parsed[str]:
    parsed = read_redact(text)
    if parsed.value is not None:
        return Parsed(parsed.value)
    return Parsed(UNREADABLE_REDACT, tuple(f"{mistake} (until then it is {UNREADABLE_REDACT})" for mistake in parsed.mistakes))


def _problems(place: Place, what: str, key: str, mistakes: Sequence[str]) -> list[Problem]:
    return [Problem(place.ref, f"{what} {key} on {_short(place.ref)}: {mistake}.", place.uid) for mistake in mistakes]


def _short(ref: Ref) -> str:
    return f"{ref.kind.lower()}/{ref.name}"
