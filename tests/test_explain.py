"""Each reason for which a pod is not traced, or its sessions not seen, is a step that says so and what to do."""

from __future__ import annotations

import pytest

from clovisor_py.explain import ENOUGH, Mark, age, ago, similar, steps, verdict
from clovisor_py.snapshot import Ended, Exporter, Pod, Port, Resource, State, Unparsed
from tests.support.snapshots import NOW, snapshot, traced

OK, PROBLEM, NOTE = Mark.OK, Mark.PROBLEM, Mark.NOTE


def explained(pod, **changes):
    return steps(snapshot(pod, **changes), pod, NOW)


def told(pod, **changes):
    return [(step.mark, step.title) for step in explained(pod, **changes)]


def text(pod, title, **changes):
    [found] = [step for step in explained(pod, **changes) if step.title == title]
    return found.text


WELL = [(OK, "selected"), (OK, "veth"), (OK, "traffic")]


def test_a_pod_that_is_traced():
    found = explained(traced())
    assert [(step.mark, step.title) for step in found] == WELL
    assert [step.text for step in found] == [
        "label clovisor.io/trace=true on deployment/cart",
        "veth3f2a (namespace id 4), traced by this agent for 12 min, our filters come first",
        "81,332 segments seen, 0 lost",
    ]
    assert verdict(traced(), found) == "It is traced."


@pytest.mark.parametrize(
    ("changes", "title", "said"),
    [
        ({"state": State.OTHER_NODE, "node": "n1"}, "node", "runs on n1, and this is n2"),
        ({"state": State.OTHER_NODE, "node": ""}, "node", "no node has been chosen"),
        ({"state": State.NOT_SELECTED, "selected": False, "because": ""}, "selected", "no label clovisor.io/trace"),
        ({"state": State.HOST_NETWORK}, "network", "host's network"),
        ({"state": State.NOT_RUNNING, "problem": "it has finished (Succeeded)"}, "running", "it has finished"),
        ({"state": State.NO_VETH, "ips": ("10.0.0.2", "fd00::2")}, "veth", "leads to 10.0.0.2 or fd00::2"),
        ({"state": State.REFUSED, "problem": "attaching was refused."}, "attached", "attaching was refused"),
        ({"state": State.NOT_SELECTED}, "attached", "not yet"),
    ],
)
def test_what_stops_it_is_the_last_thing_said(changes, title, said):
    pod = traced(**changes)
    found = explained(pod)
    assert (found[-1].mark, found[-1].title) == (PROBLEM, title)
    assert said in found[-1].text
    assert found[-1].remedy
    assert verdict(pod, found) == "It is not traced."


def test_a_pod_that_cannot_be_traced_is_not_to_be_enabled():
    """Seen by an operator: `clovisor enable` was the remedy for a pod on the host's network, and did nothing."""
    [step] = explained(traced(state=State.HOST_NETWORK, selected=False, because="no label clovisor.io/trace", veth=""))
    assert (step.mark, step.title) == (PROBLEM, "network")
    assert "enabled or not" in step.text and "enable" not in step.remedy


BAD = tuple(f"annotation clovisor.io/ports on pod/cart: 'x{number}' names no port." for number in range(5))


def test_each_mistake_is_a_step_of_its_own():
    found = explained(traced(mistakes=BAD))
    assert [step.text for step in found if step.title == "mistake"] == list(BAD)
    assert {step.mark for step in found if step.title == "mistake"} == {NOTE}
    off = explained(traced(state=State.NOT_SELECTED, selected=False, because="no label that can be read", mistakes=BAD[:1]))
    assert [step.title for step in off] == ["mistake", "selected"]


def test_what_is_wrong_with_the_agent():
    said = explained(traced(), problems=("settings.yaml line 3: no. The settings from before stay.",))
    assert said[0] == (NOTE, "agent", "settings.yaml line 3: no. The settings from before stay.", "")


def test_another_program_ahead_of_ours():
    pod = traced(ahead="cil_from_container")
    [_, veth, _] = explained(pod)
    assert veth.mark is PROBLEM
    assert "cil_from_container runs before our filters" in veth.text
    assert verdict(pod, explained(pod)) == "It is traced, with 1 problem."


def test_nothing_passed():
    assert told(traced(segments=(Ended("seen", "", 0),)))[-1] == (NOTE, "traffic")


def test_losses_and_the_budget():
    segments = (
        Ended("seen", "", 1000),
        Ended("cut", "pod budget", 5),
        Ended("cut", "flow budget", 7),
        Ended("lost", "pod budget", 10),
        Ended("lost", "ring full", 3),
    )
    pod = traced(segments=segments)
    assert text(pod, "traffic") == "1,000 segments seen, 13 lost (pod budget 10, ring full 3)"
    assert text(pod, "budget").startswith("the pod's bytes a second were used up for 15 segments; one connection's for 7.")
    assert told(pod)[2:] == [(NOTE, "traffic"), (NOTE, "budget")]
    assert "share of a core" in text(traced(), "budget", shedding=True)


