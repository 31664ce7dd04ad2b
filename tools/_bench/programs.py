"""Yardsticks in the kernel, compiled and pinned by a child process: `python -m tools._bench.programs PINS`.

`empty` and the two clocks say what `bpf_prog_test_run` itself and one clock cost. A `step_…` makes each repetition another
packet: it moves the packet's TCP source port or sequence number on, and then calls what is in the array `next`. Without
it, a repeated packet is a retransmission to the program under test.
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
from pathlib import Path
from typing import Final

from clovisor_py.kernel import compile as loader

ETHERNET_IPV4: Final = 14 + 20
ETHERNET_VLAN_IPV4: Final = 18 + 20
ETHERNET_IPV6: Final = 14 + 40
PORT, SEQ = (0, "u16", "ntohs"), (4, "u32", "ntohl")
"""Place in the TCP header (the source port is at 0), type, and byte order of what a step moves."""
STEPS: Final = {
    "step_seq_100": (ETHERNET_IPV4, SEQ, 100),
    "step_seq_1400": (ETHERNET_IPV4, SEQ, 1400),
    "step_seq_100_ipv6": (ETHERNET_IPV6, SEQ, 100),
    "step_seq_100_vlan": (ETHERNET_VLAN_IPV4, SEQ, 100),
    "step_port": (ETHERNET_IPV4, PORT, 1),
}
CALL_FAILED: Final = -2
"""What a step returns when nothing is in `next`."""
CLOCKS: Final = {"clock": "bpf_ktime_get_ns", "coarse_clock": "bpf_ktime_get_coarse_ns"}
NAMES: Final = ("empty", *CLOCKS, *STEPS)


def source() -> str:
    """The C text."""
    clocks = (f"int {name}(struct __sk_buff *skb) {{ return {call}() ? -1 : {CALL_FAILED}; }}" for name, call in CLOCKS.items())
    steps = (_step(name, offset + place, kind, order, by) for name, (offset, (place, kind, order), by) in STEPS.items())
    head = "#include <uapi/linux/bpf.h>\nBPF_PROG_ARRAY(next, 1);\nint empty(struct __sk_buff *skb) { return -1; }"
    return "\n".join((head, *clocks, *steps))


def _step(name: str, offset: int, kind: str, order: str, by: int) -> str:
    return f"""
int {name}(struct __sk_buff *skb) {{
    u8 *at = (u8 *)(long)skb->data + {offset};
    if (at + sizeof({kind}) > (u8 *)(long)skb->data_end)
        return {CALL_FAILED};
    *({kind} *)at = {order}({order}(*({kind} *)at) + {by});
    next.call(skb, 0);
    return {CALL_FAILED};
}}"""


def load(pins: Path) -> None:
    """Compile all, and pin them and the array `next`."""
    import bcc  # noqa: PLC0415 (LLVM: only this child pays for it)

    with loader._source_tree() as tree:
        os.environ["BCC_KERNEL_SOURCE"] = str(tree)
        multiarch = sysconfig.get_config_var("MULTIARCH") or ""
        flags = [f"-I{loader.UAPI}", f"-I{loader.UAPI / multiarch}", "-Wno-macro-redefined"]
        program = bcc.BPF(text=source(), cflags=flags)
        fds = {name: program.load_func(name.encode(), bcc.BPF.SCHED_CLS).fd for name in NAMES}
        fds["next"] = program["next"].map_fd
        for name, fd in fds.items():
            if bcc.lib.bpf_obj_pin(fd, bytes(pins / name)):
                sys.exit(f"{pins / name} could not be pinned: is bpffs mounted there? mount -t bpf bpf /sys/fs/bpf")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pins", type=Path, help="folder on a bpffs")
    load(parser.parse_args().pins)
