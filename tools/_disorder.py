"""`tools/disorder`: what comes of captures when their packets are cut, lost, reordered, doubled, or cut anew.

For each capture: N times the same bytes in other segments (the sessions must be the same), and N times each damage (no
exception, no session that was not there; what was lost is said by the ledger).
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

from clovisor_py.errors import CaptureBroken, UsageError
from tests.support.disorder import DAMAGES, engine, facts, false_sessions, recut, segments_of
from tools._fuzz_inputs import captures

LOSSES = ("gaps", "gap_bytes", "cut_bytes", "duplicates", "out_of_order", "violations", "resyncs", "unseen_responses")


def same_bytes(path: Path, times: int) -> int:
    """How many of so many ways to cut the same bytes anew changed a session."""
    segments = segments_of(path)
    whole = facts(engine(segments)[0])
    return sum(facts(engine(recut(segments, random.Random(seed)))[0]) != whole for seed in range(times))


def damaged(path: Path, name: str, times: int) -> tuple[int, int, Counter[str]]:
    """(sessions told, sessions invented, what the ledger said was lost), summed over so many tries."""
    segments = segments_of(path)
    whole, _ = engine(segments)
    told = invented = 0
    said: Counter[str] = Counter()
    for seed in range(1 if name.startswith("cut") else times):
        sessions, book = engine(DAMAGES[name](segments, random.Random(seed)))
        told += len(sessions)
        invented += sum(false_sessions(whole, sessions).values())
        said.update({key: getattr(book, key) for key in LOSSES})
    return told, invented, said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", type=Path, help="capture files, or folders of them")
    parser.add_argument("-n", "--times", type=int, default=100, help="tries of each kind (default 100)")
    args = parser.parse_args()
    try:
        files = captures(args.captures)
    except UsageError as error:
        parser.exit(2, f"tools/disorder: {error}\n")
    for file in files:
        try:
            segments_of(file)
        except CaptureBroken as error:
            parser.exit(2, f"tools/disorder: {file}: {error}\n")
    changed = 0
    for file in files:
        wrong = same_bytes(file, args.times)
        changed += wrong
        sys.stdout.write(
            f"{file.parent.name}/{file.name}: {args.times} ways to cut the same bytes, {wrong} changed a session\n"
        )
    invented = 0
    for name in DAMAGES:
        told, wrong, said = 0, 0, Counter[str]()
        for file in files:
            one, two, three = damaged(file, name, args.times)
            told, wrong = told + one, wrong + two
            said.update(three)
        invented += wrong
        losses = ", ".join(f"{key} {count:,}" for key, count in said.items() if count)
        sys.stdout.write(f"{name}: {told:,} sessions, {wrong} invented; {losses or 'nothing lost'}\n")
    return 1 if changed or invented else 0


if __name__ == "__main__":
    sys.exit(main())
