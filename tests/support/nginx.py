"""A real nginx inside a pod, with a log that says what it served, to compare with what Clovisor saw.

`/` is a page of 612 bytes, as nginx's own; `/big` is 20 MB, `/bytes/N` some sizes, `/status/N` some statuses (any method, any
body), `/nginx_status` the stub_status page (not in the log). Skips by name where nginx is absent.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple

import pytest

from clovisor_py.kernel import netns
from tests.support.netns import Pod, listens

BIG = 20 * 1024 * 1024
SIZES = (0, 1, 100, 1024, 4096, 16384, 65536, 1048576)
STATUSES = (200, 201, 204, 301, 400, 403, 404, 500, 502, 503)

_CONFIG = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    log_format truth '$request_time $status $request';
    access_log {folder}/access.log truth;
    default_type text/html;
    keepalive_requests 1000000;
    client_max_body_size 64m;
    server {{
        listen 0.0.0.0:80;
        listen [::]:80 ipv6only=on;
        root {folder}/html;
{statuses}
        location = /nginx_status {{ stub_status; access_log off; }}
    }}
}}
"""


class Served(NamedTuple):
    """One line of the access log."""

    seconds: float
    status: int
    request: str


@dataclass(frozen=True)
class Nginx:
    """A running nginx."""

    pod: Pod
    folder: Path
    process: Popen[bytes]

    def url(self, path: str = "/", *, ipv6: bool = False) -> str:
        """Where the host (and every pod that reaches this one) finds a path."""
        return f"http://[{self.pod.ipv6}]{path}" if ipv6 else f"http://{self.pod.ipv4}{path}"

    def served(self) -> list[Served]:
        """Every request so far, in the order of their ends."""
        whole, _, _ = (self.folder / "access.log").read_text().rpartition("\n")
        parts = [line.split(" ", 2) for line in whole.splitlines()]
        return [Served(float(seconds), int(status), request) for seconds, status, request in parts]

    def count(self) -> int:
        """How many requests have been served; the last one may still be on its way to the log (see `wait_for`)."""
        return len(self.served())

    def wait_for(self, requests: int, timeout_s: float = 5.0) -> int:
        """`count()`, as soon as it is at least that."""
        deadline = time.monotonic() + timeout_s
        while self.count() < requests and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.count()


@contextmanager
def nginx_in(pod: Pod) -> Iterator[Nginx]:
    """Nginx on port 80 of the pod, both families; ended, and its folder removed, when the block ends."""
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.skip("needs nginx (Debian: nginx-light)")
    with tempfile.TemporaryDirectory(prefix="cvt-nginx-") as name:
        folder = Path(name)
        _furnish(folder)
        process = pod.spawn(program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"))
        try:
            _await(pod, folder, process)
            yield Nginx(pod, folder, process)
        finally:
            netns.end([process])


def _furnish(folder: Path) -> None:
    statuses = "\n".join(f"        location = /status/{status} {{ return {status}; }}" for status in STATUSES)
    (folder / "nginx.conf").write_text(_CONFIG.format(folder=folder, statuses=statuses))
    (folder / "access.log").touch()
    html = folder / "html"
    (html / "bytes").mkdir(parents=True)
    page = "<!DOCTYPE html>\n<html><head><title>Welcome to nginx!</title></head>\n<body>"
    (html / "index.html").write_text(page.ljust(612 - 16, ".") + "</body>\n</html>\n")
    for size in SIZES:
        (html / "bytes" / str(size)).write_bytes(b"x" * size)
    with (html / "big").open("wb") as big:
        big.truncate(BIG)


def _await(pod: Pod, folder: Path, process: Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while not (listens(pod.ipv4, 80) and listens(pod.ipv6, 80)):
        if process.poll() is not None or time.monotonic() > deadline:
            errors = folder / "error.log"
            pytest.fail(f"nginx did not start: {errors.read_text() if errors.exists() else process.returncode}")
        time.sleep(0.02)
