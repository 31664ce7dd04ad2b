"""`clovisor pods`: the table, the remarks nobody asked for, JSON, and what is said where no agent runs."""

from __future__ import annotations

import contextlib
import json

import click
import pytest
from click.testing import CliRunner

from clovisor_py.cli import _agent
from clovisor_py.cli import pods as module
from clovisor_py.cli.pods import COMMAND, lines
from clovisor_py.control_socket import ControlSocket
from clovisor_py.errors import EnvironmentLacking, UsageError
from clovisor_py.snapshot import Ended, Exporter, Pod, Resource, Snapshot, State, from_json
from tests.support.snapshots import NOW, snapshot, traced

LOSING = traced(name="web-1", veth="veth1", since=NOW - 5, segments=(Ended("seen", "", 10), Ended("lost", "ring full", 3)))
REFUSED = traced(name="db-0", state=State.NO_VETH, veth="", problem="no interface leads to it.")
IDLE = Pod("kube-system", "proxy", state=State.HOST_NETWORK)


@pytest.fixture
def agent(tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: NOW)
    with ControlSocket(tmp_path / "s") as made:
        made.serve()
        made.path = str(tmp_path / "s")
        yield made


def run(agent, *arguments):
    done = CliRunner().invoke(COMMAND, ["--socket", agent.path, *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_table(agent):
    agent.publish(snapshot(traced(), LOSING, REFUSED, IDLE))
    assert run(agent).splitlines() == [
        "POD             VETH       SINCE  SEGMENTS  LOST  SESSIONS  STATE",
        "shop/cart-7d9f  veth3f2a  12 min    81,332     0       400  traced",
        "shop/db-0                                                   no veth: no interface leads to it.",
        "shop/web-1      veth1        5 s        10     3       400  traced",
    ]
    assert "kube-system/proxy" in run(agent, "-a")
    assert "host network" in run(agent, "-a", "-n", "kube-system")
    assert "cart" not in run(agent, "-a", "-n", "kube-system")


def test_colour_is_for_what_is_wrong():
    header, well, losing = lines(snapshot(), [traced(), LOSING], NOW)
    assert "\x1b" not in header + well
    assert losing.startswith("\x1b[33m")


def test_nothing_is_traced(agent):
    agent.publish(snapshot(IDLE))
    assert run(agent) == "No pod of node n2 is traced here: label one with clovisor.io/trace=true, or clovisor enable it.\n"


def test_what_is_wrong_is_said_without_being_asked():
    found = snapshot(
        taken=NOW - 60,
        resources=(Resource("jobs"), Resource("pods", synced=True)),
        exporters=(Exporter("jaeger://j", 10, 4, 0, {"queue full": 6}),),
        shedding=True,
        repairs=2,
        problems=("settings.yaml line 1: no. The settings from before stay.",),
        own={"ring stale bytes": 24640},
    )
    said = [click.unstyle(line) for line in lines(found, [traced()], NOW)][2:]
    assert said == [
        "settings.yaml line 1: no. The settings from before stay.",
        "the agent said this 60 s ago, and nothing since: see its log.",
        "the API server does not tell of jobs: tracing goes on with what is known.",
        "the agent is at its share of a core: less of the busiest pods is captured; counters stay complete.",
        "filters put back: 2.",
        "jaeger://j got 4 of 10 sessions; dropped: queue full 6.",
        "24,640 bytes that were captured before this agent began were too old to be read: what they told is not seen.",
    ]


def test_nothing_that_a_terminal_would_obey():
    odd = traced(name="\x1b[2Jx", veth="v\x1b", state=State.REFUSED, problem="\x1b]0;x\a")
    text = "".join(click.unstyle(line) for line in lines(snapshot(problems=("\x1b[2J",)), [odd], NOW))
    assert text.isprintable()


def test_a_sentence_is_whole_and_of_many_the_first(agent):
    """Seen by an operator: `pods -a` cut off the only sentence that said what was wrong."""
    mistake = "label clovisor.io/trace on pod/cart-7d9f-with-a-long-name: 'yes' is neither: write 'true' or 'false'."
    off = traced(state=State.NOT_SELECTED, selected=False, mistakes=(mistake,))
    agent.publish(snapshot(off))
    assert run(agent, "-a").splitlines()[1].endswith(f"not selected: {mistake}")
    agent.publish(snapshot(traced(mistakes=(mistake, mistake, mistake))))
    line = run(agent).splitlines()[1]
    assert line.endswith(f"traced: {mistake} (and 2 more: clovisor explain shop/cart-7d9f)")


def test_json_has_everything(agent):
    found = snapshot(traced(), IDLE)
    agent.publish(found)
    assert from_json(Snapshot, json.loads(run(agent, "-o", "json"))) == found
    assert [pod["name"] for pod in json.loads(run(agent, "-o", "json", "-n", "shop"))["pods"]] == ["cart-7d9f"]


def test_no_agent(tmp_path):
    done = CliRunner().invoke(COMMAND, ["--socket", str(tmp_path / "none")])
    assert isinstance(done.exception, EnvironmentLacking)
    assert "clovisor agent" in str(done.exception)


def test_an_agent_of_another_version(agent):
    agent._answer = lambda _: {"pods": 3}
    done = CliRunner().invoke(COMMAND, ["--socket", agent.path])
    assert isinstance(done.exception, EnvironmentLacking)
    assert "another version" in str(done.exception)


@pytest.mark.parametrize(
    ("text", "namespace", "expected"),
    [
        ("cart", None, ("default", "cart")),
        ("cart", "shop", ("shop", "cart")),
        ("pod/cart", "shop", ("shop", "cart")),
        ("shop/cart", None, ("shop", "cart")),
        ("pod/shop/cart", "shop", ("shop", "cart")),
        ("pod", None, ("default", "pod")),
    ],
)
def test_how_a_pod_is_written(text, namespace, expected):
    assert _agent.pod_name(text, namespace) == expected


@pytest.mark.parametrize(("text", "kind"), [("deploy/web", "Deployment"), ("NS/shop", "Namespace"), ("svc/a/b", "Service")])
def test_what_is_something_else_than_a_pod(text, kind):
    with pytest.raises(UsageError, match=f"'{text}' is a {kind}, and this takes one pod: write pod/NAME"):
        _agent.pod_name(text, None)
    assert _agent.pod_name("pod/deploy/web", None) == ("deploy", "web"), "a namespace may be called so"


@pytest.mark.parametrize(("text", "namespace"), [("", None), ("a/b/c", None), ("pod/a/b/c", None), ("a/", None), ("a/b", "c")])
def test_what_is_no_pod(text, namespace):
    with pytest.raises(UsageError, match=r": (write|leave)"):
        _agent.pod_name(text, namespace)


def test_an_agent_that_is_starting(agent):
    agent.publish(snapshot(starting=True))
    assert run(agent) == "the agent of node n2 is starting, and has not looked at all pods yet.\n"


def test_who_is_only_looked_at(agent):
    agent.publish(snapshot(traced(selected=False, because="no label clovisor.io/trace")))
    assert run(agent).splitlines()[1].endswith("traced for who looks")


def test_again_and_again(agent, monkeypatch):
    agent.publish(snapshot(traced()))
    rounds = []

    class Stop:
        def __call__(self):
            return len(rounds) >= 2

        def exit_status(self):
            return 0

    monkeypatch.setattr(module, "until", lambda _: contextlib.nullcontext(Stop()))
    monkeypatch.setattr(module, "_sleep", lambda seconds, stop: rounds.append(seconds))
    assert run(agent, "--watch").count("shop/cart-7d9f") == 2
