"""`tools/churn`: two minutes of everything at once on one node, and then the accounts.

A real API server, a real `clovisor agent`, network namespaces as pods. Pods are created, labelled, unlabelled, deleted,
restarted, and take over each other's addresses, at random; meanwhile the agent is killed again and again, the API server is
stopped for a while and comes back with every version compacted, programs are taken off, interfaces renamed. Afterwards the
kernel is asked what is on every veth, and the process what it holds. As root; exit status 1 where anything is not as it should
be.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import pytest

from tests.support.churn_run import Plan, run
from tests.support.control_plane import control_plane
from tests.support.kernel import node
from tests.support.netns import uplink


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """A polite kill cleans up as Ctrl-C does."""
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tools/churn", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="how long it goes on (default 120)")
    parser.add_argument("--away", type=float, default=30, help="how long the API server is stopped, s (default 30)")
    parser.add_argument("--kills", type=int, default=5, help="how often the agent is killed (default 5)")
    parser.add_argument("--seed", type=int, default=1, help="what is chosen at random comes from it (default 1)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    plan = Plan(args.seconds, args.away, args.kills, args.seed)
    try:
        with ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="clovisor-churn-")))
            undo.enter_context(node())
            undo.enter_context(uplink())
            accounts = run(undo.enter_context(control_plane()), folder, plan, _say)
    except pytest.skip.Exception as error:
        _say(f"tools/churn: {error}")
        return 1
    for line in accounts.lines():
        _say(line)
    return 0 if not accounts.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
