"""How far two histograms over the same bins are apart: PSI and KS, with what chance alone would make of it. Pure.

Plain Python over counts, and every result rounded to ``DIGITS`` digits: what is compared must not differ by machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

DIGITS: Final = 4
PRIOR: Final = 0.5
"""Rows added to every bin (Jeffreys' prior), so that an empty one has a logarithm."""
Z: Final = 4.0
"""Standard normal quantile of ``psi_by_chance``: 3.2e-5 on one side, 0.3 % over 96 measures (Bonferroni)."""
_TERMS: Final = 100


def psi(expected: Sequence[int], actual: Sequence[int]) -> float:
    """Population stability index: the sum over the bins of (a - e) ln(a / e), of the shares of rows.

    Symmetric, 0 for equal shares. The usual reading (Siddiqi 2006): below 0.1 no change, from 0.2 or 0.25 a large one.
    """
    num_bins = len(expected)
    of_expected = sum(expected) + PRIOR * num_bins
    of_actual = sum(actual) + PRIOR * num_bins
    total = 0.0
    for e, a in zip(expected, actual, strict=True):
        share_e, share_a = (e + PRIOR) / of_expected, (a + PRIOR) / of_actual
        total += (share_a - share_e) * math.log(share_a / share_e)
    return round(total, DIGITS)


def psi_by_chance(num_expected: int, num_actual: int, num_bins: int) -> float:
    """What the PSI of two samples of one distribution exceeds with a chance of 3.2e-5 (``Z``); 0 for a single bin.

    PSI / (1/n + 1/m) is distributed as chi-square with bins - 1 degrees of freedom (Yurdakul 2018, "Statistical
    properties of population stability index"); its quantile by Wilson and Hilferty 1931, which is up to 9 % too large
    for few bins.
    """
    degrees = num_bins - 1
    if degrees < 1 or num_expected < 1 or num_actual < 1:
        return 0.0
    ninth = 2 / (9 * degrees)
    quantile = degrees * (1 - ninth + Z * math.sqrt(ninth)) ** 3
    return round(quantile * (1 / num_expected + 1 / num_actual), DIGITS)


def ks(expected: Sequence[int], actual: Sequence[int]) -> float:
    """Kolmogorov-Smirnov distance, 0 to 1: the largest difference of the distribution functions at the bins' edges.

    At most that of the values themselves, which may differ more inside a bin.
    """
    of_expected, of_actual = max(sum(expected), 1), max(sum(actual), 1)
    sum_e = sum_a = 0
    largest = 0.0
    for e, a in zip(expected, actual, strict=True):
        sum_e, sum_a = sum_e + e, sum_a + a
        largest = max(largest, abs(sum_e / of_expected - sum_a / of_actual))
    return round(largest, DIGITS)


def ks_p(distance: float, num_expected: int, num_actual: int) -> float:
    """Chance of such a KS distance between two samples of one distribution (two-sided, asymptotic).

    Kolmogorov's series at Stephens' argument (1970) of the effective sample size n m / (n + m). Ties, of which bins are
    full, make the true chance smaller.
    """
    if num_expected < 1 or num_actual < 1:
        return 1.0
    root = math.sqrt(num_expected * num_actual / (num_expected + num_actual))
    argument = (root + 0.12 + 0.11 / root) * distance
    if argument < 0.2:  # the series converges slowly there; the chance is 1 to 1e-12
        return 1.0
    total = 0.0
    for k in range(1, _TERMS):
        term = math.exp(-2 * (k * argument) ** 2)
        total += term if k % 2 else -term
        if term < 1e-12:
            break
    return round(min(max(2 * total, 0.0), 1.0), DIGITS)
