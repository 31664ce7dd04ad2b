"""Egress rules: which outgoing connections of a pod are looked at, as the operator writes them: `10.0.0.5:5432`, `*:6379`.

The 2019 form `ip:port[:pod-prefix]` is the same with a third part, and `0` for every address. Parsing is total: a rule or a
sentence part, never an exception, because these texts come from annotations that anybody may have written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from clovisor_py.model.text import printable

HIGHEST_PORT: Final = 65535
SHOWN: Final = 48
"""Characters of somebody's mistake that are quoted back: an Event's message holds 1,024, and has more to say."""
EVERYWHERE: Final = frozenset({"*", "", "0"})
"""What stands for all addresses; so do 0.0.0.0 and ::, where nobody can be called."""

_RULE: Final = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):([^:]*)(?::(.*))?", re.DOTALL)
_PORT: Final = re.compile(r"[0-9]{1,5}")
_PREFIX: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}")

FORM: Final = "write ADDRESS:PORT, like 10.0.0.5:5432, *:6379, 10.0.0.0/8:* or [fd00::5]:443"


class EgressRule(NamedTuple):
    """Connections to `network` (None: anywhere), `port` (0: any); `pod_prefix`: only of pods whose names begin so."""

    network: IPv4Network | IPv6Network | None
    port: int = 0
    pod_prefix: str = ""

    def matches(self, ip: str, port: int) -> bool:
        """Whether a connection to there is meant. `ip` is text, as in Session; what is no address matches `*` alone."""
        if self.port not in (0, port):
            return False
        if self.network is None:
            return True
        try:
            address = ip_address(ip)
        except ValueError:
            return False
        return (getattr(address, "ipv4_mapped", None) or address) in self.network

    def __str__(self) -> str:
        network = "*" if self.network is None else str(self.network).removesuffix(f"/{self.network.max_prefixlen}")
        parts = [f"[{network}]" if ":" in network else network, str(self.port or "*"), self.pod_prefix]
        return ":".join(part for part in parts if part)


def permits(rules: Iterable[EgressRule] | None, ip: str, port: int) -> bool:
    """Whether an outgoing connection to there is looked at. None: all are; no rule at all: none is."""
    return rules is None or any(rule.matches(ip, port) for rule in rules)


def rule_of(text: str, prefixes: bool = False) -> EgressRule | str:
    """One rule, or what is wrong with it, as the end of a sentence. `prefixes`: the third part of 2019 may be there."""
    match = _RULE.fullmatch("*:*" if text == "*" else text)
    if match is None:
        return f"{quoted(text)} is no rule: {FORM}"
    address, port_text, prefix = match[1], match[2], match[3]
    network = _network(address)
    if isinstance(network, str):
        return f"{network} in {quoted(text)} is no address: {FORM}"
    port = 0 if port_text == "*" else port_number(port_text)
    if port is None:
        return f"{quoted(port_text)} in {quoted(text)} is no port: write one from 1 to {HIGHEST_PORT}, or *"
    if prefix is not None and not (prefixes and _PREFIX.fullmatch(prefix)):
        allowed = "is not the beginning of a pod's name" if prefixes else "belongs in the agent's settings: leave it out"
        return f"{quoted(prefix)} in {quoted(text)} {allowed}"
    return EgressRule(network, port, prefix or "")


def port_number(text: str) -> int | None:
    """A port from 1 to 65535, written in plain digits."""
    number = int(text) if _PORT.fullmatch(text) else 0
    return number if 0 < number <= HIGHEST_PORT else None


def quoted(text: str) -> str:
    """What somebody wrote, fit for a sentence: printable, and not longer than it deserves."""
    return f"'{printable(text if len(text) <= SHOWN else text[:SHOWN] + '…')}'"


def _network(address: str) -> IPv4Network | IPv6Network | str | None:
    """None: everywhere. Text: what was written in its place, quoted."""
    if address in EVERYWHERE:
        return None
    inside = address[1:-1] if address.startswith("[") else address
    try:
        network = ip_network(inside, strict=False)
    except ValueError:
        return quoted(address)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    network = IPv4Network((mapped, network.prefixlen - 96)) if mapped is not None else network
    return None if network.num_addresses == 1 and network.network_address.is_unspecified else network
