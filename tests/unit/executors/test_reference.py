"""References made of rows: what is measured, in which bins, and that the counts are those of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.reference import MAX_ELEMENTS, ReferenceDataError, edges_of, make_reference, values_of
from schemas.model import ModelVersion, TensorSpec
from schemas.reference import MAX_BYTES, Reference
from streams.canonical import from_json, to_json
from streams.columns import Array


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
    return make_reference(facts((IMAGE,), TOP), {"image": images}, outputs, "digits.npz")


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
            found = values_of(values[tensor.name].astype(np.float64), measure.kind, measure.element)
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
    reference = make_reference(facts((spec,), (out,)), {"x": rows}, {"y": rows[:, :1]}, "")
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
    reference = make_reference(facts((spec,), (out,)), {"x": logits[:, :2]}, {"logits": logits}, "")
    assert [measure.name for measure in reference.tensors[1].measures] == ["logits.class", "logits.largest"]
    assert reference.tensors[1].measures[0].counts == tuple(np.bincount(logits.argmax(1)).tolist())


def test_several_inputs_share_the_elements_and_texts_are_left_out() -> None:
    specs = (TensorSpec("a", "FP32", (100,)), TensorSpec("t", "BYTES", (1,)), TensorSpec("b", "INT32", (3,)))
    a = np.random.default_rng(4).normal(size=(60, 100)).astype(np.float32)
    given_rows = {"a": a, "t": np.full((60, 1), "x", object), "b": np.ones((60, 3), np.int32)}
    reference = make_reference(facts(specs, ()), given_rows, {}, "")
    assert [(tensor.name, len(tensor.measures)) for tensor in reference.tensors] == [("a", 34), ("b", 5)]


def test_missing_values_are_counted_apart() -> None:
    spec = TensorSpec("x", "FP32", (2,), allow_nan=True)
    rows = np.random.default_rng(5).normal(size=(100, 2)).astype(np.float32)
    rows[:30, 1] = np.nan
    reference = make_reference(facts((spec,), ()), {"x": rows}, {}, "")
    first, second, mean, _ = reference.measures
    assert (first.num_missing, second.num_missing, mean.num_missing) == (0, 30, 0)
    assert sum(second.counts) == 70


@pytest.mark.parametrize(
    ("specs", "rows", "what"),
    [
        ((TensorSpec("x", "FP32", (2,)),), np.zeros((49, 2), np.float32), "49 rows say too little"),
        ((TensorSpec("x", "BYTES", (1,)),), np.full((60, 1), "a", object), "no tensor of numbers"),
        ((TensorSpec("x", "FP32", (-1,)),), np.zeros((60, 2), np.float32), "no tensor of numbers"),
    ],
)
def test_what_cannot_be_measured_is_refused(specs: tuple[TensorSpec, ...], rows: Array, what: str) -> None:
    with pytest.raises(ReferenceDataError, match=what):
        make_reference(facts(specs, ()), {"x": rows}, {}, "")


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
