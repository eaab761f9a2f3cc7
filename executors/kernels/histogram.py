"""Rows counted by the bins of a reference: what executors tell of versions that have one."""

from __future__ import annotations

import math
from typing import Final

import numba

from executors.kernels.kernel import Array
from schemas.reference import MeasureKind

KINDS: Final[dict[MeasureKind, int]] = {
    "element": 0, "mean": 1, "deviation": 2, "largest": 3, "class": 4, "length": 0, "bucket": 0, "axis": 0,
}  # fmt: skip
"""Numbers of the kinds of measures; 0: the value of a column."""
LOW, HIGH, CENTRE, SCALE = range(4)
"""Columns of ``limits``."""
MISSING, BELOW, ABOVE, SHIFT = range(4)
"""Columns of ``sums``."""
MOST_MILLI: Final = 1_000_000.0

_TALLY: Final = (
    "void(float64[:, ::1], int64, int64[::1], int64[::1], float64[:, ::1], float64[:, ::1], int64[:, ::1], "
    "int64[:, ::1])"
)


@numba.njit(_TALLY, cache=True, nogil=True)
def tally(
    rows: Array, width: int, kinds: Array, places: Array, edges: Array, limits: Array, bins: Array, sums: Array
) -> None:
    """Add each of ``rows`` to ``bins`` and ``sums``, measure by measure.

    rows: float64 [n, w]; measures of a whole row are of its first ``width`` columns. Per measure (m of them): kinds
    int64 [m] (``KINDS``), places int64 [m], the column of an element; edges float64 [m, b], ascending, then infinity;
    limits float64 [m, 4]; bins int64 [m, b + 1] and sums int64 [m, 4] are added to. A value that is not finite is only
    counted as missing.
    """
    num_edges = edges.shape[1]
    is_whole = False
    for j in range(len(kinds)):
        is_whole = is_whole or kinds[j] > 0
    for i in range(len(rows)):
        mean = deviation = largest = first = math.nan
        if is_whole:
            total, present = 0.0, 0
            for k in range(width):
                value = rows[i, k]
                if math.isfinite(value):
                    total += value
                    present += 1
                    if not largest >= value:
                        largest, first = value, float(k)
            if present:
                mean, squares = total / present, 0.0
                for k in range(width):
                    value = rows[i, k]
                    if math.isfinite(value):
                        squares += (value - mean) * (value - mean)
                deviation = math.sqrt(squares / present)
        for j in range(len(kinds)):
            kind = kinds[j]
            if kind == 0:
                value = rows[i, places[j]]
            elif kind == 1:
                value = mean
            elif kind == 2:
                value = deviation
            elif kind == 3:
                value = largest
            else:
                value = first
            if not math.isfinite(value):
                sums[j, 0] += 1
                continue
            at = 0
            for k in range(num_edges):
                at += edges[j, k] <= value
            bins[j, at] += 1
            sums[j, 1] += value < limits[j, 0]
            sums[j, 2] += value > limits[j, 1]
            milli = (value - limits[j, 2]) / limits[j, 3] * 1000.0
            sums[j, 3] += math.floor(min(max(milli, -MOST_MILLI), MOST_MILLI) + 0.5)
