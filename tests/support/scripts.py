"""Scripts (what passed on one connection, in order) from capture files and to small files of their own, for fuzzing.

A script as bytes is a row of pieces: a byte (0 client, 1 server, 2 client's bytes that nobody saw, 3 server's), two bytes of
length, and, where they were seen, so many bytes. Any bytes whatsoever are a script: what is cut off is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from clovisor_py.model.message import CLIENT, SERVER
from clovisor_py.model.segment import SYN, UDP, Segment
from clovisor_py.protocols._api import Protocol
from tests.support.disorder import segments_of
from tests.support.parser_harness import Script

MAX_PIECE = 0xFFFF


def save(datagrams: bool, script: Script) -> bytes:
    """A file: whether these are datagrams, and the script."""
    return bytes([datagrams]) + pack(script)


def restore(data: bytes) -> tuple[bool, Script]:
    return bool(data[:1] and data[0] & 1), unpack(data[1:])


def pack(script: Script) -> bytes:
    out = bytearray()
    for sender, what in script:
        size = what if isinstance(what, int) else len(what)
        for at in range(0, size, MAX_PIECE):
            length = min(size - at, MAX_PIECE)
            out += bytes([sender + 2 * isinstance(what, int)]) + length.to_bytes(2, "big")
            out += b"" if isinstance(what, int) else what[at : at + length]
    return bytes(out)


def unpack(data: bytes) -> Script:
    script: list[tuple[int, bytes | int]] = []
    at = 0
    while at + 3 <= len(data):
        kind, size = data[at] & 3, int.from_bytes(data[at + 1 : at + 3], "big")
        at += 3
        if kind & 2:
            script.append((kind & 1, size))
        else:
            script.append((kind & 1, data[at : at + size]))
            at += size
    return script


def reader_of(protocol: Protocol, known: Mapping[str, Protocol]) -> tuple[Protocol, tuple[Protocol, ...]]:
    """Whose parser reads its connections (what carries it, or itself), and all that rides on that one."""
    reader = known[protocol.over] if protocol.over else protocol
    return reader, tuple(one for one in known.values() if one.over == reader.name)


def scripts_of(path: Path) -> Iterator[tuple[bool, Script]]:
    """(is it UDP, script) of each connection of a capture. Segments are taken as they come; duplicates are left out."""
    flows: dict[object, list[Segment]] = {}
    for segment in segments_of(path):
        if segment.length:
            flows.setdefault(segment.flow_id, []).append(segment)
    for segments in flows.values():
        server = 0 if segments[0].pod_port < segments[0].peer_port else 1
        seen: set[tuple[int, int]] = set()
        script: list[tuple[int, bytes | int]] = []
        for segment in segments:
            mark = (segment.direction, segment.seq)
            if segment.transport != UDP and (mark in seen or segment.tcp_flags & SYN):
                continue
            seen.add(mark)
            script.append((SERVER if segment.direction == server else CLIENT, segment.data))
        yield segments[0].transport == UDP, script
