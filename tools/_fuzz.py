"""Damaged traffic for parsers: no exception but ProtocolError, in linear time and bounded memory.

`tools/fuzz http` mutates traffic so and so many times, drives the parser as the engine does (the harness of the tests, which
asserts the contract), and prints how many messages were still read, the worst time per byte and the peak of memory. `--guided`
looks for new paths by coverage instead (atheris). A protocol that rides on another (gRPC) is driven through that one's parser.

Both begin with `tests/golden/scripts/PROTOCOL` and what the search found before, in `tests/golden/fuzz/PROTOCOL`; what makes a
parser fail is kept in `tests/golden/regressions/PROTOCOL`, which the tests run for ever. A plugin's folders are `scripts`,
`fuzz` and `regressions` where the tool was called.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clovisor_py.errors import UsageError
from clovisor_py.protocols._api import Protocol, Setup
from clovisor_py.protocols._plugins import load
from clovisor_py.protocols._registry import registry
from tests.support.parser_harness import Engine, Script
from tests.support.scripts import reader_of, restore
from tools._fuzz_inputs import LONGEST, Seed, captures, damaged, keep, seeds

GOLDEN = Path("tests/golden")
"""In the checkout's root, where the tool runs."""
WORTH = 256
"""Bytes below which the time of a run says nothing about the time per byte."""
EXAMPLES = """
Examples:
  tools/fuzz redis                                     100,000 inputs, made of the scripts that are kept
  tools/fuzz grpc captures/grpc -n 1000000             a million, made of those captures, too
  tools/fuzz mine talk.pcap --plugin mine.py           a protocol of one's own
  tools/fuzz http --guided 600                         ten minutes, by coverage

Exit status 1 if a parser failed, or a capture could not be read; 2 where there is nothing to begin with.
"""


@dataclass(frozen=True)
class Target:
    """A protocol, and how it is reached."""

    protocol: Protocol
    reader: Protocol
    """Whose parser is driven: what carries it, or itself."""
    riders: tuple[Protocol, ...]
    home: Path
    """Where its folders are."""

    @property
    def datagrams(self) -> bool:
        return self.reader.recognise_datagram is not None


@dataclass
class Figures:
    """What came of it."""

    inputs: int = 0
    messages: int = 0
    """Of that protocol."""
    worst_ns: float = 0.0
    """A byte."""
    peak: int = 0
    """Bytes of memory."""
    failed: str = ""


def target_of(name: str, plugins: Sequence[Path], here: Path) -> Target:
    """Raises UsageError where nobody has that name, or a plugin is none."""
    loaded = load(plugins)
    if loaded.refused:
        raise UsageError(loaded.refused[0])
    wanted = name.strip().lower()
    for one in loaded.protocols.values():
        if wanted == one.name or wanted in one.hints:
            home = GOLDEN if one.name in registry() else here
            return Target(one, *reader_of(one, loaded.protocols), home)
    raise UsageError(f"no protocol named '{name}'; known here: {', '.join(loaded.protocols)}.")


def drive(target: Target, script: Script, datagrams: bool) -> tuple[int, int]:
    """The script through the harness; answers its bytes, and how many messages of the protocol were in them."""
    engine = Engine(target.reader, Setup(datagrams=datagrams, riders=target.riders))
    for sender, what in script:
        if isinstance(what, int):
            engine.lose(sender, what)
        else:
            engine.feed(sender, what)
    name, own = target.protocol.name, target.reader.name
    return engine.bytes, sum((message.protocol or own) == name for _, message, _ in engine.close().messages)


def timed(target: Target, script: Script, datagrams: bool) -> tuple[float, int]:
    """The ns a byte (0 where there are too few bytes to say), and the messages."""
    begin = time.process_time_ns()
    size, messages = drive(target, script, datagrams)
    return (time.process_time_ns() - begin) / size if size >= WORTH else 0.0, messages


