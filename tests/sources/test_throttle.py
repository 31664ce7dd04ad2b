from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.sources.throttle import FLOOR, Throttle

MOST = 64 << 20


def test_within_its_share_nothing_changes() -> None:
    throttle = Throttle(0.5, MOST)
    assert throttle.observe(0.5, 1e9) == MOST
    assert not throttle.shedding


def test_over_it_the_heaviest_pod_sets_the_ceiling() -> None:
    throttle = Throttle(0.5, MOST)
    assert throttle.observe(1.0, 20 << 20) == 9 << 20
    assert throttle.shedding


def test_a_pod_below_its_ceiling_does_not_raise_it() -> None:
    throttle = Throttle(0.5, MOST)
    throttle.observe(1.0, 20 << 20)
    assert throttle.observe(0.6, 100 << 20) == 9 << 20


def test_it_rises_again_when_it_is_calm_and_not_before() -> None:
    throttle = Throttle(0.5, MOST)
    low = throttle.observe(1.0, 20 << 20)
    assert throttle.observe(0.45, 0) == low
    for _ in range(60):
        throttle.observe(0.1, 0)
    assert throttle.ceiling == MOST
    assert not throttle.shedding


def test_a_full_ring_lowers_it_though_the_share_was_not_used():
    throttle = Throttle(0.5, MOST)
    assert throttle.observe(0.3, 10 << 20, behind=True) == 7 << 20


def test_it_is_concerned_when_there_is_something_to_decide() -> None:
    throttle = Throttle(0.5, MOST)
    assert [throttle.concerned(used) for used in (0.1, 0.5, 0.6)] == [False, False, True]
    throttle.observe(1.0, 20 << 20)
    assert throttle.concerned(0.1)


@given(st.lists(st.tuples(st.floats(0, 8), st.floats(0, 1e12)), max_size=50))
def test_it_stays_between_floor_and_setting(seconds: list[tuple[float, float]]) -> None:
    throttle = Throttle(0.5, MOST)
    assert all(FLOOR <= throttle.observe(used, heaviest) <= MOST for used, heaviest in seconds)
