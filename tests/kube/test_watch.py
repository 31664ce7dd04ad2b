"""kube/watch.py against a scripted API server: whatever it does, the reader ends with what is true, and knows how it stands."""

from __future__ import annotations

import random
import select
import threading
import time
from contextlib import contextmanager

import pytest

from clovisor_py.kube import read
from clovisor_py.kube.client import Client
from clovisor_py.kube.resources import NODES, PODS
from clovisor_py.kube.watch import Pace, Watch, Watcher
from tests.support.apiserver import ApiServer, Fault

QUICK = Pace(watch_s=30.0, pause_s=0.02, longest_pause_s=0.1)
ALL = Watch("pods", PODS, read.peer)


@pytest.fixture
def api():
    with ApiServer() as server:
        yield server


@contextmanager
def watching(api, tmp_path, *watches, pace=QUICK):
    client = Client(api.kubeconfig(tmp_path))
    before = threading.active_count()
    with Watcher(client, watches or (ALL,), pace) as watcher:
        yield Reader(watcher)
    client.close()
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("watch ")]
    assert not names and before >= 1


class Reader:
    """The agent's part: applies changes, waits by poll(2)."""

    def __init__(self, watcher):
        self.watcher = watcher
        self.seen = {}
        self.changes = []

    def until(self, condition, patience_s=10.0):
        end = time.monotonic() + patience_s
        while True:
            for change in self.watcher.changes():
                assert self.seen.get(change.ref) == change.old
                self.seen[change.ref] = change.new
                self.changes.append(change)
                if change.new is None:
                    del self.seen[change.ref]
            if condition():
                return
            assert time.monotonic() < end, (self.names(), self.watcher.states())
            select.select([self.watcher], [], [], 0.02)

    def names(self):
        return {ref.name for ref in self.seen}

    def sees(self, *names, **kwargs):
        self.until(lambda: self.names() == set(names), **kwargs)

    def state(self):
        (state,) = self.watcher.states()
        return state


def put(api, name, phase="Running", plural="pods"):
    api.put(plural, {"metadata": {"name": name, "namespace": "shop"}, "status": {"phase": phase}})


def test_a_list_in_pages_then_changes(api, tmp_path):
    for number in range(1203):
        put(api, f"p{number:05}")
    with watching(api, tmp_path) as reader:
        reader.until(lambda: len(reader.seen) == 1203)
        assert [one.query.get("limit") for one in api.asked("list")] == ["500"] * 3
        put(api, "new")
        put(api, "p00000", "Failed")
        api.delete("pods", "p00001", "shop")
        reader.until(lambda: len(reader.seen) == 1203 and "new" in reader.names())
        state = reader.state()
        assert (state.lists, state.watches, state.gone, state.events, state.problem) == (1, 1, 0, 3, "")
        assert state.objects == 1203 and state.synced_s is not None and state.heard_s is not None and reader.watcher.synced
        assert len(reader.watcher.objects("pods")) == 1203


def test_an_event_is_there_within_50_ms(api, tmp_path):
    with watching(api, tmp_path) as reader:
        reader.until(lambda: reader.state().watches == 1)
        took = []
        for number in range(20):
            began = time.monotonic()
            put(api, f"p{number}")
            assert select.select([reader.watcher], [], [], 5)[0]
            took.append(time.monotonic() - began)
            reader.until(lambda number=number: f"p{number}" in reader.names())
        assert sorted(took)[10] < 0.05


def test_updates_that_change_nothing_for_us_wake_nobody(api, tmp_path):
    put(api, "a")
    with watching(api, tmp_path) as reader:
        reader.sees("a")
        put(api, "a")
        reader.until(lambda: reader.state().events == 1)
        assert len(reader.changes) == 1


@pytest.mark.parametrize("clean", [True, False])
def test_a_watch_that_ends_goes_on_where_it_was(api, tmp_path, clean):
    put(api, "a")
    with watching(api, tmp_path) as reader:
        reader.sees("a")
        for number, name in enumerate("bcd", 1):
            reader.until(lambda number=number: reader.state().watches == number)
            api.deaf = True
            put(api, name)
            api.end_watches(clean=clean)
            reader.until(lambda number=number: reader.state().watches > number)
            api.deaf = False
            api.wake()
            reader.until(lambda name=name: name in reader.names())
        api.delete("pods", "a", "shop")
        reader.sees("b", "c", "d")
        state = reader.state()
        assert state.lists == 1 and state.watches >= 4 and state.problem == ""


