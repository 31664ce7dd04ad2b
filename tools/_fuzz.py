"""`tools/fuzz`: damaged traffic for parsers: no exception but ProtocolError, in linear time and bounded memory.

`tools/fuzz http` mutates traffic so and so many times, drives the parser as the engine does (the harness of the tests, which
asserts the contract), and prints the worst time per byte and the peak of memory. `--guided` looks for new paths by coverage
instead (atheris). Both begin with `tests/golden/scripts/PROTOCOL`; what the search finds goes to `tests/golden/fuzz/PROTOCOL`,
and what makes a parser fail is kept in `tests/golden/regressions/PROTOCOL`, which the tests run for ever.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import tracemalloc
from pathlib import Path

from clovisor_py.errors import UsageError
from clovisor_py.protocols._api import Protocol, Setup
from clovisor_py.protocols._registry import by_name, registry
from tests.support.parser_harness import Engine, Script
from tests.support.scripts import pack, restore, save, scripts_of, unpack

GOLDEN = Path("tests/golden")
LONGEST = 6000
"""Bytes of a script that are mutated at once: longer ones are cut, as damage far behind costs time and finds little."""
WORTH = 256
"""Bytes below which the time of a run says nothing about the time per byte."""


def drive(protocol: Protocol, script: Script, datagrams: bool) -> int:
    """The script through the harness; answers its bytes."""
    riders = tuple(one for one in registry().values() if one.over == protocol.name)
    engine = Engine(protocol, Setup(datagrams=datagrams, riders=riders))
    for sender, what in script:
        if isinstance(what, int):
            engine.lose(sender, what)
        else:
            engine.feed(sender, what)
    engine.close()
    return engine.bytes


def timed(protocol: Protocol, script: Script, datagrams: bool) -> float:
    """The ns a byte; 0 where there are too few bytes to say."""
    begin = time.process_time_ns()
    size = drive(protocol, script, datagrams)
    return (time.process_time_ns() - begin) / size if size >= WORTH else 0.0


def seeds(protocol: Protocol, captures: list[Path]) -> list[tuple[bool, Script]]:
    """Traffic of that protocol, from captures, from the scripts that are kept, and from what `--guided` found."""
    kept = [file for folder in ("scripts", "fuzz") for file in sorted((GOLDEN / folder / protocol.name).glob("*"))]
    found = [restore(file.read_bytes()) for file in kept]
    for file in captures:
        found += scripts_of(file)
    return [(udp, _head(script)) for udp, script in found if script]


def _head(script: Script) -> Script:
    return unpack(pack(script)[:LONGEST])


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


def mutated(protocol: Protocol, captures: list[Path], times: int, seed: int) -> tuple[str, float, int]:
    """What failed first (or ""), the worst ns a byte, and the peak of memory in bytes."""
    chance = random.Random(seed)
    pool = seeds(protocol, captures) or [(False, [(0, b"")])]
    worst = 0.0
    tracemalloc.start()
    for number in range(times):
        if number == times // 100:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()  # it costs most of the time: a hundredth of the inputs is enough to know
        udp, script = chance.choice(pool)
        whole = _damaged(script, chance)
        try:
            cost = timed(protocol, whole, udp)
        except Exception as error:  # noqa: BLE001 whatever it is, it is what is looked for
            return f"{_kept(protocol, udp, whole)}: {type(error).__name__}: {error}", worst, 0
        if cost > worst and number > times // 100:  # once may be somebody else's doing
            worst = max(worst, min(cost, *(timed(protocol, whole, udp) for _ in range(5))))
    return "", worst, peak


def _damaged(script: Script, chance: random.Random) -> Script:
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


def _kept(protocol: Protocol, datagrams: bool, script: Script) -> Path:
    folder = GOLDEN / "regressions" / protocol.name
    folder.mkdir(parents=True, exist_ok=True)
    data = save(datagrams, script)
    file = folder / hashlib.sha256(data).hexdigest()[:12]
    file.write_bytes(data)
    return file


def guided(protocol: Protocol, seconds: int) -> None:
    """By coverage, until the time is over or something fails; never returns (libFuzzer ends the process)."""
    import atheris  # noqa: PLC0415 only here, and only where it is installed

    atheris.instrument_all()
    corpora = [GOLDEN / folder / protocol.name for folder in ("fuzz", "scripts")]  # what is found goes to the first
    for corpus in corpora:
        corpus.mkdir(parents=True, exist_ok=True)
    datagrams = protocol.recognise_datagram is not None

    def one(data: bytes) -> None:
        udp, script = restore(data)
        drive(protocol, script, udp and datagrams)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", f"-max_len={LONGEST}", *map(str, corpora)], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", help="its name, as `clovisor protocols` has it")
    parser.add_argument("captures", nargs="*", type=Path, help="captures, or folders of them, to begin with")
    parser.add_argument("-n", "--times", type=int, default=100_000, help="mutated inputs (default 100,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", type=int, metavar="SECONDS", help="by coverage, for so long (needs atheris)")
    args = parser.parse_args()
    try:
        protocol = by_name(args.protocol)
    except UsageError as error:
        parser.error(str(error))
    if args.guided:
        guided(protocol, args.guided)
    files = [file for path in args.captures for file in (sorted(path.glob("*.pcap*")) if path.is_dir() else [path])]
    files = [file for file in files if file.suffix in (".pcap", ".pcapng")]
    begin = time.perf_counter()
    failed, worst, peak = mutated(protocol, files, args.times, args.seed)
    if failed:
        sys.stdout.write(f"{protocol.name}: FAILED, kept as {failed}\n")
        return 1
    took = time.perf_counter() - begin
    sys.stdout.write(
        f"{protocol.name}: {args.times:,} inputs in {took:.0f} s, no exception but ProtocolError; "
        f"worst {worst:,.0f} ns a byte, peak {peak / 1e6:.1f} MB\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
