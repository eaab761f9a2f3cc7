"""Identical items are found by their bytes, by the compiled search as by a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.coalesce import coalesced, first_equal, told_apart
from schemas.frame import TensorBlock


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


@pytest.mark.parametrize(
    ("datatype", "data", "num_items", "told"),
    [
        ("FP32", bytes(range(32)), 4, True),  # four words, all different
        ("FP32", bytes(range(8)) * 4, 4, False),
        ("FP32", bytes(range(8)) + bytes(8) + bytes(8) + bytes(range(8)), 2, True),  # the middle word differs
        ("FP32", bytes(range(8)) + bytes(8) + bytes(range(1, 9)) + bytes(8), 2, False),  # only another one does
        ("UINT8", bytes(range(12)), 4, False),  # no whole words
        ("FP32", b"", 4, False),
        ("BYTES", bytes(range(32)), 4, False),
    ],
)
def test_one_word_of_each_item_may_be_enough(datatype: str, data: bytes, num_items: int, *, told: bool) -> None:
    assert told_apart(TensorBlock("x", datatype, (8,), data), num_items) is told


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 5))
def test_items_that_are_told_apart_are_all_different(values: list[int], words: int) -> None:
    items = [bytes([value]) * (8 * words) for value in values]
    block = TensorBlock("x", "INT64", (words,), b"".join(items))
    assert told_apart(block, len(items)) == (len(set(items)) == len(items))
