"""Samples of different density put together: shares come out as those of the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.statistics import MeasureCounts
from streams.strata import kept, rounded, thinned


def test_the_denser_sample_is_thinned_to_the_other() -> None:
    assert kept(100, 100, 9_000, 900) == (90_000, 900_000)
    assert kept(9_000, 900, 100, 100) == (1, 1)
    counts = thinned(MeasureCounts((80, 20), 5, 10, 0, -350), *kept(100, 100, 9_000, 900))
    assert counts == MeasureCounts((8, 2), 1, 1, 0, -35)


@pytest.mark.parametrize("numbers", [(0, 0, 9, 9), (9, 9, 0, 0), (9, 0, 9, 9), (9, 9, 9, 0), (9, 9, -5, 9)])
def test_where_one_of_them_is_empty_nothing_is_thinned(numbers: tuple[int, int, int, int]) -> None:
    assert kept(*numbers) == (1, 1)
    counts = MeasureCounts((1, 2), 0, 0, 0, 7)
    assert thinned(counts, 1, 1) is counts


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 200), st.integers(1, 200))
def test_afterwards_both_are_as_dense_as_the_less_dense_one(ran: int, cached: int, seen: int, found: int) -> None:
    seen, found = min(seen, ran), min(found, cached)
    here, there = rounded(seen, *kept(ran, seen, cached, found)), rounded(found, *kept(cached, found, ran, seen))
    density = min(seen / ran, found / cached)
    assert abs(here - density * ran) <= 0.5 + 1e-6
    assert abs(there - density * cached) <= 0.5 + 1e-6
    assert (here, there) != (0, 0) or density * max(ran, cached) < 1
