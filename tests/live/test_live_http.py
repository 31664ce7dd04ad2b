"""HTTP/1 through the kernel: what a client asked of real servers is what is shown, once, for as long as it took."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.live_clients import BLOCK, Http1, number, request
from tests.support.live_peers import abort
from tests.support.live_truth import Json, Truth
from tests.support.live_web import BIG, Live, hypercorn, nginx, peer, traced_pod
from tests.support.secrets import Secrets
from tests.support.servers import serving

pytestmark = pytest.mark.live

NGINX, ODD, HYPERCORN = 8001, 8002, 8003
MB = 1 << 20


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with (
        traced_pod(tmp_path_factory.mktemp("trace"), "http1") as made,
        serving(made.pod, nginx(), port=NGINX),
        serving(made.pod, peer("http"), port=ODD),
    ):
        yield made


def whole(session: Json) -> bool:
    return session["capture"] == {"truncated": False, "gap_bytes": 0, "mid_stream": False}


def test_one_after_the_other_on_kept_connections(live: Live) -> None:
    truth = Truth()
    for family in range(4):
        client = Http1(live.dial(NGINX))
        for turn in range(50):
            client.ask(truth, ("GET", "POST", "DELETE")[turn % 3], f"/{'status' if turn % 5 == 0 else 'api'}/{family}/{turn}")
        client.close()
    live.check(truth)


def test_many_requests_in_one_segment(live: Live) -> None:
    truth = Truth()
    client = Http1(live.dial(NGINX))
    paths = [f"/status/{turn}" if turn % 4 == 0 else f"/pipelined/{turn}" for turn in range(80)]
    client.socket.sendall(b"".join(request("GET", path) for path in paths))
    for path in paths:
        status = client.receive().status
        truth.note(client.port, "GET", path, status, outcome="ok" if status == "200" else "error")
    client.close()
    live.check(truth)
    assert all(map(whole, live.of(client.port)))


def test_a_slow_answer_holds_up_those_behind_it(live: Live) -> None:
    """Pipelined: the later ones take as long as the first, because that is how long the client waits."""
    truth = Truth()
    client = Http1(live.dial(ODD))
    with truth.call(client.port, "GET", "/slow/80", "200"), truth.call(client.port, "GET", "/took", "201"):
        client.socket.sendall(request("GET", "/slow/80") + request("GET", "/took"))
        assert [client.receive().status for _ in range(2)] == ["200", "201"]
    client.close()
    live.check(truth)


def test_chunks_with_extensions_and_trailers(live: Live) -> None:
    truth = Truth()
    client = Http1(live.dial(ODD))
    for chunks in (0, 1, 3):
        answer = client.ask(truth, "GET", f"/chunked/{chunks}")
        truth.calls[-1].attributes = {"http.response.body.size": len(answer.body)}
        assert len(answer.body) == 1000 * chunks
    with truth.call(client.port, "POST", "/chunked/2", "200", attributes={"http.request.body.size": 11}):
        head = b"POST /chunked/2 HTTP/1.1\r\nHost: pod\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.socket.sendall(head + b"5;ext=1\r\nhello\r\n")
        client.socket.sendall(b"6\r\n world\r\n0\r\nX-Trailer: yes\r\n\r\n")
        assert len(client.receive().body) == 2000
    client.ask(truth, "GET", "/chunked/3")
    client.close()
    live.check(truth)


def test_chunks_of_which_only_the_head_was_captured(live: Live) -> None:
    """Where they end, nobody saw; the next turn tells, and the session says that it is so. The bytes on the wire are exact."""
    truth = Truth()
    client = Http1(live.dial(ODD))
    client.ask(truth, "GET", "/took")
    live.wait_for(client.port, 1)  # from here on, heads only
    for chunks in (7, 300, 1):
        assert len(client.ask(truth, "GET", f"/chunked/{chunks}").body) == 1000 * chunks
    client.close()
    live.check(truth)
    _, cut, long, short = live.of(client.port)
    assert [s["capture"]["truncated"] for s in (cut, long, short)] == [True, True, False]
    frame = len(b'3e8;name="a value"\r\n' + b"\r\n")
    around = short["response"]["bytes"] - 1000 - frame
    assert [s["response"]["bytes"] for s in (cut, long)] == [around + n * (1000 + frame) for n in (7, 300)]


def test_answers_without_a_body(live: Live) -> None:
    truth = Truth()
    client = Http1(live.dial(NGINX))
    for path in ("/big", "/a", "/status/1", "/b"):
        client.ask(truth, "HEAD", path)
        client.ask(truth, "GET", f"/then{path}")
    stamp = client.ask(truth, "HEAD", "/big").fields["last-modified"]
    assert client.ask(truth, "GET", "/big", if_modified_since=stamp).status == "304"
    client.ask(truth, "OPTIONS", "/after")
    client.close()
    live.check(truth)


def test_interim_answers(live: Live) -> None:
    truth = Truth()
    client = Http1(live.dial(ODD))
    for size in (1, 100_000):
        with truth.call(client.port, "PUT", "/took", "201", attributes={"http.request.body.size": size}):
            client.socket.sendall(request("PUT", "/took", content_length=str(size), expect="100-continue"))
            assert client.file.readline().startswith(b"HTTP/1.1 100 ")
            assert client.file.readline() == b"\r\n"
            client.socket.sendall(b"x" * size)
            assert client.receive().body == b"%d" % size
    assert client.ask(truth, "GET", "/hints").interim == ["103"]
    client.close()
    live.check(truth)


def test_exact_sizes_of_what_was_hardly_captured(live: Live) -> None:
    truth = Truth()
    client = Http1(live.dial(NGINX))
    for turn in range(3):
        assert len(client.ask(truth, "GET", "/big").body) == BIG
        truth.calls[-1].attributes = {"http.response.body.size": BIG}
        client.ask(truth, "GET", f"/between/{turn}")
    client.close()
    odd = Http1(live.dial(ODD))
    assert odd.ask(truth, "POST", "/took", bytes(8 * MB)).body == b"%d" % (8 * MB)
    truth.calls[-1].attributes = {"http.request.body.size": 8 * MB}
    odd.close()
    live.check(truth)
    assert all(map(whole, live.of(client.port) + live.of(odd.port)))


def test_a_body_that_ends_with_its_connection(live: Live) -> None:
    truth = Truth()
    for size in (0, 10, 5 * MB):
        client = Http1(live.dial(ODD))
        assert len(client.ask(truth, "GET", f"/until_close/{size}").body) == size
        truth.calls[-1].attributes = {"http.response.body.size": size}
        client.close()
    live.check(truth)


def test_servers_that_do_not_answer_or_break_off(live: Live) -> None:
    truth = Truth()
    client = Http1(live.dial(ODD))
    client.ask(truth, "GET", "/slow/1")
    with truth.call(client.port, "GET", "/drop", "", outcome="closed"):
        client.send("GET", "/drop")
        assert client.socket.recv(BLOCK) == b""
    client.close()
    client = Http1(live.dial(ODD))
    truth.note(client.port, "GET", "/reset/1000", "200", outcome="reset")
    client.send("GET", "/reset/1000")
    with pytest.raises(ConnectionResetError):
        client.receive()
    client.close()
    live.check(truth)


def test_a_websocket_takes_the_connection_over(live: Live) -> None:
    wsproto = pytest.importorskip("wsproto")
    pytest.importorskip("hypercorn")
    from wsproto.events import AcceptConnection, Message, Request

    truth = Truth()
    with serving(live.pod, hypercorn(), port=HYPERCORN):
        client = Http1(live.dial(HYPERCORN))
        client.ask(truth, "GET", "/bytes/3")
        web = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        with truth.call(client.port, "GET", "/chat", "101"):
            client.socket.sendall(web.send(Request(host="pod", target="/chat?room=1")))
            web.receive_data(client.socket.recv(BLOCK))
            assert isinstance(next(web.events()), AcceptConnection)
        sent = received = 0
        for turn in range(20):
            sent += client.socket.send(web.send(Message(data=f"{turn}" * 100)))
            data = client.socket.recv(BLOCK)
            received += len(data)
            web.receive_data(data)
            assert [event.data for event in web.events()] == [f"{turn}" * 100]
        client.close()
        *http, opaque = live.wait_for(client.port, 3)
    assert [(s["operation"], s["resource"], s["status"]) for s in http] == [("GET", "/bytes/3", "200"), ("GET", "/chat", "101")]
    truth.note(
        client.port,
        "tcp",
        "websocket",
        "closed",
        attributes={"clovisor.client.turns": opaque["attributes"]["clovisor.client.turns"]},
    )
    live.check(truth)
    assert opaque["request"]["bytes"] >= sent
    assert opaque["response"]["bytes"] >= received


def test_http_inside_a_tunnel(live: Live) -> None:
    truth = Truth()
    client = Http1(live.dial(ODD))
    target = f"127.0.0.1:{NGINX}"
    client.ask(truth, "CONNECT", target)
    for path in ("/inside/1", "/status/2", "/inside/3"):
        client.ask(truth, "GET", path)
    client.close()
    live.check(truth)


def test_clients_that_do_not_wait(live: Live) -> None:
    """After an end of the client's alone, the server answers all the same; after a reset it cannot."""
    truth = Truth()
    ends, resets = live.dial(ODD), live.dial(ODD)
    truth.note(number(ends), "GET", "/slow/100", "200")
    truth.note(number(resets), "GET", "/slow/101", "", outcome="reset")
    ends.sendall(request("GET", "/slow/100"))
    resets.sendall(request("GET", "/slow/101"))
    ends.close()
    abort(resets)
    live.check(truth)


