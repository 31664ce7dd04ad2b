"""Netlink dumps taken apart by hand: crafted answers, and one of this kernel."""

import errno
import socket
import struct

import pytest

from clovisor_py.kernel.rtnl import ATTEMPTS, PATIENCE_S, attributes, collect, dump, dump_message, text

ANSWER, ERROR, DONE = 20, 2, 3
INTERRUPTED = 0x10
RTM_GETLINK, RTM_NEWLINK = 18, 16


def message(kind, body=b"", flags=0):
    """Padded to four bytes, as the kernel does."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body + bytes(-len(body) % 4)


def attribute(kind, value):
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


END = message(DONE, struct.pack("=i", 0))


@pytest.fixture
def ends():
    """Ours, and the kernel's; each `send` is one datagram."""
    ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.settimeout(0.2)
    with ours, kernel:
        yield ours, kernel


def test_a_request_for_all_of_a_kind():
    assert dump_message(RTM_GETLINK, b"body") == struct.pack("=IHHII", 20, RTM_GETLINK, 0x301, 1, 0) + b"body"


def test_a_dump_in_several_datagrams_is_read_to_its_end(ends):
    ours, kernel = ends
    kernel.send(message(ANSWER, b"one") + message(ANSWER, b"second"))
    kernel.send(message(ANSWER, b"") + message(ANSWER + 1, b"something else") + END)
    kernel.send(message(ANSWER, b"of the next dump"))
    assert collect(ours, ANSWER) == ([b"one", b"second", b""], True)


def test_a_table_that_changed_meanwhile_is_said(ends):
    ours, kernel = ends
    kernel.send(message(ANSWER, b"one", INTERRUPTED) + message(ANSWER, b"two") + END)
    assert collect(ours, ANSWER) == ([b"one", b"two"], False)


@pytest.mark.parametrize("changes", [0, 2, ATTEMPTS + 1])
def test_a_dump_during_which_the_table_changed_is_asked_for_again_but_not_for_ever(ends, changes):
    ours, kernel = ends
    for number in range(ATTEMPTS + 1):
        kernel.send(message(ANSWER, b"%d" % number, INTERRUPTED if number < changes else 0) + END)
    last = min(changes, ATTEMPTS - 1)
    assert dump(ours, RTM_GETLINK, ANSWER, b"body") == [b"%d" % last]
    for _ in range(last + 1):
        assert kernel.recv(100) == dump_message(RTM_GETLINK, b"body")
    kernel.settimeout(0)
    with pytest.raises(BlockingIOError):
        kernel.recv(100)


@pytest.mark.parametrize("kind", [ERROR, DONE])
def test_a_refusal_is_the_kernels_number(ends, kind):
    ours, kernel = ends
    kernel.send(message(ANSWER, b"one") + message(kind, struct.pack("=i", -errno.ENODEV)))
    with pytest.raises(OSError) as caught:
        collect(ours, ANSWER)
    assert caught.value.errno == errno.ENODEV


def test_a_kernel_that_says_no_more_is_not_waited_for(ends):
    ours, kernel = ends
    kernel.send(message(ANSWER, b"one"))
    with pytest.raises(TimeoutError):
        collect(ours, ANSWER)


@pytest.mark.parametrize("length", [0, 3, 15, 60_000])
def test_a_length_that_makes_no_sense_is_not_looped_on(ends, length):
    ours, kernel = ends
    kernel.send(struct.pack("=IHHII", length, ANSWER, 0, 1, 0))
    kernel.send(END)
    assert collect(ours, ANSWER) == ([b""], True)


def test_attributes_of_any_length():
    data = attribute(1, b"") + attribute(2, b"a") + attribute(3, b"abcd") + attribute(4, b"abcde")
    assert attributes(data) == {1: b"", 2: b"a", 3: b"abcd", 4: b"abcde"}
    assert attributes(b"") == {}


def test_of_two_with_one_type_the_first_counts_and_flags_are_no_part_of_it():
    nested, network_order = 0x8000, 0x4000
    assert attributes(attribute(1 | nested, b"one!") + attribute(1 | network_order, b"two!")) == {1: b"one!"}


@pytest.mark.parametrize("size", range(12))
def test_attributes_that_break_off_end_there(size):
    whole = attribute(1, b"abcd") + attribute(2, b"x")
    assert attributes(whole[:size]).get(1, b"abcd"[: max(size - 4, 0)]) == b"abcd"[: max(size - 4, 0)]
    assert attributes(struct.pack("=HH", size, 1) * 2).keys() == {1}  # whatever a length says


@pytest.mark.parametrize(
    ("raw", "read"), [(b"eth0\0", "eth0"), (b"eth0", "eth0"), (b"", ""), (b"\xff\0", "\N{REPLACEMENT CHARACTER}")]
)
def test_a_name(raw, read):
    assert text(raw) == read


def test_the_links_of_this_machine():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(PATIENCE_S)
        sock.send(dump_message(RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0)))
        bodies, _ = collect(sock, RTM_NEWLINK)
    names = {text(attributes(body[16:])[3]) for body in bodies}
    assert "lo" in names
