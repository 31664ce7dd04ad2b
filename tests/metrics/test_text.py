"""The page says what prometheus_client's own writers say, in both formats, and lets other threads in meanwhile."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition as text
from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics

from clovisor_py.metrics import _text
from clovisor_py.metrics._text import BREATH_SAMPLES, OPENMETRICS, TEXT, page, wanted

VALUES = st.integers(0, 10**5) | st.floats(0, 1e5)
"""From a million on prometheus_client writes them with an exponent, as Go does; either is read."""
LABELS = st.tuples(st.text(max_size=8), st.text(max_size=8))
EXEMPLAR = st.builds(Exemplar, st.fixed_dictionaries({"trace_id": st.text(max_size=8)}), VALUES, st.floats(1, 2e9))
BUCKET = st.tuples(VALUES) | st.tuples(VALUES, EXEMPLAR)


class Told:
    """What prometheus_client's writers read."""

    def __init__(self, families):
        self._families = families

    def collect(self):
        return self._families


@st.composite
def families(draw):
    calls = CounterMetricFamily("calls", 'a "word"\\ and\nanother', labels=["a", "b"])
    waiting = GaugeMetricFamily("waiting", "w")
    durations = HistogramMetricFamily("duration_seconds", "d", labels=["a", "b"])
    for labels in draw(st.lists(LABELS, unique=True, max_size=4)):
        calls.add_metric(labels, draw(VALUES))
        buckets = [(bound, *draw(BUCKET)) for bound in ("0.005", "1.0", "+Inf")]
        durations.add_metric(labels, buckets, draw(st.none() | VALUES))
    waiting.add_metric([], draw(VALUES))
    return [calls, waiting, durations]


@given(families())
def test_it_is_what_prometheus_client_writes(made):
    assert page(made, TEXT) == text.generate_latest(Told(made))
    assert page(made, OPENMETRICS) == openmetrics.generate_latest(Told(made))


def test_numbers_that_python_writes_otherwise():
    made = GaugeMetricFamily("x", "x", labels=["l"])
    for value in (math.inf, -math.inf, math.nan):
        made.add_metric([str(value)], value)
    assert page([made], TEXT).decode().splitlines()[2:] == ['x{l="inf"} +Inf', 'x{l="-inf"} -Inf', 'x{l="nan"} NaN']


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain",
            OPENMETRICS,
        ),
        ("text/plain;version=0.0.4, application/openmetrics-text", TEXT),
        ("application/vnd.google.protobuf, Application/OpenMetrics-Text; version=9;escaping=dots", OPENMETRICS),
        ("application/openmetrics-text; version=x", OPENMETRICS),
    ],
)
def test_whoever_asks_gets_one_of_two_formats(accept, content_type):
    assert wanted(accept) == content_type


def test_others_get_a_word_in(monkeypatch):
    pauses = []
    monkeypatch.setattr(_text.time, "sleep", pauses.append)
    made = GaugeMetricFamily("x", "x", labels=["l"])
    for number in range(3 * BREATH_SAMPLES):
        made.add_metric([str(number)], number)
    page([made], TEXT)
    assert len(pauses) == 3
