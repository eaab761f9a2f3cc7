"""Identical items are found by their bytes, by the compiled search as by a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.coalesce import coalesced, first_equal


def twin(rows: list[bytes]) -> list[int]:
    seen: dict[bytes, int] = {}
    return [seen.setdefault(row, at) for at, row in enumerate(rows)]


@settings(deadline=None)
@given(st.integers(1, 40), st.lists(st.integers(0, 3), min_size=1, max_size=40), st.booleans())
def test_the_first_equal_row_is_a_dictionarys(width: int, picks: list[int], words: bool) -> None:
    random = np.random.default_rng(width)
    kinds = random.integers(0, 2, (4, width)).astype(np.uint64 if words else np.uint8)  # alike in most places
    rows = kinds[picks]
    first = np.empty(len(picks), np.int64)
    different = first_equal(rows, first)
    assert first.tolist() == twin([row.tobytes() for row in rows])
    assert different == len(set(first.tolist()))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20), st.sampled_from((3, 8)))
def test_outputs_put_back_in_place_are_those_of_the_whole_batch(picks: list[tuple[int, int]], width: int) -> None:
    x = np.array([[a] * width for a, _ in picks], "<f4")
    mask = np.array([[b] for _, b in picks], "|u1")
    found = coalesced({"x": x, "mask": mask})
    if found is None:
        return
    inputs, places = found
    assert len(inputs["x"]) < len(picks)
    assert (inputs["x"][places] == x).all()
    assert (inputs["mask"][places] == mask).all()


@pytest.mark.parametrize(
    "x",
    [
        np.arange(8, dtype="<f4").reshape(8, 1),
        np.zeros((1, 4), "<f4"),
        np.zeros((3, 0), "<f4"),
        np.array([["a"], ["a"]], object),
        np.array([[0.0], [-0.0]], "<f4"),  # equal numbers, other bytes
    ],
)
def test_where_nothing_stands_twice_nothing_is_changed(x: np.ndarray) -> None:
    assert coalesced({"x": x}) is None


def test_all_alike_are_one() -> None:
    found = coalesced({"x": np.full((5, 3), np.nan, "<f4")})
    assert found is not None
    assert found[0]["x"].shape == (1, 3)
    assert found[1].tolist() == [0] * 5


def test_items_that_stand_anywhere_in_memory_are_found() -> None:
    data = bytes(3) + np.array([[7.0, 1.0], [7.0, 1.0], [7.0, 2.0]], "<f8").tobytes()
    found = coalesced({"x": np.frombuffer(data, "<f8", 6, 3).reshape(3, 2)})
    assert found is not None
    assert found[1].tolist() == [0, 0, 1]
