"""`tools/bench metrics`: what counting costs: a session in RED, a connection in TCP's pairs, a page. Needs no root.

RED is measured as in life: workloads that are one object each, paths of which many were seen before; and at its worst, where
every path is a new one. Beside it, what it keeps in memory, and how many series there are.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

from clovisor_py.kernel.layout import PEER_OPENED, SESSION, SIDES_AT
from clovisor_py.metrics.exposition import Exposition
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.tcp import Tcp
from clovisor_py.model.session import Session
from clovisor_py.snapshot import Snapshot
from tests.support.sessions import pod, session
from tools._bench import machine
from tools._bench.sessions import cpu_s

SERVICES: Final = 20
PLACES: Final = 50
"""Different paths of each service that come again and again."""
OPERATIONS: Final = 20
"""Of each pair, where a page is full."""
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"


def main(runs: int, sessions: int) -> None:
    """Print the median of `runs` runs of so many sessions."""
    machine.heading(f"metrics: µs of CPU, {runs} runs of {sessions:,} sessions or connections each")
    known, new = list(_usual(sessions)), list(_new(sessions))
    machine.figure("a session in RED", [_added(known) for _ in range(runs)], "µs", digits=2)
    machine.figure("a session with a path never seen", [_added(new) for _ in range(runs)], "µs", digits=2)
    for name, changed in (("a connection at rest, each look", False), ("one on which something passed", True)):
        machine.figure(name, [_looked(sessions, changed) for _ in range(runs)], "µs", digits=2)
    red = _red(_full())
    for name, accept in (("Prometheus' text", ""), ("OpenMetrics", OPENMETRICS)):
        made = Exposition(lambda: red, Snapshot, clock=itertools.count(0, 3600).__next__)  # no page is recent when asked for
        cost = [cpu_s(partial(made.render, accept)) * 1e3 for _ in range(runs)]
        machine.figure(f"a page, {name}", cost, "ms", beside=f"{_series(made):,} series", digits=1)
    attacked = Exposition(lambda: _red(new), Snapshot)
    machine.line(f"series after {sessions:,} distinct paths: {_series(attacked):,}")


def _red(sessions: Iterable[Session]) -> Red:
    red = Red(addresses=False)
    for one in sessions:
        red.add(one)
    return red


def _added(sessions: Sequence[Session]) -> float:
    """µs a session."""
    return cpu_s(lambda: _red(sessions)) / len(sessions) * 1e6


def _usual(number: int) -> Iterator[Session]:
    pods = [pod(f"pod-{n}", f"service-{n}") for n in range(SERVICES)]
    for n in range(number):
        ends = {"client_workload": pods[n % SERVICES], "server_workload": pods[(7 * n + 1) % SERVICES]}
        yield _get(f"/reviews/{n * 31 % PLACES}", duration_ns=1000 * n % 10**8, **ends)


def _new(number: int) -> Iterator[Session]:
    chance, cart = random.Random(1), pod("cart-1", "cart")
    for n in range(number):
        word = f"{chance.getrandbits(40):010x}".translate({code: code + 60 for code in range(48, 58)})
        path = (f"/users/{n}/orders", f"/shop/{word}", f"/{word}/{word[::-1]}/list")[n % 3]
        yield _get(path, client_workload=cart, server_workload=cart)


def _full() -> Iterator[Session]:
    """Of a hundred pairs, with as many operations as there is room for."""
    pods = [pod(f"pod-{n}", f"service-{n}") for n in range(101)]
    for client, server in pairwise(pods):
        for n in range(OPERATIONS):
            for ns in (200_000, 3_000_000, 40_000_000):
                word = chr(97 + n)
                yield _get(f"/{word}{word}", client_workload=client, server_workload=server, duration_ns=ns)


def _get(path: str, **changes: object) -> Session:
    attributes = {"http.request.method": "GET", "url.path": path, "http.response.status_code": 200}
    return session(resource=path, attributes=attributes, **changes)


def _series(made: Exposition) -> int:
    return sum(not line.startswith(b"#") for line in made.render()[0].splitlines())


def _looked(number: int, changed: bool) -> float:
    """µs a connection, at the second look."""
    tcp, fields = Tcp(_name), list(SESSION.unpack(bytes(SESSION.size)))
    fields[4] = PEER_OPENED
    entries = [(cookie, *fields[1:]) for cookie in range(1, number + 1)]
    place = (7, bytes(16), bytes(16), 80, 40000, 6, 0)
    for _ in range(number // 1000 + 1):
        _look(tcp, place, entries)()
    if changed:
        at = SIDES_AT[0] + 6
        entries = [(*one[:at], 1, *one[at + 1 :]) for one in entries]
    return cpu_s(_look(tcp, place, entries)) / number * 1e6


def _look(
    tcp: Tcp, place: tuple[int, bytes, bytes, int, int, int, int], entries: Sequence[tuple[int, ...]]
) -> Callable[[], None]:
    def look() -> None:
        for fields in entries:
            tcp.look(place, fields, False, 0)
        tcp.done()

    return look


def _name(session: Session) -> None:
    session.server_workload = CART


CART: Final = pod("cart-1", "cart")
