"""DNS through the kernel: what a resolver asked of dnsmasq, over UDP and TCP, and what it got; also nothing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("dns")

import dns.exception
import dns.message
import dns.query
import dns.rcode

from clovisor_py.agent import Agent
from clovisor_py.exporters._fanout import Fanout
from clovisor_py.kernel.targets import Veth
from tests.support.kernel import bench_settings, drop_pins, node
from tests.support.live_clients import number
from tests.support.live_truth import Call, Truth
from tests.support.live_web import Live, dnsmasq, traced_pod
from tests.support.netns import Pod, pod
from tests.support.servers import serving

pytestmark = pytest.mark.live

PORT, OTHER = 53, 5399
ASKED = [
    ("ok.lab", "A"),
    ("deep.ok.lab", "A"),
    ("six.lab", "AAAA"),
    ("ok.lab", "AAAA"),
    ("text.lab", "TXT"),
    ("mail.lab", "MX"),
    ("_http._tcp.lab", "SRV"),
    ("nothing.lab", "A"),
    ("example.org", "A"),
]
CODES = {"NOERROR", "NXDOMAIN", "REFUSED"}
"""What dnsmasq answers to those."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with (
        traced_pod(tmp_path_factory.mktemp("trace"), "dns", "--udp-port", str(OTHER)) as made,
        serving(made.pod, dnsmasq(), port=PORT),
        serving(made.pod, dnsmasq(), port=OTHER),
    ):
        yield made


def question(name: str, kind: str) -> dns.message.Message:
    return dns.message.make_query(name, kind, use_edns=kind == "MX")


def judge(call: Call, answer: dns.message.Message) -> None:
    call.status = dns.rcode.to_text(answer.rcode())
    call.outcome = "ok" if call.status == "NOERROR" else "error"


def resolver(ipv6: bool = False) -> socket.socket:
    """A port to ask from. The library waits by itself."""
    client = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    client.bind(("", 0))
    client.setblocking(False)
    return client


@pytest.mark.parametrize("port", [PORT, OTHER], ids=["the usual port", "another port"])
@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_every_question_over_udp(live: Live, port: int, ipv6: bool) -> None:
    truth = Truth()
    with resolver(ipv6) as client:
        for name, kind in 3 * ASKED:
            asked = question(name, kind)
            with truth.call(number(client), kind, name, None) as call:
                answer = dns.query.udp(asked, live.pod.ipv6 if ipv6 else live.pod.ipv4, 5, port, sock=client)
            judge(call, answer)
    live.check(truth)
    assert {call.status for call in truth.calls} == CODES


def test_an_answer_tells_what_it_says(live: Live) -> None:
    with resolver() as client:
        dns.query.udp(question("ok.lab", "A"), live.pod.ipv4, 5, PORT, sock=client)
        (session,) = live.wait_for(number(client), 1)
    assert session["protocol"] == "dns"
    assert session["attributes"]["dns.question.name"] == "ok.lab"
    assert any("10.9.9.9" in str(answer) for answer in session["attributes"]["dns.answers"])


def test_a_port_for_each_question(live: Live) -> None:
    """As resolvers do it."""
    truth = Truth()
    for turn in range(40):
        name, kind = ASKED[turn % len(ASKED)]
        with resolver() as client:
            asked = question(name, kind)
            with truth.call(number(client), kind, name, None) as call:
                answer = dns.query.udp(asked, live.pod.ipv4, 5, sock=client)
            judge(call, answer)
    live.check(truth)


def test_over_tcp_one_after_the_other_and_many_at_once(live: Live) -> None:
    truth = Truth()
    client = live.dial(PORT)
    client.setblocking(False)
    for name, kind in ASKED:
        asked = question(name, kind)
        with truth.call(number(client), kind, name, None) as call:
            answer = dns.query.tcp(asked, live.pod.ipv4, 5, sock=client)
        judge(call, answer)
    for turn in range(20):
        truth.note(number(client), "A", f"n{turn}.ok.lab", "NOERROR")
        dns.query.send_tcp(client, dns.message.make_query(f"n{turn}.ok.lab", "A"))
    for _ in range(20):
        dns.query.receive_tcp(client, time.time() + 5)
    client.close()
    live.check(truth)
    assert {call.status for call in truth.calls} == CODES


@pytest.fixture
def impatient() -> Iterator[tuple[Pod, list]]:
    """A pod that is traced in this process, by an agent that gives a request one second; and its sessions."""
    sessions: list = []

    class Kept(Fanout):
        def offer(self, batch) -> None:
            sessions.extend(batch)

    settings = bench_settings("-dns", request_timeout_s=1.0)
    done = threading.Event()
    try:
        with node(), pod("silent") as made, Agent(settings, Kept([])) as agent:
            agent.attach([Veth(made.ifindex, made.veth, made.namespace, (made.ipv4, made.ipv6), "eth0")])
            thread = threading.Thread(target=agent.run, args=(done.is_set,))
            thread.start()
            try:
                yield made, sessions
            finally:
                done.set()
                thread.join()
    finally:
        drop_pins(settings.pins)


def test_nobody_answers(impatient: tuple[Pod, list]) -> None:
    """A resolver that asks again: three datagrams, one question, and no answer; and a port where nobody listens."""
    made, sessions = impatient
    silent = made.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with silent, resolver() as client:
        silent.bind((made.ipv4, PORT))
        asked = question("lost.lab", "A")
        for _ in range(3):
            with pytest.raises(dns.exception.Timeout):
                dns.query.udp(asked, made.ipv4, timeout=0.2, sock=client)
        own = number(client)
    with pytest.raises((OSError, dns.exception.Timeout)):
        dns.query.udp(question("refused.lab", "AAAA"), made.ipv6, timeout=0.2)
    deadline = time.monotonic() + 10
    while len(sessions) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    told = sorted((s.operation, s.resource, s.outcome.value) for s in sessions)
    assert told == [
        ("A", "lost.lab", "one_way"),
        ("A", "lost.lab", "one_way"),
        ("A", "lost.lab", "timeout"),
        ("AAAA", "refused.lab", "timeout"),
    ]
    assert all(s.attributes["clovisor.repeated"] for s in sessions if s.outcome.value == "one_way")
    assert {s.client.port for s in sessions if s.resource == "lost.lab"} == {own}
    assert all(s.duration_ns >= 1e9 for s in sessions if s.outcome.value == "timeout")
