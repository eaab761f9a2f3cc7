"""Rows and items of a batch that are clients': those of checks count neither for breakers nor for drift. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from executors.executed import Work
from executors.row_slice import RowSlice
from streams.check_rows import client_rows, has_checks
from streams.columns import Array


def num_client_rows(slices: Sequence[RowSlice]) -> int:
    """How many rows of a batch are clients'."""
    num_rows = sum([each.num_rows for each in slices])
    if not any(has_checks(each.frame.frame) for each in slices):
        return num_rows
    return sum([int(np.count_nonzero(_mine(each))) for each in slices])


def client_items(slices: Sequence[RowSlice]) -> Array | None:
    """Which items of a batch are clients', as ascending places (int64); None for all of them, as nearly always."""
    if not any(has_checks(each.frame.frame) for each in slices):
        return None
    return np.flatnonzero(np.concatenate([np.repeat(_mine(each), each.row_items) for each in slices]))


def _mine(row_slice: RowSlice) -> Array:
    """Which rows of a slice are clients', bool [n]."""
    work: Work = row_slice.frame
    mine = client_rows(work.frame)
    if mine is None:
        return np.ones(row_slice.num_rows, np.bool_)
    first = work.starts[row_slice.segment] + row_slice.first_row
    return mine[first : first + row_slice.num_rows]
