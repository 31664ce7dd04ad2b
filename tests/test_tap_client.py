"""The reading end of a tap: what the agent says becomes messages, and what is no agent one sentence."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from clovisor_py import tap_client as module
from clovisor_py.control_socket import Request
from clovisor_py.errors import ClovisorError, EnvironmentLacking
from clovisor_py.tap_client import TapClient, line_of
from clovisor_py.tap_wire import Begun, Finished, Tapped, line, session_line
from tests.support.sessions import session

BEGUN = Begun("n1", (Tapped("shop", "web"),))


def never():
    return False


@pytest.fixture
def agent(tmp_path):
    """Says these bytes to the first who asks, then what `then` says to each further word of his, then hangs up."""
    path, threads = tmp_path / "s", []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def say(*words, end=b"", hang_up=True):
        def run():
            sock, _ = listener.accept()
            with sock:
                asked.append(sock.recv(4096))
                sock.sendall(b"".join(words))
                while hang_up is None and sock.recv(4096):
                    pass
                if end:
                    sock.sendall(end)
                stay.wait(5 if hang_up is False else 0)

        threads.append(thread := threading.Thread(target=run))
        thread.start()
        return path

    asked, stay = [], threading.Event()
    say.asked = asked
    yield say
    stay.set()
    for thread in threads:
        thread.join()
    listener.close()


def test_sessions_remarks_and_the_end(agent):
    end = line("end", Finished(3))
    words = (line("answer", BEGUN), session_line(session(head=b"")), line("beat", 2), line("remark", "pod/x has come"))
    path = agent(*words, end=end, hang_up=None)
    with TapClient(path, Request("", targets="Pod/shop/web")) as tap:
        assert tap.begin(never)
        assert tap.begun == BEGUN
        messages = tap.messages()
        assert next(messages) == session(head=b"")
        assert next(messages) == "pod/x has come"
        assert (next(messages), tap.lost) == (None, 2)
        tap.leave()
        assert [one for one in tap.messages(beating=False) if one is not None] == [Finished(3)]
        assert tap.lost == 3
    assert json.loads(agent.asked[0]) == {"what": "trace", "targets": "Pod/shop/web"}


def test_an_objection(agent):
    path = agent(line("error", "no such pod."))
    with pytest.raises(ClovisorError, match=r"^no such pod\.$"), TapClient(path, Request("")) as tap:
        tap.begin(never)


def test_who_has_had_enough_waits_for_no_answer(agent):
    asked = []
    with TapClient(agent(b"", hang_up=False), Request("")) as tap:
        assert not tap.begin(lambda: asked.append(1) or len(asked) == 3)
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "hung up: too many ask at once"),
        (b"hello\n", "another version's agent"),
        (b'{"odd": 1}\n', "another version's agent"),
        (line("answer", 3), "another version's agent"),
        (line("end", Finished(why="the agent has ended.")), "went away"),
        (line("answer", BEGUN) + b'{"session": [1]}\n', "another version's agent"),
        (line("answer", BEGUN) + b"[]\n", "another version's agent"),
        (line("answer", BEGUN), "went away"),
    ],
)
def test_what_is_no_agent_or_goes_away(agent, said, words):
    path = agent(said)
    with pytest.raises(EnvironmentLacking) as caught, TapClient(path, Request("")) as tap:
        tap.begin(never)
        for _ in tap.messages():
            pass
    assert words in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("said", [b"", line("answer", BEGUN)])
def test_one_that_hangs(agent, monkeypatch, said):
    monkeypatch.setattr(module, "SILENCE_S", 0.3)
    with pytest.raises(EnvironmentLacking, match="it hangs, and its log says why"):  # noqa: SIM117
        with TapClient(agent(said, hang_up=False), Request("")) as tap:
            tap.begin(never)
            for _ in tap.messages():
                pass


def test_none_at_all(tmp_path):
    with pytest.raises(EnvironmentLacking, match="no agent answers at"), TapClient(tmp_path / "none", Request("")):
        pass


def test_only_what_is_said_goes_over_the_wire():
    assert json.loads(line_of(Request("trace", redact="strict"))) == {"what": "trace", "redact": "strict"}
