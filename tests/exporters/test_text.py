import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.exporters._text import brief, cells, clip, duration, fit, percent
from clovisor_py.model.text import printable
from tests.support.sessions import ANY_TEXT

US, MS, S = 1_000, 1_000_000, 1_000_000_000


@given(ANY_TEXT, st.integers(2, 40))
def test_a_column_is_exactly_as_wide_as_it_says(text, width):
    assert cells(fit(text, width)) == width
    assert cells(clip(text, width)) <= width
    assert fit(text, width).isprintable()


@given(ANY_TEXT)
def test_what_fits_is_not_changed(text):
    assert clip(text, 1000) == printable(text)
    assert fit(text, 1000).rstrip(" ") == printable(text).rstrip(" ")


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abc", 5, "abc  "),
        ("abcdef", 5, "abcd…"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日… "),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
    ],
)
def test_cutting_counts_cells(text, width, shown):
    assert fit(text, width) == shown


def test_a_very_long_text_is_not_looked_at_to_its_end():
    assert fit("\u0301" * 1_000_000, 5) == "\u0301" * 20 + "…    "
    assert fit("a" * 1_000_000, 5) == "aaaa…"


@pytest.mark.parametrize(
    ("ns", "long", "short"),
    [
        (0, "0 µs", "0 µs"),
        (57 * US + 999, "57 µs", "58 µs"),
        (999 * US, "999 µs", "999 µs"),
        (4_100 * US, "4.1 ms", "4.1 ms"),
        (11 * MS, "11.0 ms", "11 ms"),
        (212 * MS, "212.0 ms", "212 ms"),
        (999_960 * US, "1.0 s", "1.0 s"),
        (30 * S, "30.0 s", "30 s"),
        (9_999 * S, "9999.0 s", "9999 s"),
        (86_400 * S, "24.0 h", "86400 s"),
    ],
)
def test_durations(ns, long, short):
    assert (duration(ns), brief(ns)) == (long, short)


@given(st.integers(-5, 99 * 365 * 86_400 * S))
def test_durations_have_a_bounded_width(ns):
    assert len(duration(ns)) <= len("212.0 ms")
    assert re.fullmatch(r"\d+(\.\d)? (µs|ms|s|h)", duration(ns))
    assert re.fullmatch(r"\d+(\.\d)? (µs|ms|s)", brief(ns))


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (0, 9, "0 %"),
        (1, 10_000, "<0.1 %"),
        (17, 1204, "1.4 %"),
        (12, 100, "12 %"),
        (9999, 10_000, "99 %"),
        (7, 7, "100 %"),
    ],
)
def test_percentages_do_not_round_something_to_nothing(part, whole, text):
    assert percent(part, whole) == text
