from __future__ import annotations

import re
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.model.session import moment, rfc3339


def test_utc_with_nanoseconds():
    assert rfc3339(1_767_323_045_000_000_006) == "2026-01-02T03:04:05.000000006Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000000000Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999999Z"


@given(st.integers())
def test_any_number_is_told_as_a_time(time_ns):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", rfc3339(time_ns))


@pytest.mark.parametrize(("time_ns", "year"), [((1 << 40) * 10**9, "9999"), (-(1 << 80), "1000")])
def test_one_beyond_all_years_is_the_nearest_day(time_ns, year):
    assert rfc3339(time_ns).startswith(f"{year}-")


def test_a_moment_is_that_of_its_zone():
    assert moment(86_400, timezone.utc) == datetime(1970, 1, 2, tzinfo=timezone.utc)
    assert moment(86_400, None).tzinfo is None