@pytest.mark.parametrize("level", ["default", "off"])
def test_what_is_secret_is_in_no_output(tmp_path, level: str) -> None:
    """With redaction off, what may be told is: the search does find."""
    secrets, truth = Secrets(), Truth()
    with traced_pod(tmp_path, "secret", "--redact", level) as live, serving(live.pod, peer("http"), port=ODD):
        client = Http1(live.dial(ODD))
        cookie, basic, bearer = (secrets.new(name) for name in ("cookie", "basic", "bearer"))
        client.ask(truth, "GET", f"/secret?token={secrets.new('query')}#{secrets.new('fragment')}", cookie=f"session={cookie}")
        client.ask(truth, "GET", "/secret", authorization=f"Bearer {bearer}", x_api_key=secrets.new("api key"))
        client.ask(truth, "GET", "/secret", authorization=f"Basic {basic}", proxy_authorization=f"Basic {secrets.new('proxy')}")
        client.ask(truth, "POST", "/took", secrets.new("body").encode())
        client.ask(truth, "GET", f"http://user:{secrets.new('userinfo')}@pod/took")
        truth.calls[-1].resource = "/took"
        client.ask(truth, "GET", f"/took;jsessionid={secrets.new('parameter')}")
        truth.calls[-1].resource = None
        client.ask(truth, "GET", "/took", referer=f"http://pod/?{secrets.new('referer')}")
        client.close()
        if level == "off":
            truth.calls[0].resource = None
        live.check(truth)
        live.trace.stop()
        outputs = live.trace.outputs()
    if level == "default":
        secrets.check(outputs)
    else:
        told = secrets.found(outputs)
        assert {"query in jsonl", "query in jaeger", "query in console (line, wide, json)", "cookie in jsonl"} <= set(told)
        assert not [one for one in told if "body" in one]
