"""`clovisor top`: the table, its order, JSON, captures, and an agent that is asked twice."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clovisor_py.cli import _agent
from clovisor_py.cli import top as module
from clovisor_py.cli._top import SORTS, ordered, table
from clovisor_py.cli.top import COMMAND
from clovisor_py.control_client import unreachable
from clovisor_py.control_socket import VIEW, ControlSocket, Request
from clovisor_py.errors import EnvironmentLacking, UsageError
from clovisor_py.exporters._text import cells
from clovisor_py.metrics.histogram import Histogram
from clovisor_py.metrics.red import Red
from clovisor_py.metrics.taken import Taken, take
from clovisor_py.metrics.view import By, Line, lines
from clovisor_py.model.session import Outcome
from clovisor_py.model.workload import Endpoint
from clovisor_py.snapshot import as_json
from clovisor_py.sources.pcapng import PcapngWriter
from tests.support.segments import Conversation
from tests.support.sessions import pod, session

WEB, CART = pod("web-1", "web"), pod("cart-1", "cart")


def get(path="/a", **changes):
    fields = {"resource": path, "attributes": {"http.request.method": "GET", "url.path": path}}
    return session(**(fields | {"client_workload": WEB, "server_workload": CART} | changes))


def query(**changes):
    fields = {"protocol": "postgresql", "operation": "SELECT", "resource": "t", "attributes": {"db.collection.name": "t"}}
    return session(
        **(fields | {"client_workload": CART, "duration_ns": 600_000, "server": Endpoint("10.0.0.7", 5432)} | changes)
    )


class Agent:
    """Answers with what its Red has counted; each answer adds what is in `next` and is two seconds later."""

    def __init__(self, socket):
        self.red, self.next, self.now, self.path = Red(), [], 100.0, str(socket)

    def answer(self, request):
        assert request.what == VIEW
        for one in self.next:
            self.red.add(one)
        self.now += 2.0
        return as_json(take(self.red, None, 1.0)._replace(taken=self.now, clock=self.now))


@pytest.fixture
def agent(tmp_path):
    made = Agent(tmp_path / "s")
    with ControlSocket(tmp_path / "s") as control:
        control.serve(made.answer)
        yield made


def run(agent, *arguments):
    done = CliRunner().invoke(COMMAND, ["--socket", agent.path, "--every", "1ms", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return click.unstyle(done.output).splitlines()


def test_one_table_where_no_terminal_shows_it(agent):
    agent.next = [*[get()] * 4, get(status="500", outcome=Outcome.ERROR), query(server_workload=pod("db-0", "orders-db"))]
    assert run(agent) == [
        "CLIENT → SERVER   PROTOCOL    REQ/S     ERR     P50     P90     P99  RTT",
        "web → cart        http          2.5  20.0 %  4.1 ms  4.1 ms  4.1 ms    –",
        "cart → orders-db  postgresql    0.5   0.0 %  606 µs  606 µs  606 µs    –",
    ]


def test_by_operation_sorted_and_chosen(agent):
    agent.next = [get("/a"), get("/a"), get("/users/7", duration_ns=10**9), query(server_workload=pod("db-0", "orders-db"))]
    assert [line.split("  ")[0] for line in run(agent, "--of", "web", "--by", "rpc", "--sort", "p99")[1:]] == ["web → cart"] * 2
    first = run(agent, "--of", "web", "--by", "rpc", "--sort", "p99")[1]
    assert "GET /users/{id}" in first
    assert "postgresql" not in "\n".join(run(agent, "--of", "web"))
    assert run(agent, "-n", "nowhere")[1:] == ["nothing was called"]


def test_json_and_several_tables(agent):
    agent.next = [get()]
    found = [json.loads(line) for line in run(agent, "-o", "json", "--count", "3")]
    assert [line["calls"] for line in found] == [1, 1, 1]
    assert found[0]["server"] == {"namespace": "shop", "name": "cart"}
    assert found[0]["calls_per_s"] == 0.5


def test_an_end_by_time(agent):
    assert run(agent, "--duration", "50ms")[0].startswith("CLIENT → SERVER")


def test_names_of_several_namespaces():
    red = Red()
    red.add(get(client_workload=pod("web").__class__("web", namespace="front")))
    [_, line] = table(lines(Taken(), take(red, None, 1.0), By.LINK, 1.0))
    assert line.startswith("front/web → shop/cart  http")


def test_as_many_lines_as_there_is_room_for():
    red = Red()
    for number in range(10):
        red.add(get(client_workload=pod("c", f"c{number}")))
    found = ordered(lines(Taken(), take(red, None, 1.0), By.LINK, 1.0), "name")
    shown = table(found, 3)
    assert len(shown) == 5
    assert click.unstyle(shown[-1]) == "… and 7 more, with 7.0 req/s"


NAMES = [
    ("frontend-web-application", "payment-gateway-service"),
    ("前端网页应用程序", "支付网关服务支付网关服务支付网关服务"),
    ("a", "b"),
]


def wide_lines(operation, hidden=0):
    waited = Histogram()
    waited.add(4_100_000)
    return [
        Line("shop", client, "pay", server, "postgresql", operation, 900 + at, 1, 2.0, waited, waited, 5, 5, hidden)
        for at, (client, server) in enumerate(NAMES)
    ]


@pytest.mark.parametrize("width", [20, 60, 80, 100, 200])
@pytest.mark.parametrize("operation", ["", "SELECT 客户地址和订单 customer_addresses_and_orders"])
@pytest.mark.parametrize("hidden", [0, 1])
def test_no_line_is_wider_than_the_terminal(width, operation, hidden):
    shown = [click.unstyle(line) for line in table(wide_lines(operation, hidden), 2, width, 7)]
    assert max(map(cells, shown)) <= width
    if width >= 80:
        assert all("·cut" in line for line in shown[1:2]) is bool(hidden)
        assert shown[1].split("  ")[-1 if not operation or width > 80 else -2].strip() == "4.1 ms", "numbers stay"


def test_texts_give_way_to_numbers_the_longer_name_first():
    shown = [click.unstyle(line) for line in table(wide_lines("SELECT customer_addresses_and_orders"), None, 100)]
    assert shown == [
        "CLIENT → SERVER              PROTOCOL    OPERATION      REQ/S    ERR     P50     P90     P99     RTT",
        "shop/fronte… → pay/payment…  postgresql  SELECT custo…  450.0  0.1 %  4.1 ms  4.1 ms  4.1 ms  4.1 ms",
        "shop/前端网… → pay/支付网…   postgresql  SELECT custo…  450.5  0.1 %  4.1 ms  4.1 ms  4.1 ms  4.1 ms",
        "shop/a → pay/b               postgresql  SELECT custo…  451.0  0.1 %  4.1 ms  4.1 ms  4.1 ms  4.1 ms",
    ]
    assert table(wide_lines("SELECT t"), None, 200) == table(wide_lines("SELECT t")), "and nothing where there is room"


def test_it_says_what_it_does_not_know(agent):
    shown = [click.unstyle(line) for line in table(wide_lines("", 1), 4, 80, 1_500)]
    assert [line.split("  ")[0] for line in shown[3:]] == [
        "… and 1 more, with 451.0 req/s",
        "·cut: part of it passed unseen; rates and errors are not exact",
        "1,500 sessions are told as other: there is more than is kept apart",
    ]
    agent.next = [get(gap_bytes=9), get()]
    assert ["·cut" in line for line in run(agent)[1:]] == [True, True]
    [line] = map(json.loads, run(agent, "-o", "json"))
    assert (line["calls"], line["hidden"], line["told_as_other"], line["seconds"]) == (2, 1, 0, 2.0)
    assert line["time"].endswith("Z")


def test_half_a_character_is_no_error(agent):
    agent.next = [get(operation="GET \ud800", attributes={})]
    assert json.loads(run(agent, "-o", "json", "--by", "rpc")[0])["operation"] == "GET \ud800"


def test_an_agent_that_is_away_for_a_while_is_waited_for(agent, monkeypatch):
    agent.next = [get()]
    answers, asked = [None, OSError("gone"), OSError("gone"), None], module.ask

    def ask(request, path):
        if (error := answers.pop(0)) is not None:
            raise unreachable(path, error)
        return asked(request, path)

    monkeypatch.setattr(module, "ask", ask)
    found = run(agent, "--count", "1")
    assert found[0].startswith("waiting up to 120 s for the agent to come back; no agent answers at ")
    assert found[2].startswith("web → cart"), "said once, and then it goes on"
    answers[:] = [None, OSError("gone")]
    monkeypatch.setattr(module, "AWAY_S", 0.0)
    with pytest.raises(EnvironmentLacking, match="no agent answers"):
        run(agent, "--count", "1")


def test_time_to_end_while_the_agent_is_away(agent, monkeypatch):
    asked = iter([module.ask(Request(VIEW), Path(agent.path))])

    def ask(request, path):
        for answer in asked:
            return answer
        raise unreachable(path, OSError("gone"))

    monkeypatch.setattr(module, "ask", ask)
    assert len(run(agent, "--duration", "30ms")) == 1


@pytest.mark.parametrize("sort", SORTS)
def test_every_order(sort):
    red = Red()
    for one in [get(), get(duration_ns=9), get(client_workload=CART, status="500", outcome=Outcome.ERROR, duration_ns=10**9)]:
        red.add(one)
    found = ordered(lines(Taken(), take(red, None, 1.0), By.LINK, 1.0), sort)
    assert found[0].client == ("web" if sort in ("rate",) else "cart")


def test_captures(tmp_path):
    talk = Conversation().handshake().client("GET /users/7 HTTP/1.1\r\nHost: web\r\n\r\n")
    talk.server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").close()
    path = tmp_path / "talk.pcapng"
    with PcapngWriter(str(path)) as writer:
        writer.add(7, "web", ("10.0.0.2",))
        writer.write(talk.segments)
    done = CliRunner().invoke(COMMAND, [str(path), "--by", "rpc", "-o", "json"], catch_exceptions=False)
    assert [(line["operation"], line["calls"]) for line in map(json.loads, done.output.splitlines())] == [
        ("GET /users/{id}", 1)
    ]


def test_mistakes_cost_a_line(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="there is no capture 'web'"):
        CliRunner().invoke(COMMAND, ["web"], catch_exceptions=False)
    (tmp_path / "x.pcap").write_text("no capture")
    done = CliRunner().invoke(COMMAND, [str(tmp_path / "x.pcap")], catch_exceptions=False, standalone_mode=False)
    assert done.return_value == 1 and done.stderr.startswith(f"clovisor: {tmp_path / 'x.pcap'}: ")
    for option, value in (("--every", "1s"), ("--count", "2"), ("--duration", "1s"), ("--socket", "/x")):
        with pytest.raises(UsageError, match=f"^{option} is for the running agent"):
            CliRunner().invoke(COMMAND, [str(tmp_path / "x.pcap"), option, value], catch_exceptions=False)
    with pytest.raises(EnvironmentLacking, match="no agent answers"):
        CliRunner().invoke(COMMAND, ["--socket", str(tmp_path / "none")], catch_exceptions=False)
    monkeypatch.setattr(module, "ask", lambda request, path: {"rows": 7})
    with pytest.raises(EnvironmentLacking, match="another version"):
        CliRunner().invoke(COMMAND, [], catch_exceptions=False)


def test_no_colour_where_none_is_wanted(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert _agent.colours() is False
    assert Path(module.__file__).name == "top.py"
