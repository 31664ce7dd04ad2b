"""Layouts: that all of them compile, that programs read what they say, and that messages of real brokers fit exactly."""

from __future__ import annotations

import struct

import pytest

from clovisor_py.protocols import _kafka_layout as layout
from clovisor_py.protocols import _kafka_steps as steps
from clovisor_py.protocols._kafka_layout import Field
from clovisor_py.protocols._kafka_reading import Misfit, Reading
from clovisor_py.protocols._kafka_schema import APIS, NEVER

REAL = {
    "Metadata 12 > Java client 4.2": (
        3,
        12,
        True,
        "000d61646d696e636c69656e742d310001010000",
    ),
    "Metadata 12 < Kafka 3.9": (
        3,
        12,
        False,
        "000000000002000000010a3132372e302e302e310000238400001741414141414141414141414141414141414141414151000000010100",
    ),
    "OffsetCommit 9 > Java client 4.2": (
        8,
        9,
        True,
        "000d636f6e73756d65722d6a672d3100036a670000000133636f6e73756d65722d6a672d312d30313162613066612d316238612d3436"
        "62362d393263372d6138393535663438646538300003046a74320200000000000000000000002d00000000010000036a740400000002"
        "000000000000001100000000010000000001000000000000001a0000000001000000000000000000000000020000000001000000",
    ),
    "OffsetCommit 9 < Kafka 3.9": (
        8,
        9,
        False,
        "000000000003036a740400000002000000000000010000000000000000000000046a743202000000000000000000",
    ),
    "Fetch 17 > Java client 4.2": (
        1,
        17,
        True,
        "000d636f6e73756d65722d6a672d3200000001f40000000103200000000000000000000000033c2389d94a5349dc8b49d4d8bb7fc076"
        "0400000000000000000000000000000002ffffffffffffffffffffffff00100000000000000100000000000000000000001affffffff"
        "ffffffffffffffff001000000000000002000000000000000000000011ffffffffffffffffffffffff001000000000850830e81d234b"
        "17990f5a91f7c7a6a7020000000000000000000000000000002dffffffffffffffffffffffff001000000000010100",
    ),
    "Fetch 17 < Kafka 3.9": (
        1,
        17,
        False,
        "00000000000000164acc8a033c2389d94a5349dc8b49d4d8bb7fc0760400000000000000000000000000020000000000000002000000"
        "000000000000ffffffff0100000000010000000000000000001a000000000000001a000000000000000000ffffffff01000000000200"
        "0000000000000000110000000000000011000000000000000000ffffffff010000850830e81d234b17990f5a91f7c7a6a70200000000"
        "0000000000000000002d000000000000002d000000000000000000ffffffff01000000",
    ),
    "Produce 10 < Kafka 3.9": (
        0,
        10,
        False,
        "0002076f7264657273020000000000000000000000000000ffffffffffffffff0000000000000000010000000000000000",
    ),
    "JoinGroup 9 < Kafka 3.9": (
        11,
        9,
        False,
        "0000000000004fffffffff0000010033636f6e73756d65722d6a672d312d30313162613066612d316238612d343662362d393263372d"
        "6138393535663438646538300100",
    ),
}
"""What follows the correlation id of recorded messages."""
MEMBER_ID_REQUIRED = 79


def read(key: int, version: int, asking: bool, data: bytes) -> Reading:
    program = layout.request(key, version) if asking else layout.response(key, version)
    assert program is not None
    reading = Reading(program, {})
    assert reading.walk(data, 0, len(data)) == len(data)
    return reading


@pytest.mark.parametrize("key", APIS)
def test_every_version_of_every_api_compiles(key: int) -> None:
    api = APIS[key]
    for version in range(api.newest + 1):
        assert layout.request(key, version).steps
        assert layout.response(key, version)
    assert api.flexible == NEVER or api.flexible <= api.newest


def test_the_table_has_every_key_once() -> None:
    assert list(APIS) == list(range(93))
    assert len({api.name for api in APIS.values()}) == 93


