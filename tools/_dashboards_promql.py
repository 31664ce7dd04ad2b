"""What rules are made of: a recorded series, an alert, how often both are looked at, and whose calls are told apart."""

from __future__ import annotations

from typing import Final, NamedTuple

from clovisor_py.metrics._families import CLIENT, SERVER

EVERY: Final = "30s"
WINDOW: Final = "5m"
"""Of recorded rates: holds several scrapes, also where Prometheus scrapes once a minute."""
EDGE: Final = "client_namespace, client, server_namespace, server, protocol"
EACH: Final = f"{EDGE}, side"
OPERATORS: Final = ("and", "or", "+", "-", "*", "/")


class Recording(NamedTuple):
    """One series of that name a set of labels; `side` is put on it."""

    record: str
    expr: str
    side: str = ""


class Alert(NamedTuple):
    """Fires where `measure` is `when` for so long. `measure` answers also while all is well: an alert about nothing is none."""

    name: str
    measure: str
    when: str
    lasting: str
    severity: str
    """`critical`: nothing is traced there; `warning`: not all is, or a service does badly; `info`: as it should be, but good to
    know."""
    summary: str
    description: str
    """What it means and what to do next."""

    @property
    def expr(self) -> str:
        compound = any(f" {operator} " in self.measure for operator in OPERATORS)
        return f"({self.measure}) {self.when}" if compound else f"{self.measure} {self.when}"


def either(record: str) -> str:
    """At the server where it was seen there: what the network adds is not the server's; else at the client."""
    server, client = (f'sum without (side) ({record}{{side="{side.value}"}})' for side in (SERVER, CLIENT))
    return f"{server} or on ({EDGE}) {client}"
