"""What no collector would take is said otherwise, or left out and counted."""

import json

import pytest
from hypothesis import given

from clovisor_py.exporters._bounds import ATTRIBUTES_BYTES, DROPPED, NAME_CHARS, TEXT_CHARS, clean, text
from tests.support.sessions import ANY_TEXT, ATTRIBUTES


@given(ATTRIBUTES)
def test_what_is_clean_is_json_and_utf8_and_stays_as_it_is(attributes):
    said = clean(attributes)
    json.dumps(said, allow_nan=False)
    for key, value in said.items():
        key.encode()
        str(value).encode()
    assert clean(said) == said


@given(ANY_TEXT)
def test_text_is_utf8(said):
    text(said, 10).encode()
    assert len(text(said, 10)) <= 10
    if said.isascii() and len(said) <= 10:
        assert text(said, 10) == said


def test_text_without_a_letter():
    assert text("", 10) == ""


@pytest.mark.parametrize("many", [{f"{i}": "日" * 4000 for i in range(50)}, {f"{i}": True for i in range(9000)}])
def test_what_is_left_out_is_counted(many):
    said = clean(many)
    assert 0 < len(said) - 1 < len(many)
    assert said[DROPPED] == len(many) - len(said) + 1
    assert sum(len(str(value).encode()) for value in said.values()) <= ATTRIBUTES_BYTES


def test_two_names_that_become_one_are_one():
    assert clean({"k" * 300: 1, "k" * 301: 2}) == {"k" * (NAME_CHARS - 1) + "…": 1, DROPPED: 1}


def test_a_list_is_a_list_as_long_as_it_is_short():
    assert clean({"a": ["x", "\ud800"]}) == {"a": ["x", "?"]}
    assert clean({"a": ["x"] * 9999})["a"].startswith('["x", "x"')
    assert len(clean({"a": ["x"] * 9999})["a"]) == TEXT_CHARS