def mutated(target: Target, pool: Sequence[Seed], times: int, seed: int, figures: Figures) -> None:
    """Into `figures`, until something fails or somebody breaks it off."""
    measured = max(times // 100, 1)  # it costs most of the time: a hundredth of the inputs is enough to know
    tracemalloc.start()
    for udp, script in damaged(pool, times, seed):
        try:
            cost, messages = timed(target, script, udp)
        except Exception as error:  # noqa: BLE001 whatever it is, it is what is looked for
            figures.failed = f"{keep(target.protocol, target.home, udp, script)}: {type(error).__name__}: {error}"
            return
        figures.inputs += 1
        figures.messages += messages
        if figures.inputs == measured:
            figures.peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        elif figures.inputs > measured and cost > figures.worst_ns:  # once may be somebody else's doing
            again = min(cost, *(timed(target, script, udp)[0] for _ in range(5)))
            figures.worst_ns = max(figures.worst_ns, again)


def guided(target: Target, seconds: int) -> None:
    """By coverage, until the time is over or something fails; never returns (libFuzzer ends the process)."""
    try:
        import atheris  # noqa: PLC0415 only here, and only where it is installed
    except ImportError:
        raise UsageError("--guided needs the package atheris, which is not installed here; without it, leave it out.") from None

    atheris.instrument_all()
    corpora = [target.home / folder / target.protocol.name for folder in ("fuzz", "scripts")]  # finds go to the first
    for corpus in corpora:
        corpus.mkdir(parents=True, exist_ok=True)

    def one(data: bytes) -> None:
        udp, script = restore(data)
        drive(target, script, udp and target.datagrams)

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", f"-max_len={LONGEST}", *map(str, corpora)], one)
    atheris.Fuzz()


def arguments() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="tools/fuzz", description=__doc__, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("protocol", help="its name, as `clovisor protocols` has it")
    parser.add_argument("captures", nargs="*", type=Path, help="captures, or folders of them, to begin with")
    parser.add_argument("-n", "--times", type=positive, default=100_000, help="mutated inputs (default 100,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", type=positive, metavar="SECONDS", help="by coverage, for so long (needs atheris)")
    where = "read a protocol from that file, too, or from each file of that folder"
    parser.add_argument("--plugin", type=Path, action="append", default=[], metavar="FILE|DIR", help=where)
    parser.add_argument("--from", type=Path, default=Path(), dest="here", help=argparse.SUPPRESS)
    return parser


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it is 1 or more")
    return number


def run(target: Target, args: argparse.Namespace) -> int:
    """Raises UsageError where there is nothing to begin with."""
    name = target.protocol.name
    if args.guided:
        if args.captures:
            raise UsageError("--guided begins with the files that are kept, not with captures: leave them out.")
        guided(target, args.guided)
    files = captures([args.here / path for path in args.captures])
    pool, broken = seeds(target.protocol, target.datagrams, target.home, files)
    for sentence in broken:
        sys.stderr.write(f"{sentence}\n")
    if not pool:
        raise UsageError(f"there is no traffic of {name} to begin with: name a capture of it, or a folder of them.")
    figures, begin = Figures(), time.perf_counter()
    try:
        mutated(target, pool, args.times, args.seed, figures)
    except KeyboardInterrupt:
        sys.stdout.write(f"{name}: interrupted after {figures.inputs:,} inputs; none of them failed\n")
        return 130
    finally:
        tracemalloc.stop()
    if figures.failed:
        sys.stdout.write(f"{name}: FAILED, kept as {figures.failed}\n")
        return 1
    if not figures.messages:
        raise UsageError(f"not one message of {name} was read, so this was no test: name captures in which it is spoken.")
    worst = f"worst {figures.worst_ns:,.0f} ns a byte" if figures.worst_ns else "none long enough to be timed"
    sys.stdout.write(
        f"{name}: {figures.inputs:,} inputs in {time.perf_counter() - begin:.0f} s, {figures.messages:,} messages read, "
        f"no exception but ProtocolError; {worst}, peak {figures.peak / 1e3:,.0f} kB\n"
    )
    return 1 if broken else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = arguments()
    args = parser.parse_intermixed_args(argv)  # captures may follow options
    try:
        return run(target_of(args.protocol, [args.here / path for path in args.plugin], args.here), args)
    except UsageError as error:
        parser.exit(2, f"tools/fuzz: {error}\n")


if __name__ == "__main__":
    sys.exit(main())
