"""Snapshot: what an agent knows at one moment, as plain facts: who is traced where, how much was seen, and what was not.

The agent makes one now and then and publishes it; whoever is asked (`control_socket`, `/metrics`, `explain`) answers from the
last one, and so never waits for the agent nor makes it wait. Everything here is immutable and goes through JSON and back: a
client may be older or newer than its agent, so unknown fields are passed over and missing ones have a default.

Times are seconds since the epoch, 0 for never; counters only grow as long as a pod stays traced.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from types import MappingProxyType, UnionType
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from clovisor_py.kernel.layout import LOSSES, Counter

Json: TypeAlias = Any
"""What `json.loads` answers."""
Kind: TypeAlias = Any
"""An annotation of a field."""
Facts = TypeVar("Facts", bound=tuple[Any, ...])
NOTHING: Final[Mapping[str, int]] = MappingProxyType({})

SEEN: Final = "seen"
CAPTURED: Final = "captured"
CUT: Final = "cut"
COUNTED: Final = "counted"
LOST: Final = "lost"
POD_BUDGET: Final = "pod budget"
FLOW_BUDGET: Final = "flow budget"

STAGES: Final[Mapping[Counter, tuple[str, str]]] = MappingProxyType({
    Counter.SEGMENTS: (SEEN, ""),
    Counter.CAPTURED: (CAPTURED, ""),
    Counter.CUT_BUDGET: (CUT, "head"),
    Counter.CUT_SKIP: (CUT, "skipped"),
    Counter.CUT_FLOW: (CUT, FLOW_BUDGET),
    Counter.CUT_POD: (CUT, POD_BUDGET),
    Counter.MUTED: (COUNTED, "muted"),
    Counter.SHED: (LOST, POD_BUDGET),
    Counter.LOST_RING: (LOST, "ring full"),
    Counter.LOST_QUOTA: (LOST, "connection quota"),
    Counter.LOST_MAP: (LOST, "connection table full"),
    Counter.LOST_LOAD: (LOST, "unreadable"),
})  # fmt: skip
"""Where the kernel's count of segments stands in the ledger: `seen` is the sum of all others."""


class State(str, Enum):
    """What became of a pod."""

    TRACED = "traced"
    NOT_SELECTED = "not selected"
    NOT_RUNNING = "not running"
    OTHER_NODE = "other node"
    HOST_NETWORK = "host network"
    NO_VETH = "no veth"
    REFUSED = "refused"
    """The kernel would not have our filters on its veth; `problem` says why."""


class Ended(NamedTuple):
    """So many segments (or sessions) ended at this stage for this reason."""

    stage: str
    reason: str
    number: int


class Port(NamedTuple):
    """What is known of a pod's connections by the server's port; `side` `server`: its own port, `client`: one that it calls."""

    port: int
    side: str = "server"
    protocols: tuple[str, ...] = ()
    """That were read there, the most frequent first."""
    sessions: int = 0
    unread: Mapping[str, int] = NOTHING
    """Reason to connections that nobody could read."""
    server_names: tuple[str, ...] = ()
    """That clients asked for in TLS handshakes."""
    mid_stream: int = 0
    """Sessions of connections that were first seen in their middle."""
    one_direction: int = 0
    """Sessions and connections of which only one direction passed the veth."""
    open: int = 0
    """Connections now."""
    older: int = 0
    """Of `open`: began before they were seen."""


class Pod(NamedTuple):
    """One pod, traced or not."""

    namespace: str
    name: str
    uid: str = ""
    node: str = ""
    ips: tuple[str, ...] = ()
    state: State = State.NOT_SELECTED
    selected: bool = False
    because: str = ""
    """Who selected it, or why it is not: part of a sentence (`label clovisor.io/trace=true on deployment/cart`)."""
    veth: str = ""
    ifindex: int = 0
    netnsid: int | None = None
    """The id by which the host knows the pod's network namespace."""
    since: float = 0
    """When this agent began with it, from where its counters count; filters of an agent before may have been there already."""
    ahead: str = ""
    """The program that runs before ours on its veth; empty where ours is first."""
    segments: tuple[Ended, ...] = ()
    """By STAGES; see `count_segments`."""
    bytes: tuple[int, int] = (0, 0)
    """Of payload: leaving the pod, entering it."""
    turns: tuple[int, int] = (0, 0)
    """The same two."""
    turn_ns: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    """The same two: turns by log2 of their latency in ns."""
    sessions: Mapping[str, int] = NOTHING
    """Outcome to sessions."""
    ports: tuple[Port, ...] = ()
    problem: str = ""
    """The last thing that went wrong with it, a sentence."""
    problem_at: float = 0
    mistakes: tuple[str, ...] = ()
    """What makes no sense in the label and annotations that hold for it, and are passed over: sentences."""

    @property
    def ref(self) -> str:
        """`shop/cart-7d9f`."""
        return f"{self.namespace}/{self.name}"

    def ended(self, stage: str, reason: str | None = None) -> int:
        """Segments that ended at a stage, for one reason or for all."""
        return sum(each.number for each in self.segments if each.stage == stage and reason in (None, each.reason))


