"""What of ours is on a veth, seen by the kernel's own eyes: whichever way it was attached, and however often."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from clovisor_py.kernel import attach, bpf
from clovisor_py.kernel.tc_dump import TcDump, tc_dump


class Ours(NamedTuple):
    """How many programs of ours are on each hook of a veth."""

    ingress: int
    egress: int


OFF: Final = Ours(0, 0)
ON: Final = Ours(1, 1)


def ours(ifindexes: Iterable[int], programs: Mapping[str, int]) -> dict[int, Ours]:
    """By ifindex. `programs`: the ids of ours by hook, for TCX; a filter is known by its name. Nothing on what is gone."""
    with tc_dump() as tc:
        return {each: Ours(*(_on(tc, each, hook, programs) for hook in attach.HOOKS)) for each in ifindexes}


def _on(tc: TcDump, ifindex: int, hook: str, programs: Mapping[str, int]) -> int:
    _, parent, tcx = attach.HOOKS[hook]
    number = 0
    with suppress(OSError):
        number += sum(one.name.startswith(attach.NAME) for one in tc.filters(ifindex, parent))
    with suppress(OSError):
        number += bpf.prog_query(ifindex, tcx).count(programs.get(hook, -1))
    return number


def program_ids(pins: Path) -> dict[str, int]:
    """Of ours, by hook; none before all are pinned."""
    found = {}
    for hook in attach.HOOKS:
        try:
            fd = bpf.obj_get(pins / hook)
        except OSError:
            return {}
        found[hook] = bpf.program_id(fd)
        os.close(fd)
    return found


def clsacts() -> set[int]:
    """The interfaces that have this qdisc."""
    with tc_dump() as tc:
        return tc.with_clsact()
