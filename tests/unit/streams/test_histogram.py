"""PSI and KS against SciPy, against formulas written out, and against published examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from streams.histogram import PRIOR, Z, ks, ks_p, psi, psi_by_chance

COUNTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=12)


def test_psi_by_hand() -> None:
    expected, actual = (100, 200, 700), (300, 300, 400)
    shares_e = [(e + PRIOR) / (1000 + 3 * PRIOR) for e in expected]
    shares_a = [(a + PRIOR) / (1000 + 3 * PRIOR) for a in actual]
    by_hand = sum((a - e) * math.log(a / e) for e, a in zip(shares_e, shares_a, strict=True))
    assert psi(expected, actual) == pytest.approx(by_hand, abs=1e-4)
    assert by_hand == pytest.approx(0.2 * math.log(3) + 0.1 * math.log(1.5) - 0.3 * math.log(4 / 7), abs=2e-3)


def test_psi_is_the_two_kullback_leibler_divergences_of_scipy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        expected, actual = rng.integers(0, 300, (2, 10))
        p, q = ((counts + PRIOR) / (counts + PRIOR).sum() for counts in (expected, actual))
        wanted = stats.entropy(p, q) + stats.entropy(q, p)
        assert psi(expected.tolist(), actual.tolist()) == pytest.approx(wanted, abs=5.1e-5)


@given(COUNTS)
def test_psi_is_symmetric_never_negative_and_zero_for_the_same(pairs: list[tuple[int, int]]) -> None:
    expected, actual = zip(*pairs, strict=True)
    assert psi(expected, actual) == psi(actual, expected) >= 0
    assert psi(expected, expected) == 0


@pytest.mark.parametrize("num_bins", [2, 3, 5, 10, 20, 65])
def test_what_chance_makes_of_psi_is_scipys_chi_square_or_a_little_more(num_bins: int) -> None:
    quantile = stats.chi2.isf(stats.norm.sf(Z), num_bins - 1)
    found = psi_by_chance(500, 2_000, num_bins)
    assert 0.99 < found / (quantile * (1 / 500 + 1 / 2_000)) < (1.1 if num_bins < 5 else 1.04)


def test_a_single_bin_or_no_rows_have_no_chance() -> None:
    assert psi_by_chance(100, 100, 1) == psi_by_chance(0, 100, 10) == 0


def test_samples_of_one_distribution_hardly_ever_exceed_chance_and_of_another_do() -> None:
    rng = np.random.default_rng(2)
    edges = np.quantile(rng.normal(size=100_000), np.arange(0.1, 1, 0.1))

    def counts(shift: float, size: int) -> list[int]:
        found: list[int] = np.bincount(np.searchsorted(edges, rng.normal(shift, 1, size)), minlength=10).tolist()
        return found

    bound = psi_by_chance(500, 300, 10)
    same = [psi(counts(0, 500), counts(0, 300)) for _ in range(2_000)]
    assert sum(value > bound for value in same) <= 2
    assert all(psi(counts(0, 500), counts(0.8, 300)) > bound for _ in range(100))


def test_ks_of_values_that_sit_on_bins_is_scipys() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        left, right = rng.integers(0, 10, 200), rng.integers(0, rng.integers(5, 11), 150)
        histograms = [np.bincount(values, minlength=10).tolist() for values in (left, right)]
        assert ks(*histograms) == pytest.approx(stats.ks_2samp(left, right).statistic, abs=5.1e-5)


def test_ks_of_bins_is_at_most_that_of_the_values() -> None:
    rng = np.random.default_rng(4)
    edges = np.quantile(rng.normal(size=1_000), np.arange(0.1, 1, 0.1))
    for _ in range(30):
        left, right = rng.normal(size=300), rng.normal(0.3, 1, 200)
        histograms = [np.bincount(np.searchsorted(edges, v, "right"), minlength=10).tolist() for v in (left, right)]
        exact = stats.ks_2samp(left, right).statistic
        assert exact - 0.1 < ks(*histograms) <= exact + 5e-5


@pytest.mark.parametrize("distance", [0.01, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2])
@pytest.mark.parametrize("sizes", [(500, 400), (1_000, 120), (5_000, 5_000)])
def test_the_chance_of_a_ks_distance_is_scipys(distance: float, sizes: tuple[int, int]) -> None:
    n, m = sizes
    effective = n * m / (n + m)
    assert ks_p(distance, n, m) == pytest.approx(stats.kstwo.sf(distance, round(effective)), abs=0.01)


def test_the_critical_values_of_kolmogorov() -> None:
    # Smirnov 1948: 1.3581 and 1.6276 times 1 / sqrt(n) are exceeded by chance in 5 % and 1 % of large samples.
    for value, chance in ((1.3581, 0.05), (1.6276, 0.01)):
        assert ks_p(value / math.sqrt(500_000), 10**6, 10**6) == pytest.approx(chance, abs=2e-4)


def test_no_distance_is_certain_and_no_rows_say_nothing() -> None:
    assert ks_p(0.0, 100, 100) == ks_p(0.5, 0, 100) == 1.0
    assert ks((), ()) == psi((), ()) == 0.0
