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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from clovisor_py.errors import EnvironmentLacking, KernelRefused, TargetGone
from clovisor_py.kernel import bpf
from clovisor_py.kernel.links import Message, Netlink, link_exists

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


@contextmanager
def _netlink(doing: str) -> Iterator[Netlink]:
    """A socket whose refusals are ours."""
    try:
        with IPRoute() as route:
            yield route
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            raise TargetGone(f"{doing}: the interface is gone.") from error
        if error.code in (errno.EPERM, errno.EACCES):
            raise EnvironmentLacking(f"{doing} is not permitted: run as root, or with CAP_NET_ADMIN and CAP_BPF.") from error
        raise KernelRefused(f"{doing} failed ({error}): run `clovisor doctor`.") from error


def attach(ifindex: int, programs: dict[str, int], pins: Path, known: int) -> int:
    """Both programs (pin name to fd) on the veth, replacing ours if it is there. Answers the flags to remember.

    `known` is what was remembered of this veth (0: nothing). Raises TargetGone, EnvironmentLacking, KernelRefused.
    """
    with _netlink(f"attaching to interface {ifindex}") as route:
        # Once on links, always on links: with a filter beside them everything would be counted twice.
        if any(_foreign_tcx(ifindex, hook, pins) or _link_pin(pins, ifindex, hook).exists() for hook in HOOKS):
            _attach_tcx(ifindex, programs, pins)
            _remove_filters(route, ifindex)
            return known | OWN_TCX
        flags = known & OWN_CLSACT
        if not _has_clsact(route, ifindex):
            route.tc("add", "clsact", ifindex)
            flags = OWN_CLSACT
        for hook, fd in programs.items():
            _put_filter(route, ifindex, hook, fd)
        return flags


def detach(ifindex: int, pins: Path, known: int) -> None:
    """Take off what is ours; an interface that is gone took it along."""
    for hook in HOOKS:
        _drop_link(_link_pin(pins, ifindex, hook))
    try:
        with _netlink(f"detaching from interface {ifindex}") as route:
            _remove_filters(route, ifindex)
            if known & OWN_CLSACT and _has_clsact(route, ifindex) and not any(_filters(route, ifindex, h) for h in HOOKS):
                route.tc("del", "clsact", ifindex)
    except TargetGone:
        _log.debug("interface %d is gone, and our filters with it", ifindex)


def present(ifindex: int, pins: Path) -> bool:
    """Whether both programs are still where they were put. Raises TargetGone."""
    if not link_exists(ifindex):
        raise TargetGone(f"interface {ifindex} is gone.")
    if all(_link_pin(pins, ifindex, hook).exists() for hook in HOOKS):
        return True
    with _netlink(f"looking at interface {ifindex}") as route:
        return all(any(_ours(f) for f in _filters(route, ifindex, hook)) for hook in HOOKS)


def overtaken(ifindex: int, programs: dict[str, int], pins: Path) -> bool:
    """Whether somebody else's TCX program runs before ours."""
    for hook, fd in programs.items():
        try:
            first = bpf.prog_query(ifindex, HOOKS[hook][2])[:1]
        except OSError:
            return False  # before Linux 6.6 there is no TCX
        if first and first != [bpf.program_id(fd)]:
            return True
    return False


def find_all() -> list[int]:
    """Interfaces of this namespace that carry a filter of ours: what a crash may have left, with or without pins."""
    with _netlink("listing filters") as route:
        with_clsact = {q["index"] for q in route.get_qdiscs() if q.get_attr("TCA_KIND") == "clsact"}
        return sorted(i for i in with_clsact if any(_ours(f) for hook in HOOKS for f in _filters(route, i, hook)))


def _foreign_tcx(ifindex: int, hook: str, pins: Path) -> bool:
    """Whether somebody else's TCX programs are on the hook; False before Linux 6.6."""
    try:
        programs = bpf.prog_query(ifindex, HOOKS[hook][2])
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EPERM):
            raise NetlinkError(error.errno) from error
        return False
    return len(programs) > _link_pin(pins, ifindex, hook).exists()


def _attach_tcx(ifindex: int, programs: dict[str, int], pins: Path) -> None:
    for hook, fd in programs.items():
        pin = _link_pin(pins, ifindex, hook)
        if pin.exists() and bpf.prog_query(ifindex, HOOKS[hook][2])[:1] == [bpf.program_id(fd)]:
            continue  # a predecessor's, still first
        _drop_link(pin)
        try:
            link = bpf.link_create(fd, ifindex, HOOKS[hook][2])
        except OSError as error:
            raise KernelRefused(f"a TCX link on interface {ifindex} was refused ({error}): run `clovisor doctor`.") from error
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
    except OSError as error:
        raise KernelRefused(f"the TCX link {pin.name} could not be taken off ({error}): run `clovisor doctor`.") from error
    finally:
        os.close(link)
        pin.unlink()


def _link_pin(pins: Path, ifindex: int, hook: str) -> Path:
    return pins / f"link_{ifindex}_{hook}"


def _has_clsact(route: Netlink, ifindex: int) -> bool:
    return any(q.get_attr("TCA_KIND") == "clsact" for q in route.get_qdiscs(index=ifindex))


def _filters(route: Netlink, ifindex: int, hook: str) -> list[Message]:
    """The filters on a hook (a dump also has a head without a handle for each preference)."""
    if not _has_clsact(route, ifindex):
        return []
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
