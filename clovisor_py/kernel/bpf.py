"""bpf(2): the dozen commands that the agent needs, over ctypes.

The agent never imports bcc (64 MB); what it needs of the kernel is to open pins, read and write maps, and attach links.
Each function is one command; a refusal raises OSError with the kernel's errno, which the callers in this package turn
into a sentence. Layouts: `union bpf_attr` of linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

SYSCALL: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}

MAP_LOOKUP: Final = 1
MAP_UPDATE: Final = 2
MAP_DELETE: Final = 3
MAP_NEXT_KEY: Final = 4
OBJ_PIN: Final = 6
OBJ_GET: Final = 7
PROG_TEST_RUN: Final = 10
PROG_BY_ID: Final = 13
OBJ_INFO: Final = 15
PROG_QUERY: Final = 16
MAP_LOOKUP_BATCH: Final = 24
LINK_CREATE: Final = 28
LINK_BY_ID: Final = 30
LINK_DETACH: Final = 34

TCX_INGRESS: Final = 46
TCX_EGRESS: Final = 47
F_BEFORE: Final = 1 << 3
"""BPF_F_BEFORE: with no relative program, first of all."""

ATTR_BYTES: Final = 128
"""Zeroed room for any of these commands; the kernel takes a longer attr whose unknown tail is zero."""
MAX_TCX_PROGRAMS: Final = 64
"""The kernel's own limit of programs on one hook."""
BATCH: Final = 512
"""Entries read with one call: a few hundred kB at most."""

_NAME_AT, _NAME_BYTES = 64, 16
"""Of a program's name in struct bpf_prog_info."""

_libc = ctypes.CDLL(None, use_errno=True)


class Attached(NamedTuple):
    """A program on a TCX hook, by the kernel's numbers; `link` is 0 where it was attached without one."""

    program: int
    link: int


