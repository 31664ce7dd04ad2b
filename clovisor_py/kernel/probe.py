"""What this machine has of what Clovisor needs, what it lacks, and what to do about that.

A check is a function from a Machine to a Check, and CHECKS is all of them, in the order in which one would repair. Only
Machine looks at the real thing, so a test hands in another. `clovisor doctor` prints the checks; `require_*` stops `trace`
and its like in the doctor's own words, because a sentence that is written twice will differ.

Nothing is left behind: what has to be tried out is tried in a child process (bcc, which would cost this one 80 MB) or in a
network namespace that ends with the thread that made it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, TypeAlias

from clovisor_py.config import Settings
from clovisor_py.errors import ClovisorError, EnvironmentLacking
from clovisor_py.kernel import bpf, lock
from clovisor_py.kernel.compile import compile_check
from clovisor_py.kernel.links import netlink, refusal

DEFAULT_PINS: Final = Settings().pins
OLDEST_KERNEL: Final = (5, 12)
"""The first one with atomic compare and swap in programs (the ring buffer and CAP_BPF came with 5.8)."""
CAPABILITIES: Final = {"CAP_BPF": 39, "CAP_NET_ADMIN": 12, "CAP_PERFMON": 38, "CAP_SYS_ADMIN": 21}
"""Bits of capabilities(7), in the order of their worth here."""
BPFFS_MAGIC: Final = 0xCAFE4A11
"""What statfs(2) says of a bpffs."""
BCC_TIMEOUT_S: Final = 30
"""Importing bcc takes half a second; a cold disk under load has taken several."""
AS_ROOT: Final = "run it as root, or with sudo"
IN_CONTAINER: Final = "add {} to the container's securityContext.capabilities.add (manifests/base has all that are needed)"
"""For a root that has been stripped of capabilities, which is what a container's is."""
JAEGER_PORT: Final = 6831
JAEGER_UDP_PORTS: Final = frozenset({6831, 6832})
"""Jaeger's datagram ports; every other port of it is TCP."""
JAEGER_TIMEOUT_S: Final = 1.0

Address: TypeAlias = IPv4Address | IPv6Address
CheckFunction: TypeAlias = "Callable[[Machine], Check]"

_CLONE_NEWNET: Final = 0x40000000
_LOOPBACK: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


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


@dataclass(frozen=True)
class Machine:
    """The machine as the checks see it; methods that have to try something out raise ClovisorError where it fails."""

    pins: Path = DEFAULT_PINS
    jaeger: tuple[str, int] = ("127.0.0.1", JAEGER_PORT)
    proc: Path = Path("/proc")

    def release(self) -> str:
        return platform.release()

    def has_btf(self) -> bool:
        return Path("/sys/kernel/btf/vmlinux").exists()

    def capabilities(self) -> int:
        """The effective capabilities of this process, as a bit mask."""
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", (self.proc / "self/status").read_text(), re.MULTILINE)
        return int(found[1], 16) if found else 0

    def is_root(self) -> bool:
        return os.geteuid() == 0

    def filesystem(self, folder: Path) -> int | None:
        """The magic number of the file system that `folder` is on, None where there is no such folder."""
        answer = (ctypes.c_long * 32)()  # struct statfs is 15 words or less and begins with f_type
        return None if _libc.statfs(bytes(folder), answer) else answer[0] & 0xFFFFFFFF

    def bcc_version(self) -> str | None:
        """The version of bcc that this interpreter can import, or None."""
        command = [sys.executable, "-c", "import bcc; print(bcc.__version__)"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BCC_TIMEOUT_S, check=False)
        return None if done.returncode else done.stdout.strip()

    def compile_seconds(self) -> float:
        return compile_check()

    def add_clsact(self) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="probe") as one:
            one.submit(_add_clsact_to_a_veth).result()

    def has_tcx(self) -> bool:
        try:
            bpf.prog_query(_LOOPBACK, bpf.TCX_INGRESS)
        except OSError:
            return False
        return True

    def holder(self) -> int | None:
        """The pid that holds the lock on the pins; None where nobody does."""
        return lock.holder(self.pins.stat(), self.proc)

    def listens_udp(self, address: Address, port: int) -> bool:
        """Whether a socket of this network namespace is bound to that port, at that address or at all."""
        wanted = {f"{spelling}:{port:04X}" for spelling in _spellings(address)}
        tables = [self.proc / "net/udp", self.proc / "net/udp6"]
        rows = [row.split() for table in tables if table.exists() for row in table.read_text().splitlines()[1:]]
        return any(row[1] in wanted for row in rows)

    def resolve(self, host: str, port: int) -> Address | None:
        try:
            return ip_address(socket.getaddrinfo(host, port)[0][4][0])
        except OSError:
            return None

    def answers_tcp(self, address: Address, port: int) -> bool:
        try:
            socket.create_connection((str(address), port), timeout=JAEGER_TIMEOUT_S).close()
        except OSError:
            return False
        return True


