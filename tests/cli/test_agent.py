"""`clovisor agent`: each bad input is one sentence, and good ones become one call."""

from __future__ import annotations

import json
import logging
import socket
import threading

import pytest
from click.testing import CliRunner

from clovisor_py.cli import _log
from clovisor_py.cli import agent as module
from clovisor_py.cli.agent import COMMAND
from clovisor_py.errors import ClovisorError, EnvironmentLacking


class Service:
    """Stands for the real one."""

    def __init__(self, settings, file, client, protocols, exporters, socket):
        made.append(self)
        self.file, self.settings, self.socket, self.client, self.exporters = file, settings, socket, client, exporters

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.left = True

    def run(self, stop):
        self.ran = not stop()


class Client:
    def __init__(self, kubeconfig, context):
        self.given, self.closed = (kubeconfig, context), False

    def close(self):
        self.closed = True


made: list[Service] = []
heaps: list[list[str]] = []
"""The threads of exporters that there were each time when the heaps were made one."""


def exporting():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("export ")]


@pytest.fixture(autouse=True)
def bench(monkeypatch):
    made.clear()
    heaps.clear()
    for name in ("require_root", "require_bpffs"):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(module, "Service", Service)
    monkeypatch.setattr(module, "Client", Client)
    monkeypatch.setattr(module._log, "set_up", lambda *_: None)
    monkeypatch.setattr(module, "share_heap", lambda: heaps.append(exporting()))
    monkeypatch.delenv("NODE_NAME", raising=False)


def run(*arguments, **environ):
    done = CliRunner().invoke(COMMAND, arguments, env=environ, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return made[-1]


def refused(*arguments, **environ):
    with pytest.raises(ClovisorError) as caught:
        run(*arguments, **environ)
    assert not made
    assert caught.value.exit_status == 2
    assert str(caught.value).endswith(".")
    return str(caught.value)


def test_flags_become_settings():
    one = run(
        "--node", "n1", "--kubeconfig", "/k", "--context", "c", "--default", "on", "--export", "console:", "--listen", "0"
    )
    assert (one.settings.node, one.settings.trace_by_default, one.settings.http_port) == ("n1", True, 0)
    assert one.settings.exports == ("console:",)
    assert [str(part) for part in one.client.given] == ["/k", "c"]
    assert one.ran and one.left and one.client.closed


def test_there_is_one_heap_before_the_first_thread(tmp_path):
    one = run("--export", f"jsonl:{tmp_path / 'x'}")
    assert heaps == [[]]
    assert list(one.exporters.ledgers()) == [f"jsonl:{tmp_path / 'x'}"]
    assert exporting() == []


def test_exporters_are_closed_where_it_cannot_start(tmp_path, monkeypatch):
    def refuse(*_):
        raise EnvironmentLacking("no socket: make room.")

    monkeypatch.setattr(module, "Service", refuse)
    with pytest.raises(EnvironmentLacking):
        run("--export", f"jsonl:{tmp_path / 'x'}")
    assert exporting() == []


def test_the_nodes_name():
    assert run("--node", "given", NODE_NAME="said").settings.node == "given"
    assert run(NODE_NAME="said").settings.node == "said"
    assert run().settings.node == socket.gethostname().lower()
    assert run(CLOVISOR_NODE="variable").settings.node == "variable"


def test_a_settings_file_below_the_flags(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("cpu_share: 0.7\nredact: strict\nexports: ['console:']\n")
    settings = run("--config", str(path), "--redact", "off").settings
    assert (settings.cpu_share, settings.redact, settings.exports) == (0.7, "off", ("console:",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config", "/no/such/file"], "/no/such/file"),
        (["--export", "nowhere"], "nowhere"),
        (["--redact", "some"], "'some'"),
        (["--log-level", "loud"], "'loud'"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(arguments, words):
    assert words in refused(*arguments)


@pytest.mark.parametrize(
    ("text", "host", "port"), [("81", "", 81), ("127.0.0.1:81", "127.0.0.1", 81), ("[::1]:81", "::1", 81), (":81", "", 81)]
)
def test_where_it_listens(text, host, port):
    settings = run("--listen", text).settings
    assert (settings.http_host, settings.http_port) == (host, port)


@pytest.mark.parametrize("text", ["65536", "localhost:9464", "::1", "", "127.0.0.1:", "nine"])
def test_where_nobody_listens(text):
    assert refused("--listen", text).startswith("--listen: ")


def test_a_typo_in_the_file_does_not_keep_it_from_starting(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("cpu_share: 0.7\nredact: strct\n")
    settings = run("--config", str(path)).settings
    assert (settings.cpu_share, settings.redact) == (0.7, "strict")


def test_an_exporter_in_the_file_that_makes_no_sense(tmp_path):
    """It is known only when it is opened, and must not be what keeps all agents of a cluster from starting."""
    path = tmp_path / "settings.yaml"
    path.write_text("exports: ['jaeger://']\ncpu_share: 0.7\n")
    one = run("--config", str(path))
    assert list(one.exporters.ledgers()) == [] and one.settings.cpu_share == 0.7
    assert one.file.refused.startswith(f"{path}: exports: 'jaeger://' names no Jaeger agent; write ")
    made.clear()
    assert "jaeger://" in refused("--config", str(path), "--export", "jaeger://")


def test_a_variable_that_makes_no_sense():
    assert "CLOVISOR_CPU_SHARE" in refused(CLOVISOR_CPU_SHARE="lots")


def test_a_log_line_is_a_json_object():
    record = logging.LogRecord("clovisor_py.node", logging.WARNING, "", 0, "%s has moved\x1b[2J", ("pod/a/b",), None)
    said = json.loads(_log.JsonLines().format(record))
    assert (said["level"], said["logger"]) == ("warning", "clovisor_py.node")
    assert said["message"] == r"pod/a/b has moved\x1b[2J"
    assert said["time"].endswith("Z") and len(said["time"]) == 24


def test_a_log_line_for_people_commands_no_terminal():
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\x1b[2Jb", (), None)
    assert _log.Lines().format(record).endswith(r" info     a\x1b[2Jb")


def test_a_traceback_goes_with_it():
    try:
        raise ValueError("what")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "broken", (), (ValueError, error, error.__traceback__))
    assert "ValueError: what" in json.loads(_log.JsonLines().format(record))["error"]
    assert "ValueError: what" in _log.Lines().format(record)
