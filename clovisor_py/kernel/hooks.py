"""The two hooks of a veth, and the signs by which what we put on them is known again.

Names are the host veth's: its ingress is what leaves the pod. Two kinds of thing can hold a program there: a TCX link
(`tcx.py`) and a filter on a clsact qdisc (`clsact.py`). The kernel runs all TCX programs of a hook before the first filter.
"""

from __future__ import annotations

from typing import Final

from clovisor_py.kernel import bpf

HOOKS: Final = {"ingress": ("ffff:fff2", 0xFFFFFFF2, bpf.TCX_INGRESS), "egress": ("ffff:fff3", 0xFFFFFFF3, bpf.TCX_EGRESS)}
"""Program's pin name to (tc parent, the same as a number, TCX attach type)."""
NAME: Final = "clovisor"
"""What the names of our filters and of our programs begin with: nobody else's do."""
HANDLE: Final = 0xC105
"""Of our filters."""