class Resource(NamedTuple):
    """How a list and watch of the API server is doing."""

    name: str
    """As RBAC names it: `pods`, `endpointslices`."""
    synced: bool = False
    """Listed, and watched without a break."""
    since: float = 0
    """Since when that is so."""
    objects: int = 0
    problem: str = ""
    """Why it is not synced: a sentence."""
    counts: Mapping[str, int] = NOTHING
    """What happened so far: `lists`, `watches`, `gone` (410), `events`, `failures`, `unreadable` objects."""


class Exporter(NamedTuple):
    """An exporter's ledger, in sessions: offered = sent + dropped + waiting."""

    url: str
    offered: int = 0
    sent: int = 0
    waiting: int = 0
    dropped: Mapping[str, int] = NOTHING
    left_out: int = 0
    """Sessions that sampling kept from it; they were not offered."""


class Unparsed(NamedTuple):
    """Connections to a server's port, on the whole node, that nobody could read. Port 0: all further ports."""

    port: int
    reason: str
    flows: int


class Snapshot(NamedTuple):
    """One moment of one agent."""

    node: str = ""
    version: str = ""
    started: float = 0
    taken: float = 0
    pods: tuple[Pod, ...] = ()
    """All of this node."""
    resources: tuple[Resource, ...] = ()
    exporters: tuple[Exporter, ...] = ()
    engine: Mapping[str, int] = NOTHING
    """`flows.ledger.Ledger`, numbers only."""
    unparsed: tuple[Unparsed, ...] = ()
    starting: bool = False
    """Not all pods have been looked at yet: the API server has not told, or it is being done."""
    shedding: bool = False
    """Pods are allowed less than the setting, now."""
    shed_s: float = 0
    """For how many seconds that has been so."""
    repairs: int = 0
    """Filters that had been removed or overtaken, and were put back."""
    own: Mapping[str, int] = NOTHING
    """What the agent's parts count of themselves: `PART EVENT` to its number, like `translation skipped`."""
    cpu_share: float = 0
    """Cores that the agent may use."""
    allowed: float = 1
    """What part of the setting the busiest pods are allowed to send up, now."""
    readers: int = 0
    """Who looks at pods now (`clovisor trace pod/…`)."""
    problems: tuple[str, ...] = ()
    """What is wrong now with what the agent itself was told (its settings, its node's name): sentences."""
    settings_refused: bool = False
    """There is a mistake in the settings file, which does not hold therefore."""


class Counted(typing.Protocol):
    """What `kernel.maps.Stats` is here."""

    def __getitem__(self, counter: Counter, /) -> int: ...


def count_segments(stats: Counted) -> tuple[Ended, ...]:
    """The kernel's counters of a pod as a ledger: `seen` always, the others where there were any."""
    counts = (Ended(*place, stats[counter]) for counter, place in STAGES.items())
    return tuple(each for each in counts if each.number or each.stage == SEEN)


def as_json(facts: object) -> Json:
    """Facts as what `json.dumps` takes."""
    if isinstance(facts, tuple):
        if fields := getattr(facts, "_fields", None):
            return {name: as_json(value) for name, value in zip(fields, facts, strict=True)}
        return [as_json(each) for each in facts]
    if isinstance(facts, Enum):
        return facts.value
    return dict(facts) if isinstance(facts, Mapping) else facts


def from_json(kind: type[Facts], json: Json) -> Facts:
    """The facts that `as_json` was given. Raises ValueError where it is not that."""
    try:
        found = _read(kind, json)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not {kind.__name__} as JSON ({error})") from error
    assert isinstance(found, kind)
    return found


def _read(kind: Kind, json: Json) -> object:
    origin: object = typing.get_origin(kind)
    if origin is tuple:
        arguments = typing.get_args(kind)
        kinds = [arguments[0]] * len(json) if arguments[-1] is Ellipsis else arguments
        return tuple(_read(each, value) for each, value in zip(kinds, json, strict=True))
    if origin is UnionType:
        return None if json is None else _read(typing.get_args(kind)[0], json)
    if origin is not None:
        return {str(key): int(value) for key, value in json.items()}
    if issubclass(kind, tuple):
        hints = _hints(kind)
        return kind(**{name: _read(hints[name], value) for name, value in json.items() if name in hints})
    if issubclass(kind, Enum):
        return kind(json)
    if not isinstance(json, (int, float) if kind is float else kind) or isinstance(json, bool) is not (kind is bool):
        raise TypeError(f"{json!r} is no {kind.__name__}")
    return json


@cache
def _hints(kind: Kind) -> Mapping[str, Kind]:
    return typing.get_type_hints(kind)


assert all(STAGES[counter][0] == LOST for counter in LOSSES)
