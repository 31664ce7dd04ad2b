"""Live tests of HTTP, gRPC, DNS, TLS and unknown protocols: one traced pod for a module, its servers, and clients that notice.

    with traced_pod(folder, "http") as live, serving(live.pod, peer("http"), port=9000) as server: ...

The tests of a module share the pod and its trace, as starting one costs two seconds; each has connections of its own, which
the client's port tells apart (`live_truth`). The host is the client, in a network namespace of the test's own.
"""

from __future__ import annotations

import itertools
import logging
import socket
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support import live_truth
from tests.support.kernel import node
from tests.support.live_truth import Json, Truth, compare, settled
from tests.support.netns import Pod, pod
from tests.support.own_trace import OwnTrace, own_trace
from tests.support.servers import Place, Recipe, find
from tests.support.trace import wait_until

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 10.0
BLOCK: Final = 65536
FIRST_PORT: Final = 20_000
"""Of clients, so that they do not meet those that the kernel chooses: it uses them again."""
CPU_SHARE: Final = "4"
"""Cores: other test runs on the machine must not make this one shed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Live:
    """A traced pod."""

    pod: Pod
    trace: OwnTrace
    ports: Iterator[int] = field(default_factory=lambda: itertools.count(FIRST_PORT))
    results: list[live_truth.Comparison] = field(default_factory=list)

    def dial(self, number: int) -> socket.socket:
        """A connection to a port of the pod, from a port that nobody has called from before."""
        own = ("", next(self.ports))
        connection = socket.create_connection((self.pod.ipv4, number), timeout=PATIENCE_S, source_address=own)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def of(self, client_port: int) -> list[Json]:
        """The sessions of one connection so far, by their start."""
        found = [session for session in self.trace.sessions() if session["client"]["port"] == client_port]
        return sorted(found, key=lambda session: live_truth.nanoseconds(session["start"]))

    def wait_for(self, client_port: int, count: int) -> list[Json]:
        """`of`, as soon as there are so many."""
        wait_until(lambda: len(self.of(client_port)) >= count, f"{count} sessions of port {client_port}")
        return self.of(client_port)

    def check(self, truth: Truth, who: Callable[[Json], Hashable] = live_truth.port) -> live_truth.Comparison:
        """Each call is one session and each session of those connections is a call; the figures go to the log.

        The times are judged at the end, all together: of few, one that the scheduler held up would decide.
        """
        found = settled(self.trace.sessions, truth, who)
        result = compare(truth, found, who)
        self.results.append(result)
        log.info("%s", result)
        assert not result.wrong, f"{result}\n" + "\n".join(result.wrong)
        assert result.made == result.seen == len(found)
        return result

    def judge_times(self) -> None:
        """The usual difference to the clients' own times is small."""
        total = live_truth.Comparison()
        for result in self.results:
            total.made, total.seen = total.made + result.made, total.seen + result.seen
            total.differences += result.differences
            total.delays += result.delays
            total.outliers += result.outliers
        log.info("in all %s", total)
        total.check()


@contextmanager
def traced_pod(folder: Path, name: str, *options: str) -> Iterator[Live]:
    """A node with a pod, and the real command that traces it."""
    with node(), pod(name) as made, own_trace(folder, made, "--cpu-share", CPU_SHARE, *options) as trace:
        live = Live(made, trace)
        yield live
        live.judge_times()


def by_resource(session: Json) -> Hashable:
    """Who, where many calls share a connection and each has a path of its own."""
    return session["client"]["port"], session["resource"]


# ---- servers ----


def peer(name: str, *arguments: str) -> Recipe:
    """One of live_peers; give a `port` to `serving`."""
    return module("tests.support.live_peers", name, *arguments)


def module(path: str, *arguments: str) -> Recipe:
    """A module of the tests as a server; its arguments are the port and these."""

    def command(place: Place) -> list[str]:
        return [sys.executable, "-m", path, place.options["port"], *arguments]

    return Recipe(port=0, needs={}, command=command, environment={"PYTHONPATH": str(ROOT)})


_NGINX: Final = """
daemon off; master_process off; worker_processes 1;
pid {folder}/pid;
error_log {folder}/errors;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    access_log off; client_max_body_size 64m; http2_max_concurrent_streams 128; keepalive_requests 100000;
    server {{
        listen 0.0.0.0:{port} {kind};
        root {folder}; {tls}
        location /status/ {{ rewrite ^/status/(.*)$ /gone; }}
        location = /gone {{ return 404; }}
        location / {{ return 200 "here"; }}
        location = /big {{ }}
    }}
}}
"""
BIG: Final = 20 * 1024 * 1024


def nginx(kind: str = "", tls: str = "") -> Recipe:
    """`kind`: what `listen` says behind the port (`http2`, `ssl http2`). /big is 20 MB; any path is there, but /status/404."""

    def prepare(place: Place) -> None:
        text = _NGINX.format(folder=place.folder, port=place.options["port"], kind=kind, tls=tls)
        (place.folder / "conf").write_text(text)
        with (place.folder / "big").open("wb") as big:
            big.truncate(BIG)

    def command(place: Place) -> list[str]:
        return [find("nginx"), "-p", str(place.folder), "-c", str(place.folder / "conf"), "-e", str(place.folder / "errors")]

    return Recipe(port=0, needs={"nginx": "Debian: nginx-light"}, prepare=prepare, command=command)


def nghttpx(backend: int) -> Recipe:
    """H2c, by prior knowledge and by Upgrade, before a server of HTTP/1 in the same pod."""

    def command(place: Place) -> list[str]:
        front = f"-f0.0.0.0,{place.options['port']};no-tls"
        return [find("nghttpx"), front, f"-b127.0.0.1,{backend}", "--conf=/dev/null", "--workers=1"]

    return Recipe(port=0, needs={"nghttpx": "Debian: nghttp2-proxy"}, command=command)


def hypercorn() -> Recipe:
    """HTTP/1.1, WebSockets and h2c; the application is in live_peers."""

    def command(place: Place) -> list[str]:
        return [sys.executable, "-m", "hypercorn", "-b", f"0.0.0.0:{place.options['port']}", "tests.support.live_peers:app"]

    return Recipe(port=0, needs={}, command=command, environment={"PYTHONPATH": str(ROOT)})


def dnsmasq() -> Recipe:
    """Answers for the zone `lab` over UDP and TCP, both families, and refuses all else."""
    records = ("--address=/ok.lab/10.9.9.9", "--host-record=six.lab,fd00::9", "--txt-record=text.lab,some words")
    records += ("--mx-host=mail.lab,ok.lab,10", "--srv-host=_http._tcp.lab,ok.lab,80", "--local=/lab/")

    def command(place: Place) -> list[str]:
        quiet = ["-k", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--pid-file="]
        return [find("dnsmasq"), *quiet, "--except-interface=nothing", "-p", place.options["port"], *records]

    return Recipe(port=0, needs={"dnsmasq": "Debian: dnsmasq-base"}, command=command)
