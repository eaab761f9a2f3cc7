"""Items as columns of numbers: whatever their type and shape, each value where its measure looks for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.item_columns import NUM_BUCKETS, ItemColumns, bucket_of
from schemas.reference import Measure, MeasureKind, SampledTensor
from streams.columns import Array
from streams.tensors import narrowed, widened

SHAPES = st.tuples(st.integers(0, 7), st.integers(1, 4))


def measure(kind: MeasureKind, element: int) -> Measure:
    return Measure("m", kind, element, (), (), 0, 0.0, 0.0, 0.0, 0.0)


def of(columns: ItemColumns, array: Array, pick: Any = slice(None)) -> Array:
    found = columns.of(array, pick)
    assert found is not None
    return found


@given(st.integers(1, 5), SHAPES, st.integers(1, 9), st.data())
def test_of_free_axes_each_spot_and_length_and_its_twin_item_by_item(
    num_items: int, shape: tuple[int, int], places: int, data: Any
) -> None:
    array = np.arange(num_items * shape[0] * shape[1], dtype=np.float32).reshape(num_items, *shape)
    columns = ItemColumns(SampledTensor("x", False, 0, 1, (), "FP32", (0,), places))
    picked = data.draw(st.lists(st.integers(0, num_items - 1), min_size=1))
    found = of(columns, array, np.array(picked))
    assert found.shape == (len(picked), columns.num_columns) == (len(picked), places + 1)
    for row, item in zip(found, picked, strict=True):
        flat = array[item].ravel()
        wanted = [flat[spot * len(flat) // places] if len(flat) else np.nan for spot in range(places)]
        np.testing.assert_array_equal(row, [*wanted, shape[0]])
    np.testing.assert_array_equal(of(columns, array, slice(0, num_items, 2)), of(columns, array)[::2])
    assert columns.column(measure("axis", 0)) == places
    assert columns.num_whole == places


@given(st.lists(st.lists(st.text(max_size=5), min_size=3, max_size=3), min_size=1, max_size=6))
def test_of_texts_length_and_bucket(given_rows: list[list[str]]) -> None:
    columns = ItemColumns(SampledTensor("t", False, 3, 2, (), "BYTES"))
    found = of(columns, np.array(given_rows, object))
    assert (columns.num_columns, columns.num_whole) == (4, 0)
    for row, texts in zip(found.tolist(), given_rows, strict=True):
        assert row == [len(texts[0]), len(texts[2]), bucket_of(texts[0]), bucket_of(texts[2])]
    assert columns.column(measure("length", 2)) == 1
    assert columns.column(measure("bucket", 2)) == 3


def test_texts_of_free_axes() -> None:
    columns = ItemColumns(SampledTensor("t", False, 0, 1, (), "BYTES", (0, 1), 2))
    found = of(columns, np.array([[["a", "bb"]], [["ccc", ""]]], object))
    assert found.tolist() == [
        [1, 2, bucket_of("a"), bucket_of("bb"), 1, 2],
        [3, 0, bucket_of("ccc"), bucket_of(""), 1, 2],
    ]
    assert [columns.column(measure(*each)) for each in (("bucket", 1), ("axis", 0), ("axis", 1))] == [3, 4, 5]
    none = of(columns, np.empty((2, 0, 2), object))
    assert none[:, 4:].tolist() == [[0, 2], [0, 2]]
    assert np.isnan(none[:, :4]).all()


def test_buckets_are_the_same_everywhere_and_all_are_used() -> None:
    assert [bucket_of(text) for text in ("", "a", "de", "\N{GRINNING FACE}")] == [0, 3, 11, 4]
    counts = np.bincount([bucket_of(f"user-{number}") for number in range(16_000)], minlength=NUM_BUCKETS)
    assert counts.min() > 800


def test_bf16_is_widened_and_other_numbers_stay_what_they_are() -> None:
    values = np.array([[1.5, np.nan, 3.0, 0.1]], np.float32)
    half = ItemColumns(SampledTensor("x", False, 4, 2, (), "BF16"))
    np.testing.assert_array_equal(of(half, narrowed(values)), widened(narrowed(values))[:, ::2])
    free = ItemColumns(SampledTensor("x", False, 0, 1, (), "BF16", (0,), 2))
    np.testing.assert_array_equal(of(free, narrowed(values)), [[1.5, 3.0, 4.0]])
    plain = ItemColumns(SampledTensor("x", False, 4, 2, ()))
    np.testing.assert_array_equal(of(plain, values.reshape(1, 2, 2)), [[1.5, 3.0]])


@pytest.mark.parametrize("datatype", ["", "FP32"])
def test_items_of_another_size_are_not_looked_at(datatype: str) -> None:
    assert ItemColumns(SampledTensor("x", False, 4, 1, (), datatype)).of(np.zeros((2, 5)), slice(None)) is None
