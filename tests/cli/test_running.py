"""The doctor asks the agent that runs here, where one does, what is wrong with what it was told."""

from __future__ import annotations

import click
import pytest

from clovisor_py.cli._running import checks_of
from clovisor_py.cli.doctor import report
from clovisor_py.control_socket import ControlSocket
from clovisor_py.kernel.probe import Machine, State
from tests.support.snapshots import snapshot


@pytest.fixture
def socket(tmp_path):
    with ControlSocket(tmp_path / "s") as made:
        made.serve()
        made.path = tmp_path / "s"
        yield made


def finding(path):
    [check] = checks_of(path)
    return check(Machine())


def test_no_agent_is_no_line(tmp_path):
    assert checks_of(tmp_path / "none") == ()


def test_one_that_has_died_is_no_problem(tmp_path):
    (tmp_path / "s").touch()
    assert finding(tmp_path / "s").state is State.OPTIONAL


def test_one_that_is_well(socket):
    socket.publish(snapshot())
    assert finding(socket.path).sentence == "agent of node n2 understands all that it was told"


def test_a_mistake_in_its_settings(socket, capsys):
    """Seen by an operator: a typo in the ConfigMap, and the doctor said that all was well."""
    socket.publish(snapshot(problems=("settings.yaml line 1: no setting '\x1b'. The settings from before stay.",)))
    found = finding(socket.path)
    assert found.state is State.PROBLEM
    assert found.detail.startswith("of node n2 goes on, but settings.yaml line 1: ") and found.detail.isprintable()
    assert report([found]) == 1
    said = click.unstyle(capsys.readouterr().out).splitlines()
    assert said[-1] == "1 problem. `clovisor agent` sees less than it should until it is repaired."
