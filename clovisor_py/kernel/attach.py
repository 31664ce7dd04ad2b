"""Puts the two programs on a veth, and takes off only what is ours. No packet may be lost by it.

The rules, learnt from what other agents broke:
  - Where somebody's clsact is, ours are filters on it: first of all, replaced in place, never doubled (`clsact.py`).
  - Where none is, and the kernel has TCX, ours are on TCX links (`tcx.py`): adding a clsact may lose a packet.
  - Where TCX programs of others are, they run before clsact and may end the chain: there ours are on links before them.
  - Without TCX a clsact is added, and removed only if we added it and nothing else is on it.
  - What a predecessor attached in one way stays so: both at once would count everything twice.

So, of a kernel that has TCX (without it: filters, on a clsact of ours where there is none), by what is on the veth:

    there already                      hook: auto     tcx        clsact
    links of ours, or of others        links          links      links
    else filters of ours               filters        filters    filters
    else a clsact                      filters        links      filters
    nothing                            links          links      filters, on a clsact of ours

Everything here goes by what the kernel says is there, and may be called again at any time, also after a crash half way through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from clovisor_py.errors import EnvironmentLacking, TargetGone
from clovisor_py.kernel import bpf, clsact, tcx
from clovisor_py.kernel.hooks import HANDLE, HOOKS, NAME
from clovisor_py.kernel.links import link_names, refusal
from clovisor_py.kernel.precedence import Place
from clovisor_py.kernel.tc_dump import TcDump, tc_dump

__all__ = ["HANDLE", "HOOKS", "NAME", "OWN_CLSACT", "OWN_TCX", "ahead", "attach", "detach", "find_all", "places", "require"]

OWN_CLSACT: Final = 1
"""`attached` flag: we added the qdisc."""
OWN_TCX: Final = 2
"""`attached` flag: we are on TCX links."""

AUTO, TCX, CLSACT = "auto", "tcx", "clsact"
"""Values of the setting `hook`."""
NO_TCX: Final = "this kernel has no TCX (Linux 6.6 and later have): set hook to auto or clsact."

_LOOPBACK: Final = 1
_WORST_FIRST: Final = (Place.MISSING, Place.BEHIND, Place.FIRST)
_log = logging.getLogger(__name__)


class _Found(NamedTuple):
    """What a veth has."""

    tcx: bool
    """The kernel's doing; what follows is on the veth."""
    links: bool
    """Of ours."""
    foreign: bool
    """TCX programs of others."""
    clsact: bool
    filters: bool
    """Of ours."""


def require(hook: str) -> None:
    """Raises EnvironmentLacking where this kernel cannot do what the setting `hook` asks for."""
    with _kernel("looking for TCX"):
        if hook == TCX and not tcx.available(_LOOPBACK):
            raise EnvironmentLacking(NO_TCX)


def attach(
    ifindex: int, programs: Mapping[str, int], pins: Path, known: int, remember: Callable[[int], None], hook: str = AUTO
) -> None:
    """Both programs (pin name to fd) on the veth, replacing ours if it is there. `hook` is the setting of that name.

    `known` is what was remembered of this veth (0: nothing). `remember` is told the new flags before they come true: whoever
    is killed in between leaves nothing that his successor would take for somebody else's. Raises TargetGone,
    EnvironmentLacking, KernelRefused; `detach` with the flags remembered last takes off what had been put on by then.
    """
    with _kernel(f"attaching to interface {ifindex}"), tc_dump() as tc:
        found = _look(tc, ifindex, pins)
        same = found.clsact and (found.filters or known & OWN_TCX)  # a clsact without ours may be somebody's, in its place
        own = known & OWN_CLSACT if same else 0
        if _by_links(found, hook):
            remember(own | OWN_TCX)
            tcx.put(ifindex, programs, pins)
            if found.filters:
                clsact.take_off(tc, ifindex, qdisc_too=False)
            return
        for each in HOOKS:
            tcx.drop(pins, ifindex, each)  # dead ones: of an interface that had this number before
        if found.clsact:
            remember(own)
        clsact.put(tc, ifindex, programs, not found.clsact, lambda ours: remember(OWN_CLSACT if ours else 0))


def detach(ifindex: int, pins: Path, known: int, ids: Collection[int] = ()) -> None:
    """Take off what is ours (`ids`: our programs'); an interface that is gone took it along.

    Raises EnvironmentLacking, KernelRefused.
    """
    try:
        with _kernel(f"detaching from interface {ifindex}"), tc_dump() as tc:
            tcx.take_off(ifindex, pins, ids)
            clsact.take_off(tc, ifindex, bool(known & OWN_CLSACT))
    except TargetGone:
        _log.debug("interface %d is gone, and our filters with it", ifindex)


