"""Following: open flows do what new terms of their veth say, and nothing else of them changes.

A flow that nobody could read, or that was taken for something else, is seen from its middle from then on, as if it were new.
So is one of which more or less is hidden now, unless its protocol knows better (`Protocol.renew`): what was read at the level
of before comes out at once, or never.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clovisor_py.flows.control import NONE
from clovisor_py.flows.delivery import Delivery
from clovisor_py.flows.table import Flow
from clovisor_py.flows.terms import MUTED, NOT_ASKED, Terms
from clovisor_py.protocols._api import Protocol

TOLD_ANEW: Final = "it was told to be another protocol"
HIDDEN_ANEW: Final = "it was begun again, to hide more of it or less"
"""What its parser still held, and what waited for an answer, was read at the level of before."""


def follow(delivery: Delivery, flow: Flow, now_ns: int, before: Terms) -> None:
    """`before`: the terms that held until now. What a parser raises is let through."""
    terms = delivery.terms_of(flow)
    refused = terms.refuses(_server(flow), *flow.peer)
    if refused or flow.why == NOT_ASKED:
        if not refused:
            delivery.reopen(flow, now_ns)
        elif flow.why != NOT_ASKED:
            delivery.give_up(flow, NOT_ASKED, now_ns)
            delivery.ignore(flow)
        return
    if terms.capture == NONE:
        if not flow.opaque:
            delivery.give_up(flow, MUTED, now_ns)
        return
    if flow.why == MUTED and flow.opaque:
        delivery.reopen(flow, now_ns)
    elif names := _told(flow, before, delivery.told(flow)):
        if flow.readers is not None and flow.protocol not in names:
            delivery.give_up(flow, TOLD_ANEW, now_ns)
        if flow.opaque or flow.detector is not None:  # else nothing has been said on it yet
            delivery.reopen(flow, now_ns)
    if terms.redaction != before.redaction and flow.readers is not None:
        _hide_anew(delivery, flow, now_ns)
    if terms.capture != before.capture and not flow.opaque:
        delivery.capture(flow)


def _hide_anew(delivery: Delivery, flow: Flow, now_ns: int) -> None:
    assert flow.readers is not None and flow.pairing is not None
    renew = delivery.protocol(flow).renew
    if renew is None:
        delivery.give_up(flow, HIDDEN_ANEW, now_ns)
        delivery.reopen(flow, now_ns)
        return
    parser = renew(flow.readers[0].parser, delivery.setup(flow))
    for reader in flow.readers:
        reader.go_on_with(parser)
    flow.pairing.abandon(now_ns)


def _server(flow: Flow) -> int:
    """The direction of the server, as far as it is certain."""
    if flow.server >= 0:
        return flow.server
    return 1 - flow.opener if flow.opener >= 0 else -1


def _told(flow: Flow, before: Terms, now: Mapping[int, Protocol]) -> set[str]:
    """The protocols that were not hinted until now, of the ports that may be the server's."""
    known = before.hints if flow.told is None else flow.told
    flow.told = now
    server, ports = _server(flow), flow.ports.by_direction
    candidates = ports if server < 0 else ports[server : server + 1]
    return {hint.name for port in candidates if (hint := now.get(port)) and hint is not known.get(port)}
