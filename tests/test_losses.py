"""losses.py: a session says what its pod lost around it."""

from __future__ import annotations

import pytest

from clovisor_py.losses import GRAIN_NS, KEEP_NS, PAUSE_NS, WINDOWS, Losses
from clovisor_py.tracing.spans import span_of
from tests.support.sessions import START, session

SECOND = 1_000_000_000


def lossy():
    losses = Losses()
    losses.look(7, START, 0)
    losses.look(7, START + SECOND, 12)
    losses.look(7, START + 2 * SECOND, 12)
    return losses


@pytest.mark.parametrize(
    ("start", "duration", "lost"),
    [
        (START + 100, 5, 12),
        (START - SECOND, 2 * SECOND, 12),
        (START - SECOND, SECOND // 2, 0),
        (START + SECOND + 1, 5, 0),
        (START - SECOND, 9 * SECOND, 12),
    ],
)
def test_who_overlaps_a_loss_says_so(start, duration, lost):
    one = session(start_ns=start, duration_ns=duration)
    lossy().mark([one])
    assert one.pod_lost == lost
    assert span_of(one).attributes.get("clovisor.pod.lost_segments") == (lost or None)


def test_another_pod_lost_nothing():
    one = session(interface=8, start_ns=START + 100)
    lossy().mark([one])
    assert one.pod_lost == 0


def test_losses_add_up_from_the_first_look_on():
    losses = Losses()
    for second in range(1, 4):
        losses.look(7, START + second * SECOND, 100 + second)  # a hundred had been lost before: a predecessor's
    one = session(start_ns=START, duration_ns=10 * SECOND)
    losses.mark([one])
    assert one.pod_lost == 2


def test_a_flood_is_told_to_who_leaves_in_the_midst_of_it():
    """As the agent does it: look at those that are due, then mark. 5 are lost each ms, and a session of 1 ms leaves each."""
    losses, marked = Losses(), 0
    losses.look(7, START, 0)
    for ms in range(1, 1001):
        now = START + ms * 1_000_000
        one = session(start_ns=now - 1_000_000, duration_ns=1_000_000)
        for interface in losses.due([one, one], now):
            losses.look(interface, now, 5 * ms)
        losses.mark([one])
        marked += one.pod_lost > 0
    assert marked == 1000
    late = session(start_ns=START, duration_ns=2 * SECOND)
    losses.mark([late])
    assert late.pod_lost == 5000


def test_who_was_looked_at_just_now_or_is_not_traced_is_not_due():
    losses, sessions = lossy(), [session(), session(interface=8), session()]
    now = START + 2 * SECOND
    assert losses.due(sessions, now + PAUSE_NS - 1) == []
    assert losses.due(sessions, now + PAUSE_NS) == [7]
    assert losses.due([session(interface=8)], now + SECOND) == []


def test_looking_has_a_price_that_does_not_grow_with_pods():
    losses = Losses()
    for interface in range(100):
        losses.look(interface, START, 0)
    assert losses.due([session()], START + 100 * PAUSE_NS - 1) == []
    assert losses.due([session()], START + 100 * PAUSE_NS) == [7]


def test_it_is_forgotten_with_time_and_with_the_veth():
    losses = lossy()
    losses.look(7, START + 2 * SECOND + KEEP_NS, 12)
    one = session(start_ns=START + 100)
    losses.mark([one])
    assert one.pod_lost == 0
    losses.look(7, START + 3 * SECOND + KEEP_NS, 13)
    losses.forget(7)
    losses.look(7, START + 4 * SECOND + KEEP_NS, 0)  # a new pod's counters begin at nothing
    losses.mark([one])
    assert one.pod_lost == 0


def test_it_is_bounded():
    losses = Losses()
    for number in range(3 * WINDOWS):
        losses.look(7, START + number * 2 * GRAIN_NS, number)
    one = session(start_ns=START, duration_ns=6 * WINDOWS * GRAIN_NS)
    losses.mark([one])
    assert one.pod_lost == WINDOWS


def test_a_minute_of_losses_is_remembered_however_often_it_is_looked():
    losses, step = Losses(), 550_000_000
    for number in range(1 + 60 * SECOND // step):
        losses.look(7, START + number * step, number)
    one = session(start_ns=START, duration_ns=60 * SECOND)
    losses.mark([one])
    assert one.pod_lost == 60 * SECOND // step
