"""`kernel/layout.py` against `ebpf/clovisor.h`, as the compiler that builds the kernel program understands it.

The Python side is written out as C assertions (sizes, offsets, values), and clang in bcc compiles them beside the header, in a
child process and through the same stub tree as the program itself. A difference is a compile error that names it.
"""

import re
import struct
import subprocess
import sys

import pytest

from clovisor_py.kernel import compile, layout
from clovisor_py.model import segment
from tests.support.kernel import require_kernel

pytestmark = pytest.mark.live

FIELDS = {
    "cv_settings": ("SETTINGS", "abi wake_bytes build lease_until_ns"),
    "cv_pod": ("POD", "slot mode head_bytes quota pod_ns_per_kib flow_ns_per_kib burst_ns released"),
    "cv_pod_state": ("POD_STATE", "due_ns opened"),
    "cv_key": ("KEY", "ifindex pod_ip peer_ip pod_port peer_port transport pad"),
    "cv_control": ("CONTROL", "mode skipping skip_until[0] skip_until[1]"),
    "cv_session": (
        "SESSION",
        " ".join(
            ["cookie created_ns due_ns speaker state lost rtt_us"]
            + [f"side[{direction}].{field}" for direction in (0, 1) for field in layout.SIDE_FIELDS]
        ),
    ),
    "cv_record": (
        "RECORD",
        "time_ns cookie cgroup_id turn_age_ns ifindex seq ack length captured lost rtt_us packets pod_ip peer_ip "
        "pod_port peer_port window vlan transport direction tcp_flags flags",
    ),
}
"""struct of the header: (name in layout.py, its fields in the order in which the format unpacks them)."""
DEFINES = ("MAX_PODS", "MAX_SESSIONS", "RING_BYTES", "BUCKETS", "DETECT_BYTES", "CHUNK", "RECORD_COST")
FLAGS = ("POD_OPENED", "PEER_OPENED", "TURN", "RETRANSMITTED", "CONTINUED", "CUT")

CHILD = """
import os, sys, sysconfig, bcc
from clovisor_py.kernel import compile
with compile._source_tree() as tree:
    os.environ["BCC_KERNEL_SOURCE"] = str(tree)
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    flags = [f"-I{compile.sources()}", f"-I{compile.UAPI}", f"-I{compile.UAPI / multiarch}", "-Wno-macro-redefined"]
    bcc.BPF(text=sys.stdin.read(), cflags=[*flags, "-ferror-limit=0"])
"""


def members(form):
    """(offset, size) of each value of a struct format such as `=QI16s4x`."""
    at = 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", form):
        if code in "sx":
            size, times = int(count or 1), 1
        else:
            size, times = struct.calcsize(f"={code}"), int(count or 1)
        for _ in range(times):
            if code != "x":
                yield at, size
            at += size


def equal(left, right, name):
    return f'_Static_assert(({left}) == ({right}), "{name}");'


def of_struct(name, form, fields):
    """Assertions for one struct: its size, and where each field is and how long."""
    places = list(members(form))
    assert len(places) == len(fields), f"{name}: {len(places)} values, {len(fields)} names"
    yield equal(f"sizeof(struct {name})", struct.calcsize(form), f"sizeof {name}")
    for field, (offset, size) in zip(fields, places, strict=True):
        yield equal(f"__builtin_offsetof(struct {name}, {field})", offset, f"{name}.{field} at {offset}")
        yield equal(f"sizeof(((struct {name} *)0)->{field})", size, f"{name}.{field} of {size}")


