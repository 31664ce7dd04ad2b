"""Puts the two programs on a veth, and takes off only what is ours.

The rules, learnt from what other agents broke:
  - A filter of ours has a handle and a name of our own and runs first (preference 1); it is replaced in place, never doubled.
  - clsact is added only where absent, and removed only if we added it and nothing else is on it.
  - Where TCX programs are on the veth, they run before clsact and may end the chain: there a TCX link before all of them
    is pinned instead, and survives us as a filter does.

Everything here may be called again at any time, also after a crash half way through.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyroute2.netlink.exceptions import NetlinkError

from clovisor_py.errors import TargetGone
from clovisor_py.kernel import bpf
from clovisor_py.kernel.links import Message, Netlink, netlink, refusal
from clovisor_py.kernel.tc_dump import TcDump, tc_dump

HOOKS: Final = {"ingress": ("ffff:fff2", 0xFFFFFFF2, bpf.TCX_INGRESS), "egress": ("ffff:fff3", 0xFFFFFFF3, bpf.TCX_EGRESS)}
"""Program's pin name to (tc parent, the same as a number, TCX attach type). Names are the host veth's: its ingress is what
leaves the pod."""
HANDLE: Final = 0xC105
NAME: Final = "clovisor"
PREFERENCES: Final = range(1, 9)
"""First of all; where another kind of filter holds a preference, the next one."""
ETH_P_ALL: Final = 0x0003

OWN_CLSACT: Final = 1
"""`attached` flag: we added the qdisc."""
OWN_TCX: Final = 2
"""`attached` flag: we are on TCX links."""

_log = logging.getLogger(__name__)
_GONE: Final = (errno.ENODEV, errno.ENOENT, errno.ENXIO)


def attach(ifindex: int, programs: dict[str, int], pins: Path, known: int, remember: Callable[[int], None]) -> None:
    """Both programs (pin name to fd) on the veth, replacing ours if it is there.

    `known` is what was remembered of this veth (0: nothing). `remember` is told the new flags before they come true: whoever
    is killed in between leaves nothing that his successor would take for somebody else's. Raises TargetGone,
    EnvironmentLacking, KernelRefused; `detach` with the flags remembered last takes off what had been put on by then.
    """
    with netlink(f"attaching to interface {ifindex}") as route:
        # Once on links, always on links: with a filter beside them everything would be counted twice.
        if any(_foreign_tcx(ifindex, hook, pins) or _link_pin(pins, ifindex, hook).exists() for hook in HOOKS):
            remember(known | OWN_TCX)
            _attach_tcx(ifindex, programs, pins)
            _remove_filters(route, ifindex)
            return
        if _has_clsact(route, ifindex):
            remember(known & OWN_CLSACT)
        else:
            remember(OWN_CLSACT)
            _add_clsact(route, ifindex, remember)
        for hook, fd in programs.items():
            _put_filter(route, ifindex, hook, fd)


def detach(ifindex: int, pins: Path, known: int) -> None:
    """Take off what is ours; an interface that is gone took it along. Raises EnvironmentLacking, KernelRefused."""
    try:
        with netlink(f"detaching from interface {ifindex}") as route:
            for hook in HOOKS:
                _drop_link(_link_pin(pins, ifindex, hook))
            _remove_filters(route, ifindex)
            if known & OWN_CLSACT and _has_clsact(route, ifindex) and not any(_filters(route, ifindex, h) for h in HOOKS):
                route.tc("del", "clsact", ifindex)
    except TargetGone:
        _log.debug("interface %d is gone, and our filters with it", ifindex)


def displaced(ifindexes: Iterable[int], programs: dict[str, int]) -> list[int]:
    """Those of these veths that lack one of our programs, or where somebody's TCX program runs before it, or that are gone.

    One socket for all, and for each veth a handful of system calls. Raises EnvironmentLacking, KernelRefused.
    """
    ids = {hook: bpf.program_id(fd) for hook, fd in programs.items()}
    with _looking() as tc:
        return [each for each in ifindexes if not all(_runs_first(tc, each, hook, ids[hook]) for hook in HOOKS)]


def find_all(known: Collection[int] = ()) -> list[int]:
    """Interfaces of this namespace that carry a filter of ours: what a crash may have left, with or without pins.

    Those that are `known` are not looked at.
    """
    with _looking() as tc:
        with_clsact = tc.with_clsact().difference(known)
        return sorted(i for i in with_clsact if any(_is_ours(tc, i, hook) for hook in HOOKS))


@contextmanager
def _looking() -> Iterator[TcDump]:
    try:
        with tc_dump() as tc:
            yield tc
    except OSError as error:
        raise refusal("looking at the filters", error.errno or 0, str(error)) from error


def _is_ours(tc: TcDump, ifindex: int, hook: str) -> bool:
    """Whether a filter of ours is on the hook; no longer so on an interface that is gone."""
    try:
        found = tc.filters(ifindex, HOOKS[hook][1])
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return False
    return any(one.handle == HANDLE and one.name.startswith(NAME) for one in found)


def _runs_first(tc: TcDump, ifindex: int, hook: str, program: int) -> bool:
    """Whether it does on this hook. A pin proves nothing: a link may have been detached by force."""
    if on_links := _tcx(ifindex, hook):
        return on_links[0] == program
    return _is_ours(tc, ifindex, hook)


def _tcx(ifindex: int, hook: str) -> list[int]:
    """The ids of the TCX programs on a hook; none before Linux 6.6, nor on an interface that is gone."""
    try:
        return bpf.prog_query(ifindex, HOOKS[hook][2])
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENODEV):
            raise
        return []


def _foreign_tcx(ifindex: int, hook: str, pins: Path) -> bool:
    """Whether somebody else's TCX programs are on the hook."""
    return len(_tcx(ifindex, hook)) > _link_pin(pins, ifindex, hook).exists()


