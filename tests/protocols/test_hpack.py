"""HPACK against RFC 7541 and the hpack library: what it encodes, we read; what nobody can know, we do not."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clovisor_py.errors import ProtocolError
from clovisor_py.protocols import _hpack
from clovisor_py.protocols._hpack import DEFAULT_TABLE, MAX_MEMO, MAX_TABLE, Decoder, Fields, huffman
from clovisor_py.protocols._hpack_tables import HUFFMAN, STATIC

hpack = pytest.importorskip("hpack")

NAMES = st.sampled_from([b":method", b":path", b":status", b"accept", b"x-id", b"cookie", b"a" * 40]) | st.binary(
    min_size=1, max_size=12
)
VALUES = st.sampled_from([b"GET", b"/", b"200", b"", b"v" * 300]) | st.binary(max_size=24)
HEADERS = st.tuples(NAMES, VALUES)
BLOCKS = st.lists(st.tuples(st.lists(HEADERS, max_size=8), st.booleans(), st.none() | st.integers(0, 5000)), max_size=12)


def fields(seen: Fields) -> Fields:
    return seen


def decoder(*, start: bool = True) -> Decoder[Fields]:
    made = Decoder(fields)
    if start:
        made.start()
    return made


def encode(encoder, headers, *, coded=True):
    return bytes(encoder.encode([(name, value) for name, value in headers], huffman=coded))


@settings(max_examples=300, deadline=None)
@given(BLOCKS)
def test_what_the_library_encodes_we_read(blocks) -> None:
    encoder, ours = hpack.Encoder(), decoder()
    for headers, coded, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        for _ in range(2):  # the second time, everything is in the table
            assert ours.decode(encode(encoder, headers, coded=coded)) == tuple(headers)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_both_read_any_bytes_alike(blocks: list[bytes]) -> None:
    """Where both answer, they answer the same; we are as strict as the library, except that it limits what a block holds."""
    theirs, ours = hpack.Decoder(), decoder()
    for block in blocks:
        try:
            expected = tuple((bytes(name), bytes(value)) for name, value in theirs.decode(block, raw=True))
        except hpack.OversizedHeaderListError:
            return
        except hpack.InvalidTableSizeError:
            return  # the library has not offered such a table; a bystander does not know what was offered
        except (hpack.HPACKDecodingError, UnicodeDecodeError):
            with pytest.raises(ProtocolError):
                ours.decode(block)
            return
        assert ours.decode(block) == expected


@settings(max_examples=200, deadline=None)
@given(BLOCKS, st.integers(0, 6))
def test_who_comes_late_never_guesses(blocks, late: int) -> None:
    encoder, ours = hpack.Encoder(), decoder(start=False)
    for at, (headers, coded, size) in enumerate(blocks):
        if size is not None:
            encoder.header_table_size = size
        block = encode(encoder, headers, coded=coded)
        if at >= late:
            seen = ours.decode(block)
            assert len(seen) == len(headers)
            for (name, value), (true_name, true_value) in zip(seen, headers, strict=True):
                assert name in (None, true_name)
                assert value in (None, true_value)
                assert name is None or value is not None


def test_what_is_inserted_later_is_exact_above_unknown_entries() -> None:
    encoder = hpack.Encoder()
    encode(encoder, [(b"x-old", b"1")])
    late = decoder(start=False)
    assert late.decode(encode(encoder, [(b"x-old", b"1"), (b"x-new", b"2")])) == ((None, None), (b"x-new", b"2"))
    assert late.decode(encode(encoder, [(b"x-new", b"2"), (b"x-old", b"1")])) == ((b"x-new", b"2"), (None, None))
    assert late.decode(encode(encoder, [(b"x-old", b"other")])) == ((None, b"other"),)


def test_a_lost_block_makes_older_entries_unknown() -> None:
    encoder, ours = hpack.Encoder(), decoder()
    assert ours.decode(encode(encoder, [(b"a", b"1")])) == ((b"a", b"1"),)
    encode(encoder, [(b"b", b"2")])
    ours.forget()
    assert ours.decode(encode(encoder, [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")])) == (
        (None, None),
        (None, None),
        (b"c", b"3"),
    )


def test_an_emptied_table_is_known_again() -> None:
    late = decoder(start=False)
    late.decode(b"\x20\x3f\xe1\x1f")  # size 0, then 4096
    with pytest.raises(ProtocolError):
        late.decode(b"\xbe")


def test_only_a_table_known_from_its_beginning_can_be_wrong() -> None:
    with pytest.raises(ProtocolError, match="names no header"):
        decoder().decode(b"\xbe")
    assert decoder(start=False).decode(b"\xbe") == ((None, None),)


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"\x80", "names no header"),
        (b"\x40", "ends inside"),
        (b"\x40\x03ab", "ends inside"),
        (b"\xff", "ends inside"),
        (b"\x00\x01a", "ends inside"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x01", "32 bits"),
        (b"\x00\x81\xff\x01x", "inside a character|a string"),
        (b"\x00\x84\xff\xff\xff\xff\x00", "end of a string"),
        (b"\x82\x20", "changes its size"),
        (b"\x82" * (_hpack.MAX_FIELDS + 1), "headers in a block"),
    ],
)
def test_what_is_no_block(block: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decoder().decode(block)


def test_half_a_block_tells_what_is_whole_and_forgets_the_table() -> None:
    ours = decoder()
    assert ours.decode_half(b"\x82\x84\x40\x05ab") == ((b":method", b"GET"), (b":path", b"/"))
    assert ours.decode(b"\xbe") == ((None, None),)


# The memo


def test_a_block_that_changes_nothing_is_read_once() -> None:
    read = []
    ours = Decoder(lambda seen: read.append(seen) or seen)
    ours.start()
    assert ours.decode(b"\x82") is ours.decode(b"\x82")
    assert len(read) == 1


def test_the_same_bytes_mean_something_else_once_the_table_has_changed() -> None:
    encoder, ours = hpack.Encoder(), decoder()
    ours.decode(encode(encoder, [(b"a", b"1")]))
    assert ours.decode(b"\xbe") == ((b"a", b"1"),)
    ours.decode(encode(encoder, [(b"b", b"2")]))
    assert ours.decode(b"\xbe") == ((b"b", b"2"),)
    ours.forget()
    assert ours.decode(b"\xbe") == ((None, None),)
    ours.start()
    with pytest.raises(ProtocolError):
        ours.decode(b"\xbe")


def test_memory_is_bounded() -> None:
    ours = decoder()
    ours.decode(b"\x3f\xe1\xff\x7f")  # a table of two megabytes, if we would
    for at in range(3000):
        name = b"%06d" % at
        ours.decode(b"\x40\x06" + name + b"\x7f\x81\x01" + bytes(256))
        ours.decode(b"\x00\x06" + name + b"\x00")
    assert ours._size <= MAX_TABLE
    assert len(ours._memo) <= MAX_MEMO
    small = decoder()
    for _ in range(200):
        small.decode(b"\x40\x01a\x20" + bytes(32))
    assert small._size <= DEFAULT_TABLE
    small.decode(b"\x40\x01a\x7f\xfb\x1e" + bytes(4090))  # larger than the table: it empties it
    assert not small._entries


# Huffman and the tables


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_huffman(text: bytes) -> None:
    coder = hpack.huffman.HuffmanEncoder(hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH)
    assert huffman(coder.encode(text)) == text


def test_huffman_survives_anything() -> None:
    for seed in range(2000):
        raw = os.urandom(seed % 40)
        with suppress(ProtocolError):
            assert len(huffman(raw)) <= len(raw) * 8 // 5


def test_padding_is_less_than_an_octet_of_ones() -> None:
    assert huffman(b"\x1f") == b"a"
    for raw in (b"\x1f\xff", b"\x18", b"\xff"):
        with pytest.raises(ProtocolError):
            huffman(raw)


def test_the_tables_are_the_library_s() -> None:
    assert tuple((bytes(name), bytes(value)) for name, value in hpack.table.HeaderTable.STATIC_TABLE) == STATIC
    codes = zip(hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH, strict=True)
    assert tuple(codes) == HUFFMAN
    assert sum(1 << (30 - bits) for _, bits in HUFFMAN) == 1 << 30  # no code is missing, so every path ends in one
