"""Templates learnt from paths: variables at first sight, words until there are too many, never more than there is room for."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.metrics.routes import DEPTH, FANOUT, NODES, OTHER, SERVICES, WORD_CHARS, Routes, Trie

WORDS = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(26 * 26)]


def find(*paths):
    trie = Trie()
    return [trie.find(path) for path in paths][-1]


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/users/8731", "/users/{id}"),
        ("/users/8731/cart", "/users/{id}/cart"),
        ("/a/550e8400-e29b-41d4-a716-446655440000", "/a/{id}"),
        ("/a/550e8400e29b41d4a716446655440000", "/a/{id}"),
        ("/commit/3f2c9ab", "/commit/{id}"),
        ("/o/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/o/{id}"),
        ("/days/2024-01-05", "/days/{date}"),
        ("/at/2024-01-05T10:04:11Z", "/at/{date}"),
        ("/hosts/10.0.0.9/x", "/hosts/{id}/x"),
        ("/hosts/fd00::2", "/hosts/{id}"),
        ("/img/123.png", "/img/{id}"),
        ("/u/a@example.com", "/u/{id}"),
        ("/u/caf%C3%A9", "/u/{id}"),
        ("/s/" + "x" * (WORD_CHARS + 1), "/s/{id}"),
        ("/api/v1/pods", "/api/v1/pods"),
        ("/oauth2/token", "/oauth2/token"),
        ("/facade/deadbeef", "/facade/deadbeef"),
        ("/index.html", "/index.html"),
        ("/", "/"),
        ("", ""),
        ("*", "*"),
        ("/a//b/", "/a//b/"),
        ("/v1/users/{}/cart", "/v1/users/{}/cart"),
        ("example.com:443", OTHER),
        ("/x" * (DEPTH + 5), "/x" * DEPTH + "/{rest}"),
    ],
)
def test_at_first_sight(path, template):
    assert find(path) == template


def test_a_place_with_too_many_words_is_a_variable_for_all_of_them():
    trie = Trie()
    paths = [f"/shops/{word}/items" for word in WORDS[: FANOUT + 1]]
    found = [trie.find(path) for path in paths]
    assert found[:FANOUT] == paths[:FANOUT]
    assert found[FANOUT] == "/shops/{name}/items"
    assert trie.changed
    assert {trie.find(path) for path in paths} == {"/shops/{name}/items"}
    assert trie.find("/shops/17/items") == "/shops/{id}/items", "it was told so from the beginning"


def test_what_follows_is_put_together_and_may_become_too_much_by_that():
    trie = Trie()
    for at, word in enumerate(WORDS[: FANOUT + 1]):
        trie.find(f"/{word}/{WORDS[2 * at]}")
        trie.find(f"/{word}/{WORDS[2 * at + 1]}")
    assert trie.find("/new/newer") == "/{name}/{name}"
    assert trie.nodes == 2


def test_other_places_keep_their_words():
    trie = Trie()
    for word in WORDS:
        trie.find(f"/shops/{word}")
    assert trie.find("/orders/open") == "/orders/open"


@given(st.lists(st.text(max_size=80).map(lambda text: "/" + text), max_size=60))
def test_a_template_is_its_own(paths):
    trie = Trie()
    for path in paths:
        template = trie.find(path)
        assert trie.find(template) == template
        assert trie.nodes <= NODES + 1


def test_where_there_is_no_room_places_become_variables():
    trie, chance = Trie(), random.Random(1)
    found = set()
    for _ in range(20_000):
        found.add(trie.find("/".join(["", *("".join(chance.choices(string.ascii_lowercase, k=4)) for _ in range(5))])))
    assert trie.nodes <= NODES
    assert trie.find("/some/path/of/five/words") == "/{name}" * 5
    assert trie.overflowed == 0


def test_one_service_is_not_another_and_there_are_so_many():
    routes = Routes()
    assert routes.of("shop", "cart") is routes.of("shop", "cart") is not routes.of("blue", "cart")
    for number in range(SERVICES):
        routes.of("many", str(number))
    assert routes.of("one", "too many") is None
    assert routes.paths_overflowed == routes.overflowed == 3
