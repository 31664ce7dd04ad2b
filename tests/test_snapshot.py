"""Facts survive JSON, an older or newer client included, and what is no snapshot is refused in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.kernel.layout import ENDS, Counter
from clovisor_py.kernel.maps import Stats
from clovisor_py.snapshot import (
    COUNTED,
    LOST,
    SEEN,
    STAGES,
    Exporter,
    Pod,
    Port,
    Resource,
    Snapshot,
    State,
    Unparsed,
    as_json,
    count_segments,
    from_json,
)
from tests.support.snapshots import snapshot, traced

TEXT = st.text(max_size=20)
TIMES = st.floats(0, 1e12)
COUNTS = st.dictionaries(TEXT, st.integers(0, 2**63), max_size=3)
PORTS = st.builds(Port, st.integers(0, 65535), st.sampled_from(["server", "client"]), st.tuples(TEXT), st.integers(0), COUNTS)
PODS = st.builds(
    Pod,
    TEXT,
    TEXT,
    state=st.sampled_from(State),
    netnsid=st.none() | st.integers(0, 99),
    since=TIMES,
    problem_at=TIMES,
    mistakes=st.lists(TEXT, max_size=2).map(tuple),
    ports=st.lists(PORTS, max_size=2).map(tuple),
    sessions=COUNTS,
)
SNAPSHOTS = st.builds(
    Snapshot,
    TEXT,
    pods=st.lists(PODS, max_size=2).map(tuple),
    engine=COUNTS,
    exporters=st.builds(Exporter, TEXT, dropped=COUNTS).map(lambda one: (one,)),
    resources=st.builds(Resource, TEXT, st.booleans(), TIMES).map(lambda one: (one,)),
    unparsed=st.builds(Unparsed, st.integers(0, 65535), TEXT, st.integers(1)).map(lambda one: (one,)),
    shedding=st.booleans(),
    problems=st.lists(TEXT, max_size=2).map(tuple),
    settings_refused=st.booleans(),
    own=COUNTS,
    **dict.fromkeys(("started", "taken", "shed_s", "cpu_share", "allowed"), TIMES),
)


@given(SNAPSHOTS)
def test_json_and_back(one):
    assert from_json(Snapshot, json.loads(json.dumps(as_json(one)))) == one


def test_other_versions():
    newer = as_json(snapshot(traced())) | {"mood": "good"}
    newer["pods"][0]["colour"] = [1]
    assert from_json(Snapshot, newer) == snapshot(traced())
    assert from_json(Snapshot, {"node": "n1"}) == Snapshot("n1")
    assert from_json(Snapshot, {"taken": 3}).taken == 3


@pytest.mark.parametrize(
    "said",
    [
        1,
        [],
        None,
        "x",
        {"pods": 3},
        {"pods": [1]},
        {"pods": [{"name": "x"}]},
        {"pods": [{"namespace": 1, "name": "x"}]},
        {"pods": [{"namespace": "a", "name": "b", "state": "odd"}]},
        {"pods": [{"namespace": "a", "name": "b", "turns": [1]}]},
        {"engine": 3},
        {"engine": {"a": "b"}},
        {"shedding": 1},
        {"repairs": True},
    ],
)
def test_what_is_no_snapshot(said):
    with pytest.raises(ValueError, match=r"."):
        from_json(Snapshot, said)


def test_every_end_of_a_segment_has_its_place_and_seen_is_their_sum():
    assert set(STAGES) == {Counter.SEGMENTS, *ENDS}
    counts = [0] * len(Counter)
    for number, counter in enumerate(ENDS, 1):
        counts[counter] = number
    counts[Counter.SEGMENTS] = sum(counts)
    found = count_segments(Stats(tuple(counts), ((), ())))
    pod = Pod("a", "b", segments=found)
    assert pod.ended(SEEN) == sum(each.number for each in found if each.stage != SEEN)
    assert (pod.ended(COUNTED), pod.ended(LOST, "ring full")) == (counts[Counter.MUTED], counts[Counter.LOST_RING])
    assert len({(each.stage, each.reason) for each in found}) == len(found)


def test_what_did_not_happen_is_left_out_but_for_seen():
    assert [each.stage for each in count_segments(Stats((0,) * len(Counter), ((), ())))] == [SEEN]
