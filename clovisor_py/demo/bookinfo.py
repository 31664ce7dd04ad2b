"""A small Bookinfo: four HTTP services that call each other, one process each: `python -m clovisor_py.demo.bookinfo ROLE …`.

    productpage → details
                → reviews → ratings

They do what Istio's Bookinfo does and what a tracer has to cope with: HTTP/1.1 with keep-alive, IPv4 and IPv6 at once, trace
headers forwarded and never made, an error that travels up, a page that does not exist, an answer that takes its time.
Which product does what is fixed, so that a test can say what must come out. No service knows of Clovisor.
"""

from __future__ import annotations

import argparse
import json
import socket
import socketserver
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, NamedTuple

from clovisor_py.demo.calls import PORT, Callee
from clovisor_py.demo.truth import Truth
from clovisor_py.model.message import PROPAGATION_HEADERS

PRODUCTS: Final = 50
"""Products are numbered from 0; every number asked for is taken modulo this."""
UNKNOWN: Final = frozenset({13})
"""Products that details answers with 404; productpage passes it on, and does not ask for their reviews."""
UNAVAILABLE: Final = frozenset({7, 32})
"""Products that ratings answers with 503; reviews and productpage pass it on."""
SLOW: Final = frozenset({3, 19, 41})
"""Products whose reviews take SLOW_S."""
SLOW_S: Final = 0.120

CALLS: Final[Mapping[str, tuple[str, ...]]] = {
    "productpage": ("details", "reviews"),
    "details": (),
    "reviews": ("ratings",),
    "ratings": (),
}
"""Each role, and the services that it calls."""

_FORWARDED: Final = PROPAGATION_HEADERS | {"x-request-id"}
_BACKLOG: Final = 128
_NEVER_S: Final = 3600.0
"""Nobody asks a service to stop, it is ended: there is nothing to poll for."""


class Answer(NamedTuple):
    """What a service says: an HTTP status and a JSON object."""

    status: int
    body: dict[str, object]


Call = Callable[[str, str], Answer]
"""Ask a service by name for a path, in the course of a request."""


def productpage(product: int, call: Call) -> Answer:
    details = call("details", f"/details/{product}")
    if details.status != 200:
        return Answer(details.status, {"error": "product details are not available", "details": details.body})
    reviews = call("reviews", f"/reviews/{product}")
    if reviews.status != 200:
        return Answer(reviews.status, {"error": "product reviews are not available", "reviews": reviews.body})
    return Answer(200, {"id": product, "details": details.body, "reviews": reviews.body})


def details(product: int, _: Call) -> Answer:
    if product in UNKNOWN:
        return Answer(404, {"error": f"there is no product {product}"})
    return Answer(200, {"id": product, "author": "William Shakespeare", "pages": 100 + product, "type": "paperback"})


def reviews(product: int, call: Call) -> Answer:
    if product in SLOW:
        time.sleep(SLOW_S)
    ratings = call("ratings", f"/ratings/{product}")
    if ratings.status != 200:
        return Answer(ratings.status, {"error": "the ratings service is currently unavailable"})
    text = "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"
    return Answer(200, {"id": product, "reviews": [{"reviewer": "Reviewer1", "text": text, "rating": ratings.body}]})


def ratings(product: int, _: Call) -> Answer:
    if product in UNAVAILABLE:
        return Answer(503, {"error": "service is unavailable"})
    return Answer(200, {"id": product, "ratings": {"Reviewer1": 5, "Reviewer2": 1 + product % 5}})


ROLES: Final[Mapping[str, Callable[[int, Call], Answer]]] = {
    "productpage": productpage,
    "details": details,
    "reviews": reviews,
    "ratings": ratings,
}


class Service(ThreadingHTTPServer):
    """One role on one port, for IPv4 and IPv6 where the kernel has it; a thread for each connection."""

    request_queue_size = _BACKLOG
    daemon_threads = True

    def __init__(self, role: str, truth: Truth, peers: Mapping[str, Callee], port: int = PORT) -> None:
        self.role = role
        self.truth = truth
        self.peers = peers
        self.address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        super().__init__(("", port), Handler)

    def server_bind(self) -> None:
        """Bind for both families, without the look-up of the host's name that HTTPServer does: there is no DNS."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.role, self.server_address[1]

    def answer(self, path: str, headers: Mapping[str, str]) -> Answer:
        """Whatever the role says to `/ROLE/PRODUCT`, calling others with the headers of this request."""
        product = path.removeprefix(f"/{self.role}/")
        if product == path or not product.isdecimal():
            return Answer(404, {"error": f"try /{self.role}/0"})
        return ROLES[self.role](int(product) % PRODUCTS, partial(self._call, headers))

    def _call(self, headers: Mapping[str, str], name: str, path: str) -> Answer:
        forwarded = {key: value for key, value in headers.items() if key in _FORWARDED}
        status, body = self.peers[name].get(path, forwarded)
        if not status:
            return Answer(502, {"error": f"{name} did not answer: {body.decode(errors='replace')}"})
        return Answer(status, json.loads(body))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Service
    protocol_version = "HTTP/1.1"
    server_version = "bookinfo"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together: unbuffered they would be two segments
    _begun = 0
    _start_ns = 0

    def parse_request(self) -> bool:
        """The first line has just been read: the request has begun."""
        self._start_ns, self._begun = time.time_ns(), time.perf_counter_ns()
        return super().parse_request()

    def do_GET(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        answer = self.server.answer(self.path, headers)
        body = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()
        took = time.perf_counter_ns() - self._begun
        family = "ipv6" if ":" in self.client_address[0].removeprefix("::ffff:") else "ipv4"
        self.server.truth.write("server", self.path, answer.status, self._start_ns, took, headers, family=family)

    def log_message(self, *_: object) -> None:
        """Say nothing: what was served is in the truth."""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bookinfo", description=f"One of {', '.join(ROLES)}.")
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=ADDRESS", help="where a service that it calls is")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--truth", default="/dev/null", metavar="FILE", help="where a JSON line for each request goes")
    options = parser.parse_args(arguments)
    truth = Truth(options.truth, options.role)
    peers = {name: Callee(name, address, truth) for name, _, address in (peer.partition("=") for peer in options.peer)}
    if missing := set(CALLS[options.role]) - peers.keys():
        parser.error(f"{options.role} calls {', '.join(sorted(missing))}: say where with --peer NAME=ADDRESS")
    with Service(options.role, truth, peers, options.port) as service:
        service.serve_forever(poll_interval=_NEVER_S)


if __name__ == "__main__":
    main(sys.argv[1:])
