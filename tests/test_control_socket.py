"""The agent answers who asks, whatever they send and however slowly, and never waits for anyone."""

from __future__ import annotations

import errno
import json
import os
import selectors
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from clovisor_py import control_socket as module
from clovisor_py.control_client import ask
from clovisor_py.control_socket import CONNECTIONS, REQUEST_BYTES, ControlSocket, Request
from clovisor_py.errors import ClovisorError, EnvironmentLacking, UsageError
from clovisor_py.snapshot import Pod, Snapshot, State, as_json, from_json
from tests.support.snapshots import snapshot, traced


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "control.sock"


@pytest.fixture
def server(path):
    def find(namespace, name):
        return Pod(namespace, name, node="n9", state=State.OTHER_NODE) if name == "far" else None

    with ControlSocket(path, find) as made:
        made.serve()
        yield made


def raw(path, data, *, end=False):
    """What is answered to these bytes."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        sock.sendall(data)
        if end:
            sock.shutdown(socket.SHUT_WR)
        found = b""
        while part := sock.recv(65536):
            found += part
        return found


def test_a_snapshot_is_answered_as_it_was_published(server, path):
    assert from_json(Snapshot, ask(Request("snapshot"), path)) == Snapshot()
    server.publish(snapshot(traced()))
    assert from_json(Snapshot, ask(Request("snapshot"), path)) == snapshot(traced())
    assert server.snapshot == snapshot(traced())


def test_a_pod_here_elsewhere_or_nowhere(server, path):
    server.publish(snapshot(traced()))
    assert from_json(Pod, ask(Request("pod", "shop", "cart-7d9f"), path)) == traced()
    assert from_json(Pod, ask(Request("pod", "shop", "far"), path)).node == "n9"
    assert ask(Request("pod", "shop", "none"), path) is None


def test_another_answer(path):
    with ControlSocket(path) as made:
        made.serve(lambda request: {"you asked": request.what})
        assert ask(Request("what"), path) == {"you asked": "what"}


def test_only_its_owner_may_open_it_and_it_goes_with_the_agent(server, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    server.close()
    server.close()
    assert not path.exists()
    with pytest.raises(EnvironmentLacking, match=r"no agent answers at .*clovisor agent"):
        ask(Request("snapshot"), path)


def test_what_a_killed_one_left_is_replaced_and_a_successors_stays(server, path):
    with ControlSocket(path) as second:
        second.serve(lambda _: 2)
        assert ask(Request("x"), path) == 2
        server.close()
        assert ask(Request("x"), path) == 2
    assert not path.exists()


def test_what_is_no_socket_stays(path):
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(EnvironmentLacking, match=r"cannot be made .*another path"):
        ControlSocket(path).serve()
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"\n", "one JSON object"),
        (b"\xff\xfe\n", "one JSON object"),
        (b"[1]\n", "says `what`"),
        (b"{}\n", "says `what`"),
        (b"3\n", "one JSON object"),
        (b'{"what": 3}\n', "says `what`"),
        (b'{"what": "pod", "name": null}\n', "says `what`"),
        (b'{"what": "dance"}\n', "knows no request 'dance'"),
        (b"[" * 4000 + b"\n", "one JSON object"),
        (b"x" * (REQUEST_BYTES + 1), "more than 4096 bytes"),
    ],
)
def test_what_is_no_request_gets_a_sentence(server, path, line, sentence):
    assert sentence in json.loads(raw(path, line))["error"]
    assert ask(Request("pod", "a", "b"), path) is None


def test_errors_are_told_and_crashes_too(path, caplog):
    def answer(request):
        if request.what == "no":
            raise UsageError("do that instead.")
        raise ValueError("a bug")

    with ControlSocket(path) as made:
        made.serve(answer)
        with pytest.raises(ClovisorError, match=r"do that instead\."):
            ask(Request("no"), path)
        with pytest.raises(ClovisorError, match=r"failed \(ValueError\)"):
            ask(Request("crash"), path)
    assert "could not be answered" in caplog.text


def test_too_many_and_too_slow(path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.3)
    monkeypatch.setattr(module, "LOOK_S", 0.05)
    with ControlSocket(path) as made:
        made.serve()
        idle = []
        for _ in range(CONNECTIONS):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(5)
            sock.connect(str(path))
            idle.append(sock)
        with pytest.raises(EnvironmentLacking):
            ask(Request("snapshot"), path)
        assert [sock.recv(1) for sock in idle] == [b""] * CONNECTIONS
        for sock in idle:
            sock.close()
        assert ask(Request("snapshot"), path, timeout_s=5)["node"] == ""
        assert made.refused["too many"] >= 1
        assert made.refused["too slow"] == CONNECTIONS


def test_who_leaves_in_between_is_counted(server, path):
    raw(path, b'{"what"', end=True)
    assert server.refused["gone"] == 1


def test_one_who_does_not_read_keeps_nobody_waiting(server, path):
    server.publish(snapshot(*(traced(name=f"p{number}", problem="x" * 4000) for number in range(500))))
    with socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(str(path))
        lazy.sendall(b'{"what": "snapshot"}\n')
        before = time.monotonic()
        assert ask(Request("pod", "a", "b"), path) is None
        assert time.monotonic() - before < 5
    assert len(ask(Request("snapshot"), path)["pods"]) == 500


def test_a_long_answer_arrives_whole(path):
    with ControlSocket(path) as made:
        made.serve(lambda _: "ä" * 3_000_000)
        assert ask(Request("x"), path) == "ä" * 3_000_000


def test_publishing_is_free_and_nothing_leaks(path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with ControlSocket(path) as made:
            made.serve()
            made.publish(snapshot())
            assert ask(Request("snapshot"), path) == as_json(snapshot())
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "control socket"]


def test_a_tap_is_handed_over_or_refused(path):
    taken = []

    def take(sock, request):
        if request.redact:
            raise UsageError("no such level.")
        taken.append((sock, request.targets))

    with ControlSocket(path, take=take) as made:
        made.serve()
        with pytest.raises(ClovisorError, match=r"no such level\."):
            ask(Request("trace", redact="x"), path)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            client.sendall(b'{"what": "trace", "targets": "Pod/a/b"}\n')
            while not taken:
                time.sleep(0.01)
            ((sock, targets),) = taken
            sock.sendall(b"hello")
            assert (client.recv(10), targets) == (b"hello", "Pod/a/b")
            assert ask(Request("pod", "a", "b"), path) is None
            sock.close()
    with ControlSocket(path) as without:
        without.serve()
        with pytest.raises(ClovisorError, match="knows no request 'trace'"):
            ask(Request("trace", targets="Pod/a/b"), path)


def test_a_tap_that_fails_in_whatever_way_leaves_the_socket_to_others(path, caplog):
    """A thread that cannot be started is a RuntimeError; what else there may be is nobody's to foresee."""

    def take(sock, request):
        raise RuntimeError("can't start new thread")

    with ControlSocket(path, take=take) as made:
        made.serve()
        with pytest.raises(ClovisorError, match=r"failed \(RuntimeError\)"):
            ask(Request("trace", targets="Pod/a/b"), path)
        assert ask(Request("pod", "a", "b"), path) is None
    assert "could not be answered" in caplog.text


