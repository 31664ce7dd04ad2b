"""A batch in parts, without a sink."""

from __future__ import annotations

from dataclasses import dataclass

from clovisor_py.errors import ExportFailed, ExportInterrupted
from clovisor_py.exporters._api import Delivery
from clovisor_py.exporters._parts import Parts
from tests.support.sessions import session


@dataclass
class Piece:
    spans: int


def test_what_is_settled_is_said_of_its_own_batch_only():
    parts: Parts[Piece] = Parts()
    batch, same = [session()] * 9, [session()] * 9
    assert parts.settled(batch) is None
    parts.begin(batch, [Piece(3), Piece(4), Piece(1)], "one is none.")
    assert parts.holds(batch)
    assert not parts.holds(same)
    assert parts.settled(batch) == Delivery(0, {"no span": 1}, "one is none.")
    waiting = parts.waiting()
    next(waiting)
    parts.settle(0, "rejected", "all is well.")
    assert next(waiting).spans == 4
    parts.settle(3, "rejected", "three are old.")
    assert parts.settled(batch) == Delivery(4, {"no span": 1, "rejected": 3}, "three are old.")
    assert parts.settled(same) is None
    next(waiting)
    parts.settle(1, "rejected")
    assert list(waiting) == []
    told = Delivery(4, {"no span": 1, "rejected": 4}, "three are old.")
    assert parts.done() == told == parts.settled(batch)
    assert not parts.holds(batch), "given once more, it begins anew"


def test_another_attempt_goes_on_with_the_rest():
    parts: Parts[Piece] = Parts()
    batch = [session()] * 5
    parts.begin(batch, [Piece(2), Piece(3)], "")
    next(parts.waiting())
    parts.settle(1, "rejected")
    error = parts.interrupted(ExportInterrupted("busy.", retry_after_s=7))
    assert (str(error), error.retry_after_s, error.sent, error.dropped) == ("busy.", 7, 1, {"rejected": 1})
    assert parts.interrupted(ExportFailed("away.")).retry_after_s == 0
    assert [part.spans for part in [next(parts.waiting())]] == [3]
