"""Two samples of one whole, one taken more densely: that one is thinned, so that both weigh right. Pure.

Rows that run and rows that the cache answers are sampled by different processes, each up to its bound. Put together as
they are, the smaller part of the traffic would count as much as the larger one. Thinned counts are at most the counted
ones, so what is said of chance (``streams.histogram.psi_by_chance``) is rather too careful than not careful enough.
"""

from __future__ import annotations

from schemas.statistics import MeasureCounts


def kept(num_rows: int, num_sampled: int, other_rows: int, other_sampled: int) -> tuple[int, int]:
    """Which part of a sample stays, as numerator and denominator: 1 of 1 where the other is as dense or denser.

    ``num_sampled`` of ``num_rows`` rows were looked at here, ``other_sampled`` of ``other_rows`` there.
    """
    if min(num_rows, num_sampled, other_rows, other_sampled) < 1:
        return 1, 1
    part, whole = other_sampled * num_rows, other_rows * num_sampled
    return (part, whole) if part < whole else (1, 1)


def thinned(counts: MeasureCounts, part: int, whole: int) -> MeasureCounts:
    """Counts times ``part`` / ``whole``, each rounded; in whole numbers, so that every machine agrees."""
    if part >= whole:
        return counts
    return MeasureCounts(
        tuple([rounded(each, part, whole) for each in counts.bins]), rounded(counts.num_missing, part, whole),
        rounded(counts.num_below, part, whole), rounded(counts.num_above, part, whole),
        rounded(counts.shift_milli, part, whole),
    )  # fmt: skip


def rounded(count: int, part: int, whole: int) -> int:
    """``count`` x ``part`` / ``whole``, rounded to the nearest, half up."""
    return (2 * count * part + whole) // (2 * whole)