def _bpf(command: int, attr: bytes | ctypes.Array[ctypes.c_char]) -> int:
    buffer = attr if isinstance(attr, ctypes.Array) else ctypes.create_string_buffer(attr, ATTR_BYTES)
    result = int(_libc.syscall(SYSCALL.get(platform.machine(), 280), command, buffer, ATTR_BYTES))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _address(buffer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(buffer)


def obj_get(path: Path) -> int:
    """A new fd of the program, map or link pinned at `path`."""
    name = ctypes.create_string_buffer(str(path).encode())
    return _bpf(OBJ_GET, struct.pack("=QII", _address(name), 0, 0))


def obj_pin(fd: int, path: Path) -> None:
    """Pin `fd` at `path`, which must not exist, on a bpffs."""
    name = ctypes.create_string_buffer(str(path).encode())
    _bpf(OBJ_PIN, struct.pack("=QII", _address(name), fd, 0))


def map_lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value (`size` bytes; for a per-CPU map all possible CPUs' values, each rounded up to 8) or None."""
    k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(size)
    try:
        _bpf(MAP_LOOKUP, struct.pack("=IIQQQ", fd, 0, _address(k), _address(v), 0))
    except FileNotFoundError:
        return None
    return v.raw


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Insert or replace."""
    k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    _bpf(MAP_UPDATE, struct.pack("=IIQQQ", fd, 0, _address(k), _address(v), 0))


def map_delete(fd: int, key: bytes) -> bool:
    """Whether it was there."""
    k = ctypes.create_string_buffer(key, len(key))
    try:
        _bpf(MAP_DELETE, struct.pack("=IIQQQ", fd, 0, _address(k), 0, 0))
    except FileNotFoundError:
        return False
    return True


def map_keys(fd: int, size: int) -> Iterator[bytes]:
    """All keys of a small map; one that is deleted meanwhile may make it start again, so callers tolerate repeats."""
    key, following = None, ctypes.create_string_buffer(size)
    while True:
        try:
            _bpf(MAP_NEXT_KEY, struct.pack("=IIQQQ", fd, 0, _address(key) if key else 0, _address(following), 0))
        except FileNotFoundError:
            return
        yield following.raw
        key, following = following, ctypes.create_string_buffer(size)


def map_items(fd: int, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes, int]]:
    """A hash map in batches: (packed keys, packed values, count)."""
    keys, values = ctypes.create_string_buffer(key_size * BATCH), ctypes.create_string_buffer(value_size * BATCH)
    cursors = [ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)]
    first = True
    while True:
        attr = ctypes.create_string_buffer(
            struct.pack(
                "=QQQQIIQQ",
                0 if first else _address(cursors[0]),
                _address(cursors[1]),
                _address(keys),
                _address(values),
                BATCH,
                fd,
                0,
                0,
            ),
            ATTR_BYTES,
        )
        last = False
        try:
            _bpf(MAP_LOOKUP_BATCH, attr)
        except FileNotFoundError:
            last = True  # the end of the map; what came with it counts
        (count,) = struct.unpack_from("=I", attr.raw, 32)
        yield keys.raw[: count * key_size], values.raw[: count * value_size], count
        if last:
            return
        cursors.reverse()
        first = False


def program_id(fd: int) -> int:
    """The kernel's number of a loaded program."""
    info = ctypes.create_string_buffer(256)
    _bpf(OBJ_INFO, struct.pack("=IIQ", fd, len(info), _address(info)))
    return int(struct.unpack_from("=II", info.raw)[1])


def map_sizes(fd: int) -> tuple[int, int, int]:
    """(key size, value size, entries) of a map."""
    info = ctypes.create_string_buffer(256)
    _bpf(OBJ_INFO, struct.pack("=IIQ", fd, len(info), _address(info)))
    _, _, key, value, entries = struct.unpack_from("=IIIII", info.raw)
    return key, value, entries


def program_name(program: int) -> str:
    """The name of the program with that number, 15 characters at most. OSError EPERM without CAP_SYS_ADMIN, ENOENT if none."""
    fd = _bpf(PROG_BY_ID, struct.pack("=I", program))
    try:
        info = ctypes.create_string_buffer(256)
        _bpf(OBJ_INFO, struct.pack("=IIQ", fd, len(info), _address(info)))
    finally:
        os.close(fd)
    return info.raw[_NAME_AT : _NAME_AT + _NAME_BYTES].partition(b"\0")[0].decode(errors="replace")


def tcx_query(ifindex: int, attach_type: int) -> list[Attached]:
    """What is on a TCX hook, in the order in which it runs. OSError EINVAL before Linux 6.6, ENODEV without the interface."""
    numbers = ctypes.create_string_buffer(2 * 4 * MAX_TCX_PROGRAMS)
    programs, links = _address(numbers), _address(numbers) + 4 * MAX_TCX_PROGRAMS
    attr = ctypes.create_string_buffer(
        struct.pack("=IIIIQIIQQ", ifindex, attach_type, 0, 0, programs, MAX_TCX_PROGRAMS, 0, 0, links), ATTR_BYTES
    )
    _bpf(PROG_QUERY, attr)
    (count,) = struct.unpack_from("=I", attr, 24)
    if not count:
        return []
    ids = struct.unpack(f"={2 * MAX_TCX_PROGRAMS}I", numbers)
    return [Attached(ids[at], ids[MAX_TCX_PROGRAMS + at]) for at in range(count)]


def prog_query(ifindex: int, attach_type: int) -> list[int]:
    """Ids of the TCX programs on a hook, in the order in which they run. OSError as `tcx_query`."""
    return [program for program, _ in tcx_query(ifindex, attach_type)]


def link_create(program_fd: int, ifindex: int, attach_type: int) -> int:
    """A TCX link before all programs that are there; its fd. It is gone with its last fd or pin."""
    return _bpf(LINK_CREATE, struct.pack("=IIIIIIQ", program_fd, ifindex, attach_type, F_BEFORE, 0, 0, 0))


def link_id(fd: int) -> int:
    """The kernel's number of a link."""
    info = ctypes.create_string_buffer(256)
    _bpf(OBJ_INFO, struct.pack("=IIQ", fd, len(info), _address(info)))
    return int(struct.unpack_from("=II", info.raw)[1])


def link_by_id(link: int) -> int:
    """A new fd of the link with that number. OSError EPERM without CAP_SYS_ADMIN, ENOENT if there is none."""
    return _bpf(LINK_BY_ID, struct.pack("=I", link))


def link_detach(fd: int) -> None:
    """Take a link off its hook at once; without this its program stays some milliseconds after the last fd or pin."""
    _bpf(LINK_DETACH, struct.pack("=I", fd))


def test_run(program_fd: int, packet: bytes, repeat: int = 1, context: bytes = b"") -> tuple[int, int]:
    """Run a SCHED_CLS program over a crafted packet: (its return value as signed 32 bit, ns per run).

    `context` is a struct __sk_buff; the kernel takes mark, priority, ifindex, cb, tstamp, wire_len, gso_segs, gso_size.
    """
    data = ctypes.create_string_buffer(packet, len(packet))
    out = ctypes.create_string_buffer(len(packet) + 256)
    ctx = ctypes.create_string_buffer(context, max(len(context), 1))
    attr = ctypes.create_string_buffer(
        struct.pack(
            "=IIIIQQIIIIQQ",
            program_fd,
            0,
            len(packet),
            len(out),
            _address(data),
            _address(out),
            repeat,
            0,
            len(context),
            0,
            _address(ctx) if context else 0,
            0,
        ),
        ATTR_BYTES,
    )
    _bpf(PROG_TEST_RUN, attr)
    result, _, _, _, _, _, duration = struct.unpack_from("=IIIQQII", attr.raw, 4)
    return (result ^ 0x80000000) - 0x80000000, duration
