"""What keeps a question from its answer is one sentence that says what to do."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from clovisor_py import control_client as module
from clovisor_py.control_client import ask, unreachable
from clovisor_py.control_socket import ControlSocket, Request
from clovisor_py.errors import ClovisorError, EnvironmentLacking


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "control.sock"


def test_the_client_bounds_what_it_takes(path, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_BYTES", 1000)
    with ControlSocket(path) as made:
        made.serve(lambda _: "x" * 100_000)
        with pytest.raises(EnvironmentLacking, match="takes too long"):
            ask(Request("x"), path)


@pytest.mark.parametrize("said", [b"hello\n", b"", b"[]\n", b'{"odd": 1}\n'])
def test_what_is_no_agent(path, said):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def speak():
            sock, _ = listener.accept()
            sock.recv(100)
            sock.sendall(said)
            sock.close()

        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(ClovisorError):
            ask(Request("snapshot"), path)
        thread.join()


def test_one_that_hangs(path):
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(EnvironmentLacking, match=r"does not answer \(timed out\): it hangs, and its log says why"):
            ask(Request("snapshot"), path, timeout_s=0.1)


def test_who_may_not_ask(path):
    error = unreachable(path, PermissionError(13, "Permission denied"))
    assert str(error) == f"the agent at {path} answers only who runs as its own user: run this as root (sudo)."


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_somebody_else_is_told_so(path):
    with ControlSocket(path) as made:
        made.serve()
        child = os.fork()
        if not child:
            status = 1
            try:
                os.setuid(65534)
                ask(Request("snapshot"), path)
            except EnvironmentLacking as error:
                status = 0 if "run this as root" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