@pytest.mark.parametrize(("key", "version", "asking", "data"), REAL.values(), ids=REAL.keys())
def test_recorded_messages_fit(key: int, version: int, asking: bool, data: str) -> None:
    reading = read(key, version, asking, bytes.fromhex(data))
    assert reading.fits or not reading.program.exact
    assert reading.error == (MEMBER_ID_REQUIRED if key == 11 else 0)


def test_a_recorded_fetch_says_what_it_says() -> None:
    reading = read(*REAL["Fetch 17 > Java client 4.2"][:3], bytes.fromhex(REAL["Fetch 17 > Java client 4.2"][3]))
    assert reading.client == "consumer-jg-2"
    assert reading.topics == ("PCOJ2UpTSdyLSdTYu3_Adg", "hQgw6B0jSxeZD1qR98empw")
    assert reading.partitions == 4


@pytest.mark.parametrize("key", APIS)
def test_no_prefix_of_nothing_is_a_message(key: int) -> None:
    """A body of zeros is read or refused, and a message never waits beyond its own end."""
    for version in range(APIS[key].newest + 1):
        for size in (0, 1, 9, 40):
            reading = Reading(layout.request(key, version), {})
            try:
                assert reading.walk(bytes(size), 0, size) == size
            except Misfit:
                assert not reading.whole
            assert reading.over


def test_what_is_newer_than_the_table_is_read_as_far_as_its_client_id() -> None:
    assert read(0, 60, True, b"\0\3app and so on").client == "app"
    assert read(999, 0, True, b"\0\3app and so on").client == "app"
    assert layout.response(0, 60) is None
    assert layout.response(999, 0) is None


def test_a_shutdown_of_the_oldest_kind_has_no_client_id() -> None:
    assert read(7, 0, True, struct.pack(">i", 4)).fits


def test_the_language_of_layouts() -> None:
    assert layout.parse("4 string@3+ [topic@-12 partition*]@1-2 ?{8} ...") == (
        Field("4", 0, NEVER),
        Field("string", 3, NEVER),
        Field("[", 1, 2, (Field("topic", 0, 12), Field("*", 0, NEVER, (Field("partition", 0, NEVER),)))),
        Field("?{", 0, NEVER, (Field("8", 0, NEVER),)),
        Field("...", 0, NEVER),
    )


@pytest.mark.parametrize("broken", ["4 ]", "!", "[4] } 4"])
def test_what_is_no_layout(broken: str) -> None:
    with pytest.raises(ValueError, match="no layout"):
        layout.parse(broken)


def test_a_structure_that_may_be_absent() -> None:
    described = b"\0" + bytes(4) + b"\2" + struct.pack(">h", 7) + b"\0\2g\2s" + bytes(8)
    for topology in (b"\xff", b"\1" + bytes(4) + b"\1\0"):
        reading = read(89, 0, False, described + topology + b"\1" + bytes(4) + b"\0\0")
        assert (reading.error, reading.fits) == (7, True)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xff\xfe", id="a negative length of a string"),
        pytest.param(b"\0\1a\x7f\xff\xff\xff", id="more elements than bytes"),
        pytest.param(b"\0\1a\0\0\0\1\0\x09to", id="a string behind the end"),
    ],
)
def test_misfits(body: bytes) -> None:
    with pytest.raises(Misfit):
        read(3, 1, True, body)


def test_a_length_that_does_not_end() -> None:
    with pytest.raises(Misfit):
        steps.uvarint(b"\x80" * 9, 0)
    assert steps.uvarint(b"\x80" * 3, 0) == (0, 0)
    assert steps.uvarint(b"\xac\x02", 0) == (300, 2)


def test_a_reading_goes_on_at_any_byte() -> None:
    for key, version, asking, text in REAL.values():
        data = bytes.fromhex(text)
        whole = read(key, version, asking, data)
        program = layout.request(key, version) if asking else layout.response(key, version)
        assert program is not None
        reading, pos = Reading(program, {}), 0
        for end in range(len(data) + 1):
            if not reading.over:
                pos = reading.walk(data[:end], pos, len(data))
        assert (reading.topics, reading.partitions, reading.fits) == (whole.topics, whole.partitions, whole.fits)
