"""The captures of `tools/bench replay` hold what they say: every session is found, whole, and nothing else."""

import pytest

from clovisor_py.flows.pipeline import Pipeline
from clovisor_py.model.session import Outcome
from clovisor_py.sources.pcap import CaptureSource
from tools._bench.captures import Shape, write
from tools._bench.talks import KINDS

SHAPE = Shape(connections=5, rounds=9, at_once=2)


def replayed(path):
    pipeline = Pipeline()
    with CaptureSource(str(path), ()) as source:
        sessions = [session for batch in source.batches() for session in pipeline.feed(batch)]
        return sessions, pipeline.ledger, source.packets


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_session_that_was_made_is_found(kind, tmp_path):
    made, packets = write(tmp_path / "made.pcap", kind, SHAPE)
    sessions, ledger, seen = replayed(tmp_path / "made.pcap")
    assert (len(sessions), seen) == (made, packets)
    assert made >= SHAPE.connections * SHAPE.rounds * kind.each
    assert {session.outcome for session in sessions} <= {Outcome.OK, Outcome.ERROR}
    assert all(session.status and session.operation for session in sessions)
    assert not any(session.mid_stream or session.truncated or session.gap_bytes for session in sessions)
    assert {session.server.port for session in sessions} == {kind.port}
    assert (ledger.flows_closed, ledger.violations, ledger.gaps, ledger.duplicates) == (SHAPE.connections, 0, 0, 0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_same_bytes_come_out_again(kind, tmp_path):
    for name in ("one", "other"):
        write(tmp_path / name, kind, SHAPE)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
