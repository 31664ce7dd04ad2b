"""The queue of one exporter, without a worker."""

from __future__ import annotations

from sys import getsizeof

from hypothesis import given

from clovisor_py.exporters._queue import FEWEST, FIXED_BYTES, SESSION_BYTES, Queue, allowance, weights
from tests.support.sessions import ANY_SESSION, session


def filled(queue: Queue, *weights: int) -> int:
    """Sessions 0, 1, 2… by `seq` with these weights; answers how many had to go."""
    return queue.add([session(seq=number) for number in range(len(weights))], weights)


def test_the_oldest_make_room_by_number():
    queue = Queue(3)
    assert filled(queue, 1, 2, 3) == 0
    assert filled(queue, 4, 5) == 2
    assert (len(queue), queue.bytes) == (3, 3 + 4 + 5)
    assert [one.seq for one in queue.take(9, 99)] == [2, 0, 1]
    assert (len(queue), queue.bytes) == (0, 0)


def test_the_oldest_make_room_by_bytes():
    queue, limit = Queue(100), allowance(100)
    assert limit == FEWEST * SESSION_BYTES
    assert filled(queue, limit - 2, 1, 1) == 0
    assert filled(queue, 1) == 1
    assert [one.seq for one in queue.take(9, 9)] == [1, 2, 0]
    assert filled(queue, limit + 1) == 1, "one that is too heavy alone"
    assert len(queue) == 0


def test_what_is_taken_at_once_is_bounded_both_ways():
    queue = Queue(100)
    filled(queue, 5, 5, 5, 100, 1)
    taken = [[one.seq for one in queue.take(2, 11)] for _ in range(5)]
    assert taken == [[0, 1], [2], [3], [4], []]


def test_clearing_says_how_many_went():
    queue = Queue(100)
    filled(queue, 1, 1, 1)
    assert (queue.clear(), len(queue), queue.bytes) == (3, 0, 0)


def test_an_ordinary_session_is_well_within_its_share():
    assert weights([session()])[0] < SESSION_BYTES / 3


def test_long_texts_weigh_and_what_a_plugin_made_of_them_does_no_harm():
    texts = {"text": "x" * 100_000, "list": ["y" * 50_000, "z" * 50_000], "number": 5}
    for odd in ({}, {3: object()}, {"list": ["y" * 100_000, 7]}, {"surrogate": "\ud800"}):
        assert 200_000 < weights([session(attributes=texts | odd)])[0] < 210_000


def test_a_text_weighs_what_its_widest_letter_makes_of_it():
    text = "x" * 100_000 + "\N{GRINNING FACE}"
    assert weights([session(attributes={"text": text})])[0] > getsizeof(text)


def test_many_short_texts_weigh_too():
    texts = [chr(256 + number) for number in range(1000)]
    assert 60_000 < weights([session(attributes={"list": texts})])[0] < 120_000
    assert 60_000 < weights([session(attributes={"list": texts, 3: object()})])[0] < 120_000


@given(ANY_SESSION)
def test_it_is_about_the_memory_that_texts_take(one):
    texts = [value for value in one.attributes.values() if isinstance(value, str)]
    assert FIXED_BYTES <= weights([one])[0] <= FIXED_BYTES + sum(map(getsizeof, texts)) + 3 * 8 * 1000