def test_410_in_the_stream_lists_again_and_what_vanished_is_a_deletion(api, tmp_path):
    for name in "abc":
        put(api, name)
    with watching(api, tmp_path) as reader:
        reader.sees("a", "b", "c")
        reader.until(lambda: reader.state().watches == 1)
        api.deaf = True
        api.delete("pods", "b", "shop")
        put(api, "d")
        api.compact()
        api.deaf = False
        api.end_watches()
        reader.sees("a", "c", "d")
        assert reader.state().gone == 1 and reader.state().lists == 2
        assert [change.ref.name for change in reader.changes if change.new is None] == ["b"]


@pytest.mark.parametrize(
    "fault",
    [Fault("watch", status=410), Fault("watch", event={"type": "ERROR", "object": {"code": 410}})],
)
def test_410_as_a_status_too(api, tmp_path, fault):
    put(api, "a")
    api.faults.append(fault)
    with watching(api, tmp_path) as reader:
        reader.sees("a")
        put(api, "b")
        reader.sees("a", "b")
        reader.until(lambda: reader.state().watches >= 1)
        assert reader.state().gone == 1 and reader.state().lists == 2 and reader.state().problem == ""


def test_a_continue_token_that_expired_begins_the_list_again(api, tmp_path):
    for number in range(1100):
        put(api, f"p{number:05}")
    api.faults.append(Fault("list", status=410, only_continued=True))
    with watching(api, tmp_path) as reader:
        reader.until(lambda: len(reader.seen) == 1100 and reader.watcher.synced)
        assert reader.state().gone == 1 and reader.state().lists == 2


def test_bookmarks_keep_the_version_young(api, tmp_path):
    api.bookmark_s = 0.05
    with watching(api, tmp_path) as reader:
        reader.until(lambda: reader.state().watches == 1)
        put(api, "other", plural="nodes")
        time.sleep(0.2)
        before = api.version
        api.end_watches()
        reader.until(lambda: reader.state().watches == 2)
        assert int(api.asked("watch")[-1].query["resourceVersion"]) == before
        assert reader.state().events == 0 and reader.state().failures == 0
        assert api.asked("watch")[0].query["allowWatchBookmarks"] == "true"


def test_a_server_that_goes_away_and_comes_back(api, tmp_path):
    put(api, "a")
    with watching(api, tmp_path) as reader:
        reader.sees("a")
        port = api.port
        api.stop()
        reader.until(lambda: "does not answer" in reader.state().problem)
        assert reader.names() == {"a"}
        api.delete("pods", "a", "shop")
        put(api, "b")
        api.compact()
        api.start(port)
        reader.sees("b")
        reader.until(lambda: reader.state().problem == "")
        assert reader.state().failures >= 1


def test_nobody_there_at_the_start(api, tmp_path):
    port = api.port
    api.stop()
    api.kubeconfig(tmp_path)
    client = Client(tmp_path / "kubeconfig")
    with Watcher(client, [ALL], QUICK) as watcher:
        reader = Reader(watcher)
        reader.until(lambda: reader.state().failures > 2)
        assert not watcher.synced and reader.state().synced_s is None and reader.state().heard_s is None
        put(api, "a")
        api.start(port)
        reader.sees("a")
    client.close()


def test_forbidden_is_said_and_asked_again_and_others_go_on(api, tmp_path):
    put(api, "n1", plural="nodes")
    api.faults.append(Fault("list", status=403, times=3))
    node = Watch("nodes", NODES, lambda json: read.owner("Node", json))
    with watching(api, tmp_path, node) as reader:
        reader.until(lambda: "grant the verb 'list' on 'nodes'" in reader.state().problem)
        reader.sees("n1")
        assert reader.state().failures == 3 and reader.state().problem == ""


def test_a_watch_that_is_forbidden_does_not_list_for_ever(api, tmp_path):
    api.faults.append(Fault("watch", status=403, times=5))
    with watching(api, tmp_path) as reader:
        reader.until(lambda: reader.state().watches == 1)
        assert reader.state().lists == 1 and reader.state().failures == 5


def test_a_version_that_the_server_does_not_understand_is_listed_again(api, tmp_path):
    api.faults.append(Fault("watch", status=400))
    with watching(api, tmp_path) as reader:
        reader.until(lambda: reader.state().watches == 1)
        assert reader.state().lists == 2 and reader.state().failures == 1


