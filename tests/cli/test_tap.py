"""`clovisor trace pod/…`: what is the agent's business, what is asked of it, and what is said at the beginning and the end."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest
from click.testing import CliRunner

from clovisor_py.cli import _tap as module
from clovisor_py.cli.trace import COMMAND
from clovisor_py.control_socket import ControlSocket
from clovisor_py.errors import ClovisorError, EnvironmentLacking, UsageError
from clovisor_py.model.workload import Workload
from clovisor_py.snapshot import Ended
from clovisor_py.tap_wire import Begun, Tapped
from clovisor_py.taps import Taps
from tests.support.sessions import session

WEB = Tapped("shop", "web", "veth7", ("10.0.0.2",), True, "label clovisor.io/trace=true on pod/web", "default")


class Nobody:
    def offer(self, sessions):
        """There are no exporters."""

    def ledgers(self):
        return {}


class Engine:
    """Answers every tap as its node would, and offers these sessions to it."""

    def __init__(self, taps, sessions, pods=(WEB,), counted=None, *, hangs=False):
        self.taps, self.sessions, self.pods, self.counted, self.hangs = taps, sessions, pods, counted or {}, hangs
        self.asked, self._stop = [], threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _run(self):
        while not self._stop.wait(0.01):
            for tap in self.taps.open_now:
                if self.hangs and tap.leaving.is_set():
                    continue
                if tap.leaving.is_set():
                    tap.counted = {0: ({}, self.counted)}
                    tap.let_go.set()
                elif not tap.answered:
                    self.asked.append((tap.targets, tap.level.value))
                    tap.interfaces = frozenset({7})
                    tap.answer(Begun("n1", self.pods))
                    self.taps.offer(self.sessions)


@pytest.fixture
def agent(tmp_path):
    path = tmp_path / "s"
    taps = Taps(Nobody(), set())
    with ControlSocket(path, take=lambda sock, asked: taps.open(sock, asked.targets, asked.redact)) as control:
        control.serve()
        yield path, taps
        taps.close()


def run(path, *arguments):
    done = CliRunner().invoke(COMMAND, [*arguments, "--socket", str(path)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("pod/web", True), ("pod/shop/web", True), ("deploy/cart", True), ("NS/shop", True)),
        *(("web", False), ("/run/netns/web", False), ("4711", False), ("x/web", False)),
    ],
)
def test_what_is_the_agents_business(text, expected):
    assert module.is_pod(text) is expected


def test_a_file_of_that_name_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod" / "web").touch()
    assert not module.is_pod("pod/web")


def test_peers(agent):
    path, taps = agent
    probe = session(resource="/healthz", client_workload=Workload("n1", kind="node"), server_workload=Workload("web", "shop"))
    call = session(client_workload=Workload("front", "shop", kind="pod"), server_workload=Workload("web", "shop"))
    for options in (["--not-peer", "node/*"], ["--peer", "shop/front"], ["--not-path", "/healthz"]):
        with Engine(taps, [probe, call]):
            done = run(path, "pod/web", "-n", "shop", "--duration", "300ms", "-o", "json", *options)
        assert [json.loads(line)["client"]["workload"]["name"] for line in done.stdout.splitlines()] == ["front"]
    with Engine(taps, [probe, call]):
        done = run(path, "pod/web", "-n", "shop", "--duration", "300ms", "--status", "foo")
    assert "  no session had status foo; there were 200 × 2\n" in done.stderr


def test_sessions_filter_and_summary(agent):
    path, taps = agent
    sessions = [session(), session(status="404", resource="/x"), session()]
    with Engine(taps, sessions, counted={("seen", ""): 6, ("captured", ""): 5, ("lost", "ring full"): 1}) as engine:
        done = run(path, "pod/web", "-n", "shop", "--status", "404", "--duration", "500ms", "-o", "json")
    assert [json.loads(line)["resource"] for line in done.stdout.splitlines()] == ["/x"]
    assert "tracing pod shop/web (veth7, 10.0.0.2)\n" in done.stderr
    assert "1 session in" in done.stderr and "2 more did not match the filter" in done.stderr
    assert "seen 6 segments · captured 5 · lost 1 (ring full 1)" in done.stderr
    assert [(str(target), level) for (target,), level in engine.asked] == [("pod/shop/web", "off")]


def test_a_count_ends_it(agent):
    path, taps = agent
    with Engine(taps, [session()] * 5):
        done = run(path, "pod/shop/web", "--count", "2", "-o", "json")
    assert len(done.stdout.splitlines()) == 2


def test_what_is_asked_for_goes_to_the_agent(agent):
    path, taps = agent
    with Engine(taps, []) as engine:
        run(path, "pod/web", "ns/shop", "deploy/x/cart", "--redact", "strict", "--duration", "1ms")
    [(targets, level)] = engine.asked
    assert ([str(one) for one in targets], level) == (["pod/default/web", "namespace/shop", "deployment/x/cart"], "strict")


def test_the_agents_end_is_an_error_after_the_summary(agent):
    path, taps = agent
    threading.Timer(0.5, taps.close).start()
    with Engine(taps, [session()]), pytest.raises(ClovisorError, match=r"^the agent has ended\.$"):
        run(path, "pod/shop/web")


def test_an_agent_that_does_not_finish_is_an_error_and_no_count_is_made_up(agent, monkeypatch, capsys):
    monkeypatch.setattr(module, "LEAVE_S", 0.3)
    monkeypatch.setattr("clovisor_py.tap.ANSWER_S", 2.0)
    path, taps = agent
    with Engine(taps, [session()], hangs=True), pytest.raises(ClovisorError, match=r"did not finish .* its log") as caught:
        COMMAND.main(["pod/shop/web", "--duration", "300ms", "--socket", str(path)], standalone_mode=False)
    assert caught.value.exit_status == 1
    said = capsys.readouterr().err
    assert "1 session in" in said
    assert "seen 0 segments" not in said
    assert "the agent did not tell how many segments it saw" in said


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_is_heard_while_the_agent_says_nothing(agent, capsys, number, status):
    path, _ = agent
    began = time.monotonic()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    assert COMMAND.main(["pod/shop/web", "--socket", str(path)], standalone_mode=False) == status
    timer.join()
    assert time.monotonic() - began < 5, "an agent may take that long, and longer, before it says that it hangs"
    assert capsys.readouterr().err == "ended before the agent had answered: nothing was shown\n"


def test_no_agent_and_what_makes_no_sense(tmp_path):
    with pytest.raises(EnvironmentLacking, match="no agent answers at"):
        run(tmp_path / "none", "pod/shop/web")
    for arguments, words in (
        (["pod/a", "web"], "'web' by this command itself"),
        (["pod/a", "--hint", "80=http"], "--hint is for what this command traces itself"),
        (["pod/a", "-w", "x.pcapng"], "-w is for what"),
        (["pod/a/b/c"], "has too many parts"),
        (["pod/A_b"], "has no name that Kubernetes would allow"),
    ):
        with pytest.raises(UsageError) as caught:
            run(tmp_path / "none", *arguments)
        assert words in str(caught.value)


def test_what_is_said_of_a_pod():
    assert module.describe(WEB, "") == "tracing pod shop/web (veth7, 10.0.0.2)"
    quiet = WEB._replace(enabled=False, because="no label clovisor.io/trace")
    assert "not enabled (no label clovisor.io/trace): traced for as long as you look, and" in module.describe(quiet, "")
    assert "redacted as the pod's own level says: default" in module.describe(WEB, "off")
    assert "for the agent's exporters, too" in module.describe(WEB._replace(redact="strict"), "strict")
    nowhere = WEB._replace(veth="", problem="no veth of this node leads to it.")
    assert module.describe(nowhere, "").endswith("nothing is seen of it: no veth of this node leads to it")


def test_losses_on_the_way_are_said(agent, monkeypatch):
    monkeypatch.setattr("clovisor_py.tap.QUEUE", 3)
    path, taps = agent
    with Engine(taps, [session()] * 10):
        began = time.monotonic()
        done = run(path, "pod/shop/web", "--duration", "300ms", "-o", "json")
    assert time.monotonic() - began < 10
    assert "sessions lost on the way from the agent (this reader was too slow)" in done.stderr


def test_segments_as_a_trace_of_a_veth_says_them():
    counts = [Ended("seen", "", 9), Ended("captured", "", 4), Ended("cut", "head", 2), Ended("counted", "muted", 3)]
    assert module._segments(counts) == "seen 9 segments · captured 4 · only the head of 2 · only counted 3 · lost 0"
