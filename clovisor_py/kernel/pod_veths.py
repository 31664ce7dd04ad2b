"""Which host veth leads to the pod with an address: what a pod's address in the API server is to be turned into.

The namespace at a veth's other end is asked for its addresses (`links.addresses`), which needs no file of it, no process and
no container runtime. Two namespaces may give the same answer (an old sandbox that is not gone yet, a pod that took an
address it was not given), and some kernels give none: then the host's own tables decide, its routes, its neighbours and its
bridges' forwarding tables. Where those do not name exactly one veth either, there is none, and a reason: nothing is guessed.

Looking costs one dump of links, and two small ones for each namespace that was not known yet.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Final, NamedTuple

from clovisor_py.errors import ClovisorError
from clovisor_py.kernel.links import PAIRS, Link, addresses, links, names_behind, netlink
from clovisor_py.kernel.targets import Veth
from clovisor_py.model.text import printable

NO_VETH: Final = "no veth of this node leads to {}: its network is made elsewhere, or not yet"
SEVERAL: Final = "{} is behind several veths ({}), and neither routes nor bridges tell which is meant"
AT_ODDS: Final = "its addresses are behind different veths ({})"

_WHOLE: Final = frozenset({32, 128})
"""Prefix lengths of a route to one address."""
_RTN_UNICAST: Final = 1
"""Any other route is the host's own address, a broadcast or a refusal."""
_NUD_KNOWN: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
"""Neighbours that have answered once, or that somebody has written down; not those that never did, nor multicast."""
_log = logging.getLogger(__name__)


class PodVeths:
    """The veths of this namespace by the addresses behind them. Not thread-safe; raises what `links` raises."""

    def __init__(self) -> None:
        self._behind: dict[tuple[int, int], Veth] = {}
        """By ifindex and namespace id (no interface ever gets the ifindex of another)."""
        self._by_address: dict[str, Veth] = {}
        self._several: dict[str, list[Veth]] = {}

    def veths_by_address(self, anew: bool = False) -> Mapping[str, Veth]:
        """Address (text, as in pods' statuses) to the one veth that leads there, as it is now.

        `anew`: ask also the namespaces again that are known already; a sandbox seldom changes its addresses.
        """
        pairs = _leading_elsewhere(links())
        silent = self._ask({} if anew else self._behind, pairs)
        claims = _claims(self._behind.values())
        unclear = {address: veths for address, veths in claims.items() if len(veths) > 1}
        ways = _ways({link.ifindex for link in pairs}) if unclear or silent else {}
        self._by_address = {address: veths[0] for address, veths in claims.items() if len(veths) == 1}
        self._several = {address: veths for address, veths in unclear.items() if not self._settle(address, veths, ways)}
        self._by_address |= _by_ways(silent, ways, claims)
        return self._by_address

    def of(self, pod_addresses: Sequence[str]) -> Veth | str:
        """The veth of the pod with these addresses (one of each family), by the last look; else why there is none."""
        found = {veth.ifindex: veth for one in pod_addresses if (veth := self._by_address.get(one)) is not None}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            return AT_ODDS.format(_named(found.values()))
        for address in pod_addresses:
            if address in self._several:
                return SEVERAL.format(address, _named(self._several[address]))
        return NO_VETH.format(" or ".join(pod_addresses) or "it")

    def _ask(self, known: Mapping[tuple[int, int], Veth], pairs: Iterable[Link]) -> dict[int, Link]:
        """Refresh `_behind`: one question for each namespace that is not in `known`; one without an address is asked again.

        Answers the links, by ifindex, of which nobody told anything.
        """
        behind: dict[tuple[int, int], Veth] = {}
        asked: dict[int, _Inside | None] = {}
        silent: dict[int, Link] = {}
        for link in pairs:
            key = link.ifindex, -1 if link.netnsid is None else link.netnsid
            if key in known:
                behind[key] = known[key]
                continue
            if link.netnsid is not None and link.netnsid not in asked:
                asked[link.netnsid] = _inside(link.netnsid)
            inside = None if link.netnsid is None else asked[link.netnsid]
            if inside is None:
                silent[link.ifindex] = link
            elif own := inside.addresses.get(link.peer_ifindex):
                behind[key] = _veth(link, own, inside.names.get(link.peer_ifindex, ""))
        self._behind = behind
        return silent

    def _settle(self, address: str, veths: Iterable[Veth], ways: Mapping[str, set[int]]) -> bool:
        """Take the one of these veths by which the host itself reaches the address."""
        right = [veth for veth in veths if veth.ifindex in ways.get(address, ())]
        if len(right) == 1:
            self._by_address[address] = right[0]
        return len(right) == 1