def test_watches_that_end_at_once_do_not_keep_a_core_busy(api, tmp_path):
    api.faults.append(Fault("watch", event={"type": "BOOKMARK", "object": {}}, times=10_000))
    with watching(api, tmp_path, pace=QUICK._replace(pause_s=0.1)) as reader:
        with pytest.raises(AssertionError):
            reader.until(lambda: False, 0.5)
        assert len(api.asked("watch")) < 20


def test_slow_pages_delay_nobody_but_themselves(api, tmp_path):
    for number in range(600):
        put(api, f"p{number:05}")
    api.faults.append(Fault("list", delay_s=0.5, only_continued=True))
    with watching(api, tmp_path) as reader:
        reader.until(lambda: len(reader.seen) == 500)  # the first page is used before the second comes
        assert not reader.watcher.synced
        reader.until(lambda: len(reader.seen) == 600 and reader.watcher.synced)


def test_objects_without_a_name_are_counted(api, tmp_path):
    page = b'{"metadata": {"resourceVersion": "100"}, "items": [5, {}, {"metadata": {"name": "a"}}]}'
    api.faults.append(Fault("list", status=200, body=page))
    with watching(api, tmp_path) as reader:
        reader.sees("a")
        assert reader.state().unreadable == 2


def test_a_list_without_a_version_is_not_believed(api, tmp_path):
    put(api, "a")
    api.faults.append(Fault("list", status=200, body=b'{"items": []}'))
    with watching(api, tmp_path) as reader:
        reader.sees("a")
        assert reader.state().failures == 1


def test_a_reader_that_raises_is_said_and_the_watch_goes_on(api, tmp_path, caplog):
    put(api, "a")
    left = [1]

    def broken(json):
        if left:
            raise ZeroDivisionError(left.pop())
        return read.peer(json)

    with watching(api, tmp_path, Watch("pods", PODS, broken)) as reader:
        reader.sees("a")
        assert reader.state().failures == 1 and "report this" in caplog.text


def test_closing_is_quick_while_it_waits_watches_and_pauses(api, tmp_path):
    slow = Pace(watch_s=300.0, pause_s=30.0, longest_pause_s=60.0)
    for fault in (None, Fault("list", status=503, times=100)):
        api.faults.clear()
        if fault is not None:
            api.faults.append(fault)
        with watching(api, tmp_path, pace=slow) as reader:
            reader.until(lambda: reader.state().watches == 1 or reader.state().failures == 1)
            began = time.monotonic()
        assert time.monotonic() - began < 1.5


def test_pauses_grow_to_a_bound(api, tmp_path):
    api.faults.append(Fault("list", status=503, times=10_000))
    with watching(api, tmp_path, pace=Pace(30.0, 0.02, 0.2)) as reader:
        reader.until(lambda: reader.state().failures >= 9)
        began = time.monotonic()
        reader.until(lambda: reader.state().failures >= 12)
        assert time.monotonic() - began > 0.2


def test_random_trouble_ends_in_the_truth(api, tmp_path):
    dice = random.Random(5)
    troubles = [
        lambda: api.end_watches(clean=dice.random() < 0.5),
        api.compact,
        lambda: api.faults.append(Fault("watch", status=dice.choice([410, 500, 503, 403]))),
        lambda: api.faults.append(Fault("list", status=dice.choice([410, 500, 503]))),
        lambda: api.faults.append(Fault("list", drop=True)),
        lambda: api.faults.append(Fault("watch", raw=b'{"type": "MOD')),
    ]
    with watching(api, tmp_path) as reader:
        for _ in range(250):
            name = f"p{dice.randrange(30)}"
            if ("shop", name) in api.objects.get("pods", {}) and dice.random() < 0.5:
                api.delete("pods", name, "shop")
            else:
                put(api, name, dice.choice(["Pending", "Running"]))
            if dice.random() < 0.15:
                dice.choice(troubles)()
            if dice.random() < 0.3:
                reader.until(lambda: True)
        api.faults.clear()
        truth = {name for _, name in api.objects["pods"]}
        reader.until(lambda: reader.names() == truth)
        phases = {name: one["status"]["phase"] for (_, name), one in api.objects["pods"].items()}
        reader.until(lambda: {ref.name: pod.phase for ref, pod in reader.seen.items()} == phases)
