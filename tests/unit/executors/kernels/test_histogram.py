"""Counting rows: the compiled function and its numpy twin agree."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.kernels.histogram import ABOVE, BELOW, KINDS, MISSING, SHIFT, tally
from executors.kernels.kernel import Array
from executors.reference import values_of

NUMBERS = st.floats(-50, 50, width=32) | st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0])
KIND_OF = {KINDS[kind]: kind for kind in ("element", "mean", "deviation", "largest", "class")}


def twin(rows: Array, width: int, kinds: Array, places: Array, edges: Array, limits: Array) -> tuple[Array, Array]:
    """The same with numpy, measure by measure."""
    bins = np.zeros((len(kinds), edges.shape[1] + 1), np.int64)
    sums = np.zeros((len(kinds), 4), np.int64)
    for j, kind in enumerate(kinds):
        values = values_of(rows, width, KIND_OF[kind], places[j])
        present = values[np.isfinite(values)]
        low, high, centre, scale = limits[j]
        bins[j] = np.bincount(np.searchsorted(edges[j], present, "right"), minlength=edges.shape[1] + 1)
        sums[j, MISSING] = len(values) - len(present)
        sums[j, BELOW], sums[j, ABOVE] = (present < low).sum(), (present > high).sum()
        milli = np.clip((present - centre) / scale * 1000, -1e6, 1e6)
        sums[j, SHIFT] = np.floor(milli + 0.5).astype(np.int64).sum()
    return bins, sums


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=0, max_size=12), st.integers(1, 3))
def test_the_compiled_function_and_its_twin_agree(given_rows: list[list[float]], width: int) -> None:
    rows = np.array(given_rows, np.float64).reshape(len(given_rows), 3)
    kinds = np.array([KINDS[kind] for kind in ("element", "element", "largest", "class")], np.int64)
    places = np.array([0, 2, 0, 0], np.int64)
    edges = np.array([[-1.0, 0.0, 5.0], [0.0, np.inf, np.inf], [1.0, 2.0, np.inf], [0.5, 1.5, np.inf]])
    limits = np.array([[-10, 10, 0, 2], [0, 1, 1, 0.001], [-5, 5, 0, 1], [0, 2, 1, 1]], np.float64)
    bins, sums = np.zeros((4, 4), np.int64), np.zeros((4, 4), np.int64)
    tally(rows, width, kinds, places, edges, limits, bins, sums)
    wanted = twin(rows, width, kinds, places, edges, limits)
    np.testing.assert_array_equal(bins, wanted[0])
    np.testing.assert_array_equal(sums, wanted[1])


def test_mean_and_deviation_are_of_the_finite_elements() -> None:
    rows = np.array([[1.0, 3.0, np.nan], [np.nan] * 3, [2.0, 2.0, 2.0]])
    kinds = np.array([KINDS["mean"], KINDS["deviation"]], np.int64)
    edges = np.array([[1.5, 2.5], [0.5, np.inf]])
    limits = np.array([[0, 9, 0, 1], [0, 9, 0, 1]], np.float64)
    bins, sums = np.zeros((2, 3), np.int64), np.zeros((2, 4), np.int64)
    tally(rows, 3, kinds, np.zeros(2, np.int64), edges, limits, bins, sums)
    assert bins.tolist() == [[0, 2, 0], [1, 1, 0]]  # means 2 and 2; deviations 1 and 0
    assert sums.tolist() == [[1, 0, 0, 4_000], [1, 0, 0, 1_000]]


def test_counts_are_added_to() -> None:
    one = (np.array([[0.5]]), 1, np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([[0.0]]))
    limits, bins, sums = np.array([[0.0, 0.4, 0.0, 1.0]]), np.zeros((1, 2), np.int64), np.zeros((1, 4), np.int64)
    for _ in range(3):
        tally(*one, limits, bins, sums)
    assert (bins.tolist(), sums.tolist()) == ([[0, 3]], [[0, 0, 3, 1_500]])


def test_columns_behind_the_width_are_in_no_measure_of_a_whole_row() -> None:
    rows, kinds = np.array([[1.0, 3.0, 99.0]]), np.array([KINDS[kind] for kind in ("mean", "axis", "class")], np.int64)
    edges = np.array([[1.5, 2.5], [50.0, np.inf], [0.5, 1.5]])
    limits = np.tile(np.array([0.0, 200.0, 0.0, 1.0]), (3, 1))
    bins, sums = np.zeros((3, 3), np.int64), np.zeros((3, 4), np.int64)
    tally(rows, 2, kinds, np.array([0, 2, 0], np.int64), edges, limits, bins, sums)
    assert bins.tolist() == [[0, 1, 0], [0, 1, 0], [0, 1, 0]]
    tally(rows, 0, kinds[:1], np.zeros(1, np.int64), edges[:1], limits[:1], bins[:1], sums[:1])
    assert sums[:, 0].tolist() == [1, 0, 0]
