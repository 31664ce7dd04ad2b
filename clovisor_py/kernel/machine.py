"""The machine as the doctor's checks see it: what is asked of the kernel, of /proc and of other processes, and nothing judged.

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, TypeAlias

from clovisor_py.config import Settings
from clovisor_py.kernel import bpf, lock
from clovisor_py.kernel.compile import compile_check
from clovisor_py.kernel.links import netlink, refusal

DEFAULT_PINS: Final = Settings().pins
BCC_TIMEOUT_S: Final = 30
"""Importing bcc takes half a second; a cold disk under load has taken several."""
JAEGER_PORT: Final = 6831
JAEGER_TIMEOUT_S: Final = 1.0

FIRST_USER_NAMESPACE: Final = "user:[4026531837]"
"""The machine's own: its number is part of the kernel's interface (PROC_USER_INIT_INO)."""
CONTAINER_VARIABLES: Final = ("KUBERNETES_SERVICE_HOST", "container")
CONTAINER_FILES: Final = ("/.dockerenv", "/run/.containerenv")

Address: TypeAlias = IPv4Address | IPv6Address

_CLONE_NEWNET: Final = 0x40000000
_LOOPBACK: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)


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

    def in_user_namespace(self) -> bool:
        """Whether its capabilities count in a user namespace only, and so for nothing that asks for those of the machine."""
        with suppress(OSError):
            return str((self.proc / "self/ns/user").readlink()) != FIRST_USER_NAMESPACE
        return False

    def in_container(self) -> bool:
        """As far as its runtime tells: Kubernetes, docker, podman, systemd-nspawn."""
        return any(name in os.environ for name in CONTAINER_VARIABLES) or any(Path(file).exists() for file in CONTAINER_FILES)

    def read_only(self, folder: Path) -> bool:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)

    def owner_of_pins(self) -> str:
        """Whose they are, where this process may not change them; else empty."""
        return lock.owner(self.pins)

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

    def has_tcx(self) -> bool | None:
        """None: the kernel would not tell."""
        try:
            bpf.prog_query(_LOOPBACK, bpf.TCX_INGRESS)
        except PermissionError:
            return None
        except OSError:
            return False
        return True

    def holder(self) -> int | None:
        """The pid of a Clovisor with these pins, or with others in this network namespace; None where there is none."""
        places = [place.stat() for place in (self.pins, lock.NETNS) if place.exists()]
        return next((pid for at in places if (pid := lock.holder(at, self.proc)) is not None), None)

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
