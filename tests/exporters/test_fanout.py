import json
import threading

import pytest

from clovisor_py.errors import ExportFailed, SinkGone, UsageError
from clovisor_py.exporters import _fanout
from clovisor_py.exporters._fanout import Fanout, open_urls
from clovisor_py.exporters._worker import Worker
from clovisor_py.model.session import Outcome
from clovisor_py.tracing.sampling import Sampler
from tests.support.sessions import session


class Dead:
    def export(self, sessions):
        raise ExportFailed("nobody there.")

    def close(self):
        pass


def test_every_exporter_gets_everything(tmp_path):
    urls = [f"jsonl:{tmp_path / name}" for name in ("a", "b", "a")]
    with open_urls(urls, queue_limit=100) as fanout:
        fanout.offer([session(), session()])
    ledgers = fanout.ledgers()
    assert list(ledgers) == urls[:2]
    assert {ledger.sent for ledger in ledgers.values()} == {2}
    for name in ("a", "b"):
        assert [json.loads(line)["operation"] for line in (tmp_path / name).read_text().splitlines()] == ["GET", "GET"]


def test_a_dead_one_costs_the_others_nothing(tmp_path):
    from clovisor_py.exporters.jsonl import JsonlSink

    dead = Worker("dead:", Dead(), queue_limit=5, pause_s=3600)
    alive = Worker("alive:", JsonlSink(tmp_path / "x"), queue_limit=100)
    fanout = Fanout([dead, alive])
    fanout.offer([session()] * 20)
    ledgers = fanout.close(deadline_s=60)
    assert ledgers["alive:"].sent == 20
    assert (ledgers["dead:"].dropped["queue full"], ledgers["dead:"].dropped["failed"]) == (15, 5)


def test_one_that_nobody_reads_is_known():
    class Gone(Dead):
        def export(self, sessions):
            raise SinkGone("nobody reads.")

    with Fanout([Worker("alive:", Dead(), queue_limit=5), Worker("gone:", Gone(), queue_limit=5, linger_s=0)]) as fanout:
        assert not fanout.gone
        fanout.offer([session()])
        fanout._workers[1]._thread.join()
        assert fanout.gone


def test_the_first_deadline_holds(caplog):
    release = threading.Event()

    class Stuck(Dead):
        def export(self, sessions):
            release.wait()

    fanout = Fanout([Worker("stuck:", Stuck(), queue_limit=5)])
    fanout.offer([session()])
    first = fanout.close(deadline_s=0.05)
    assert fanout.close(deadline_s=3600) == first
    release.set()
    assert len(caplog.records) == 1


def test_one_bad_url_opens_none(tmp_path, monkeypatch):
    made = []

    class Watched(Worker):
        def __init__(self, *args, **settings):
            made.append(self)
            super().__init__(*args, **settings)

    monkeypatch.setattr(_fanout, "Worker", Watched)
    with pytest.raises(UsageError):
        open_urls([f"jsonl:{tmp_path / 'x'}", "nonsense:"], queue_limit=10)
    assert [worker._thread.is_alive() for worker in made] == [False]


class Kept(Dead):
    def __init__(self):
        self.sessions = []

    def export(self, sessions):
        self.sessions += sessions
        return len(sessions)


def test_sampling_is_for_those_who_make_spans_and_what_it_left_out_is_counted():
    whole, spans = Kept(), Kept()
    calls = [session(seq=seq) for seq in range(1000)] + [session(outcome=Outcome.RESET)]
    with Fanout(
        [Worker("whole:", whole, queue_limit=2000)], Sampler(0.1), [Worker("spans:", spans, queue_limit=2000)]
    ) as fanout:
        fanout.offer(calls)
    ledgers, sampling = fanout.ledgers(), fanout.sampling()
    assert len(whole.sessions) == len(calls)
    assert 50 < len(spans.sessions) < 150
    assert spans.sessions[-1].outcome is Outcome.RESET
    assert (ledgers["whole:"].left_out, ledgers["spans:"].left_out) == (0, len(calls) - len(spans.sessions))
    assert ledgers["spans:"].offered == ledgers["spans:"].sent == sum(sampling.kept.values())
    assert fanout.close() == ledgers


def test_who_makes_spans_is_known_by_the_url(tmp_path):
    urls = [f"jsonl:{tmp_path / 'a'}", "jaeger://127.0.0.1:9"]
    with open_urls(urls, queue_limit=10, sampler=Sampler(0.0)) as fanout:
        fanout.offer([session()])
        assert [ledger.offered for ledger in fanout.ledgers().values()] == [1, 0]
    with open_urls(urls[:1], queue_limit=10, sampler=Sampler(0.0)) as fanout:
        assert fanout.sampling() is None


def test_what_stands_in_logs_and_metrics_has_no_path_of_a_place_on_the_network(tmp_path, caplog):
    """A collector's path may be its key."""
    urls = [f"jsonl:{tmp_path / 'a'}", "otlp+http://127.0.0.1:9/key-SECRET", "otlp+http://127.0.0.1:9/other-SECRET"]
    with open_urls(urls, queue_limit=10) as fanout:
        fanout.offer([session()])
        names = list(fanout.close(0.5))
    assert names == [urls[0], "otlp+http://127.0.0.1:9/…", "otlp+http://127.0.0.1:9/… #2"]
    assert "SECRET" not in caplog.text
