from __future__ import annotations

import time
from itertools import islice

from clovisor_py.kernel.ring import BATCH
from clovisor_py.sources import live
from clovisor_py.sources.live import LiveSource, wall_offset_ns


class FakeRing:
    """As many records as it is given, and how often it was waited for."""

    def __init__(self, *sizes: int) -> None:
        self.sizes, self.waits = list(sizes), []

    def read(self, wall_offset_ns: int) -> list[int]:
        return [wall_offset_ns] * (self.sizes.pop(0) if self.sizes else 0)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


def test_a_full_batch_is_followed_by_the_next_without_a_sleep() -> None:
    ring = FakeRing(BATCH, BATCH, 300, 3)
    source = LiveSource(ring, 0.02, 0.005)
    assert [len(batch) for batch in islice(source.batches(), 5)] == [BATCH, BATCH, 300, 3, 0]
    assert ring.waits == [0.005, 0.02]
    assert [source.drained([0] * size) for size in (BATCH, BATCH - 1)] == [False, True]


def test_the_offset_leads_to_wall_time() -> None:
    drift = time.monotonic_ns() + wall_offset_ns() - time.time_ns()
    assert abs(drift) < 1_000_000_000  # whatever the machine is doing, not another epoch
    source = LiveSource(FakeRing(), 0.02, 0.005)
    assert abs(source.now_ns() - time.time_ns()) < 1_000_000_000


def test_after_a_silence_it_looks_less_often_until_something_comes(monkeypatch) -> None:
    clock = iter(range(0, 10**12, 600_000_000))
    monkeypatch.setattr(live.time, "monotonic_ns", lambda: next(clock))
    ring = FakeRing(0, 0, 0, 0, 3, 0)
    for _ in islice(LiveSource(ring, 0.02, 0.005).batches(), 7):
        pass
    assert ring.waits[0] == 0.02
    assert live.QUIET_POLL_S in ring.waits[:4]
    assert ring.waits[4] == 0.02


def test_who_asks_for_longer_pauses_gets_them() -> None:
    source = LiveSource(FakeRing(), 0.5, 0.005)
    source._heard -= 10 * live.QUIET_AFTER_NS
    assert source._pause_s(0) == 0.5
