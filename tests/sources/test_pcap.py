"""The source as a whole: any file is segments, a sentence, or both; and it takes no more memory for a longer one."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clovisor_py.errors import CaptureBroken
from clovisor_py.sources.pcap import CaptureSource
from tests.support.captures import SEGMENTS, conversation, pcap, pcapng, read

CORPORA = Path(__file__).parents[2] / "../shared/corpora"
FILES = {"pcap": pcap(conversation()), "pcapng": pcapng(conversation()), "big-endian": pcapng(conversation(), order=">")}


def taken(path, data):
    """How many segments, and what was said."""
    path.write_bytes(data)
    count = 0
    try:
        with CaptureSource(str(path), (53,)) as source:
            for batch in source.batches():
                count += len(batch)
    except CaptureBroken as error:
        return count, str(error)
    return count, ""


@pytest.mark.parametrize("name", FILES)
def test_formats_are_known_by_their_bytes(tmp_path, name):
    assert taken(tmp_path / "x", FILES[name]) == (SEGMENTS, "")
    assert taken(tmp_path / "x", gzip.compress(FILES[name])) == (SEGMENTS, "")


def test_what_is_no_capture(tmp_path):
    assert taken(tmp_path / "x", b"") == (0, "it is empty; capture again.")
    assert taken(tmp_path / "x", gzip.compress(b"")) == (0, "it is empty; capture again.")
    for data in (b"x", b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xd4\xc3\xb2"):
        assert taken(tmp_path / "x", data) == (
            0,
            "it is no capture; give a file in pcap or pcapng format, gzip'd or not.",
        )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", *(data[:24] for data in FILES.values())]))
def test_any_bytes_end_in_a_sentence(tmp_path, data, start):
    _count, said = taken(tmp_path / "x", start + data)
    assert said.endswith(".") or not said
    assert "\n" not in said


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damage_ends_in_a_sentence(tmp_path, name, changes):
    data = bytearray(FILES[name])
    for at, value in changes:
        data[at % len(data)] = value
    count, said = taken(tmp_path / "x", bytes(data))
    assert count <= 2 * SEGMENTS
    assert said.endswith(".") or not said


def test_memory_does_not_grow_with_the_file(tmp_path):
    body = pcap(conversation())[24:]

    def peak(times):
        path = tmp_path / "x"
        path.write_bytes(pcap([]) + body * times)
        tracemalloc.start()
        with CaptureSource(str(path), ()) as source:
            for batch in source.batches():
                del batch
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1000)  # what is made once: caches, compiled patterns
    assert peak(6000) < 1.2 * peak(3000)


@pytest.mark.skipif(not CORPORA.is_dir(), reason="no folder of captures beside this checkout (../shared/corpora)")
def test_real_captures():
    for path in sorted(CORPORA.glob("*/*.pcap")):
        with CaptureSource(str(path), (53,)) as source:
            assert sum(len(batch) for batch in source.batches()), path
            assert source.size == source.position


def test_counts_add_up(tmp_path):
    segments, source = read(tmp_path / "x", FILES["pcap"])
    assert source.packets == len(segments) + sum(source._decoder.counts.values()) == 8
