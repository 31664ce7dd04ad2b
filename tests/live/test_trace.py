"""`clovisor trace` with a real nginx: what it served is what is shown, and nothing stays behind."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from clovisor_py.kernel import attach
from tests.support.netns import pod
from tests.support.nginx import nginx_in
from tests.support.trace import CLOVISOR, tracing, wait_until

pytestmark = pytest.mark.live


def fetch(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_nginx_over_both_families(tmp_path: Path) -> None:
    with pod("web") as web, nginx_in(web) as nginx, tracing(tmp_path, web.namespace) as trace:
        for path in ("/", "/status/404", "/status/503", "/bytes/65536"):
            fetch(nginx.url(path))
            fetch(nginx.url(path, ipv6=True))
        sessions = trace.wait_for(8)
        summary = trace.stop()
    shown = sorted((s["operation"], s["resource"], s["status"], s["outcome"]) for s in sessions)
    assert shown == sorted(2 * [
        ("GET", "/", "200", "ok"),
        ("GET", "/status/404", "404", "error"),
        ("GET", "/status/503", "503", "error"),
        ("GET", "/bytes/65536", "200", "ok"),
    ])  # fmt: skip
    assert {s["server"]["ip"] for s in sessions} == {web.ipv4, web.ipv6}
    assert all(s["side"] == "server" and s["server"]["workload"]["name"] == web.namespace for s in sessions)
    assert "8 sessions" in summary
    assert "lost 0" in summary


def test_exact_size_of_a_long_body_of_which_only_the_head_was_captured(tmp_path: Path) -> None:
    with pod("big") as big, nginx_in(big) as nginx, tracing(tmp_path, big.veth, "--hint", "80=http") as trace:
        fetch(nginx.url("/"))
        fetch(nginx.url("/big"))
        session = trace.wait_for(2)[-1]
    body = session["attributes"]["http.response.body.size"]
    assert body == 20 * 1024 * 1024
    assert body < session["response"]["bytes"] < body + 1000
    assert session["capture"] == {"truncated": False, "gap_bytes": 0, "mid_stream": False}


def test_a_connection_older_than_tracing(tmp_path: Path) -> None:
    request = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
    with pod("old") as old, nginx_in(old), socket.create_connection((old.ipv4, 80), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(request)
            connection.recv(65536)
        with tracing(tmp_path, old.namespace) as trace:
            for _ in range(3):
                connection.sendall(request)
                connection.recv(65536)
            sessions = trace.wait_for(3)
    assert [s["capture"]["mid_stream"] for s in sessions] == [True, False, False]
    assert {(s["operation"], s["resource"], s["status"]) for s in sessions} == {("GET", "/", "200")}


def test_the_applications_own_trace_is_read(tmp_path: Path) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with pod("ctx") as ctx, nginx_in(ctx) as nginx, tracing(tmp_path, ctx.namespace) as trace:
        fetch(nginx.url("/"), traceparent=parent)
        fetch(nginx.url("/"), b3="0af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-1")
        sessions = trace.wait_for(2)
    assert [s["trace"]["trace_id"][-1] for s in sessions] == ["c", "d"]
    assert [s["trace"]["parent_id"] for s in sessions] == ["b7ad6b7169203331", "b7ad6b7169203332"]


def test_filters_and_count(tmp_path: Path) -> None:
    with (
        pod("few") as few,
        nginx_in(few) as nginx,
        tracing(tmp_path, few.namespace, "--status", "5xx", "--count", "2") as trace,
    ):
        for number in range(12):
            fetch(nginx.url("/status/503" if number % 3 == 0 else "/"))
        trace.process.wait(20)
        assert trace.process.returncode == 0
        assert [s["status"] for s in trace.sessions()] == ["503", "503"]


def test_an_interface_that_vanishes_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    with pod("stays") as stays, nginx_in(stays) as nginx:
        with pod("goes") as goes:
            context = tracing(tmp_path, goes.namespace, stays.namespace)
            trace = context.__enter__()
        try:
            wait_until(lambda: "has vanished" in trace.remarks(), "the remark")
            assert f"{goes.veth} ({goes.namespace}) has vanished; 1 go on" in trace.remarks()
            fetch(nginx.url("/"))
            assert trace.wait_for(1)[0]["status"] == "200"
        finally:
            context.__exit__(None, None, None)


def test_nothing_is_left_and_a_second_one_says_so(tmp_path: Path) -> None:
    with pod("own") as own:
        with tracing(tmp_path, own.namespace) as trace:
            second = subprocess.run([CLOVISOR, "trace", own.namespace], capture_output=True, text=True, timeout=30, check=False)
            assert second.returncode == 1
            assert (
                second.stderr == f"clovisor: another Clovisor (pid {trace.process.pid}) traces on this node: stop it first.\n"
            )
            assert own.ifindex in attach.find_all()
        assert own.ifindex not in attach.find_all()
        assert not Path("/sys/fs/bpf/clovisor").exists()