def assertions():
    """All that layout.py and model/segment.py say of the ABI, as lines of C."""
    for name, (structure, fields) in FIELDS.items():
        yield from of_struct(name, getattr(layout, structure).format, fields.split())
    stats = [f"count[{counter}]" for counter in layout.Counter]
    stats += [f"turn_ns[{direction}][{bucket}]" for direction in (0, 1) for bucket in range(layout.BUCKETS)]
    yield from of_struct("cv_stats", layout.STATS.format, stats)
    yield equal("CV_ABI", layout.ABI, "ABI")
    for define in DEFINES:
        yield equal(f"CV_{define}", getattr(layout, define), define)
    for name, enum in (("MODE_", layout.Mode), ("", layout.Counter)):
        for member in enum:
            yield equal(f"CV_{name}{member.name}", int(member), member.name)
    yield equal("CV_COUNTERS", len(layout.Counter), "counters")
    for index, counter in enumerate(layout.NODE_COUNTERS):
        yield equal(f"CV_NODE_{counter.upper()}", index, counter)
    yield equal("CV_NODE_COUNTERS", len(layout.NODE_COUNTERS), "node counters")
    for flag in FLAGS:
        yield equal(f"CV_{flag}", getattr(segment, flag), flag)
    for flag in ("POD_OPENED", "PEER_OPENED", "FIN_SEEN", "RST_SEEN"):
        yield equal(f"CV_{flag}", getattr(layout, flag), f"{flag} of layout.py")
    yield equal("CV_FROM_POD", segment.FROM_POD, "FROM_POD")
    yield equal("CV_TO_POD", segment.TO_POD, "TO_POD")


def compiler_says(header, lines):
    """What clang has against them; empty when nothing."""
    require_kernel()
    text = "\n".join(["#include <uapi/linux/bpf.h>", header, *lines, "int nothing(struct __sk_buff *skb) { return 0; }"])
    done = subprocess.run([sys.executable, "-c", CHILD], input=text, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        return ""
    return done.stderr


@pytest.fixture(scope="module")
def header():
    return (compile.sources() / "clovisor.h").read_text()


def test_python_and_c_agree(header):
    lines = list(assertions())
    assert len(lines) > 300
    assert compiler_says(header, lines) == ""


CHANGES = {
    "cv_settings.build of": ("__u64 build;", "__u32 build;"),
    "sizeof cv_record": ("__u8 pad[4];", "__u8 pad[5];"),
    "cv_record.window at": ("    __u16 window;\n    __u16 vlan;", "    __u16 vlan;\n    __u16 window;"),
    "cv_session.lost of 4": ("__u32 lost; /* segments", "__u16 lost, one; /* segments"),
    "CUT_SKIP": ("CV_CUT_SKIP, ", "CV_NEW, CV_CUT_SKIP, "),
    "counters": ("CV_CUT_SKIP, ", "CV_NEW, CV_CUT_SKIP, "),
    "CUT": ("#define CV_CUT 0x20", "#define CV_CUT 0x40"),
    "BUCKETS": ("#define CV_BUCKETS 40", "#define CV_BUCKETS 41"),
    "FULL": ("CV_MODE_FULL = 2", "CV_MODE_FULL = 4"),
}
"""What the assertion says: the small change of the header that it has to find."""


def test_every_difference_is_found(header):
    changed = "\n".join(line for line in header.splitlines() if not line.startswith("_Static_assert"))
    for old, new in set(CHANGES.values()):
        assert changed.count(old) == 1
        changed = changed.replace(old, new)
    said = compiler_says(changed, assertions())
    assert [name for name in CHANGES if f'"{name}' not in said] == []


def test_the_header_has_no_constant_that_python_does_not_check(header):
    known = {f"CV_{name}" for name in (*DEFINES, *FLAGS, "ABI", "FROM_POD", "TO_POD", "FIN_SEEN", "RST_SEEN")}
    only_the_kernels = {"CV_CHUNKS", "CV_OVERTAKEN", "CV_OVERTAKEN_NS", "CV_SEQ_KNOWN", "CV_SHEDDING", "CV_TAIL"}
    assert set(re.findall(r"^#define (CV_\w+)", header, re.MULTILINE)) == known | only_the_kernels


def test_the_header_has_no_struct_that_python_does_not_check(header):
    assert set(re.findall(r"^struct (cv_\w+) {", header, re.MULTILINE)) == {*FIELDS, "cv_stats", "cv_side"}


def test_a_segment_ends_in_one_of_the_counters_from_captured_to_the_last_loss():
    assert layout.ENDS[0] is layout.Counter.CAPTURED
    assert layout.ENDS[-1] is layout.Counter.LOST_LOAD
    assert {*layout.CUTS, *layout.LOSSES, layout.Counter.CAPTURED, layout.Counter.MUTED} == set(layout.ENDS)
