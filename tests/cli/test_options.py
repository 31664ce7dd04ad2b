from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.cli._options import Shown, urls_of
from clovisor_py.cli._types import UNITS, Duration, Hint, Status
from clovisor_py.errors import UsageError
from clovisor_py.model.session import Outcome
from tests.support.sessions import session


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("100ms", 100_000_000),
        ("2s", 2_000_000_000),
        ("1.5m", 90_000_000_000),
        ("57us", 57_000),
        ("57µs", 57_000),
        ("1H", UNITS["h"]),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert Duration().convert(text, None, None) == ns


@pytest.mark.parametrize("text", ["5parsecs", "100", "ms", "-1s", "1e9s", "1 s", "", "9" * 40 + "s"])
def test_what_is_no_duration_is_said(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no duration: write 100ms, 2s or"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize("text", ["0s", "0ns", "0.0h", "0.1ns"])
def test_no_time_at_all_is_none_to_trace_for(text: str) -> None:
    assert Duration().convert(text, None, None) == 0
    with pytest.raises(click.BadParameter, match="is no time at all: write 30s or 5m, or leave it out"):
        Duration(positive=True).convert(text, None, None)


@pytest.mark.parametrize("text", ["9999h", "999999999s", "999999999h"])
def test_a_mistaken_unit_is_said(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is more than a year: write 30s, 5m or 12h"):
        Duration(positive=True).convert(text, None, None)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_sentence(text: str) -> None:
    try:
        assert Duration().convert(text, None, None) >= 0
    except click.BadParameter as error:
        assert "\n" not in str(error).replace(text, "")


def test_hints() -> None:
    assert Hint().convert("8080=HTTP", None, None) == (8080, "http")
    for text in ("http", "8080", "0=http", "65536=http", "8080="):
        with pytest.raises(click.BadParameter, match="is no hint: write PORT=PROTOCOL"):
            Hint().convert(text, None, None)
    with pytest.raises(click.BadParameter, match="no protocol named 'gopher'"):
        Hint().convert("70=gopher", None, None)


def shown(**asked) -> Shown:
    return Shown("line", (), (), (), (), "default", **asked)


def passes(one, **asked) -> bool:
    keep = shown(**asked).filter
    return keep is None or keep(one)


def test_filters_hold_together() -> None:
    one = session(status="503", outcome=Outcome.ERROR, resource="/api/orders", duration_ns=150_000_000)
    assert shown().filter is None
    assert passes(one, ports=(80, 81), path="/api", statuses=("5xx",), slower_ns=100_000_000)
    assert not passes(one, ports=(81,))
    assert not passes(one, path="/orders")
    assert passes(one, path="*/orders")
    assert passes(one, not_paths=("/healthz", "/orders"))
    assert not passes(one, not_paths=("/healthz", "/api"))
    assert passes(one, peers=("10.0.0.0/8",)) and not passes(one, not_peers=("10.0.0.0/8",))
    assert not passes(one, slower_ns=150_000_001)


@pytest.mark.parametrize("status", ["503", "5xx", "5XX", "error"])
def test_a_status_a_class_or_an_outcome(status: str) -> None:
    assert passes(session(status="503", outcome=Outcome.ERROR), statuses=(status,))
    assert not passes(session(), statuses=(status,))
    assert passes(session(status="", outcome=Outcome.TIMEOUT), statuses=(status, "timeout"))


@pytest.mark.parametrize("text", ["DEADLINE_EXCEEDED", "Deadline_Exceeded", "deadline_exceeded"])
def test_no_matter_in_which_case(text: str) -> None:
    assert passes(session(status="DEADLINE_EXCEEDED"), statuses=(Status().convert(text, None, None),))
    assert passes(session(status="", outcome=Outcome.TIMEOUT), statuses=(Status().convert("TimeOut", None, None),))


def test_what_a_line_says_is_a_status() -> None:
    still_open = session(status="", outcome=Outcome.CLOSED, attributes={"clovisor.end": "still open"})
    assert passes(still_open, statuses=("open",)) and not passes(session(), statuses=("open",))


@pytest.mark.parametrize(
    "text", ["404", "5xx", "2XX", "timeout", "one_way", "NXDOMAIN", "nxdomain", "42P01", "23505", "WRONGTYPE", "not seen"]
)
def test_what_can_be_a_status(text: str) -> None:
    assert Status().convert(text, None, None) == text


@pytest.mark.parametrize("text", ["9xx", "0", "20", "5x", "", "Not Found", "-1", "/x"])
def test_what_cannot(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no status: write 404, 5xx, a name, or an outcome"):
        Status().convert(text, None, None)


def test_standard_output_takes_one_thing() -> None:
    assert urls_of("json", ["jsonl:x"]) == ["console:?format=json", "jsonl:x"]
    assert urls_of("line", ["jsonl:-", "jsonl:x"]) == ["jsonl:-", "jsonl:x"], "and no lines among the objects"
    assert urls_of("line", [], raw=True) == []
    for output, exports, raw in (("wide", ["jsonl:-"], False), ("line", ["jsonl:-"], True), ("json", [], True)):
        with pytest.raises(UsageError, match="standard output can take one thing"):
            urls_of(output, exports, raw)
