"""The C library's heaps: one for all threads of the agent.

glibc gives each thread a heap of its own, and each keeps the room of the largest answers that its thread ever read; with a
watch of each resource that was a sixth of the agent's memory. Python's lock lets one thread run at a time anyway, so one heap
makes nobody wait.
"""

from __future__ import annotations

import ctypes
import logging
from typing import Final

_M_ARENA_MAX: Final = -8
_log = logging.getLogger(__name__)


def share_heap() -> bool:
    """To be called before threads are started; False where the C library has no such setting, and no such habit (musl)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    done = bool(mallopt is not None and mallopt(_M_ARENA_MAX, 1))
    if not done:
        _log.debug("this C library keeps its own ways with heaps")
    return done
