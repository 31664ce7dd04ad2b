"""HTTP/2 in clear text through the kernel: every stream of real servers and clients, however they interleave and end."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernel import node
from tests.support.live_clients import Http1, Http2, number, request
from tests.support.live_truth import Json, Truth
from tests.support.live_web import Live, by_resource, hypercorn, module, nghttpx, nginx, traced_pod
from tests.support.netns import pod
from tests.support.own_trace import own_trace
from tests.support.secrets import Secrets
from tests.support.servers import serving

pytestmark = pytest.mark.live

NGINX, ODD, BACKEND, PROXY, HYPERCORN = 8101, 8102, 8103, 8104, 8105
MB = 1 << 20
CANCEL, REFUSED = 8, 7
ODD_SERVER = module("tests.support.live_http2_peer")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with (
        traced_pod(tmp_path_factory.mktemp("trace"), "http2") as made,
        serving(made.pod, nginx("http2"), port=NGINX),
        serving(made.pod, ODD_SERVER, port=ODD),
    ):
        yield made


def program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"needs {name} (Debian: nghttp2-client)")
    return found


def known(live: Live, port: int, truth: Truth) -> Http2:
    """A connection of which Clovisor knows what it speaks: from then on all of it is captured, as far as the budget goes."""
    client = Http2(live.dial(port), truth)
    client.ask("/first" if port == NGINX else "/ok/first")
    client.run()
    live.wait_for(client.port, 1)
    return client


def of_port(live: Live, port: int) -> list[Json]:
    return [s for s in live.trace.sessions() if s["server"]["port"] == port and s["protocol"] != "tcp"]


def test_one_after_the_other_and_many_at_once(live: Live) -> None:
    truth = Truth()
    client = Http2(live.dial(NGINX), truth)
    for turn in range(60):
        client.ask(f"/{'status' if turn % 5 == 0 else 'one'}/{turn}", ("GET", "POST", "DELETE")[turn % 3])
        client.run()
    for turn in range(100):
        client.ask(f"/{'status' if turn % 7 == 0 else 'many'}/at/once/{turn}")
        if turn % 20 == 19:
            client.run()
    client.socket.close()
    live.check(truth, by_resource)
    assert len(live.of(client.port)) == 160


def test_h2load_and_the_times_that_it_noted(live: Live, tmp_path: Path) -> None:
    paths = [f"/load/{turn}" for turn in range(400)]
    log, uris = tmp_path / "log", tmp_path / "uris"
    uris.write_text("".join(f"http://{live.pod.ipv4}:{NGINX}{path}\n" for path in paths))
    command = [program("h2load"), "-n", str(len(paths)), "-c", "1", "-m", "4", "-i", str(uris), "--log-file", str(log)]
    truth = Truth()
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    for start, status, took in sorted(tuple(map(int, line.split()[:3])) for line in log.read_text().splitlines()):
        call = truth.note("h2load", "GET", None, str(status))
        call.start_ns, call.duration_ns = start * 1000, took * 1000
    live.check(truth, lambda session: "h2load" if session["resource"].startswith("/load/") else "")
    assert sorted(s["resource"] for s in of_port(live, NGINX) if s["resource"].startswith("/load/")) == sorted(paths)


def test_answers_that_overtake_each_other(live: Live) -> None:
    truth = Truth()
    client = Http2(live.dial(ODD), truth)
    for delay in (120, 40, 80, 10, 60, 30):
        client.ask(f"/delay/{delay}")
    client.run()
    assert [call.duration_ns > 100_000_000 for call in truth.calls] == [True, *[False] * 5]
    client.socket.close()
    live.check(truth, by_resource)


def test_large_bodies_frame_by_frame_in_turns(live: Live) -> None:
    truth = Truth()
    client = known(live, ODD, truth)
    for size in (600_000, 300_001, 100, 0, 200_000):
        client.ask(f"/bytes/{size}")
        truth.calls[-1].attributes = {"http.response.body.size": size}
    client.run()
    for size in (10, 700_000):
        client.ask(f"/delay/{size % 7}", "POST", bytes(size))
        truth.calls[-1].attributes = {"http.request.body.size": size}
        client.run()
    client.ask("/ok")
    client.run()
    client.socket.close()
    live.check(truth, by_resource)


def test_bodies_beyond_the_budget_cost_no_other_exchange(live: Live) -> None:
    """Of 20 MB in a tenth of a second the kernel captures some; that is said, and what follows is whole."""
    truth = Truth()
    client = known(live, NGINX, truth)
    for turn in range(2):
        client.ask(f"/big?{turn}")
        client.run()
        client.ask(f"/after/{turn}", user_agent="told/1.0")
        client.run()
    client.socket.close()
    found = live.wait_for(client.port, 5)
    told = [(s["resource"], s["status"], s["outcome"]) for s in found]
    assert told == [(path, "200", "ok") for path in ("/first", "/big", "/after/0", "/big", "/after/1")]
    assert [s["capture"]["truncated"] for s in (found[1], found[3])] == [True, True]
    assert all("http.response.body.size" not in s["attributes"] for s in (found[1], found[3]))


def test_large_bodies_on_a_connection_that_nobody_knows_yet(live: Live) -> None:
    """More than detection takes: what of it was not seen is said, and the connection is not given up."""
    truth = Truth()
    client = Http2(live.dial(ODD), truth)
    for size in (3 * MB, MB):
        client.ask(f"/bytes/{size}", "POST", bytes(MB))
    client.run()
    time.sleep(0.2)
    client.ask("/ok")
    client.run()
    client.socket.close()
    *large, small = live.wait_for(client.port, 3)
    assert [s["resource"] for s in large] == [f"/bytes/{3 * MB}", f"/bytes/{MB}"]
    assert all(s["capture"]["truncated"] for s in large)
    assert (small["operation"], small["status"], small["outcome"]) == ("GET", "200", "ok")


def test_streams_that_either_side_resets(live: Live) -> None:
    truth = Truth()
    client = Http2(live.dial(ODD), truth)
    slow = client.ask("/delay/5000")
    client.ask("/delay/20")
    client.flush()
    client.reset(slow, CANCEL)
    truth.calls[0].status, truth.calls[0].outcome = "CANCEL", "error"
    client.run()
    for code in (2, REFUSED, CANCEL):
        client.ask(f"/reset/{code}")
    client.ask("/ok")
    client.run()
    client.socket.close()
    live.check(truth, by_resource)
    assert [call.status for call in truth.calls[2:]] == ["INTERNAL_ERROR", "REFUSED_STREAM", "CANCEL", "200"]


def test_trailers_and_promises(live: Live) -> None:
    truth = Truth()
    client = Http2(live.dial(ODD), truth)
    client.ask("/trailers")
    client.run()
    client.ask("/push")
    truth.note((client.port, "/pushed"), "GET", "/pushed", "200")
    client.run()
    client.ask("/ok")
    client.run()
    client.socket.close()
    live.check(truth, by_resource)


def test_a_server_that_goes_away(live: Live) -> None:
    """What it will not look at is refused; what it has taken is answered."""
    truth = Truth()
    client = Http2(live.dial(ODD), truth)
    client.ask("/ok")
    client.run()
    client.ask("/goaway")
    client.flush()
    truth.calls[-1].status, truth.calls[-1].outcome = "REFUSED_STREAM", "error"
    found = live.wait_for(client.port, 2)
    client.socket.close()
    assert [(s["resource"], s["status"], s["outcome"]) for s in found] == [
        ("/ok", "200", "ok"),
        ("/goaway", "REFUSED_STREAM", "error"),
    ]


def test_an_upgrade_from_http_1(live: Live) -> None:
    """Nghttp asks nghttpx in HTTP/1, and gets the answer as stream 1 of HTTP/2."""
    nghttp, truth = program("nghttp"), Truth()
    with serving(live.pod, nginx(), port=BACKEND), serving(live.pod, nghttpx(BACKEND), port=PROXY):
        urls = [f"http://{live.pod.ipv4}:{PROXY}{path}" for path in ("/upgraded", "/second", "/status/third")]
        for options in ("-nsu", "-ns"):
            said = subprocess.run([nghttp, options, *urls], check=True, capture_output=True, timeout=30, text=True).stdout
            told = re.findall(r"^ *\d+ +\S+ +\S+ +\S+ +(\d+) +\S+ +(\S+)$", said, re.MULTILINE)
            assert sorted(told) == [("200", "/second"), ("200", "/upgraded"), ("404", "/status/third")]
        for path, status in [("/upgraded", "200"), ("/second", "200"), ("/status/third", "404")] * 2:
            truth.note((PROXY, path), "GET", path, status, outcome="ok" if status == "200" else "error")
        live.check(truth, lambda session: (session["server"]["port"], session["resource"]))


def test_a_client_of_http_1_that_is_upgraded_to_hypercorn(live: Live) -> None:
    """Hypercorn takes h2c by prior knowledge and by Upgrade, beside HTTP/1.1, on one port."""
    pytest.importorskip("hypercorn")
    truth = Truth()
    with serving(live.pod, hypercorn(), port=HYPERCORN):
        client = known(live, HYPERCORN, truth)
        client.ask("/bytes/100000")
        truth.calls[-1].attributes = {"http.response.body.size": 100_000}
        client.ask("/echo", "POST", bytes(200_000))
        truth.calls[-1].attributes = {"http.request.body.size": 200_000}
        client.ask("/status/418")
        client.run()
        client.socket.close()
        live.check(truth, by_resource)
        old = live.dial(HYPERCORN)
        upgrade = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABkAAQAAP__"}
        old.sendall(request("GET", "/bytes/5", **upgrade))
        assert Http1(old).file.readline() == b"HTTP/1.1 101 \r\n"
        old.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        (session,) = live.wait_for(number(old), 1)
        old.close()
    assert (session["operation"], session["resource"], session["status"]) == ("GET", "/bytes/5", "200")
    assert session["attributes"]["network.protocol.version"] == "2"


def test_a_connection_older_than_tracing(tmp_path: Path) -> None:
    """What is in its header table is said to be unknown; what it says anew is exact, also when it says it again."""
    truth = Truth()
    with node(), pod("old2") as made, serving(made, ODD_SERVER, port=ODD):
        dial = Live(made, None).dial  # type: ignore[arg-type]
        client = Http2(dial(ODD), truth)
        client.ask("/ok?1", user_agent="old/1")
        client.run()
        with own_trace(tmp_path, made, "--cpu-share", "4") as trace:
            for path in ("/ok?1", "/ok/new", "/ok/new", "/delay/30", "/reset/7"):
                client.ask(path, user_agent="old/1" if path == "/ok?1" else "new/2")
                client.run()
            client.socket.close()
            found = Live(made, trace).wait_for(client.port, 5)
    assert [(s["operation"], s["resource"], s["status"]) for s in found] == [
        ("GET", "", "200"),
        ("GET", "/ok/new", "200"),
        ("GET", "/ok/new", "200"),
        ("GET", "/delay/30", "200"),
        ("GET", "/reset/7", "REFUSED_STREAM"),
    ]
    assert [s["capture"]["mid_stream"] for s in found] == [True, False, False, False, False]
    assert "user_agent.original" not in found[0]["attributes"]
    assert {s["attributes"]["user_agent.original"] for s in found[1:]} == {"new/2"}
    assert found[0]["attributes"]["clovisor.http.unknown_headers"] >= 3  # path, agent, authority
    assert [s["duration_ns"] > 30_000_000 for s in found] == [False, False, False, True, False]


def test_what_is_secret_is_in_no_output(tmp_path: Path) -> None:
    secrets, truth = Secrets(), Truth()
    with traced_pod(tmp_path, "secret2") as live, serving(live.pod, ODD_SERVER, port=ODD):
        client = Http2(live.dial(ODD), truth)
        client.ask(f"/ok?token={secrets.new('query')}", cookie=f"id={secrets.new('cookie')}")
        client.run()
        client.ask(f"/ok/2;v={secrets.new('parameter')}", authorization=f"Bearer {secrets.new('bearer')}")
        truth.calls[-1].who, truth.calls[-1].resource = (client.port, "/ok/2"), "/ok/2"
        client.run()
        client.ask("/ok/3", "POST", secrets.new("body").encode(), x_api_key=secrets.new("api key"))
        client.run()
        client.socket.close()
        live.check(truth, by_resource)
        live.trace.stop()
        secrets.check(live.trace.outputs())