def _attach_tcx(ifindex: int, programs: dict[str, int], pins: Path) -> None:
    for hook, fd in programs.items():
        pin = _link_pin(pins, ifindex, hook)
        if pin.exists() and _tcx(ifindex, hook)[:1] == [bpf.program_id(fd)]:
            continue  # a predecessor's, still first
        _drop_link(pin)
        link = bpf.link_create(fd, ifindex, HOOKS[hook][2])
        try:
            bpf.obj_pin(link, pin)
        finally:
            os.close(link)


def _drop_link(pin: Path) -> None:
    """Detach explicitly: the kernel takes an unlinked pin's program off a little later, and one program twice it refuses."""
    try:
        link = bpf.obj_get(pin)
    except FileNotFoundError:
        return
    try:
        bpf.link_detach(link)
    finally:
        os.close(link)
        pin.unlink()


def _link_pin(pins: Path, ifindex: int, hook: str) -> Path:
    return pins / f"link_{ifindex}_{hook}"


def _has_clsact(route: Netlink, ifindex: int) -> bool:
    return any(q.get_attr("TCA_KIND") == "clsact" for q in route.get_qdiscs(index=ifindex))


def _add_clsact(route: Netlink, ifindex: int, remember: Callable[[int], None]) -> None:
    try:
        route.tc("add", "clsact", ifindex)
    except NetlinkError:
        remember(0)  # then the one that is there, if any, is not ours
        raise


def _filters(route: Netlink, ifindex: int, hook: str) -> list[Message]:
    """The filters on a hook, none without clsact (a dump also has a head without a handle for each preference)."""
    return [f for f in route.get_filters(index=ifindex, parent=HOOKS[hook][1]) if f["handle"]]


def _ours(entry: Message) -> bool:
    options = entry.get_attr("TCA_OPTIONS")
    name = options.get_attr("TCA_BPF_NAME") if hasattr(options, "get_attr") else None
    return bool(entry["handle"] == HANDLE and name and str(name).startswith(NAME))


def _put_filter(route: Netlink, ifindex: int, hook: str, fd: int) -> None:
    """Replace ours in place, or take the first preference that has room for it."""
    mine = [f["info"] >> 16 for f in _filters(route, ifindex, hook) if _ours(f)]
    candidates = mine or list(PREFERENCES)
    for preference in candidates:
        try:
            route.tc(
                "replace-filter",
                "bpf",
                ifindex,
                HANDLE,
                fd=fd,
                name=f"{NAME}_{hook}",
                parent=HOOKS[hook][0],
                prio=preference,
                protocol=ETH_P_ALL,
                direct_action=True,
            )
        except NetlinkError as error:
            if error.code not in (errno.EEXIST, errno.EINVAL) or preference == candidates[-1]:
                raise
        else:
            return


def _remove_filters(route: Netlink, ifindex: int) -> None:
    for hook, (parent, _, _) in HOOKS.items():
        for entry in _filters(route, ifindex, hook):
            if not _ours(entry):
                continue
            try:
                route.tc("del-filter", "bpf", ifindex, HANDLE, parent=parent, prio=entry["info"] >> 16, protocol=ETH_P_ALL)
            except NetlinkError as error:
                if error.code not in _GONE:
                    raise
