"""When `clovisor trace` ends, without a kernel: an agent that only offers sessions until it is told to stop."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

import pytest

from clovisor_py.cli import trace as module
from clovisor_py.cli.trace import COMMAND, describe
from clovisor_py.kernel.targets import Veth
from tests.cli.test_summary import report
from tests.support.sessions import session

WEB = Veth(7, "veth7", "web", ("10.0.0.2",), "eth0")


class Agent:
    """Stands for the real one."""

    def __init__(self, _settings, fanout, **_):
        self.fanout, self.veths, self.cleaned = fanout, [WEB], False
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
        pass

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


def test_a_remark_cannot_command_the_terminal(capsys):
    module._remark(describe(Veth(7, "veth7", "web\x1b]0;x\x07", (), "\x1b[2Jeth0"), {}))
    said = capsys.readouterr().err
    assert r"web\x1b]0;x\x07 (veth7 ⇄ \x1b[2Jeth0)" in said
    assert "\x07" not in said
