"""A page that is taken apart object by object says what it said as a whole."""

from __future__ import annotations

import json

import pytest

from clovisor_py.kube._page import read_page

PAGES = [
    {},
    {"items": []},
    {"items": None, "metadata": {"continue": ""}},
    {
        "kind": "PodList",
        "metadata": {"resourceVersion": "7"},
        "items": [{"a": 1}, {"b": ["]", "}", ","]}, {"ü": '\U0001f600\\"'}],
    },
    {"items": [{"a": {"items": [1]}}], "metadata": {"continue": "x"}, "apiVersion": "v1"},
    {"items": [1, None, "text", [2]]},
]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("page", PAGES)
def test_all_of_it_is_told(page, indent) -> None:
    told = []
    rest = read_page(json.dumps(page, indent=indent).encode(), told.append)
    items = page.get("items")
    assert told == (items if isinstance(items, list) else [])
    assert rest == {key: value for key, value in page.items() if not (key == "items" and isinstance(value, list))}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"7",
        b"null",
        b"{",
        b"{}{}",
        b'{"a": 1,}',
        b'{"items": [1,]}',
        b'{"items": [1 2]}',
        b'{"items": [1',
        b'{"items": [{"a": 1}',
        b'{"a" 1}',
        b"\xff{}",
    ],
)
def test_what_is_no_object_is_refused(raw) -> None:
    with pytest.raises(ValueError):
        read_page(raw, lambda item: None)


def test_every_cut_of_a_page_is_refused() -> None:
    raw = json.dumps(PAGES[3]).encode()
    for length in range(len(raw)):
        with pytest.raises(ValueError):
            read_page(raw[:length], lambda item: None)
