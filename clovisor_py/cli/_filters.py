"""Which sessions are shown: the tests behind `--port`, `--path`, `--status`, `--slower-than`, `--peer` and their opposites.

A test is a function of a finished, named session, so the same ones hold for a veth, for pods of the agent, and for captures.

The peer is the other end than the one that was looked at. In a capture that names no pods nobody knows which that is, and so
either end counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from clovisor_py.exporters._screen import status_of
from clovisor_py.model.session import Session, Side
from clovisor_py.model.workload import Endpoint, Workload

STATUS_CLASS: Final = re.compile(r"[1-5]xx", re.IGNORECASE)
LOOKS_LIKE_AN_ADDRESS: Final = re.compile(r"[0-9.]+|[0-9a-f]*:[0-9a-f:.]*", re.IGNORECASE)
SHORT: Final = {
    "deploy": "deployment",
    "ds": "daemonset",
    "no": "node",
    "ns": "namespace",
    "po": "pod",
    "sts": "statefulset",
    "svc": "service",
}
"""Kinds as people write them, and as a session's ends call them."""
REMEMBERED: Final = 4096
"""Addresses and workloads whose other spellings are kept: taking them apart would cost more than all other tests."""
OTHERS: Final = 5
"""Statuses that are told where none of those that were asked for came; further ones are counted together."""

Filter = Callable[[Session], bool]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Statuses:
    """A status itself (`404`), a class of them (`5xx`), an outcome (`timeout`, `error`), or what a line says (`open`).

    Remembers what came instead, for whoever asked for a status that nothing has.
    """

    def __init__(self, asked: Sequence[str]) -> None:
        self._asked = tuple(asked)
        self._wanted = {status.lower() for status in asked}
        self._classes = {status[0] for status in self._wanted if STATUS_CLASS.fullmatch(status)}
        self._matched = False
        self._others: dict[str, int] = {}
        self._more = 0

    def __call__(self, session: Session) -> bool:
        """Whether it has one of them."""
        status, said = session.status.lower(), status_of(session)
        in_class = len(status) == 3 and status[:1] in self._classes
        if in_class or not self._wanted.isdisjoint((status, session.outcome.value, said.lower())):
            self._matched = True
            return True
        if said in self._others or len(self._others) < OTHERS:
            self._others[said] = self._others.get(said, 0) + 1
        else:
            self._more += 1
        return False

    def missed(self) -> str:
        """What came instead, where none of those that were asked for did; else empty."""
        if self._matched or not self._others:
            return ""
        seen = [f"{said or '(none)'} × {number:,}" for said, number in sorted(self._others.items(), key=lambda item: -item[1])]
        seen += [f"others × {self._more:,}"] if self._more else []
        return f"no session had status {' or '.join(self._asked)}; there were {', '.join(seen)}"


def ports(wanted: Sequence[int]) -> Filter:
    """Of these servers' ports."""
    return lambda session: session.server.port in wanted


def slower(ns: int) -> Filter:
    """That took at least so long."""
    return lambda session: session.duration_ns >= ns


def path(text: str) -> Filter:
    """Whose resource begins so, or matches where there is a `*`, `?` or `[` in it."""
    pattern = text if any(mark in text for mark in "*?[") else f"{text}*"
    return lambda session: fnmatchcase(session.resource, pattern)


def peer(wanted: Sequence[str]) -> Filter:
    """Whose other end has one of these addresses or names. Each is one that `is_peer` takes."""
    networks = [network for text in wanted if (network := network_of(text)) is not None]
    patterns = [_in_full(text) for text in wanted if network_of(text) is None]

    def is_one(end: Endpoint, workload: Workload | None) -> bool:
        if networks and (address := _address(end.ip)) is not None and any(address in network for network in networks):
            return True
        return bool(patterns) and workload is not None and any(_named(workload, pattern) for pattern in patterns)

    return lambda session: any(is_one(end, workload) for end, workload in _peers(session))


def unless(test: Filter) -> Filter:
    """The opposite."""
    return lambda session: not test(session)


def is_peer(text: str) -> bool:
    """Whether it can be one: an address, a network, or a name."""
    return bool(text.strip()) and (network_of(text) is not None or not LOOKS_LIKE_AN_ADDRESS.fullmatch(text.partition("/")[0]))


def network_of(text: str) -> Network | None:
    """An address is a network of one; None for a name."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _peers(session: Session) -> tuple[tuple[Endpoint, Workload | None], ...]:
    client, server = (session.client, session.client_workload), (session.server, session.server_workload)
    own, other = (server, client) if session.side is Side.SERVER else (client, server)
    return (client, server) if own[1] is None else (other,)


@lru_cache(maxsize=REMEMBERED)
def _address(text: str) -> Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None  # another version's agent may write what this one cannot read: it is no peer that was asked for
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _in_full(text: str) -> str:
    """`svc/web` is `service/web`."""
    kind, slash, name = text.partition("/")
    return f"{SHORT.get(kind, kind)}/{name}" if slash else text


def _named(workload: Workload, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in _names(workload))


@lru_cache(maxsize=REMEMBERED)
def _names(workload: Workload) -> tuple[str, ...]:
    """All that it may be called: `web`, `shop/web`, `pod/web`, `deployment/web`, `service/web`, `namespace/shop`."""
    kind, _, owner = workload.owner.partition("/")
    kinds = ((workload.kind or "pod", workload.name), (kind.lower(), owner), ("service", workload.service))
    plain = [name for name in (workload.name, owner, workload.service) if name]
    spaced = [f"{workload.namespace}/{name}" for name in plain] if workload.namespace else []
    kinded = [f"{one}/{name}" for one, name in (*kinds, ("namespace", workload.namespace)) if name]
    return tuple(dict.fromkeys((*plain, *spaced, *kinded)))
