"""Compiles `ebpf/` with bcc, without kernel headers, loads it and pins programs and maps: in a short child process.

bcc brings LLVM along, about 80 MB and a second; the agent needs neither once the pins are there. So this module is run
as `python -m clovisor_py.kernel.compile PINS`, does its work and exits; the agent opens the pins with bpf(2).

bcc insists on a kernel source tree. The program uses UAPI headers only, so `ebpf/include` (five small files) and links to
the system's own UAPI headers make one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import logging
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from clovisor_py.errors import ClovisorError, EnvironmentLacking, KernelRefused

PROGRAMS: Final = {"ingress": b"clovisor_ingress", "egress": b"clovisor_egress"}
"""Pin name to entry point, by the hook of the host veth."""
MAPS: Final = (
    "settings",
    "pods",
    "pod_state",
    "stats",
    "node_stats",
    "udp_ports",
    "attached",
    "sessions",
    "controls",
    "ring",
)
Loaded: TypeAlias = Any
"""A bcc object: the library has no types."""
COMPILE_TIMEOUT_S: Final = 60
"""A cold node under load took 4 s; a minute means that something hangs."""
UAPI: Final = Path("/usr/include")

_log = logging.getLogger(__name__)


def sources() -> Path:
    """The `ebpf/` folder: beside the package in a checkout, under share/ when installed."""
    for folder in (Path(__file__).parents[2] / "ebpf", Path(sys.prefix) / "share" / "clovisor" / "ebpf"):
        if (folder / "session_tracker.c").is_file():
            return folder
    raise EnvironmentLacking("the kernel program's source (ebpf/session_tracker.c) is missing: install Clovisor again.")


def build_id() -> int:
    """Names the program text, 64 bit: pins made from other sources are replaced, never reused."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(sources().rglob("*.[ch]")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest(), "big")


def load(pins: Path) -> None:
    """Compile, load and pin in a child process. Raises KernelRefused or EnvironmentLacking with the child's sentence."""
    _run(str(pins))


def compile_check() -> float:
    """Seconds that compiling and loading take here; pins nothing. Raises as `load` does."""
    started = time.perf_counter()
    _run()
    return time.perf_counter() - started


def _run(*arguments: str) -> None:
    command = [sys.executable, "-m", __name__, *arguments]
    with tempfile.TemporaryDirectory(prefix="clovisor-") as room:  # ours, as a child that is killed cleans up nothing
        try:
            status, said = _child(command, Path(room))
        except subprocess.TimeoutExpired as error:
            raise KernelRefused(
                f"compiling the kernel program took over {COMPILE_TIMEOUT_S} s: try again when idle."
            ) from error
    if said:
        _log.debug("the loader said:\n%s", said.rstrip())
    if status:
        raise KernelRefused(_sentence(status, said))


def _child(command: list[str], room: Path) -> tuple[int, str]:
    """How it ended and what it wrote to stderr. In a session of its own: the terminal's Ctrl-C reaches us alone, who end it."""
    environment = os.environ | {"TMPDIR": str(room)}
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(
        command, stdin=quiet, stdout=quiet, stderr=pipe, text=True, env=environment, start_new_session=True
    ) as child:
        try:
            _, said = child.communicate(timeout=COMPILE_TIMEOUT_S)
        except BaseException:
            child.kill()
            child.wait()
            raise
    return child.returncode, said


def _sentence(status: int, said: str) -> str:
    """The child's last line is its sentence; what clang and the verifier wrote before is in the log."""
    last = said.strip().rpartition("\n")[2]
    if last and "Traceback (most recent call last)" not in said:
        return last
    return f"the loader ended with status {status}{f' ({last})' if last else ''}: run `clovisor doctor`."


@contextlib.contextmanager
def _source_tree() -> Iterator[Path]:
    """What bcc takes for a kernel source tree, as long as it needs it."""
    if not (UAPI / "linux" / "if_ether.h").is_file():
        raise EnvironmentLacking("the system's UAPI headers are missing: apt-get install linux-libc-dev")
    with tempfile.TemporaryDirectory(prefix="clovisor-") as name:
        tree = Path(name)
        for path in (sources() / "include").rglob("*.h"):
            target = tree / "include" / path.relative_to(sources() / "include")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
        uapi = tree / "include" / "uapi" / "linux"
        for path in (UAPI / "linux").iterdir():
            if path.name != "bpf.h":
                (uapi / path.name).symlink_to(path)
        yield tree


def _compile() -> tuple[Loaded, dict[str, Loaded]]:
    """The bcc object and its loaded programs by pin name."""
    try:
        import bcc  # noqa: PLC0415 (80 MB; only this child pays for it)
    except ImportError as error:
        raise EnvironmentLacking("bcc for Python is not installed: apt-get install python3-bpfcc") from error
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    with _source_tree() as tree:
        os.environ["BCC_KERNEL_SOURCE"] = str(tree)
        flags = [f"-I{sources()}", f"-I{UAPI}", f"-I{UAPI / multiarch}", "-Wno-macro-redefined"]
        try:
            program = bcc.BPF(text=(sources() / "session_tracker.c").read_text(), cflags=flags)
            return program, {pin: program.load_func(entry, bcc.BPF.SCHED_CLS) for pin, entry in PROGRAMS.items()}
        except Exception as error:  # bcc raises bare Exception for what clang or the verifier refuse
            reason = " ".join(str(error).split())
            raise KernelRefused(f"the kernel program was refused ({reason}): run `clovisor doctor`.") from error


def _pin(program: Loaded, functions: dict[str, Loaded], pins: Path) -> None:
    import bcc  # noqa: PLC0415

    fds = {pin: function.fd for pin, function in functions.items()} | {name: program[name].map_fd for name in MAPS}
    for name, fd in fds.items():
        if bcc.lib.bpf_obj_pin(fd, str(pins / name).encode()):
            raise KernelRefused(f"{pins / name} could not be pinned: is bpffs mounted there? mount -t bpf bpf /sys/fs/bpf")


def main() -> None:
    """The child: with a folder, compile, load and pin there; without one, compile and load only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pins", nargs="?", type=Path, help="folder on a bpffs")
    arguments = parser.parse_args()
    try:
        program, functions = _compile()
        if arguments.pins:
            _pin(program, functions, arguments.pins)
    except ClovisorError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
