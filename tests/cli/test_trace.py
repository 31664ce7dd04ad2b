"""When `clovisor trace` ends, without a kernel: an agent that only offers sessions until it is told to stop."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest

from clovisor_py.cli import trace as module
from clovisor_py.cli._options import Shown
from clovisor_py.cli.trace import COMMAND, describe
from clovisor_py.errors import UsageError
from clovisor_py.exporters._worker import Ledger
from clovisor_py.kernel.targets import Veth
from tests.cli.test_summary import report
from tests.support.segments import Conversation
from tests.support.sessions import session

WEB = Veth(7, "veth7", "web", ("10.0.0.2",), "eth0")


class Agent:
    """Stands for the real one."""

    def __init__(self, settings, fanout, *, writer, **_):
        self.fanout, self.veths, self.cleaned = fanout, [WEB], False
        self.settings, self.writer = settings, writer
        made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        self.cleaned = True

    def attach(self, _veths):
        pass

    def run(self, stop):
        while not stop():
            self.fanout.offer([session()])

    def finish(self):
        if self.writer is not None:
            self.writer.write(Conversation().client("GET / HTTP/1.1\r\n\r\n").segments)

    def report(self):
        return report()


made: list[Agent] = []


@pytest.fixture
def without_kernel(monkeypatch):
    monkeypatch.setattr(module, "Agent", Agent)
    monkeypatch.setattr(module, "resolve", lambda _: [WEB])
    monkeypatch.setattr(module, "require_root", lambda: None)
    monkeypatch.setattr(module, "require_bpffs", lambda: None)
    made.clear()


def test_it_ends_when_nobody_reads_any_more(without_kernel, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    stdout = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert COMMAND.main(["web"], standalone_mode=False) == 0
    with suppress(BrokenPipeError):  # what it still held
        stdout.close()
    said = capsys.readouterr().err
    assert "tracing web (veth7 ⇄ eth0, 10.0.0.2)" in said
    assert "seen 8 segments" in said
    assert made[0].cleaned, "and no signal has kept it from that"
    assert made[0].fanout.gone


def test_it_ends_when_its_time_is_over(without_kernel, capsys):
    assert COMMAND.main(["web", "--duration", "1ms"], standalone_mode=False) == 0
    assert made[0].cleaned
    assert not made[0].fanout.gone


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_exit_status_says_who_ended_it(without_kernel, monkeypatch, capsys, number, status):
    monkeypatch.setattr(Agent, "run", lambda self, stop: os.kill(os.getpid(), number))
    assert COMMAND.main(["web"], standalone_mode=False) == status
    assert made[0].cleaned
    assert "seen 8 segments" in capsys.readouterr().err, "the summary comes however it ends"


def test_what_could_not_be_delivered_is_said_and_is_no_success(without_kernel, monkeypatch, capsys):
    told = report(exporters={"jsonl:x": Ledger(2, 0, {"failed": 2}, 0, "cannot write to 'x' (No space); make room.")})
    monkeypatch.setattr(Agent, "report", lambda self: told)
    assert COMMAND.main(["web", "-q", "--duration", "1ms"], standalone_mode=False) == 1
    said = capsys.readouterr().err
    assert said == "clovisor: jsonl:x got 0 of 2 sessions (dropped: failed 2): cannot write to 'x' (No space); make room.\n"


@pytest.mark.parametrize("duration", ["0s", "-5s", "99999h"])
def test_a_duration_that_makes_no_sense(duration):
    with pytest.raises(click.UsageError):
        COMMAND.main(["web", "--duration", duration], standalone_mode=False)


def test_a_remark_cannot_command_the_terminal(capsys):
    nothing = dict.fromkeys(field.name for field in dataclasses.fields(Shown))
    Shown(**nothing).say(describe(Veth(7, "veth7", "web\x1b]0;x\x07", (), "\x1b[2Jeth0"), {}))
    said = capsys.readouterr().err
    assert r"web\x1b]0;x\x07 (veth7 ⇄ \x1b[2Jeth0)" in said
    assert "\x07" not in said


def test_raw_payloads_are_written_only_where_that_is_meant(without_kernel, capsys, tmp_path):
    path = tmp_path / "x.pcapng"
    for level in ([], ["--redact", "default"], ["--redact", "strict"]):
        with pytest.raises(UsageError, match=r"-w writes raw payloads, .* it needs --redact off"):
            COMMAND.main(["web", "-w", str(path), *level], standalone_mode=False)
    assert not path.exists()
    assert not made
    arguments = ["web", "-w", str(path), "--redact", "off", "--udp-port", "5353", "--duration", "1ms"]
    assert COMMAND.main(arguments, standalone_mode=False) == 0
    assert f"{path}: 1 packet (clovisor replay shows them again)" in capsys.readouterr().err
    assert b"GET / HTTP/1.1" in path.read_bytes()
    assert (made[0].settings.redact, made[0].settings.udp_ports) == ("off", (53, 5353))


def test_a_capture_on_standard_output(without_kernel, capfd, tmp_path):
    arguments = ["web", "-w", "-", "--redact", "off", "--duration", "1ms"]
    assert COMMAND.main(arguments, standalone_mode=False) == 0
    out, err = capfd.readouterr()
    assert out.startswith("\n\r\r\n") and "GET / HTTP/1.1" in out and "TIME" not in out
    assert "  standard output: 1 packet\n" in err


def test_a_capture_is_replaced_and_that_is_said(without_kernel, capsys, tmp_path):
    path = tmp_path / "x"
    for _ in range(2):
        assert COMMAND.main(["web", "-w", str(path), "--redact", "off", "--duration", "1ms"], standalone_mode=False) == 0
    assert capsys.readouterr().err.count(f"{path} held a capture, which is replaced\n") == 1


@pytest.mark.parametrize("option", [["-n", "shop"], ["--socket", "/tmp/x"]])
def test_what_only_pods_have_is_not_ignored(without_kernel, option):
    with pytest.raises(UsageError, match=f"{option[0]} is for pods of the agent, and 'web' is none: write pod/NAME"):
        COMMAND.main(["web", *option], standalone_mode=False)
    assert not made


def test_a_capture_that_could_not_be_written(without_kernel, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    assert COMMAND.main(["web", "-w", "/dev/full", "--redact", "off", "--duration", "1ms"], standalone_mode=False) == 1
    assert "/dev/full: none of 1 packet could be written" in capsys.readouterr().err
