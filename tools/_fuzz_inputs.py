"""What `tools/fuzz` begins with, and what it makes of it: traffic from captures and from files, and damage to that.

A seed is what passed on one connection of the protocol. Nothing that was asked for is passed over without a word: a name that
is no file, or a folder without captures, would make the figure of a million inputs one of nothing.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from clovisor_py.errors import CaptureBroken, UsageError
from clovisor_py.protocols._api import Protocol
from tests.support.parser_harness import Script
from tests.support.scripts import pack, restore, save, scripts_of, unpack

LONGEST = 6000
"""Bytes of a script that are mutated at once: longer ones are cut, as damage far behind costs time and finds little."""
CAPTURE = re.compile(r"\.(pcap|pcapng|cap)(\.gz)?\Z")
"""Names of the captures in a folder; a file that is named itself may have any."""

Seed = tuple[bool, Script]
"""Are these datagrams, and what was said."""


def captures(paths: Sequence[Path]) -> list[Path]:
    """These files, and those in these folders. Raises UsageError where there is none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            here = sorted(file for file in path.rglob("*") if CAPTURE.search(file.name))
            if not here:
                raise UsageError(f"there is no capture in the folder '{path}': name one that has .pcap or .pcapng files.")
            found += here
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"there is no '{path}': name a capture, or a folder of them.")
    return found


def seeds(protocol: Protocol, datagrams: bool, home: Path, files: Sequence[Path]) -> tuple[list[Seed], list[str]]:
    """The traffic kept under `home`, that of the files, and a sentence for each file that could not be read (to its end).

    `datagrams`: whether it is spoken over UDP; where it is not, what these captures have of UDP is somebody else's.
    """
    kept = [file for folder in ("scripts", "fuzz") for file in sorted((home / folder / protocol.name).glob("*"))]
    found, broken = [restore(file.read_bytes()) for file in kept], []
    for file in files:
        try:
            found += scripts_of(file)
        except CaptureBroken as error:
            broken.append(f"{file}: {error}")
    return [(udp, _head(script)) for udp, script in found if script and (datagrams or not udp)], broken


def _head(script: Script) -> Script:
    return unpack(pack(script)[:LONGEST])


def damaged(pool: Sequence[Seed], times: int, seed: int) -> Iterator[Seed]:
    """So many times one of them, with damage; the same ones for the same `seed`."""
    chance = random.Random(seed)
    for _ in range(times):
        udp, script = chance.choice(pool)
        yield udp, damage(script, chance)


def damage(script: Script, chance: random.Random) -> Script:
    """Damage to what was said, mostly; sometimes to how it was cut into pieces."""
    if chance.random() < 0.1:
        return unpack(mutate(bytearray(pack(script)), chance))
    out = list(script)
    at = chance.randrange(len(out))
    sender, what = out[at]
    if isinstance(what, bytes):
        out[at] = (sender, mutate(bytearray(what), chance))
    if chance.random() < 0.1:
        out[chance.randrange(len(out))] = (chance.randrange(2), chance.choice((1, 100, 100_000)))
    return out


def mutate(data: bytearray, chance: random.Random) -> bytes:
    """A few bytes replaced, inserted, removed, repeated or cut off; lengths and signs are the favourite."""
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        at = chance.randrange(len(data)) if data else 0
        size = chance.choice((1, 1, 2, 4, 16, 64))
        match chance.randrange(7):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                data[at : at + size] = b""
            case 2:
                data[at:at] = chance.randbytes(size)
            case 3:
                data[at : at + size] = chance.choice((b"\x00", b"\xff", b"\x7f", b"\x80", b"\r\n", b"9")) * size
            case 4:
                data[at:at] = data[at : at + size]
            case 5:
                del data[at + size * 16 :]
            case _:
                data[at : at + 4] = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 65536)).to_bytes(4, "big")
    return bytes(data)


def keep(protocol: Protocol, home: Path, datagrams: bool, script: Script) -> Path:
    """Write down what made a parser fail."""
    folder = home / "regressions" / protocol.name
    folder.mkdir(parents=True, exist_ok=True)
    data = save(datagrams, script)
    file = folder / hashlib.sha256(data).hexdigest()[:12]
    file.write_bytes(data)
    return file
