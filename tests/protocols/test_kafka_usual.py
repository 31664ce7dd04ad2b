"""The usual message: read in one go it says what its steps say, and what is not usual is left to them."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest

from clovisor_py.model.message import Message
from clovisor_py.protocols import _kafka_layout as layout
from clovisor_py.protocols import _kafka_message as messages
from clovisor_py.protocols import _kafka_steps as steps
from clovisor_py.protocols._kafka_message import Call
from clovisor_py.protocols._kafka_reading import Misfit, Program, Reading
from clovisor_py.protocols._kafka_schema import APIS, PRODUCE

ONE: dict[Any, bytes] = {
    steps.array: struct.pack(">i", 1),
    steps.compact_array: b"\2",
    steps.tags: b"\0",
    steps.values: struct.pack(">i", -1),
    steps.compact_values: b"\1",
    steps.octets: struct.pack(">i", 2) + b"xy",
    steps.tag: b"",
    steps.again: b"",
    steps.batches: b"",
}
"""What the usual message has for a step."""
RECORD = bytes((16, 0, 0, 0, 2, 65, 2, 66, 0))
BATCH = struct.pack(">qiibIhiqqqhii", 0, 49 + len(RECORD), 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1) + RECORD


def body(program: Program, rng: random.Random) -> bytes:
    """A message of that shape, whose numbers are anything."""
    data = b""
    for act, operand, _, _ in program.steps:
        if act is steps.skip:
            data += rng.randbytes(operand)
        elif act in (steps.take, steps.take_several):
            data += rng.randbytes(operand[0])
        elif act is steps.text:
            data += rng.choice((b"\0\2ab", b"\0\5topic", b"\xff\xff", b"\0\0"))
        elif act is steps.compact_text:
            data += rng.choice((b"\3ab", b"\6topic", b"\0", b"\1"))
        elif act is steps.records:
            data += struct.pack(">i", len(BATCH)) + BATCH
        elif act is steps.compact_records:
            data += bytes((len(BATCH) + 1,)) + BATCH
        else:
            data += ONE[act]
    return data


def said(call: Call, reading: Reading, asking: bool) -> tuple[Message, dict[bytes, str]]:
    return (messages.request if asking else messages.response)(call, reading), reading.ids


def compare(key: int, version: int, asking: bool, data: bytes) -> bool:
    """Whether `data` is usual; it is read both ways then."""
    program = layout.request(key, version) if asking else layout.response(key, version)
    assert program is not None
    if program.once is None:
        return False
    fast, slow = (Reading(program, {}, asking and key == PRODUCE) for _ in range(2))
    usual = program.once(fast, data, 0, len(data))
    try:
        slow.walk(data, 0, len(data))
    except Misfit:
        assert not usual
    if usual:
        call = Call(key, version, 1)
        assert said(call, fast, asking) == said(call, slow, asking)
    else:
        assert not (fast.over or fast.topics or fast.groups or fast.names or fast.partitions or fast.error or fast.ids)
    return usual


@pytest.mark.parametrize("key", APIS)
def test_the_usual_message_says_what_its_steps_say(key: int) -> None:
    rng = random.Random(key)
    for version in range(APIS[key].newest + 1):
        for asking, program in ((True, layout.request(key, version)), (False, layout.response(key, version))):
            assert program is not None
            if program.once is None:
                assert any(act is steps.maybe for act, *_ in program.steps)
                continue
            found = 0
            for _ in range(30):
                data = body(program, rng)
                found += compare(key, version, asking, data)
                broken = bytearray(data)
                if broken:
                    broken[rng.randrange(len(broken))] = rng.randrange(256)
                compare(key, version, asking, bytes(broken))
                compare(key, version, asking, data[: rng.randrange(len(data) + 1)])
            assert found


@pytest.mark.parametrize("size", [-1, 0])
def test_a_fetch_that_brings_nothing_is_usual(size: int) -> None:
    head = struct.pack(">ihii", 0, 0, 7, 1) + b"\0\1t" + struct.pack(">iihqqqii", 1, 0, 0, 5, 5, 0, -1, -1)
    assert compare(1, 11, False, head + struct.pack(">i", size))


def test_a_size_of_records_that_does_not_end_is_not_usual() -> None:
    program = layout.request(PRODUCE, 9)
    data = body(program, random.Random(0))
    at = data.index(bytes((len(BATCH) + 1,)) + BATCH[:8])
    assert not compare(PRODUCE, 9, True, data[:at] + b"\xff" * 9)
    assert not compare(PRODUCE, 9, True, data[:at] + b"\xff")