def test_a_fault_with_one_connection_ends_no_other(path, monkeypatch, caplog):
    with ControlSocket(path) as made:
        made.serve(lambda _: None)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.settimeout(5)
            waiting.connect(str(path))
            monkeypatch.setattr(ControlSocket, "_read", lambda *_: 1 / 0)
            with pytest.raises(ConnectionResetError):
                raw(path, b"{}\n")
            monkeypatch.undo()
            waiting.sendall(b'{"what": "x"}\n')
            assert json.loads(waiting.recv(100)) == {"answer": None}
        assert made.refused == {"failed": 1}
    assert "please report" in caplog.text


class Poor(selectors.DefaultSelector):
    """Counts how often somebody is waited for."""

    rounds = 0

    def select(self, timeout=None):
        Poor.rounds += 1
        return super().select(timeout)


def test_without_file_descriptors_it_waits_for_some(path, monkeypatch):
    """A listener that cannot accept is readable for ever."""
    monkeypatch.setattr(module, "LOOK_S", 0.1)
    monkeypatch.setattr(module.selectors, "DefaultSelector", Poor)
    poor, accept = threading.Event(), socket.socket.accept
    poor.set()

    def scarce(sock):
        if poor.is_set():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    with ControlSocket(path) as made:
        made.serve()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            client.sendall(b'{"what": "pod"}\n')
            Poor.rounds = 0
            time.sleep(1)
            assert Poor.rounds < 40, "it spins"
            assert made.refused["no file descriptor"] > 1
            poor.clear()
            assert json.loads(client.recv(100)) == {"answer": None}, "who waited is served"


def test_only_what_was_refused_is_counted(server, path):
    for _ in range(3):
        ask(Request("snapshot"), path)
    server.close()
    assert server.refused == {}
