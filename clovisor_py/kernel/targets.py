"""What `clovisor trace TARGET` means: an interface here, a network namespace, or a process, turned into host veths.

Filters go on the host's end, so every target ends as interfaces of *this* namespace. A namespace's are found from
outside: its file gives a namespace id, and the veths whose other half has that id are its own. Entering it would take
more privilege, and a thread. Looked up in this order: interface, named namespace (or the path of a namespace file), pid.

A pod chooses the names of its interfaces and processes: every name in a Veth is for display, and made printable here.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clovisor_py.errors import ClovisorError, EnvironmentLacking, UsageError
from clovisor_py.kernel import netns
from clovisor_py.kernel.links import PAIRS, Link, addresses, links, names_behind, netnsid_of
from clovisor_py.model.text import printable

_LISTED: Final = 12
"""A mistaken name costs one line: so many right ones are shown, the rest is counted."""

PODS: Final = "What `clovisor agent` traces is pod/NAME, deploy/NAME or ns/NAME."
"""For who knows a pod by its name only."""


@dataclass(frozen=True, slots=True)
class Veth:
    """One interface of this namespace to attach to, and who is behind it."""

    ifindex: int
    name: str
    label: str
    """The workload's name for display: the namespace's name, the process's, or the interface's."""
    addresses: tuple[str, ...]
    """Global addresses of the pod's end, as text, IPv4 first; the interface's own if there is no other end."""
    peer_name: str
    """The pod's end's own name (`eth0`); empty where there is no other end or it could not be had."""
    kind: str = "veth"
    """`veth` or `netkit`; any other driver (`bridge`, `physical`…) has no pod behind it, so both directions are the host's."""
    netnsid: int | None = field(default=None, compare=False)
    """The id by which this namespace knows that of the other end."""


def resolve(target: str) -> list[Veth]:
    """The interfaces that a target stands for, at least one; UsageError (exit status 2) says why there is none."""
    here = links()
    by_name = {link.name: link for link in here}
    if target in by_name:
        return [_of_interface(by_name[target], here)]
    path = Path(target) if "/" in target else netns.NETNS_DIR / target
    if target not in {"", ".", ".."} and path.exists():
        return _of_namespace(path, path.name, f"network namespace '{target}'", here)
    if target.isdecimal() and Path(f"/proc/{target}").exists():
        return _of_process(target, here)
    raise UsageError(f"no interface, namespace or pid named '{target}'. {_known(here)} {PODS}")


def veths_here() -> list[Veth]:
    """Every interface here that is one half of a pair, labelled with its namespace's name where that has one."""
    here = links()
    labels = _namespaces_by_id()
    pairs = [link for link in here if link.kind in PAIRS]
    return [_veth(link, link.name if link.netnsid is None else labels.get(link.netnsid, link.name), here) for link in pairs]


def _of_interface(link: Link, here: list[Link]) -> Veth:
    if link.loopback:
        raise UsageError(f"{link.name} is the loopback interface, which no pod is behind; name a veth, a namespace or a pid.")
    return _veth(link, link.name, here)


def _of_namespace(path: Path, label: str, words: str, here: list[Link]) -> list[Veth]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise EnvironmentLacking(
            f"looking at the {words} was not permitted; run it as root (with CAP_SYS_PTRACE for a process)."
        ) from error
    except OSError as error:
        raise UsageError(f"the {words} has gone ({error.strerror}). {_known(here)}") from error
    try:
        if os.path.samestat(os.fstat(fd), Path("/proc/self/ns/net").stat()):
            raise UsageError(f"the {words} is the host's own network, which has no veth of its own; name an interface.")
        netnsid = _netnsid(fd, words)
    finally:
        os.close(fd)
    found = [link for link in here if link.kind in PAIRS and link.netnsid == netnsid] if netnsid is not None else []
    if not found:
        raise UsageError(f"the {words} has no veth that ends here. {_known(here)}")
    return [_veth(link, label, here) for link in found]


def _of_process(pid: str, here: list[Link]) -> list[Veth]:
    comm = ""
    with suppress(OSError):  # it may end at any time; what is asked of its namespace below says so
        comm = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    comm = printable(comm)
    words = f"network namespace of pid {pid}" + (f" ({comm})" if comm else "")
    return _of_namespace(Path(f"/proc/{pid}/ns/net"), comm or f"pid {pid}", words, here)


def _netnsid(fd: int, words: str) -> int | None:
    try:
        return netnsid_of(fd)
    except EnvironmentLacking:
        raise
    except ClovisorError as error:
        raise UsageError(f"the file of the {words} is no namespace's; `ip netns` lists those with a name.") from error


def _veth(link: Link, label: str, here: list[Link]) -> Veth:
    """Look at the other end, where there is one. Its namespace may be this one: both ends of a veth can be here."""
    if link.kind not in PAIRS or not link.peer_ifindex:
        own = addresses(None).get(link.ifindex, ())
        return Veth(link.ifindex, printable(link.name), printable(label), own, "", link.kind or "physical")
    if link.netnsid is None:
        peer_name = next((other.name for other in here if other.ifindex == link.peer_ifindex), "")
    else:
        peer_name = names_behind(link.netnsid).get(link.peer_ifindex, "")
    behind = addresses(link.netnsid).get(link.peer_ifindex, ())
    return Veth(link.ifindex, printable(link.name), printable(label), behind, printable(peer_name), link.kind, link.netnsid)


def _namespaces_by_id() -> dict[int, str]:
    """Id to name of the named namespaces that an interface here leads to; the first name of those with several."""
    found: dict[int, str] = {}
    for name in netns.names():
        with suppress(OSError, ClovisorError):  # a listing shows what can be looked at; a name may go while we read
            fd = os.open(netns.NETNS_DIR / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                netnsid = netnsid_of(fd)
            finally:
                os.close(fd)
            if netnsid is not None:
                found.setdefault(netnsid, name)
    return found


def _known(here: list[Link]) -> str:
    """What the operator could have meant."""
    ids = {link.netnsid for link in here if link.kind in PAIRS}
    found = sorted(name for netnsid, name in _namespaces_by_id().items() if netnsid in ids)
    if found:
        return f"Namespaces with a veth here: {_some(found)}."
    veths = [link.name for link in here if link.kind in PAIRS]
    return f"Veths here: {_some(veths)}." if veths else "There is no veth here; `ip link` lists the interfaces."


def _some(words: list[str]) -> str:
    more = f" and {len(words) - _LISTED} more" if len(words) > _LISTED else ""
    return printable(", ".join(words[:_LISTED])) + more
