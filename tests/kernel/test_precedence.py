"""kernel/precedence.py: how often we go before a program that insists on being first."""

from __future__ import annotations

from clovisor_py.kernel.precedence import CALM_S, OVERTAKINGS, Place, Precedence

VETH, OTHER = 7, 8


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def overtaken(precedence: Precedence, ifindex: int = VETH) -> bool:
    """Whether we go before it again."""
    if not (again := precedence.claims(ifindex, Place.BEHIND)):
        return False
    precedence.claimed(ifindex, Place.BEHIND)
    return again


def test_three_times_and_then_it_is_let_go_first_and_that_is_said_once(caplog) -> None:
    one = Precedence(Clock())
    assert [overtaken(one) for _ in range(OVERTAKINGS + 2)] == [True] * OVERTAKINGS + [False] * 2
    assert (one.given_up, len(caplog.records)) == (1, 1)
    assert "interface 7" in caplog.text
    assert overtaken(one, OTHER)  # elsewhere nobody insisted yet


def test_what_is_missing_is_always_put_back_and_what_is_first_left() -> None:
    one = Precedence(Clock())
    for _ in range(OVERTAKINGS + 2):
        overtaken(one)
        assert one.claims(VETH, Place.MISSING)
        one.claimed(VETH, Place.MISSING)
        assert not one.claims(VETH, Place.FIRST)


def test_after_a_while_it_is_tried_again() -> None:
    clock = Clock()
    one = Precedence(clock)
    while overtaken(one):
        clock.now += 5
    clock.now += CALM_S
    assert [overtaken(one) for _ in range(OVERTAKINGS + 1)] == [True] * OVERTAKINGS + [False]
    assert one.given_up == 2


def test_who_overtakes_us_now_and_then_does_not_insist() -> None:
    clock = Clock()
    one = Precedence(clock)
    for _ in range(3 * OVERTAKINGS):
        assert overtaken(one)
        clock.now += CALM_S


def test_an_interface_that_is_let_go_is_forgotten() -> None:
    one = Precedence(Clock())
    while overtaken(one):
        pass
    one.forget(VETH)
    one.forget(VETH)
    assert overtaken(one)
