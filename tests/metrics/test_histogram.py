import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from clovisor_py.metrics.histogram import LONGEST_NS, RELATIVE_ERROR, SUB_BUCKETS, Histogram

DURATIONS = st.lists(st.integers(0, 10**12), min_size=1, max_size=200)


def filled(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(DURATIONS, st.floats(0, 1))
def test_every_quantile_is_right_to_three_per_cent(values, q):
    exact = sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]
    assert abs(filled(values).quantile(q) - exact) <= exact * RELATIVE_ERROR + 1


@given(DURATIONS)
def test_counts_sums_and_extremes_are_exact(values):
    histogram = filled(values)
    assert (histogram.count, histogram.total_ns) == (len(values), sum(values))
    assert (histogram.min_ns, histogram.max_ns) == (min(values), max(values))
    assert sum(count for _, _, count in histogram.buckets()) == len(values)


@given(DURATIONS, DURATIONS)
def test_merging_is_adding(one, other):
    merged, apart = filled(one), filled(other)
    merged.merge(apart)
    whole = filled(one + other)
    assert list(merged.buckets()) == list(whole.buckets())
    for field in ("count", "total_ns", "min_ns", "max_ns"):
        assert getattr(merged, field) == getattr(whole, field)
    assert apart.count == len(other)


@given(st.integers(0, LONGEST_NS))
def test_a_value_lies_in_its_bucket_and_buckets_are_narrow(value):
    [(low, high, count)] = filled([value]).buckets()
    assert low <= value <= high
    assert count == 1
    assert high - low <= low / SUB_BUCKETS


def test_buckets_are_contiguous():
    bounds = list(filled(range(5000)).buckets())
    assert bounds[0][:2] == (0, 0)
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(bounds))


def test_the_memory_is_bounded_whatever_comes():
    histogram = filled([v for bit in range(80) for v in range(1 << bit, 2 << bit, max((1 << bit) // 64, 1))])
    assert len(histogram.counts) <= 960
    assert histogram.max_ns == LONGEST_NS


def test_empty_and_odd_values():
    empty = Histogram()
    assert (empty.quantile(0.5), list(empty.buckets())) == (0, [])
    other = filled([5])
    other.merge(empty)
    empty.merge(other)
    assert (empty.count, empty.min_ns) == (1, 5)
    assert filled([-3]).max_ns == 0
    assert filled([7, 9]).quantile(-1) == 7
    assert filled([7, 9]).quantile(2) == 9
