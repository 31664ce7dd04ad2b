"""Names: their text is that of master files, and no way through their pointers is long."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols import _dns_names as names

HARMLESS = {"032": " "} | {sign: sign for sign in "();@$"}
"""What a master file has to escape, and we do not."""
LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=3)


def wire(labels: list[bytes]) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], "."),
        ([b"shop", b"default"], "shop.default"),
        ([b"a.b", b"c"], r"a\.b.c"),
        ([b"\x1b[2J", b"caf\xc3\xa9", b" "], r"\027[2J.caf\195\169. "),
        ([b'"\\@$();'], r"\"\\@$();"),
    ],
)
def test_text(labels: list[bytes], text: str) -> None:
    assert names.read(wire(labels), 0) == (text, len(wire(labels)))


@given(LABELS)
def test_text_is_that_of_another_library(labels: list[bytes]) -> None:
    other = pytest.importorskip("dns.name", reason="dnspython is not installed")
    text, end = names.read(wire(labels), 0)
    theirs = other.Name([*labels, b""]).to_text(omit_final_dot=True) if labels else "."
    assert text == re.sub(r"\\([0-9]{3}|.)", lambda found: HARMLESS.get(found[1], found[0]), theirs)
    assert text.isascii() and text.isprintable()
    assert end == names.skip(wire(labels), 0) == len(wire(labels))


@given(st.binary(max_size=64), st.integers(0, 63))
def test_any_bytes_are_a_name_or_none(data: bytes, pos: int) -> None:
    for read in (names.read, names.skip):
        with suppress(IndexError, ProtocolError):
            read(data, pos)


def test_pointers() -> None:
    data = wire([b"lab"]) + b"\3www\xc0\0" + b"\1x\xc0\5"
    assert names.read(data, 5) == ("www.lab", 11)
    assert names.read(data, 11) == ("x.www.lab", 15)
    assert names.skip(data, 11) == 15


@pytest.mark.parametrize("data", [b"\xc0\0", b"\1a\xc0\0", b"\xc0\2\xc0\0", b"\x41a\0", b"\x80\0"])
def test_no_name(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        names.read(data, 0)


def test_limits() -> None:
    chain = b"\0" + b"".join((0xC000 | max(2 * at - 1, 0)).to_bytes(2, "big") for at in range(40))
    assert names.read(chain, 2 * names.MAX_HOPS - 1)[0] == "."
    with pytest.raises(ProtocolError):
        names.read(chain, 2 * names.MAX_HOPS + 1)
    longest = wire([b"a" * 63] * 3 + [b"a" * 61])
    assert len(longest) == names.MAX_NAME
    assert names.read(longest, 0)[1] == names.skip(longest, 0) == names.MAX_NAME
    longer = wire([b"a" * 63] * 3 + [b"a" * 62])
    for read in (names.read, names.skip):
        with pytest.raises(ProtocolError):
            read(longer, 0)
