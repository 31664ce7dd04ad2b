"""What is attached to a veth: `python -m tests.support.attached IFINDEX`, in the network namespace of its host's end.

One line of JSON: how many programs are on each hook, whoever's, and the ids of those of ours that are pinned. It is asked for
again and again by processes of their own, so it imports next to nothing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

from clovisor_py.config import Settings
from clovisor_py.kernel import bpf
from clovisor_py.kernel.hooks import HOOKS
from clovisor_py.kernel.tc_dump import tc_dump


def programs(ifindex: int) -> Iterator[int]:
    with tc_dump() as tc:
        for _, parent, tcx in HOOKS.values():
            yield len(tc.filters(ifindex, parent)) + len(bpf.prog_query(ifindex, tcx))


def pinned() -> Iterator[int]:
    """None where Clovisor has been taken off."""
    for hook in HOOKS if Settings().pins.exists() else ():
        fd = bpf.obj_get(Settings().pins / hook)
        yield bpf.program_id(fd)
        os.close(fd)


if __name__ == "__main__":
    sys.stdout.write(json.dumps([list(programs(int(sys.argv[1]))), list(pinned())]))
