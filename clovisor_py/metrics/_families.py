"""Families: how the durations of a protocol are called and in which buckets they are counted, as OpenTelemetry has it.

A protocol belongs to a family by what its attributes begin with (as in `tracing.spans`), so a new one needs no line here.
A log-linear bucket that lies across a boundary counts where its middle is: a count is right to 3 % of the boundary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from clovisor_py.metrics import routes
from clovisor_py.metrics._conventions import DB, HTTP, MESSAGING, NONE, RPC, Words
from clovisor_py.metrics._edge import Edge
from clovisor_py.metrics.histogram import Histogram
from clovisor_py.model.session import Side

SERVER, CLIENT = Side.SERVER, Side.CLIENT
FINE: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025)
"""Bounds (s) below OpenTelemetry's first one, 5 ms: most calls inside a cluster are faster, and would have no quantiles."""
COMMON: Final = (*FINE, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
DATABASE: Final = (*FINE, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)


class Family(NamedTuple):
    """How the durations of some protocols are called, by side, and in which buckets (s) they are counted."""

    names: Mapping[Side, str]
    words: Words = NONE
    bounds: Sequence[float] = COMMON

    @property
    def sided(self) -> bool:
        """Whether the name says the side."""
        return self.names[SERVER] != self.names[CLIENT]


def _family(server: str, client: str = "", words: Words = NONE, bounds: Sequence[float] = COMMON) -> Family:
    return Family(MappingProxyType({SERVER: server, CLIENT: client or server}), words, bounds)


FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({
    "rpc.": _family("rpc_server_call_duration_seconds", "rpc_client_call_duration_seconds", RPC),
    "http.": _family("http_server_request_duration_seconds", "http_client_request_duration_seconds", HTTP),
    "db.": _family("db_client_operation_duration_seconds", words=DB, bounds=DATABASE),
    "messaging.": _family("messaging_client_operation_duration_seconds", words=MESSAGING),
    "dns.": _family("dns_lookup_duration_seconds"),
})  # fmt: skip
"""By what attributes begin with; the first that matches (an RPC has attributes of HTTP as well)."""
OTHER: Final = _family("clovisor_session_duration_seconds")
"""Of protocols for which OpenTelemetry has no duration."""


class Families:
    """Remembers the family of each protocol, so that no series changes its name with the session that is looked at."""

    def __init__(self) -> None:
        self._known: dict[str, Family] = {}
        self._systems: dict[str, str] = {}

    def of(self, edge: Edge) -> Family:
        """OTHER for the edge of what was not told apart: it has sessions of any protocol."""
        family = self._known.get(edge.protocol)
        if family is None and edge.slowest is not None and edge.protocol != routes.OTHER:
            said = edge.slowest.attributes
            family = next((FAMILIES[begin] for begin in FAMILIES if any(key.startswith(begin) for key in said)), None)
            if family is not None:
                self._systems[edge.protocol] = str(said.get(family.words.system) or edge.protocol)
                self._known[edge.protocol] = family
        return family or OTHER

    def system(self, edge: Edge) -> str:
        """What OpenTelemetry calls the edge's protocol."""
        return self._systems.get(edge.protocol, edge.protocol)


def cumulative(durations: Histogram, bounds: Sequence[float]) -> tuple[list[tuple[str, float]], float]:
    """A histogram in Prometheus' form: (bound in s as text, durations up to it), with `+Inf` last; and their sum in s."""
    found: list[tuple[str, float]] = []
    reached = 0
    buckets = list(durations.buckets())
    at = 0
    for bound in bounds:
        while at < len(buckets) and buckets[at][0] + buckets[at][1] <= 2e9 * bound:
            reached += buckets[at][2]
            at += 1
        found.append((repr(bound), reached))
    found.append(("+Inf", sum(count for _, _, count in buckets)))
    return found, durations.total_ns / 1e9
