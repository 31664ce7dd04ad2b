from __future__ import annotations

import subprocess
import sys

from clovisor_py.kernel import heap

ARENAS = """
import ctypes, threading
from clovisor_py.kernel.heap import share_heap
print(share_heap())
held, libc = [], ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=lambda: held.append(libc.malloc(5000))) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
libc.malloc_stats()
"""


def test_all_threads_share_one_heap() -> None:
    done = subprocess.run([sys.executable, "-c", ARENAS], capture_output=True, text=True, timeout=60, check=True)
    if done.stdout.startswith("True"):
        assert [line for line in done.stderr.splitlines() if line.startswith("Arena")] == ["Arena 0:"]


def test_a_c_library_without_that_setting_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: object())
    assert heap.share_heap() is False