class _Inside(NamedTuple):
    """What a namespace tells of its interfaces, by ifindex."""

    addresses: Mapping[int, tuple[str, ...]]
    names: Mapping[int, str]


def _inside(netnsid: int) -> _Inside | None:
    """None where the namespace is gone, or this kernel does not tell."""
    try:
        return _Inside(addresses(netnsid), names_behind(netnsid))
    except ClovisorError as error:
        _log.debug("namespace %d cannot be looked at: %s", netnsid, error)
        return None


def _leading_elsewhere(here: Sequence[Link]) -> list[Link]:
    """Halves of pairs whose other half is not here, too."""
    ends = {(link.ifindex, link.peer_ifindex) for link in here if link.netnsid is None}
    return [
        link for link in here if link.kind in PAIRS and not (link.netnsid is None and (link.peer_ifindex, link.ifindex) in ends)
    ]


def _veth(link: Link, own: tuple[str, ...], peer_name: str = "") -> Veth:
    name = printable(link.name)
    return Veth(link.ifindex, name, name, own, printable(peer_name), link.kind, link.netnsid)


def _claims(veths: Iterable[Veth]) -> dict[str, list[Veth]]:
    claims: dict[str, list[Veth]] = {}
    for veth in veths:
        for address in veth.addresses:
            claims.setdefault(address, []).append(veth)
    return claims


def _by_ways(silent: Mapping[int, Link], ways: Mapping[str, set[int]], claims: Mapping[str, object]) -> dict[str, Veth]:
    """Veths of which only the host's tables know what is behind them."""
    own: dict[int, list[str]] = {}
    for address, ifindexes in ways.items():
        if len(ifindexes) == 1 and address not in claims and (ifindex := next(iter(ifindexes))) in silent:
            own.setdefault(ifindex, []).append(address)
    veths = [_veth(silent[ifindex], tuple(found)) for ifindex, found in own.items()]
    return {address: veth for veth in veths for address in veth.addresses}


def _ways(pairs: set[int]) -> dict[str, set[int]]:
    """Address to the ifindexes (of `pairs`) by which the host reaches it: a route to it alone, a neighbour, a bridge's port.

    Neighbours count only for what has no such route: they may be older.
    """
    with netlink("looking at routes, neighbours and forwarding tables") as route:
        routes: dict[str, set[int]] = {}
        for message in route.get_routes():
            address, ifindex = message.get_attr("RTA_DST"), message.get_attr("RTA_OIF")
            if message["dst_len"] in _WHOLE and message["type"] == _RTN_UNICAST and ifindex in pairs and address:
                routes.setdefault(address, set()).add(ifindex)
        ports: dict[tuple[int, str], int] = {}
        for message in route.fdb("dump"):
            if message["ifindex"] in pairs:
                ports[message.get_attr("NDA_MASTER") or 0, message.get_attr("NDA_LLADDR") or ""] = message["ifindex"]
        neighbours: dict[str, set[int]] = {}
        for message in (*route.get_neighbours(family=2), *route.get_neighbours(family=10)):
            address, ifindex = message.get_attr("NDA_DST"), message["ifindex"]
            port = ifindex if ifindex in pairs else ports.get((ifindex, message.get_attr("NDA_LLADDR") or "-"))
            if address and port is not None and message["state"] & _NUD_KNOWN and not ip_address(address).is_link_local:
                neighbours.setdefault(address, set()).add(port)
    return neighbours | routes


def _named(veths: Iterable[Veth]) -> str:
    return ", ".join(sorted(veth.name for veth in veths))
