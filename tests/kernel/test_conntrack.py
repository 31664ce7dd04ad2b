"""kernel/conntrack.py against this kernel: a translated connection as both of its ends see it, and what is not there."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from clovisor_py.errors import EnvironmentLacking, KernelRefused
from clovisor_py.kernel import conntrack as module
from clovisor_py.kernel.conntrack import LOOK_S, Conntrack
from clovisor_py.model.workload import Endpoint
from tests.support.kernel import node
from tests.support.netns import Pod
from tests.support.netns import pod as sandbox
from tests.support.services import forward, iptables

CLIENT, SERVER = Endpoint("10.0.0.1", 40000), Endpoint("10.96.0.7", 80)


@pytest.mark.live
@pytest.mark.parametrize("family", [4, 6])
def test_both_ends_of_a_translated_connection(family: int) -> None:
    with node(), sandbox("server") as server, sandbox("client") as client:
        forward()
        ip, called = (server.ipv6, "fd00:96::7") if family == 6 else (server.ipv4, "10.96.0.7")
        target = f"[{ip}]:8080" if family == 6 else f"{ip}:8080"
        rule = ("-d", called, "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", target)
        iptables("-t", "nat", "-A", "PREROUTING", *rule, family=family)
        iptables("-t", "nat", "-A", "POSTROUTING", "-d", ip, "-j", "MASQUERADE", family=family)
        table = Conntrack()
        table.open()
        try:
            _check(table, server, client, ip, called, family)
            with pytest.raises(EnvironmentLacking):
                _without_rights(table)
        finally:
            table.close()
        assert table.of_client(CLIENT, SERVER, "tcp") is None


def _check(table: Conntrack, server: Pod, client: Pod, ip: str, called: str, family: int) -> None:
    where = ("::" if family == 6 else "0.0.0.0", 8080)
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    listener = server.call(lambda: socket.create_server(where, family=kind))
    ours = client.call(lambda: socket.create_connection((called, 80), timeout=5))
    theirs, seen = listener.accept()
    with listener, ours, theirs:
        own, masked = Endpoint(*ours.getsockname()[:2]), Endpoint(*seen[:2])
        entry = table.of_client(own, Endpoint(called, 80), "tcp")
        assert entry == (own, Endpoint(called, 80), Endpoint(ip, 8080), masked)
        assert masked.ip == (server.host_ipv6 if family == 6 else server.host_ipv4)
        assert table.of_server(masked, Endpoint(ip, 8080), "tcp") == entry
        assert table.of_server(masked, Endpoint(ip, 8081), "tcp") is None
        assert table.of_client(own, Endpoint(called, 80), "udp") is None
    assert table.of_client(own, Endpoint(called, 80), "tcp") == entry  # it has ended, and is still known


def _without_rights(table: Conntrack) -> None:
    """The kernel looks at the rights of who sends: of a child that has given up its own."""
    child = os.fork()
    if not child:
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            table.of_client(CLIENT, SERVER, "tcp")
        except EnvironmentLacking:
            os._exit(7)
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7:
        raise EnvironmentLacking("as expected; nothing to do.")


class Kernel:
    """Answers what it was told to."""

    def __init__(self, *answers: tuple[int, bytes] | OSError, late: int = 0) -> None:
        self.answers, self.number, self.late = list(answers), 0, late

    def send(self, message: bytes) -> None:
        self.number = struct.unpack_from("=I", message, 8)[0]

    def recv(self, _size: int) -> bytes:
        if self.late:
            self.late -= 1
            return struct.pack("=IHHII", 16, 2, 0, self.number - 1, 0)
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return struct.pack("=IHHII", 16 + len(answer[1]), answer[0], 0, self.number, 0) + answer[1]

    def close(self) -> None:
        pass


class FakeSocket(Kernel):
    def settimeout(self, _seconds: float) -> None:
        pass


def table_of(kernel: Kernel) -> Conntrack:
    table = Conntrack(lambda: True)
    table._open, table._socket = True, kernel  # type: ignore[assignment]
    return table


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.EPERM, EnvironmentLacking),
        (errno.EINVAL, EnvironmentLacking),
        (errno.EOPNOTSUPP, EnvironmentLacking),
        (errno.ENOMEM, KernelRefused),
    ],
)
def test_refusals_are_sentences(code: int, error: type[Exception]) -> None:
    for answer in ((2, struct.pack("=i", -code)), OSError(code, "no")):
        with pytest.raises(error) as caught:
            table_of(Kernel(answer)).of_client(CLIENT, SERVER, "tcp")
        assert str(caught.value).endswith(".")


def test_what_came_too_late_is_not_the_answer() -> None:
    assert table_of(Kernel((2, struct.pack("=i", -errno.ENOENT)), late=2)).of_client(CLIENT, SERVER, "tcp") is None


def test_a_kernel_that_tracks_nothing_is_not_asked_until_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question alone would make it load modules."""
    tracking, now, opened = [False], [100.0], []

    def opening(*_: int) -> FakeSocket:
        opened.append(1)
        return FakeSocket((2, struct.pack("=i", -errno.ENOENT)))

    monkeypatch.setattr(module.socket, "socket", opening)
    table = Conntrack(lambda: tracking[0], lambda: now[0])
    table.open()
    assert table.of_client(CLIENT, SERVER, "tcp") is None
    tracking[0] = True
    assert table.of_client(CLIENT, SERVER, "tcp") is None
    assert opened == []
    now[0] += LOOK_S
    assert table.of_client(CLIENT, SERVER, "tcp") is None
    assert opened == [1]
    tracking[0], now[0] = False, now[0] + LOOK_S
    assert table.of_client(CLIENT, SERVER, "tcp") is None  # nothing was left to answer


def test_one_that_is_not_open_knows_nothing() -> None:
    table = Conntrack(lambda: True)
    assert table.of_client(CLIENT, SERVER, "tcp") is None
    table.open()
    table.close()
    assert table.of_client(CLIENT, SERVER, "tcp") is None


@pytest.mark.parametrize("code", [errno.EPROTONOSUPPORT, errno.EMFILE])
def test_a_socket_that_is_refused_is_a_sentence_and_tried_again(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refusing(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.socket, "socket", refusing)
    table = Conntrack(lambda: True)
    table.open()
    for _ in range(2):
        with pytest.raises((EnvironmentLacking, KernelRefused)):
            table.of_client(CLIENT, SERVER, "tcp")
    monkeypatch.setattr(module.socket, "socket", lambda *_: FakeSocket((2, struct.pack("=i", -errno.ENOENT))))
    assert table.of_client(CLIENT, SERVER, "tcp") is None


@pytest.mark.parametrize("body", [b"", b"\0" * 4, b"\0" * 4 + b"\x04\x00\x01\x80" * 2, b"\0" * 4 + b"\xff" * 40])
def test_an_answer_that_says_nothing(body: bytes) -> None:
    assert table_of(Kernel((module._CT_NEW, body))).of_client(CLIENT, SERVER, "tcp") is None


def test_what_is_no_question() -> None:
    table = table_of(Kernel())
    assert table.of_client(CLIENT, SERVER, "sctp") is None
    assert table.of_client(CLIENT, Endpoint("fd00::1", 80), "tcp") is None
