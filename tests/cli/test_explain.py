"""`clovisor explain`: what is drawn, for whom it is asked, and the exit status."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from clovisor_py.cli import explain as module
from clovisor_py.cli.explain import COMMAND
from clovisor_py.control_socket import ControlSocket
from clovisor_py.errors import EnvironmentLacking, UsageError
from clovisor_py.snapshot import Pod, Port, Resource, State
from tests.support.snapshots import NOW, snapshot, traced


@pytest.fixture
def agent(tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: NOW)

    def find(namespace, name):
        return Pod(namespace, name, node="n9", state=State.OTHER_NODE) if name == "far" else None

    with ControlSocket(tmp_path / "s", find) as made:
        made.serve()
        made.path = str(tmp_path / "s")
        made.publish(snapshot(traced()))
        yield made


def run(agent, *arguments):
    return CliRunner().invoke(COMMAND, ["--socket", agent.path, *arguments])


def test_a_traced_pod(agent):
    done = run(agent, "pod/shop/cart-7d9f")
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "pod shop/cart-7d9f on node n2, 10.244.1.17",
        " ✓ selected       label clovisor.io/trace=true on deployment/cart",
        " ✓ veth           veth3f2a (namespace id 4), traced by this agent for 12 min, our filters come first",
        " ✓ traffic        81,332 segments seen, 0 lost",
        "It is traced.",
    ]


def test_problems_make_the_exit_status(agent):
    ports = (Port(8443, server_names=("pay.shop",)), Port(9092, protocols=("kafka",), open=2, older=2))
    agent.publish(snapshot(traced(ports=ports)))
    done = run(agent, "cart-7d9f", "-n", "shop")
    assert done.exit_code == 1
    assert done.output.splitlines()[4:] == [
        " ! :8443          TLS: handshakes only (SNI pay.shop). Plain text is not visible on the wire.",
        " ✗ :9092          2 connections older than the agent: kafka is recognised from the next request on",
        "It is traced, with 1 problem.",
    ]


def test_a_pod_of_another_node(agent):
    done = run(agent, "shop/far")
    assert (done.exit_code, done.output.splitlines()) == (
        1,
        [
            "pod shop/far on node n9",
            " ✗ node           it runs on n9, and this is n2  → ask the agent there",
            "It is not traced.",
        ],
    )


def test_json(agent):
    said = json.loads(run(agent, "shop/cart-7d9f", "-o", "json").output)
    assert said["pod"]["veth"] == "veth3f2a"
    assert [step["mark"] for step in said["steps"]] == ["ok", "ok", "ok"]


def test_nothing_that_a_terminal_would_obey(agent):
    ports = (Port(8443, server_names=("\x1b[2Jpay",), unread={"parser failed: \x1b": 1}),)
    agent.publish(snapshot(traced(ports=ports, problem="\u202eodd", ips=("\x1b",))))
    assert run(agent, "shop/cart-7d9f").output.replace("\n", "").isprintable()


def test_a_mistake_costs_one_line(agent):
    done = run(agent, "shop/cart")
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "the agent of node n2 knows no pod shop/cart; did you mean shop/cart-7d9f?"
    assert str(run(agent, "x/y").exception).endswith("`clovisor pods -a` lists those of this node.")
    assert isinstance(run(agent, "a/b/c").exception, UsageError)


def test_where_pods_are_not_told_that_is_why_one_is_not_known(agent):
    agent.publish(snapshot(resources=(Resource("pods of this node", problem="it forbids to list pods: grant it."),)))
    assert str(run(agent, "shop/cart").exception).endswith("knows no pod shop/cart: it forbids to list pods: grant it.")


def test_no_agent(tmp_path):
    done = CliRunner().invoke(COMMAND, ["shop/cart", "--socket", str(tmp_path / "none")])
    assert isinstance(done.exception, EnvironmentLacking)


def test_an_agent_that_is_starting(agent):
    agent.publish(snapshot(traced(), starting=True))
    assert "agent          it is starting, and has not looked at all pods yet" in run(agent, "shop/cart-7d9f").output
    assert str(run(agent, "shop/x").exception).endswith("has not looked at all pods yet. Ask again in a moment.")


def test_one_that_is_only_looked_at(agent):
    agent.publish(snapshot(traced(selected=False, because="no label clovisor.io/trace")))
    said = run(agent, "shop/cart-7d9f").output
    assert " ! selected       no label clovisor.io/trace; traced only for as long as `clovisor trace` looks at it" in said
    assert said.endswith("It is traced.\n")