def test_one_direction():
    silent = traced(bytes=(5000, 0))
    assert told(silent)[-1] == (NOTE, "one direction")
    assert "leaves the pod" in text(silent, "one direction")
    sure = traced(bytes=(0, 5000), ports=(Port(80, one_direction=3),))
    assert told(sure)[3:] == [(PROBLEM, "one direction"), (PROBLEM, ":80")]
    assert "enters the pod" in text(sure, "one direction")
    assert told(traced(bytes=(50, 0), segments=(Ended("seen", "", ENOUGH - 1),))) == WELL


def test_encrypted():
    pod = traced(ports=(Port(8443, server_names=("pay.shop",), unread={"encrypted": 3}, sessions=3),))
    assert told(pod) == [*WELL, (NOTE, ":8443")]
    assert text(pod, ":8443") == "TLS: handshakes only (SNI pay.shop). Plain text is not visible on the wire."


def test_older_than_the_agent():
    plain = traced(ports=(Port(9092, protocols=("kafka",), open=3, older=2),))
    assert text(plain, ":9092") == "2 connections older than the agent: kafka is recognised from the next request on"
    assert told(plain)[-1] == (PROBLEM, ":9092")
    read = traced(ports=(Port(9092, protocols=("kafka",), sessions=5, open=1, older=1),))
    assert told(read)[-1] == (NOTE, ":9092")
    given_up = explained(traced(ports=(Port(8443, older=1, open=1),)), unparsed=(Unparsed(8443, "encrypted", 4),))
    assert [step.text.partition(":")[0] for step in given_up[3:]] == ["TLS", "1 connection older than the agent"]


def test_protocol_unknown():
    pod = traced(ports=(Port(7000, unread={"unknown protocol": 2, "nothing was said": 9}),))
    [*_, last] = explained(pod)
    assert (last.mark, last.title) == (PROBLEM, ":7000")
    assert "protocol unknown on 2 connections" in last.text
    assert 'clovisor.io/ports: "7000=PROTOCOL"' in last.remedy
    mixed = traced(ports=(Port(80, protocols=("http",), sessions=9, unread={"unknown protocol": 1}),))
    assert told(mixed)[-1] == (NOTE, ":80")


def test_given_up_and_outgoing():
    pod = traced(ports=(Port(5432, side="client", unread={"parser failed: ValueError": 1}),))
    [*_, last] = explained(pod)
    assert (last.title, last.text) == ("→ :5432", "a connection given up: parser failed: ValueError")
    assert last.remedy == "please report it"


def test_the_agent_the_api_server_and_the_exporters():
    pod = traced(problem="its filters were removed.", problem_at=NOW - 5)
    found = explained(
        pod,
        taken=NOW - 60,
        resources=(Resource("pods", synced=True), Resource("services", problem="it is forbidden."), Resource("jobs")),
        exporters=(Exporter("jaeger://j", 10, 4, 0, {"queue full": 6, "failed": 0}), Exporter("console:", 10, 10)),
    )
    by_title = {step.title: step for step in found}
    assert by_title["agent"].mark is PROBLEM
    assert by_title["API server"].text == "services, jobs: it is forbidden. Tracing goes on with what is known"
    assert by_title["problem"].text == "5 s ago: its filters were removed."
    assert text(traced(problem="it is odd."), "problem") == "it is odd.", "never 20000 days ago"
    assert by_title["export"].text == "jaeger://j got 4 of 10; dropped: queue full 6"


def test_every_step_is_one_line():
    ports = (Port(1, unread={"unknown protocol": 1}), Port(2, older=1, open=1), Port(3, server_names=("x",)), Port(0, older=1))
    for step in explained(traced(ports=ports, ahead="x", bytes=(0, 1)), shedding=True):
        assert "\n" not in step.text
        assert step.text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((-5, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min")),
        *((7200, "2 h"), (172_799, "47 h"), (172_800, "2 days")),
    ],
)
def test_age(seconds, said):
    assert (age(seconds), ago(seconds)) == (said, f"{said} ago")


def test_similar_names():
    found = snapshot(Pod("shop", "cart-7d9f"), Pod("shop", "web-1"), Pod("other", "cart"))
    assert similar(found, "shop", "cart") == ["shop/cart-7d9f", "other/cart"]
    assert similar(found, "shop", "cart-7d9e") == ["shop/cart-7d9f"]
    assert similar(found, "zzz", "qqqqqqqqq") == []
    many = snapshot(*(Pod("shop", name) for name in ("web", "done", "nowhere")))
    assert similar(many, "shop", "wbe") == ["shop/web"]
    assert similar(many, "shpo", "web") == ["shop/web"]


def test_a_server_that_answers_what_nobody_asked():
    """Past the veth (bpf_redirect_peer) not even the opening is seen."""
    pod = traced(bytes=(5000, 0), ports=(Port(80, open=8, older=8, sessions=2),))
    found = explained(pod)
    assert [(step.mark, step.title) for step in found][3:] == [(PROBLEM, "one direction"), (NOTE, ":80")]
    assert "the opening was not seen" in found[-1].text


def test_a_hint_that_the_bytes_refuted():
    pod = traced(ports=(Port(8080, unread={"hinted redis, but its bytes are not": 2}),))
    [*_, last] = explained(pod)
    assert last.text == "2 connections given up: hinted redis, but its bytes are not"
    assert "clovisor.io/ports" in last.remedy
