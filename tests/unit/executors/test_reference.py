"""References made of rows: what is measured, in which bins, and that the counts are those of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.item_columns import NUM_BUCKETS, bucket_of
from executors.reference import MAX_ELEMENTS, ReferenceDataError, edges_of, make_reference, values_of
from schemas.model import ModelVersion, TensorSpec
from schemas.reference import MAX_BYTES, MAX_MEASURES, Reference
from streams.canonical import from_json, to_json
from streams.columns import Array
from streams.tensors import narrowed, widened


def facts(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> ModelVersion:
    return ModelVersion("digits", "v1.0.0", "ab" * 32, 9, inputs, outputs)


IMAGE = TensorSpec("image", "UINT8", (8, 8))
TOP = (TensorSpec("classes", "INT64", (3,)), TensorSpec("scores", "FP32", (3,)))


def digits(rows: int = 200) -> tuple[Array, dict[str, Array]]:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 17, (rows, 8, 8)).astype(np.uint8)
    images[:, 0, 0] = 0
    scores = rng.random((rows, 3)).astype(np.float32)
    return images, {"classes": rng.integers(0, 10, (rows, 3)), "scores": scores}


def made(rows: int = 200) -> Reference:
    images, outputs = digits(rows)
    return make_reference(facts((IMAGE,), TOP), [({"image": images}, outputs)], "digits.npz")


def test_of_an_image_pixels_mean_and_deviation_and_of_the_answer_class_and_confidence() -> None:
    reference = made()
    names = [measure.name for measure in reference.measures]
    assert names[:2] == ["image[0]", "image[1]"]
    assert names[62:] == ["image[62]", "image[63]", "image.mean", "image.deviation", "classes[0]", "scores.largest"]
    assert [tensor.is_output for tensor in reference.tensors] == [False, True, True]
    assert len(to_json(reference).encode()) < MAX_BYTES
    assert from_json(Reference, to_json(reference)) == reference


def test_every_row_is_in_one_bin_of_each_measure() -> None:
    images, outputs = digits()
    reference = made()
    values = {"image": images.reshape(200, 64), **outputs}
    for tensor in reference.tensors:
        for measure in tensor.measures:
            assert sum(measure.counts) == reference.num_rows == 200
            found = values_of(values[tensor.name].astype(np.float64), tensor.size, measure.kind, measure.element)
            wanted = np.bincount(np.searchsorted(measure.edges, found, "right"), minlength=len(measure.counts))
            assert measure.counts == tuple(wanted.tolist())
            assert (measure.low, measure.high) == (found.min(), found.max())
            assert measure.mean == pytest.approx(found.mean(), rel=1e-8)
            assert measure.deviation == pytest.approx(found.std(), rel=1e-8)


def test_what_never_varies_has_a_bin_of_its_own() -> None:
    first = made().measures[0]
    assert (first.counts, first.deviation, first.scale) == ((0, 200, 0), 0.0, 1.0)


def test_a_small_set_of_classes_has_a_bin_each() -> None:
    (classes,) = [measure for measure in made().measures if measure.name == "classes[0]"]
    assert len(classes.counts) == 10


def test_wide_rows_are_sampled_always_alike() -> None:
    spec, out = TensorSpec("x", "FP32", (784,)), TensorSpec("y", "FP32", (1,))
    rows = np.random.default_rng(2).normal(size=(300, 784)).astype(np.float32)
    reference = make_reference(facts((spec,), (out,)), [({"x": rows}, {"y": rows[:, :1]})], "")
    x, y = reference.tensors
    elements = [measure.element for measure in x.measures if measure.kind == "element"]
    assert (x.stride, len(elements), len(set(elements))) == (4, MAX_ELEMENTS, MAX_ELEMENTS)
    assert elements == sorted(elements)
    assert max(elements) > 760
    assert all(element % 4 == 0 for element in elements)
    assert [measure.name for measure in y.measures] == ["y[0]"]
    assert {len(measure.counts) for measure in reference.measures} == {10}
    assert len(to_json(reference).encode()) < MAX_BYTES


def test_of_scores_without_classes_the_largest_and_which() -> None:
    spec, out = TensorSpec("x", "FP32", (2,)), TensorSpec("logits", "FP32", (4,))
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(100, 4)).astype(np.float32)
    reference = make_reference(facts((spec,), (out,)), [({"x": logits[:, :2]}, {"logits": logits})], "")
    assert [measure.name for measure in reference.tensors[1].measures] == ["logits.class", "logits.largest"]
    assert reference.tensors[1].measures[0].counts == tuple(np.bincount(logits.argmax(1)).tolist())


def test_several_inputs_share_the_elements() -> None:
    specs = (TensorSpec("a", "FP32", (100,)), TensorSpec("t", "BYTES", (1,)), TensorSpec("b", "INT32", (3,)))
    a = np.random.default_rng(4).normal(size=(60, 100)).astype(np.float32)
    given_rows = {"a": a, "t": np.full((60, 1), "x", object), "b": np.ones((60, 3), np.int32)}
    reference = make_reference(facts(specs, ()), [(given_rows, {})], "")
    assert [(tensor.name, len(tensor.measures)) for tensor in reference.tensors] == [("a", 23), ("t", 2), ("b", 5)]


@pytest.mark.parametrize("shape", [(2,), (), (-1,)])
def test_so_many_inputs_still_make_no_more_measures_than_may_be(shape: tuple[int, ...]) -> None:
    specs = tuple(TensorSpec(f"x{number}", "FP32", shape) for number in range(120))
    rows = np.random.default_rng(4).normal(size=(60, *[abs(length) for length in shape])).astype(np.float32)
    reference = make_reference(facts(specs, specs), [({spec.name: rows for spec in specs},) * 2], "")
    assert 60 < len(reference.measures) <= MAX_MEASURES


def test_of_texts_length_and_bucket_and_never_a_text() -> None:
    spec, out = TensorSpec("country", "BYTES", ()), TensorSpec("label", "BYTES", (2,))
    texts = np.array((["de", "fr", "ital"] * 40)[:100], object)
    labels = np.stack([texts, texts], axis=1)
    reference = make_reference(facts((spec,), (out,)), [({"country": texts}, {"label": labels})], "")
    assert [measure.name for measure in reference.measures] == (
        ["country[0].length", "country[0].bucket", "label[0].length", "label[0].bucket"]
    )
    length, bucket = reference.tensors[0].measures
    assert (length.edges, length.counts, length.high) == ((3.0,), (67, 33), 4.0)
    assert len(bucket.counts) == NUM_BUCKETS
    assert sorted(count for count in bucket.counts if count) == [33, 33, 34]
    assert bucket.counts[bucket_of("de")] == 34
    assert "ital" not in to_json(reference)
    assert from_json(Reference, to_json(reference)) == reference


def test_many_texts_of_a_row_are_measured_at_some_places() -> None:
    spec = TensorSpec("words", "BYTES", (40,))
    words = np.full((60, 40), "a", object)
    (tensor,) = make_reference(facts((spec,), ()), [({"words": words}, {})], "").tensors
    assert (tensor.stride, tensor.num_places) == (3, 14)
    assert [measure.element for measure in tensor.measures if measure.kind == "bucket"] == list(range(0, 40, 3))


def test_bf16_is_measured_as_the_numbers_that_it_is() -> None:
    values = np.random.default_rng(6).normal(size=(200, 3)).astype(np.float32)
    half, full = TensorSpec("x", "BF16", (3,)), TensorSpec("x", "FP32", (3,))
    found = make_reference(facts((half,), ()), [({"x": narrowed(values)}, {})], "").measures
    wanted = make_reference(facts((full,), ()), [({"x": widened(narrowed(values))}, {})], "").measures
    assert found == wanted
    assert -5 < found[0].low < found[0].high < 5


def test_of_free_axes_places_that_are_relative_and_the_lengths() -> None:
    spec, out = TensorSpec("x", "FP32", (-1, 2)), TensorSpec("y", "FP32", (-1,))
    rng = np.random.default_rng(7)
    batches = [
        ({"x": rng.normal(size=(30, length, 2))}, {"y": rng.normal(size=(30, length))}) for length in (1, 5, 90, 0)
    ]
    reference = make_reference(facts((spec,), (out,)), batches, "")
    x, y = reference.tensors
    names = [measure.name for measure in x.measures]
    assert names[:2] == ["x[0%]", "x[6%]"]
    assert names[16:] == ["x.mean", "x.deviation", "x.axis0"]
    assert [measure.name for measure in y.measures] == ["y.mean", "y.deviation", "y.axis0"]
    axis = x.measures[-1]
    assert (axis.counts, axis.low, axis.high, axis.num_missing) == ((30, 30, 30, 30), 0, 90, 0)
    assert {measure.num_missing for measure in x.measures[:-1]} == {30}  # those without an element
    assert (x.size, x.free, x.places, x.datatype) == (0, (0,), 64, "FP32")


def test_missing_values_are_counted_apart() -> None:
    spec = TensorSpec("x", "FP32", (2,), allow_nan=True)
    rows = np.random.default_rng(5).normal(size=(100, 2)).astype(np.float32)
    rows[:30, 1] = np.nan
    reference = make_reference(facts((spec,), ()), [({"x": rows}, {})], "")
    first, second, mean, _ = reference.measures
    assert (first.num_missing, second.num_missing, mean.num_missing) == (0, 30, 0)
    assert sum(second.counts) == 70


@pytest.mark.parametrize(
    ("specs", "rows", "what"),
    [
        ((TensorSpec("x", "FP32", (2,)),), np.zeros((49, 2), np.float32), "49 rows say too little"),
        ((TensorSpec("x", "FP32", (0,)),), np.zeros((60, 0), np.float32), "no tensor with elements"),
        ((TensorSpec("y", "FP32", (2,)),), np.zeros((60, 2), np.float32), "no tensor with elements"),
    ],
)
def test_what_cannot_be_measured_is_refused(specs: tuple[TensorSpec, ...], rows: Array, what: str) -> None:
    with pytest.raises(ReferenceDataError, match=what):
        make_reference(facts(specs, ()), [({"x": rows}, {})], "")


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300), st.sampled_from([10, 65]))
def test_edges_ascend_and_leave_no_bin_over_twice_its_share_without_reason(values: list[float], most: int) -> None:
    array = np.array(values, np.float64)
    edges = edges_of(array, most)
    assert list(edges) == sorted(set(edges))
    assert len(edges) <= max(most - 1, 2)
    counts = np.bincount(np.searchsorted(edges, array, "right"), minlength=len(edges) + 1)
    _, each = np.unique(array, return_counts=True)
    if most == 10:
        assert counts.max() <= max(len(array) / 10 + each.max(), each.max()) + 1


def test_a_frequent_value_is_told_from_what_is_rare() -> None:
    edges = edges_of(np.array([0.0] * 970 + list(range(1, 31))), 10)
    counts = np.bincount(np.searchsorted(edges, np.array([0.0] * 970 + list(range(1, 31))), "right"))
    assert counts.tolist() == [970, 30]
