"""Our programs on TCX links (Linux 6.6 and later): the way on and off a veth that loses no packet.

Adding a clsact qdisc deactivates the device for a moment, and a packet that comes then is dropped; a link is put into an array
that the kernel swaps. Ours go before all that are there (BPF_F_BEFORE). A link is pinned, one pin for each hook of each veth,
and so survives us as a filter does.

A pin proves nothing: its link is dead when the interface has gone (whose number another one may bear by now) or when somebody
detached it by force. What counts is what the kernel says is on the hook. Refusals are OSErrors; `attach.py` says them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from clovisor_py.kernel import bpf
from clovisor_py.kernel.hooks import HOOKS, NAME

_PIN: Final = "link_{}_{}"


def available(ifindex: int) -> bool:
    """Whether this kernel has TCX, found out by asking it about an interface that is there. Raises OSError ENODEV."""
    try:
        bpf.tcx_query(ifindex, HOOKS["ingress"][2])
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def programs(ifindex: int, hook: str) -> list[bpf.Attached]:
    """What is on a hook, the first to run first; nothing on an interface that is gone, nor before Linux 6.6."""
    try:
        return bpf.tcx_query(ifindex, HOOKS[hook][2])
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENODEV):
            raise
        return []


def link_of(pins: Path, ifindex: int, hook: str) -> int:
    """The kernel's number of the link that is pinned for this hook, dead or alive; 0 if none is."""
    try:
        fd = bpf.obj_get(pin_of(pins, ifindex, hook))
    except FileNotFoundError:
        return 0
    try:
        return bpf.link_id(fd)
    finally:
        os.close(fd)


def pin_of(pins: Path, ifindex: int, hook: str) -> Path:
    return pins / _PIN.format(ifindex, hook)


def pinned(pins: Path) -> set[int]:
    """The interfaces for which a link is pinned, dead or alive, whoever made it and of whatever build."""
    names = (path.name.split("_") for path in pins.glob(_PIN.format("*", "*")))
    return {int(parts[1]) for parts in names if parts[1].isdecimal()}


def put(ifindex: int, fds: Mapping[str, int], pins: Path) -> None:
    """Both programs (hook to fd) before all others; where one is there already, that one stays."""
    for hook, fd in fds.items():
        program, link = bpf.program_id(fd), link_of(pins, ifindex, hook)
        if programs(ifindex, hook)[:1] == [bpf.Attached(program, link)]:
            continue  # a predecessor's, still first
        drop(pins, ifindex, hook)
        _drop_unpinned(ifindex, hook, {program})  # the kernel refuses one program twice
        made = bpf.link_create(fd, ifindex, HOOKS[hook][2])
        try:
            bpf.obj_pin(made, pin_of(pins, ifindex, hook))
        finally:
            os.close(made)


def take_off(ifindex: int, pins: Path, ids: Collection[int] = ()) -> None:
    """Every link of ours, pinned or not, and dead pins; `ids`: those of our programs, where they are known."""
    for hook in HOOKS:
        drop(pins, ifindex, hook)
        _drop_unpinned(ifindex, hook, {one.program for one in programs(ifindex, hook) if ours(one.program, ids)})


def drop(pins: Path, ifindex: int, hook: str) -> None:
    """Detach explicitly: the kernel takes an unlinked pin's program off a little later, and one program twice it refuses."""
    pin = pin_of(pins, ifindex, hook)
    try:
        link = bpf.obj_get(pin)
    except FileNotFoundError:
        return
    try:
        bpf.link_detach(link)
    finally:
        os.close(link)
        pin.unlink()


def ours(program: int, ids: Collection[int] = ()) -> bool:
    """Whether it is one of `ids`, or has our name: of a build whose pins somebody removed while a process held its links."""
    return program in ids or name(program).startswith(NAME)


def name(program: int) -> str:
    """Of a program; empty where it is gone, or where that may not be asked (it takes CAP_SYS_ADMIN)."""
    try:
        return bpf.program_name(program)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EPERM):
            raise
        return ""


def _drop_unpinned(ifindex: int, hook: str, unwanted: Collection[int]) -> None:
    """Links of these programs whose pins were removed, and that live by somebody's fd. Takes CAP_SYS_ADMIN."""
    for one in programs(ifindex, hook):
        if one.program not in unwanted or not one.link:
            continue
        with suppress(FileNotFoundError):  # it went by itself meanwhile
            link = bpf.link_by_id(one.link)
            try:
                bpf.link_detach(link)
            finally:
                os.close(link)
