"""A sink that cannot be opened yet, and an agent's fanout that begins without it."""

from __future__ import annotations

import logging

import pytest

from clovisor_py.errors import ExportFailed, UsageError
from clovisor_py.exporters._api import Delivery
from clovisor_py.exporters._fanout import open_urls
from clovisor_py.exporters._later import Later


class Taken:
    def __init__(self):
        self.batches, self.closed = [], False

    def export(self, sessions):
        self.batches.append(sessions)
        return len(sessions)

    def close(self):
        self.closed = True


def test_it_is_opened_by_the_first_batch_that_can():
    made, early = Taken(), [True]

    def create():
        if early:
            early.pop()
            raise ExportFailed("too early.")
        return made

    later = Later(create)
    with pytest.raises(ExportFailed, match="too early"):
        later.export(["one"])
    assert later.export(["two"]) == later.export(["three"]) == 1
    assert made.batches == [["two"], ["three"]]
    later.close()
    assert made.closed


def test_it_says_how_far_it_is_if_its_sink_can():
    class Halfway(Taken):
        def settled(self, sessions):
            return Delivery(len(sessions) // 2)

    for made, told in ((Taken(), None), (Halfway(), Delivery(1))):
        later = Later(lambda made=made: made)
        assert later.settled(["one", "two"]) is None, "nothing was opened yet"
        later.export(["one"])
        assert later.settled(["one", "two"]) == told


def test_what_was_never_opened_is_not_closed():
    def create():
        raise AssertionError("closing opens nothing")

    Later(create).close()


URL = "jaeger://no-such-host.invalid"


def test_an_agent_begins_without_it_and_says_so(caplog):
    with caplog.at_level(logging.WARNING), open_urls([URL], queue_limit=10, later=True) as fanout:
        assert list(fanout.ledgers()) == [URL]
    assert "tried again with every batch" in caplog.text


def test_others_end_at_once_as_does_a_url_without_sense():
    with pytest.raises(ExportFailed):
        open_urls([URL], queue_limit=10)
    with pytest.raises(UsageError):
        open_urls(["jaeger://host/path"], queue_limit=10, later=True)
