"""kube/changes.py: joined by key, never lost, bounded; checked against a model that sees everything."""

from __future__ import annotations

import select
import threading

from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.kube.changes import Change, Changes
from clovisor_py.kube.objects import Owner, Ref


def owner(name, trace=""):
    return Owner(Ref("Deployment", "shop", name), labels={"t": trace} if trace else {})


def readable(changes):
    return bool(select.select([changes.fileno()], [], [], 0)[0])


def test_changes_are_joined_and_wake():
    changes = Changes()
    assert not readable(changes) and changes.take() == []
    one, other = owner("a"), owner("a", "true")
    assert changes.put("w", one.ref, one) and changes.put("w", one.ref, other) and not changes.put("w", one.ref, other)
    assert readable(changes)
    assert changes.take() == [Change("w", one.ref, None, other)]
    assert not readable(changes) and changes.take() == []
    assert changes.put("w", one.ref, None) and changes.take() == [Change("w", one.ref, other, None)]
    changes.close()
    changes.close()


def test_what_came_and_went_unseen_leaves_nothing():
    changes = Changes()
    for number in range(1000):
        new = owner(f"pod-{number}")
        changes.put("w", new.ref, new)
        changes.put("w", new.ref, None)
    assert not changes._changed and changes.take() == [] and not readable(changes)
    changes.close()


def test_what_is_again_as_it_was_is_no_change():
    changes = Changes()
    one = owner("a")
    changes.put("w", one.ref, one)
    changes.take()
    changes.put("w", one.ref, None)
    changes.put("w", one.ref, owner("a"))
    assert changes.take() == []
    changes.close()


def test_after_the_end_late_threads_do_no_harm():
    changes = Changes()
    changes.close()
    changes.put("w", owner("a").ref, owner("a"))
    assert len(changes.take()) == 1


def test_two_watches_of_one_object_are_two():
    changes = Changes()
    one = owner("a")
    changes.put("mine", one.ref, one)
    changes.put("all", one.ref, one)
    changes.put("mine", one.ref, None)
    assert changes.take() == [Change("all", one.ref, None, one)]
    assert changes.refs("all") == {one.ref} and changes.count("mine") == 0 and list(changes.objects("all")) == [one.ref]
    changes.close()


STEPS = st.lists(st.none() | st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y", "gone"])), max_size=60)


@given(STEPS)
def test_a_reader_that_applies_changes_always_ends_where_the_writer_is(steps):
    changes = Changes()
    truth, seen = {}, {}
    for step in [*steps, None]:
        if step is None:
            for change in changes.take():
                assert seen.get(change.ref) == change.old != change.new
                seen[change.ref] = change.new
            assert {ref: new for ref, new in seen.items() if new is not None} == truth
            assert not readable(changes)
            continue
        new = owner(*step)
        changes.put("w", new.ref, None if step[1] == "gone" else new)
        truth.pop(new.ref, None)
        if step[1] != "gone":
            truth[new.ref] = new
        assert len(changes._changed) <= len(truth) + len(seen)
    changes.close()


def test_threads_that_write_and_one_that_reads():
    changes = Changes()
    seen: dict[Ref, object] = {}

    def write(name):
        for number in range(2000):
            one = owner(f"{name}{number % 7}", str(number))
            changes.put(name, one.ref, None if number % 5 == 0 else one)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or readable(changes):
        for change in changes.take():
            assert seen.get(change.ref) == change.old
            seen[change.ref] = change.new
    expected = {ref: one for name in "abc" for ref, one in changes.objects(name).items()}
    assert {ref: one for ref, one in seen.items() if one is not None} == expected
    changes.close()
