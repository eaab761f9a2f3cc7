"""Rows of a tensor, gathered and counted."""

from __future__ import annotations

import numpy as np

from executors.tally import CAPACITY, TensorTally
from schemas.reference import Measure, SampledTensor
from schemas.statistics import MeasureCounts

FIRST = Measure("x[0]", "element", 0, (0.5, 1.5), (), 0, 0.0, 2.0, 1.0, 0.5)
LAST = Measure("x[4]", "element", 4, (10.0,), (), 0, 0.0, 9.0, 0.0, 0.0)


def test_rows_are_counted_whatever_their_type_and_however_many() -> None:
    tally = TensorTally(SampledTensor("x", False, 6, 1, (FIRST, LAST)))
    rows = np.zeros((CAPACITY + 70, 2, 3), np.uint8)
    rows[:, 0, 0] = np.arange(len(rows)) % 3
    rows[:, 1, 1] = 200
    tally.add(rows[:100], slice(None))
    tally.add(rows[100:], slice(None))
    first, last = tally.take()
    assert (first.bins, first.num_below, first.num_above) == ((66, 66, 66), 0, 0)
    assert last == MeasureCounts((0, 198), 0, 0, 198, 198 * 200_000)
    assert tally.take()[0].bins == (0, 0, 0)


def test_only_each_stride_th_element_is_looked_at() -> None:
    tally = TensorTally(SampledTensor("x", False, 6, 4, (LAST,)))
    tally.add(np.array([[1, 2, 3, 4, 50, 6]], np.float32), slice(None))
    assert tally.take()[0].bins == (0, 1)
    tally.add(np.array([[1, 2, 3, 4, 50, 6], [0] * 6], np.float32), np.array([1, 0, 1]))
    assert tally.take()[0].bins == (2, 1)


def test_picked_items_count_as_often_as_they_are_picked() -> None:
    tally = TensorTally(SampledTensor("x", False, 1, 1, (FIRST,)))
    tally.add(np.array([[0], [1], [2]], np.int64), np.array([2, 2, 0]))
    tally.add(np.array([[0], [1], [2], [2]], np.int64), slice(0, 4, 2))
    assert tally.take()[0].bins == (2, 0, 3)


def test_items_of_another_size_are_left_out() -> None:
    tally = TensorTally(SampledTensor("x", False, 1, 1, (FIRST,)))
    tally.add(np.zeros((4, 2)), slice(None))
    assert tally.take()[0].bins == (0, 0, 0)