def check_kernel(machine: Machine) -> Check:
    release = machine.release()
    version = release.partition("-")[0]
    found = re.match(r"(\d+)\.(\d+)", release)
    if found and (int(found[1]), int(found[2])) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        lacking = f"is older than {oldest} and has no atomic compare-and-swap for programs"
        return Check("kernel", State.PROBLEM, lacking, "use a newer one", version)
    features = ["SCHED_CLS", "ring buffer"] + ["BTF"] * machine.has_btf()
    return Check("kernel", State.OK, ", ".join(features), version=version)


def check_privileges(machine: Machine) -> Check:
    held = _held(machine)
    if missing := _missing(held):
        remedy = IN_CONTAINER.format(", ".join(missing).replace("CAP_", "")) if machine.is_root() else AS_ROOT
        return Check("privileges", State.PROBLEM, f"lack {' and '.join(missing)}", remedy)
    return Check("privileges", State.OK, " ".join(held))


def check_bpffs(machine: Machine) -> Check:
    folder = machine.pins.parent
    magic = machine.filesystem(folder)
    if magic is None:
        return Check("bpffs", State.PROBLEM, f"has no place: there is no {folder}", "mount -t sysfs sysfs /sys")
    if magic != BPFFS_MAGIC:
        return Check("bpffs", State.PROBLEM, f"is not mounted at {folder}", f"mount -t bpf bpf {folder}")
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
    if not machine.has_tcx():
        return Check(
            "tcx", State.OPTIONAL, "not in this kernel, 6.6 is the first with it; adding clsact may lose a packet (optional)"
        )
    return Check("tcx", State.OK, "there: no packet is lost by attaching")


def check_datapath(machine: Machine) -> Check:
    if _missing(_held(machine)) or not machine.pins.exists():
        return Check("datapath", State.OK, "no other Clovisor is seen here")
    if (pid := machine.holder()) is None:
        return Check("datapath", State.OK, f"kept in {machine.pins} for the next Clovisor; `clovisor detach` removes it")
    return Check("datapath", State.OPTIONAL, f"a Clovisor runs here already (pid {pid})")


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


def _held(machine: Machine) -> list[str]:
    mask = machine.capabilities()
    return [name for name, bit in CAPABILITIES.items() if mask >> bit & 1]


def _missing(held: Sequence[str]) -> list[str]:
    """What is needed and not held; CAP_SYS_ADMIN has always included what became the first two, never CAP_NET_ADMIN.

    CAP_PERFMON is for loading: without it the verifier lets no program look for a header where another one ends.
    """
    having = {*held, "CAP_BPF", "CAP_PERFMON"} if "CAP_SYS_ADMIN" in held else set(held)
    return [name for name in ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN") if name not in having]


def _add_clsact_to_a_veth() -> None:
    """In a thread of its own: the namespace, and the veth in it, end with the thread."""
    if _libc.unshare(_CLONE_NEWNET):
        raise refusal("making a network namespace", ctypes.get_errno())
    with netlink("adding clsact to a veth") as route:
        route.link("add", ifname="probe0", kind="veth", peer="probe1")
        route.tc("add", "clsact", socket.if_nametoindex("probe0"))


def _spellings(address: Address) -> set[str]:
    """How /proc/net/udp and udp6 write the address, its IPv6-mapped form, and the wildcards: words in host order."""
    forms = [address.packed, bytes(4), bytes(16)]
    if address.version == 4:
        forms.append(IPv6Address(f"::ffff:{address}").packed)
    words = ([form[at : at + 4] for at in range(0, len(form), 4)] for form in forms)
    return {"".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in split) for split in words}
