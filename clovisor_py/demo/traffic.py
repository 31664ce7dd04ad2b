"""The demo's client: N requests to productpage at a bounded rate, each decided by its number and nothing else.

A third carries a traceparent, a third b3 (single header and several by turns), a third nothing; a third goes over IPv6; one in
ten has a connection of its own. What a number means is in `plan`, what must come out of it in `served`, so that
the demo's summary and the tests can tell what was missed. Run as `python -m clovisor_py.demo.traffic …`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from clovisor_py.demo.bookinfo import PRODUCTS, UNKNOWN
from clovisor_py.demo.calls import Callee
from clovisor_py.demo.truth import Truth

WORKERS: Final = 4
"""Requests that may be under way at once: enough that a slow one does not hold up the rest."""
OWN_CONNECTION: Final = 10
"""One request in so many opens and closes a connection of its own."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One request of the client."""

    path: str
    headers: dict[str, str]
    ipv6: bool
    fresh: bool


def plan(number: int, run: str) -> Planned:
    """The request with that number. `run` makes trace ids differ between two runs of the demo."""
    return Planned(
        path=f"/productpage/{number % PRODUCTS}",
        headers={"x-request-id": f"{run}-{number}", **_context(number, run)},
        ipv6=number // 3 % 3 == 0,
        fresh=number % OWN_CONNECTION == OWN_CONNECTION - 1,
    )


def served(requests: int) -> Counter[str]:
    """How many requests each service serves in a run of that many."""
    unknown = sum(number % PRODUCTS in UNKNOWN for number in range(requests))
    return Counter(productpage=requests, details=requests, reviews=requests - unknown, ratings=requests - unknown)


def _context(number: int, run: str) -> dict[str, str]:
    digest = hashlib.sha256(f"{run} {number}".encode()).hexdigest()
    trace_id, parent_id = digest[:32], digest[32:48]
    if number % 3 == 0:
        return {"traceparent": f"00-{trace_id}-{parent_id}-01"}
    if number % 6 == 1:
        return {"b3": f"{trace_id}-{parent_id}-1"}
    if number % 6 == 4:
        return {"x-b3-traceid": trace_id, "x-b3-spanid": parent_id, "x-b3-sampled": "1"}
    return {}


def send(requests: int, rate: float, run: str, ipv4: Callee, ipv6: Callee) -> None:
    """Send them all, `rate` a second; one that is late is sent at once and does not shift those after it."""
    begun = time.monotonic()

    def work(first: int) -> None:
        for number in range(first, requests, WORKERS):
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            planned = plan(number, run)
            (ipv6 if planned.ipv6 else ipv4).get(planned.path, planned.headers, fresh=planned.fresh)

    workers = [threading.Thread(target=work, args=(first,)) for first in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="traffic", description="Requests to productpage, at a bounded rate.")
    parser.add_argument("ipv4", metavar="IPV4", help="productpage's address")
    parser.add_argument("ipv6", metavar="IPV6", nargs="?", help="and its other one (without it all goes over IPv4)")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument("--run", default="run", help="a word that makes this run's trace ids its own")
    parser.add_argument("--truth", default="/dev/null", metavar="FILE", help="where a JSON line for each request goes")
    options = parser.parse_args(arguments)
    truth = Truth(options.truth, "client")
    ipv4 = Callee("productpage", options.ipv4, truth)
    ipv6 = Callee("productpage", options.ipv6, truth) if options.ipv6 else ipv4
    send(options.requests, options.rate, options.run, ipv4, ipv6)


if __name__ == "__main__":
    main(sys.argv[1:])
