from __future__ import annotations

import dataclasses

from clovisor_py.agent_report import Report
from clovisor_py.cli import _summary
from clovisor_py.exporters._worker import Ledger
from clovisor_py.flows.crash import FURTHER, Crash
from clovisor_py.kernel import layout
from clovisor_py.kernel.layout import Counter
from clovisor_py.kernel.maps import Stats
from clovisor_py.metrics.red import Red
from clovisor_py.model.session import Outcome, Side
from clovisor_py.model.workload import Workload
from tests.support.sessions import session

BUCKETS = (0,) * layout.BUCKETS


def stats(**counts: int) -> Stats:
    values = {Counter[name]: count for name, count in counts.items()}
    return Stats(tuple(values.get(counter, 0) for counter in Counter), (BUCKETS, BUCKETS))


def report(**changes) -> Report:
    red = Red()
    ends = {"client_workload": Workload("client"), "server_workload": Workload("web"), "peer_traced": True}
    for side in Side:
        red.add(session(side=side, **ends))
        red.add(session(side=side, status="503", outcome=Outcome.ERROR, duration_ns=212_000_000, **ends))
    plain = Report(2.0, red, red, 0, {"veth0": stats(SEGMENTS=8, CAPTURED=8)}, {}, (), {}, 0, 0)
    return dataclasses.replace(plain, **changes)


def test_a_call_seen_at_both_ends_counts_once() -> None:
    first, slowest, errors, segments = _summary.lines(report())
    assert first.startswith("2 sessions in 2 s (1.0/s) · p50 ")
    assert first.endswith("1 error (50 %)")
    assert "503 × 1" in errors and "503" not in slowest
    assert segments == "  seen 8 segments · captured 8 · lost 0"


def test_what_was_lost_is_said_with_its_reason() -> None:
    pods = {
        "veth0": stats(SEGMENTS=20, CAPTURED=9, CUT_BUDGET=1, CUT_POD=2, SHED=3, LOST_RING=5, FRAGMENTS=7),
        "veth1": stats(SEGMENTS=1, MUTED=1),
    }
    unparsed = [(443, "no protocol", 2)]
    text = "\n".join(_summary.lines(report(pods=pods, unparsed=unparsed)))
    assert "seen 21 segments · captured 9 · only the head of 3 · only counted 1 · lost 8 " in text
    assert "over the pod's budget 3, ring full 5" in text
    assert "IP fragments passed over 7" in text
    assert "  lost on veth0: 8" in text
    assert "lost on veth1" not in text
    assert "unparsed flows 2 (:443 no protocol)" in text


def test_packets_that_are_no_segment_are_said() -> None:
    pods = {"veth0": stats(CONTROLS_LOST=2, MALFORMED=3), "veth1": stats(CONTROLS_LOST=1)}
    text = "\n".join(_summary.lines(report(pods=pods)))
    assert "openings and ends of connections lost 3 · malformed packets 3" in text


def test_losses_of_the_engine_and_of_the_table_of_edges() -> None:
    plain = report(engine={"unseen_responses": 1, "held_evicted": 2, "buffer_overflows": 3})
    plain.red.overflowed = 1234
    assert (
        "  responses that passed unseen 1 · gaps declared early (too much waited behind them) 2 · messages too long to buffer 3"
        " · sessions of callers beyond 1,024, counted as other 1,234"
    ) in _summary.lines(plain)


def test_the_engines_losses_and_the_exporters() -> None:
    exporters = {"console:": Ledger(10, 4, {"reader gone": 6}, 0), "jsonl:x": Ledger(10, 10, {"failed": 0}, 0)}
    engine = {"orphan_responses": 2, "messages": 9}
    told = report(engine=engine, exporters=exporters, shed_seconds=4, blind_seconds=2.5, repairs=1)
    lines = _summary.lines(told)
    assert (
        "  responses without a request 2 · captured less for 4.0 s to stay within the CPU share"
        " · nothing was captured for 2.5 s: Clovisor did not run · filters put back 1"
    ) in lines
    assert lines[-1] == "  console: got 4 of 10 sessions: its reader has gone"
    assert _summary.undelivered(told) == [], "who has seen enough misses nothing"


def test_what_did_not_arrive_is_a_sentence_with_its_reason() -> None:
    exporters = {
        "jsonl:x": Ledger(10, 7, {"failed": 3, "refused": 0}, 0, "cannot write to 'x' (No space left); make room."),
        "console:": Ledger(10, 9, {"queue full": 1}, 0),
    }
    assert _summary.undelivered(report(exporters=exporters)) == [
        "jsonl:x got 7 of 10 sessions (dropped: failed 3): cannot write to 'x' (No space left); make room.",
        "console: got 9 of 10 sessions (dropped: queue full 1): it was too slow; export less, or elsewhere.",
    ]


def test_a_parser_that_failed_is_a_sentence_each_whatever_it_was_and_however_often() -> None:
    crashes = {Crash("redis", "KeyError", "redis.py:42", "secret"): 3, Crash("redis", "ValueError", "", ""): 1, FURTHER: 9}
    (said,) = _summary.crashed(crashes)
    assert said.startswith("the redis parser failed: ") and said.endswith(".") and "secret" not in said
    assert _summary.crashed({}) == []


def test_a_parser_that_crashed_is_told_with_its_place_and_quoted_only_when_asked() -> None:
    crashes = {Crash("redis", "KeyError", "redis.py:42", "b'secret'"): 3, FURTHER: 1}
    assert "  redis parser crashed × 3: KeyError at redis.py:42 (clovisor -v quotes it)" in _summary.lines(
        report(crashes=crashes)
    )
    assert _summary.lines(report(crashes=crashes), texts=True)[-2:] == [
        "  redis parser crashed × 3: KeyError at redis.py:42: b'secret'",
        "  parser crashed × 1: others",
    ]


def test_what_a_filter_kept_back_is_said() -> None:
    assert "  2 more did not match the filter" in _summary.lines(report(shown=Red(), filtered=2))
