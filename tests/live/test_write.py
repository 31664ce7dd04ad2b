"""`clovisor trace -w` on real traffic: what is replayed from the file is what was shown while it happened, to the letter."""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.netns import pod
from tests.support.nginx import nginx_in
from tests.support.trace import CLOVISOR, tracing

pytestmark = pytest.mark.live

PATHS = ("/", "/status/404", "/bytes/65536?secret=7", "/big", "/status/503")


def fetch(url: str) -> None:
    with suppress(urllib.error.HTTPError), urllib.request.urlopen(url, timeout=10) as answer:
        answer.read()


def test_replayed_it_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "web.pcapng"
    with pod("web") as web, nginx_in(web) as nginx, socket.create_connection((web.ipv4, 80), timeout=10) as older:
        older.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        older.recv(65536)
        with tracing(tmp_path, web.namespace, "-w", str(file), "--redact", "off") as trace:
            older.sendall(b"GET /older HTTP/1.1\r\nHost: web\r\n\r\n")
            older.recv(65536)
            for path in PATHS:
                fetch(nginx.url(path))
                fetch(nginx.url(path, ipv6=True))
            trace.wait_for(2 * len(PATHS) + 1)
            remarks = trace.stop()
        shown = trace.sessions()
    assert f"{file}: " in remarks
    done = subprocess.run(
        [CLOVISOR, "replay", str(file), "-o", "json", "--redact", "off"], capture_output=True, timeout=60, check=True
    )
    replayed = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(map(json.dumps, replayed)) == sorted(map(json.dumps, shown))
    assert {session["server"]["workload"]["name"] for session in replayed} == {web.namespace}
    assert any("secret=7" in json.dumps(session) for session in replayed)