def places(ifindexes: Iterable[int], programs: Mapping[str, int]) -> dict[int, Place]:
    """Where our programs are on each of these veths: before all TCX programs, behind one, or (one of them) not there.

    One socket for all; for each veth two system calls, and where we are filters two dumps. Raises EnvironmentLacking,
    KernelRefused.
    """
    ids = {hook: bpf.program_id(fd) for hook, fd in programs.items()}
    with _looking() as tc:
        found = {each: {_place(tc, each, hook, ids[hook]) for hook in HOOKS} for each in ifindexes}
    return {each: next(one for one in _WORST_FIRST if one in there) for each, there in found.items()}


def ahead(ifindex: int, programs: Mapping[str, int]) -> tuple[str, ...]:
    """The names of what runs before ours on either hook: TCX programs, and filters of a lower preference.

    A program whose name may not be asked is told by its number. Two system calls where we are first on links. Raises
    EnvironmentLacking, KernelRefused.
    """
    names: list[str] = []
    with _looking() as tc:
        for hook, fd in programs.items():
            names += _before(tc, ifindex, hook, bpf.program_id(fd))
    return tuple(dict.fromkeys(names))


def find_all(known: Collection[int] = (), ids: Collection[int] = ()) -> list[int]:
    """Interfaces of this namespace that carry something of ours: what a crash may have left, with or without pins.

    Those that are `known` are not looked at; `ids`: those of our programs. Filters and programs of other builds are known by
    name (a program's takes CAP_SYS_ADMIN).
    """
    with _looking() as tc:
        found = {i for i in tc.with_clsact().difference(known) if any(clsact.has_ours(tc, i, hook) for hook in HOOKS)}
        for ifindex in link_names().keys() - known - found:
            if any(one.link and tcx.ours(one.program, ids) for hook in HOOKS for one in tcx.programs(ifindex, hook)):
                found.add(ifindex)
        return sorted(found)


def _look(tc: TcDump, ifindex: int, pins: Path) -> _Found:
    filters = any(clsact.has_ours(tc, ifindex, hook) for hook in HOOKS)
    has_clsact = filters or tc.has_clsact(ifindex)
    if not tcx.available(ifindex):
        return _Found(False, False, False, has_clsact, filters)
    links = foreign = False
    for hook in HOOKS:
        if there := tcx.programs(ifindex, hook):
            mine = tcx.link_of(pins, ifindex, hook)
            links |= any(one.link == mine for one in there if mine)
            foreign |= any(one.link != mine or not mine for one in there)
    return _Found(True, links, foreign, has_clsact, filters)


def _by_links(found: _Found, hook: str) -> bool:
    """Links or filters. What is there goes before what is preferred."""
    if found.links or found.foreign:
        return True
    if found.filters or not found.tcx or hook == CLSACT:
        return False
    return hook == TCX or not found.clsact


def _place(tc: TcDump, ifindex: int, hook: str, program: int) -> Place:
    """Where it is on this hook. A pin proves nothing: a link may have been detached by force."""
    on_links = [one.program for one in tcx.programs(ifindex, hook)]
    if program not in on_links and not clsact.has_ours(tc, ifindex, hook):
        return Place.MISSING
    return Place.FIRST if on_links[:1] in ([], [program]) else Place.BEHIND


def _before(tc: TcDump, ifindex: int, hook: str, program: int) -> Iterator[str]:
    """What runs before ours on this hook; nothing where ours is not there, which is another trouble."""
    on_links = [one.program for one in tcx.programs(ifindex, hook)]
    entries = []
    if program in on_links:
        on_links = on_links[: on_links.index(program)]
    else:
        entries = clsact.filters(tc, ifindex, hook)
        if not any(map(clsact.is_ours, entries)):
            return
        entries = entries[: list(map(clsact.is_ours, entries)).index(True)]
    yield from (tcx.name(one) or f"program {one}" for one in on_links)
    yield from (one.name or f"filter of preference {one.preference}" for one in entries)


@contextmanager
def _kernel(doing: str) -> Iterator[None]:
    """What the kernel refuses in the block comes out as one of our errors."""
    try:
        yield
    except OSError as error:
        raise refusal(doing, error.errno or 0, error.strerror or str(error)) from error


@contextmanager
def _looking() -> Iterator[TcDump]:
    with _kernel("looking at the filters"), tc_dump() as tc:
        yield tc
