"""Histograms of latencies: quantiles within a tenth, integers, and what is old weighs less."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.latency import FIRST_US, MEMORY, UNKNOWN, Latencies


def of(samples: list[int], subject: int = 0, subjects: int = 1) -> Latencies:
    numbers = np.full(len(samples), subject, np.int64)
    return Latencies.none().for_subjects(subjects).plus(numbers, np.array(samples, np.int64))


@given(st.lists(st.integers(FIRST_US, 60_000_000), min_size=20, max_size=400), st.integers(1, 99))
def test_a_quantile_is_the_sample_or_up_to_a_tenth_more(samples: list[int], percent: int) -> None:
    (found,) = of(samples).quantiles((percent,), at_least=20)
    exact = sorted(samples)[-(-len(samples) * percent // 100) - 1]
    assert exact <= found[0] <= exact + exact // 10 + 1


def test_with_too_few_samples_nothing_is_known() -> None:
    known = of([500] * 99, 1, 3).quantiles((50, 95), at_least=100)
    assert [each.tolist() for each in known] == [[UNKNOWN] * 3] * 2
    p50, p95 = of([500] * 100, 1, 3).quantiles((50, 95), at_least=100)
    assert p50.tolist() == p95.tolist()
    assert p50.tolist()[::2] == [UNKNOWN] * 2
    assert 500 <= p50[1] <= 550


def test_subjects_are_apart_and_more_of_them_keep_what_there_is() -> None:
    both = of([1_000] * 50, 0, 2).plus(np.ones(50, np.int64), np.full(50, 90_000)).for_subjects(3)
    (found,) = both.quantiles((50,), at_least=50)
    assert 1_000 <= found[0] <= 1_100
    assert 90_000 <= found[1] <= 99_000
    assert found[2] == UNKNOWN
    assert both.for_subjects(2) is both


def test_what_is_old_is_outweighed_and_the_table_does_not_grow() -> None:
    table = of([1_000] * 800)
    for _ in range(20):
        table = table.plus(np.zeros(100, np.int64), np.full(100, 50_000))
        assert table.counts.sum() < MEMORY
    (found,) = table.quantiles((50,), at_least=1)
    assert 50_000 <= found[0] <= 55_000


def test_none_at_all_and_lengths_out_of_range() -> None:
    assert [len(each) for each in Latencies.none().quantiles((50, 95), at_least=1)] == [0, 0]
    (found,) = of([0, 1 << 50]).quantiles((100,), at_least=1)
    assert found[0] > 300_000_000
