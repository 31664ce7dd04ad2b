"""What is on a node after a churn, by the kernel's own account, held against what should be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clovisor_py.kernel import attach
from clovisor_py.kernel.links import link_names
from clovisor_py.kernel.maps import Maps
from clovisor_py.kernel.tc_dump import tc_dump
from tests.support.hooks import OFF, ON, clsacts, ours, program_ids


@dataclass
class Counts:
    """Of one look at what is on the node."""

    veths: int = 0
    traced: int = 0
    expected: int = 0
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    qdiscs: int = 0
    stray_qdiscs: list[str] = field(default_factory=list)
    """That nobody but us has put there, and nothing of ours is on them; or somebody else's that are gone."""
    pins: int = 0
    """But those of links."""
    links: int = 0
    stray_links: list[str] = field(default_factory=list)
    """Pins of links on veths that are not to be traced."""
    pods: int = 0
    attached: int = 0
    sessions: int = 0
    controls: int = 0

    @property
    def right(self) -> bool:
        """Exactly those pods, once each."""
        return not (self.missing or self.surplus or self.doubled)


def look(pins: Path, expected: set[int], foreign: set[int]) -> Counts:
    """Everything of ours. `expected`: the veths that are to be traced; `foreign`: those with somebody else's clsact."""
    names = link_names()
    counts = Counts(veths=len(names), expected=len(expected))
    _programs(counts, names, expected, pins)
    _qdiscs(counts, names, foreign)
    _pins(counts, pins, expected)
    _maps(counts, pins)
    return counts


def _programs(counts: Counts, names: Mapping[int, str], expected: set[int], pins: Path) -> None:
    for ifindex, here in ours(names, program_ids(pins)).items():
        said = f"{names[ifindex]}({ifindex}): {here}"
        counts.traced += here == ON
        if max(here) > 1:
            counts.doubled.append(said)
        elif ifindex in expected and here != ON:
            counts.missing.append(said)
        if ifindex not in expected and here != OFF:
            counts.surplus.append(said)
    counts.missing += [f"ifindex {ifindex}: no such veth" for ifindex in expected.difference(names)]


def _qdiscs(counts: Counts, names: Mapping[int, str], foreign: set[int]) -> None:
    there = clsacts()
    counts.qdiscs = len(there)
    with tc_dump() as tc:
        used = {each for each in there if any(tc.filters(each, parent) for _, parent, _ in attach.HOOKS.values())}
    strays = (there - used) ^ (foreign - used)
    counts.stray_qdiscs = [f"{names.get(each)}({each}): {'gone' if each in foreign else 'left'}" for each in strays]


def _pins(counts: Counts, pins: Path, expected: set[int]) -> None:
    names = [one.name for one in pins.iterdir()] if pins.exists() else []
    links = [one for one in names if one.startswith("link_")]
    counts.pins, counts.links = len(names) - len(links), len(links)
    counts.stray_links = [one for one in links if int(one.split("_")[1]) not in expected]


def _maps(counts: Counts, pins: Path) -> None:
    try:
        maps = Maps(pins)
    except OSError:
        return  # none are pinned
    try:
        counts.pods, counts.attached = len(maps.pods()), len(maps.attached())
        counts.sessions, counts.controls = sum(1 for _ in maps.sessions()), len(maps.controlled())
    finally:
        maps.close()
