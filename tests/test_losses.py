"""losses.py: a session says what its pod lost around it."""

from __future__ import annotations

import pytest

from clovisor_py.losses import KEEP_NS, WINDOWS, Losses
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


def test_losses_add_up_and_what_was_lost_before_the_first_look_counts():
    losses = Losses()
    for second in range(1, 4):
        losses.look(7, START + second * SECOND, second)
    one = session(start_ns=START, duration_ns=10 * SECOND)
    losses.mark([one])
    assert one.pod_lost == 3


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
    for number in range(1, 3 * WINDOWS):
        losses.look(7, START + number, number)
    one = session(start_ns=START, duration_ns=SECOND)
    losses.mark([one])
    assert one.pod_lost == WINDOWS
