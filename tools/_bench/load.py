"""`tools/bench load` and `saturation`: the counting proofs, at length.

At a rate that Clovisor can keep up with, four counts are one number: requests answered, lines in nginx's own log, request
turns in the kernel, sessions shown. At saturation what is lost is accounted for, segment by segment, and the kernel's turns
are still exact.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.kernel.layout import Counter
from tests.support.load import Proof, h2load, prove
from tests.support.netns import pod
from tests.support.nginx import nginx_in
from tests.support.vlan import VID, bridged_pods, tag
from tools._bench import machine

FAMILIES: Final = ("ipv4", "ipv6", "vlan")
SATURATING: Final = 20
"""Connections."""


def load(requests: int, rate: int, family: str) -> None:
    """Print the counts of `requests` at `rate` a second."""
    tagged = f" (802.1Q, tag {VID})" if family == "vlan" else ""
    machine.heading(f"load: {requests:,} requests at {rate:,}/s over {family}{tagged}")
    if family == "vlan":
        with bridged_pods("bench", "benchc") as (served, client), nginx_in(served) as nginx:
            tag(served)
            tag(client)
            proof = prove(nginx, lambda: h2load(nginx.url(), requests, rate=rate, inside=client))
    else:
        with pod("bench") as served, nginx_in(served) as nginx:
            proof = prove(nginx, lambda: h2load(nginx.url(ipv6=family == "ipv6"), requests, rate=rate))
    _print(proof)


def saturation(requests: int) -> None:
    """Print the counts of `requests` sent as fast as they are answered."""
    machine.heading(f"saturation: {requests:,} requests over {SATURATING} connections, as fast as they are answered")
    with pod("bench") as served, nginx_in(served) as nginx:
        proof = prove(nginx, lambda: h2load(nginx.url(), requests, clients=SATURATING))
    _print(proof)


def _print(proof: Proof) -> None:
    sent, stats = proof.sent, proof.stats
    machine.line(f"client: {sent.answered:,} answered in {sent.seconds:.1f} s, {sent.answered / sent.seconds:,.0f}/s")
    _count("nginx's access log", proof.served, proof.served)
    _count("kernel's request turns", proof.turns, proof.served)
    _count("sessions shown", proof.shown, proof.served)
    _count("  with request and response, no gap", proof.whole, proof.served)
    machine.line(f"lost by reason: {_list(proof.lost) or 'nothing'}")
    ends = sum(proof.ends.values())
    machine.line(f"SEGMENTS {stats[Counter.SEGMENTS]:,} = {ends:,} = {_list(proof.ends)}  {_verdict(proof.balanced)}")
    for text in proof.summary.splitlines():
        machine.line(f"  {text}")


def _count(name: str, number: int, truth: int) -> None:
    machine.line(f"{name:36} {number:>10,}  {_verdict(number == truth)}{'' if number == truth else f' {number - truth:+,}'}")


def _verdict(equal: bool) -> str:
    return "equal" if equal else "NOT EQUAL"


def _list(counts: dict[str, int]) -> str:
    return " + ".join(f"{name} {count:,}" for name, count in counts.items())
