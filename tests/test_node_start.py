from __future__ import annotations

from types import SimpleNamespace

import pytest

from clovisor_py import node_start
from clovisor_py.node_start import WAITING, await_answers, await_names
from tests.support.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def datapath(waiting: int = 0) -> SimpleNamespace:
    beats: list[int] = []
    ring = SimpleNamespace(waiting=waiting, size=1000)
    return SimpleNamespace(ring=ring, beats=beats, heartbeat=lambda: beats.append(1))


def test_nothing_begins_before_the_first_answer(cluster, monkeypatch, caplog) -> None:
    monkeypatch.setattr(node_start, "PATIENCE_S", 0.0)
    cluster.ready, looked = False, []

    def also(now: float) -> None:
        looked.append(now)
        cluster.ready = len(looked) == 3

    assert await_answers(cluster, lambda: False, also)
    assert len(looked) == 3 and caplog.messages == [WAITING]


def test_who_is_to_stop_waits_no_longer(cluster) -> None:
    cluster.ready = cluster.named = False
    assert not await_answers(cluster, lambda: True, None)
    await_names(cluster, datapath(), lambda: True, None)


def test_names_are_waited_for_a_while_with_a_heartbeat(cluster, monkeypatch) -> None:
    monkeypatch.setattr(node_start, "NAMES_S", 0.05)
    cluster.named, looked, kernel = False, [], datapath()
    await_names(cluster, kernel, lambda: False, looked.append)
    assert len(looked) == len(kernel.beats) > 1


def test_names_that_are_known_are_not_waited_for(cluster) -> None:
    kernel = datapath()
    await_names(cluster, kernel, lambda: False, None)
    assert not kernel.beats


def test_a_ring_that_fills_is_read(cluster) -> None:
    cluster.named, kernel = False, datapath(waiting=501)
    await_names(cluster, kernel, lambda: False, None)
    assert not kernel.beats
