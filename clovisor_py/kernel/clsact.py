"""Our programs as filters on a clsact qdisc: where somebody's is there already, and where the kernel has no TCX.

Adding or removing clsact deactivates the device for a moment, and a packet into the pod that comes then is lost; a filter on
one that is there costs none. So ours is added only where nothing else will do, and removed only if we added it and nothing else
is on it. A filter of ours has a handle and a name of our own and the first preference that takes it; it is replaced in place.

pyroute2 changes what is there; looking is for `tc_dump.py`, which is a hundred times cheaper.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from typing import Final

from pyroute2.netlink.exceptions import NetlinkError

from clovisor_py.kernel.hooks import HANDLE, HOOKS, NAME
from clovisor_py.kernel.links import Netlink, netlink
from clovisor_py.kernel.tc_dump import Filter, TcDump

PREFERENCES: Final = range(1, 9)
"""First of all; where another kind of filter holds a preference, the next one."""
ETH_P_ALL: Final = 0x0003
_GONE: Final = (errno.ENODEV, errno.ENOENT, errno.ENXIO)


def is_ours(entry: Filter) -> bool:
    return entry.handle == HANDLE and entry.name.startswith(NAME)


def filters(tc: TcDump, ifindex: int, hook: str) -> list[Filter]:
    """Those on a hook, the first to run first; none without clsact, nor on an interface that is gone. Raises OSError."""
    try:
        return tc.filters(ifindex, HOOKS[hook][1])
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return []


def has_ours(tc: TcDump, ifindex: int, hook: str) -> bool:
    """Whether a filter of ours is on the hook. Raises OSError."""
    return any(map(is_ours, filters(tc, ifindex, hook)))


def put(tc: TcDump, ifindex: int, fds: Mapping[str, int], add: bool, remember: Callable[[bool], None]) -> None:
    """Both programs (hook to fd) as filters, clsact first if we are to `add` it.

    `remember` is told whether the qdisc is ours before it is there, and again if the kernel refuses it. Raises TargetGone,
    EnvironmentLacking, KernelRefused.
    """
    with netlink(f"attaching to interface {ifindex}") as route:
        if add:
            _add(route, ifindex, remember)
        for hook, fd in fds.items():
            _put_filter(route, ifindex, hook, fd, [one.preference for one in filters(tc, ifindex, hook) if is_ours(one)])


def take_off(tc: TcDump, ifindex: int, qdisc_too: bool) -> None:
    """Our filters, and clsact where that is asked for and nobody uses it.

    Raises TargetGone, EnvironmentLacking, KernelRefused.
    """
    mine = [(hook, one.preference) for hook in HOOKS for one in filters(tc, ifindex, hook) if is_ours(one)]
    if not mine and not (qdisc_too and _unused(tc, ifindex)):
        return
    with netlink(f"detaching from interface {ifindex}") as route:
        for hook, preference in mine:
            _drop_filter(route, ifindex, hook, preference)
        if qdisc_too and _unused(tc, ifindex):  # as it is now: somebody may have come meanwhile
            route.tc("del", "clsact", ifindex)


def _unused(tc: TcDump, ifindex: int) -> bool:
    """Whether there is a clsact with nothing on it."""
    return tc.has_clsact(ifindex) and not any(filters(tc, ifindex, hook) for hook in HOOKS)


def _add(route: Netlink, ifindex: int, remember: Callable[[bool], None]) -> None:
    remember(True)
    try:
        route.tc("add", "clsact", ifindex)
    except NetlinkError:
        remember(False)  # then the one that is there, if any, is not ours
        raise


def _put_filter(route: Netlink, ifindex: int, hook: str, fd: int, mine: list[int]) -> None:
    """Replace ours (at the preferences `mine`) in place, or take the first preference that has room for it."""
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


def _drop_filter(route: Netlink, ifindex: int, hook: str, preference: int) -> None:
    try:
        route.tc("del-filter", "bpf", ifindex, HANDLE, parent=HOOKS[hook][0], prio=preference, protocol=ETH_P_ALL)
    except NetlinkError as error:
        if error.code not in _GONE:
            raise
