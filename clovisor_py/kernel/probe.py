"""What this machine has of what Clovisor needs, what it lacks, and what to do about that.

A check is a function from a Machine to a Check, and CHECKS is all of them, in the order in which one would repair. Only
Machine (`machine.py`) looks at the real thing, so a test hands in another. `clovisor doctor` prints the checks; `require_*`
stops `trace` and its like in the doctor's own words, because a sentence that is written twice will differ.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from clovisor_py.errors import ClovisorError, EnvironmentLacking
from clovisor_py.kernel.machine import DEFAULT_PINS, JAEGER_PORT, Machine

__all__ = [
    "BPFFS_MAGIC",
    "CAPABILITIES",
    "CHECKS",
    "DEFAULT_PINS",
    "JAEGER_PORT",
    "Check",
    "CheckFunction",
    "Machine",
    "State",
    "examine",
    "require",
    "require_bpffs",
    "require_root",
]

OLDEST_KERNEL: Final = (5, 12)
"""The first one with atomic compare and swap in programs (the ring buffer and CAP_BPF came with 5.8)."""
CAPABILITIES: Final = {"CAP_BPF": 39, "CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_SYS_ADMIN": 21}
"""Bits of capabilities(7), in the order of their worth here."""
BPFFS_MAGIC: Final = 0xCAFE4A11
"""What statfs(2) says of a bpffs."""
AS_ROOT: Final = "run it as root, or with sudo"
DETACH: Final = "run `clovisor detach` as {}"
IN_CONTAINER: Final = "add {} to the container's securityContext.capabilities.add (manifests/base has all that are needed)"
"""For a root that has been stripped of capabilities, which is what a container's is."""
STRIPPED: Final = "give it {} back: root has them, until setpriv, systemd (CapabilityBoundingSet=) or the like takes them away"
"""For one outside of any container."""
NESTED: Final = "run it outside of it (of `unshare --user`, of a rootless container), as the machine's own root"
VERBOSELY: Final = "run `clovisor -vv doctor`, which shows what the compiler and the kernel said"
FIRST_TCX: Final = (6, 6)
CONTAINERS_OWN: Final = 1
"""The process that a container was started for; on a machine it is init, and never a Clovisor."""
JAEGER_UDP_PORTS: Final = frozenset({6831, 6832})
"""Jaeger's datagram ports; every other port of it is TCP."""
CheckFunction: TypeAlias = "Callable[[Machine], Check]"


class State(str, Enum):
    """What a check found."""

    OK = "ok"
    PROBLEM = "problem"
    """Clovisor cannot start."""
    OPTIONAL = "optional"
    """Clovisor can do without, or it could not be tried."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor. A problem's detail is a predicate, so that `label detail: remedy` is a sentence."""

    name: str
    state: State
    detail: str
    remedy: str = ""
    version: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}".rstrip()

    @property
    def sentence(self) -> str:
        return f"{self.label} {self.detail}" + (f": {self.remedy}" if self.remedy else "")


def check_kernel(machine: Machine) -> Check:
    version = machine.release().partition("-")[0]
    found = _release(machine)
    if found and found < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        lacking = f"is older than {oldest} and has no atomic compare-and-swap for programs"
        return Check("kernel", State.PROBLEM, lacking, "use a newer one", version)
    features = ["SCHED_CLS", "ring buffer"] + ["BTF"] * machine.has_btf()
    return Check("kernel", State.OK, ", ".join(features), version=version)


def check_privileges(machine: Machine) -> Check:
    if machine.in_user_namespace():
        return Check("privileges", State.PROBLEM, "count in this user namespace only, not for the kernel", NESTED)
    held = _held(machine)
    if missing := _missing(held):
        names = ", ".join(missing)
        stripped = IN_CONTAINER.format(names.replace("CAP_", "")) if machine.in_container() else STRIPPED.format(names)
        remedy = stripped if machine.is_root() else AS_ROOT
        return Check("privileges", State.PROBLEM, f"lack {' and '.join(missing)}", remedy)
    return Check("privileges", State.OK, " ".join(held))


def check_bpffs(machine: Machine) -> Check:
    folder = machine.pins.parent
    magic = machine.filesystem(folder)
    if magic is None:
        return Check("bpffs", State.PROBLEM, f"has no place: there is no {folder}", "mount -t sysfs sysfs /sys")
    if magic != BPFFS_MAGIC:
        return Check("bpffs", State.PROBLEM, f"is not mounted at {folder}", f"mount -t bpf bpf {folder}")
    if machine.read_only(folder):
        return Check("bpffs", State.PROBLEM, f"is mounted read-only at {folder}", f"mount -o remount,rw {folder}")
    if whose := machine.owner_of_pins():
        return Check("bpffs", State.PROBLEM, f"holds {machine.pins}, which belongs to {whose}", DETACH.format(whose))
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check("bpffs", State.PROBLEM, f"at {folder} is not writable", AS_ROOT)
    return Check("bpffs", State.OK, f"mounted at {folder}, writable")


def check_bcc(machine: Machine) -> Check:
    version = machine.bcc_version()
    if version is None:
        remedy = "apt-get install python3-bpfcc (a virtual environment needs --system-site-packages)"
        return Check("bcc", State.PROBLEM, f"cannot be imported by {sys.executable}", remedy)
    if _missing(_held(machine)):
        return Check("bcc", State.OPTIONAL, "is there; compiling was not tried, for want of privileges", version=version)
    try:
        seconds = machine.compile_seconds()
    except ClovisorError as error:
        what, _, remedy = str(error).strip().splitlines()[-1].rpartition(": ")
        remedy = VERBOSELY if "clovisor doctor" in remedy else remedy
        return Check("bcc", State.PROBLEM, f"cannot compile and load the kernel program: {what}", remedy, version)
    return Check("bcc", State.OK, f"compiles in {seconds:.1f} s without kernel headers", version=version)


def check_clsact(machine: Machine) -> Check:
    if not {"CAP_NET_ADMIN", "CAP_SYS_ADMIN"} <= set(_held(machine)):
        return Check("clsact", State.OPTIONAL, "not tried: a network namespace to try it in needs CAP_SYS_ADMIN (optional)")
    try:
        machine.add_clsact()
    except ClovisorError as error:
        state, remark = (State.OPTIONAL, " (optional, TCX does)") if machine.has_tcx() else (State.PROBLEM, "")
        detail = f"cannot be added to a veth: {str(error).rstrip('.')}{remark}"
        return Check("clsact", state, detail, "modprobe -a veth sch_ingress cls_bpf")
    return Check("clsact", State.OK, "can be added to a veth")


def check_tcx(machine: Machine) -> Check:
    if _missing(_held(machine)):
        return Check("tcx", State.OPTIONAL, "not tried, for want of privileges (optional)")
    there = machine.has_tcx()
    if there is None:
        return Check("tcx", State.OPTIONAL, "the kernel does not let us ask for it (optional)")
    if not there:
        found = _release(machine)
        lacks = "was built without it" if found and found >= FIRST_TCX else "does not have it, 6.6 is the first that does"
        return Check("tcx", State.OPTIONAL, f"this kernel {lacks}; adding clsact may lose a packet (optional)")
    return Check("tcx", State.OK, "there: no packet is lost by attaching")


def check_datapath(machine: Machine) -> Check:
    if _missing(_held(machine)):
        return Check("datapath", State.OK, "no other Clovisor is seen here")
    if (pid := machine.holder()) == CONTAINERS_OWN:
        return Check("datapath", State.OK, "this container's own agent has it")
    if pid is not None:
        return Check("datapath", State.OPTIONAL, f"a Clovisor runs here already (pid {pid})")
    if machine.pins.exists():
        return Check("datapath", State.OK, f"kept in {machine.pins} for the next Clovisor; `clovisor detach` removes it")
    return Check("datapath", State.OK, "no other Clovisor is seen here")


def check_jaeger(machine: Machine) -> Check:
    host, port = machine.jaeger
    name = f"{f'[{host}]' if ':' in host else host}:{port}"
    address = machine.resolve(host, port)
    if address is None:
        return Check("jaeger", State.OPTIONAL, f"no address for {host} (optional)")
    if port in JAEGER_UDP_PORTS and not address.is_loopback:
        return Check("jaeger", State.OPTIONAL, f"{name} is UDP, which never says whether anyone listens (optional)")
    here = machine.listens_udp(address, port) if port in JAEGER_UDP_PORTS else machine.answers_tcp(address, port)
    if not here:
        return Check("jaeger", State.OPTIONAL, f"nothing on {name} (optional)")
    return Check("jaeger", State.OK, f"listens on {name}")


CHECKS: Final = (check_kernel, check_privileges, check_bpffs, check_bcc, check_clsact, check_tcx, check_datapath, check_jaeger)


def examine(machine: Machine, checks: Sequence[CheckFunction] = CHECKS) -> Iterator[Check]:
    """Each check's finding as soon as it is there. A check that fails is a finding too: the doctor never does."""
    for check in checks:
        try:
            finding = check(machine)
        except Exception as error:  # noqa: BLE001 (whatever went wrong, the other checks are still worth having)
            name = check.__name__.removeprefix("check_")
            detail = f"could not be checked ({type(error).__name__}: {error})"
            finding = Check(name, State.PROBLEM, detail, "please report this, it is a fault of Clovisor")
        yield finding


def require(check: CheckFunction, machine: Machine) -> None:
    """Raises EnvironmentLacking with the doctor's sentence if the check finds a problem."""
    finding = check(machine)
    if finding.state is State.PROBLEM:
        raise EnvironmentLacking(finding.sentence)


def require_root() -> None:
    """Raises EnvironmentLacking unless this process may load programs and attach filters."""
    require(check_privileges, Machine())


def require_bpffs(pins: Path = DEFAULT_PINS) -> None:
    """Raises EnvironmentLacking unless `pins` can be made on a bpffs."""
    require(check_bpffs, Machine(pins=pins))


def _release(machine: Machine) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", machine.release())
    return (int(found[1]), int(found[2])) if found else None


def _held(machine: Machine) -> list[str]:
    """Those that count: in a user namespace none does."""
    if machine.in_user_namespace():
        return []
    mask = machine.capabilities()
    return [name for name, bit in CAPABILITIES.items() if mask >> bit & 1]


def _missing(held: Sequence[str]) -> list[str]:
    """What is needed and not held; CAP_SYS_ADMIN has always included what became the first two, never CAP_NET_ADMIN.

    CAP_PERFMON is for loading: without it the verifier lets no program look for a header where another one ends.
    """
    having = {*held, "CAP_BPF", "CAP_PERFMON"} if "CAP_SYS_ADMIN" in held else set(held)
    return [name for name in ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN") if name not in having]
