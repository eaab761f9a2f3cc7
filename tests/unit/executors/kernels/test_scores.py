"""Each kernel of the module equals its numpy twin on random shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from executors.kernels.kernel import KernelError
from executors.kernels.pipeline import Pipeline, signature_after, warm
from schemas.model import TensorSpec

SHAPES = hnp.array_shapes(min_dims=2, max_dims=4, max_side=9)
ANY_FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


def setup_module() -> None:
    warm()  # so that no example pays the compiler


def run(name: str, x: np.ndarray[Any, Any], datatype: str = "FP32") -> dict[str, np.ndarray[Any, Any]]:
    return Pipeline((TensorSpec("x", datatype, x.shape[1:]),), (name,)).run({"x": x}, owned=False)


@settings(deadline=None)
@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(-50, 50, width=32)))
def test_softmax(x: np.ndarray[Any, Any]) -> None:
    wide = x.astype(np.float64)
    twin = np.exp(wide - wide.max(-1, keepdims=True))
    np.testing.assert_allclose(run("softmax", x)["x"], twin / twin.sum(-1, keepdims=True), rtol=1e-4, atol=1e-7)


def test_softmax_of_numbers_that_would_overflow() -> None:
    out = run("softmax", np.array([[1e30, 1e30, -1e30], [-100, -100, -100]], np.float32))["x"]
    np.testing.assert_allclose(out, [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)


def test_softmax_of_extremes() -> None:
    inf = np.inf
    x = np.array([[0, -inf, -86.9, -87.1], [3e38, -3e38, 0, 0], [inf, 0, 0, 0], [1, np.nan, 0, 0]], np.float32)
    out = run("softmax", x)["x"]
    np.testing.assert_allclose(out[:2], [[1, 0, 0, 0], [1, 0, 0, 0]], atol=1e-30)
    assert np.isnan(out[2:]).all()  # as the formula has it; the output gate ends such rows


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.float32, (1, 40), elements=st.floats(-87, 0, width=32)))
def test_shares_far_below_the_largest_keep_their_digits(x: np.ndarray[Any, Any]) -> None:
    x[0, 0] = 0
    twin = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(run("softmax", x)["x"], twin / twin.sum(), rtol=1e-5, atol=2e-38)


def test_softmax_of_a_free_axis_that_is_empty() -> None:
    free = Pipeline((TensorSpec("x", "FP32", (-1,)),), ("softmax",))
    assert free.run({"x": np.zeros((2, 0), np.float32)}, owned=False)["x"].shape == (2, 0)
    assert free.run({"x": np.zeros((2, 4), np.float32)}, owned=False)["x"].tolist() == [[0.25] * 4] * 2


@settings(deadline=None)
@given(hnp.arrays(np.float32, SHAPES, elements=ANY_FLOATS), st.data())
def test_top_k_and_argmax(x: np.ndarray[Any, Any], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, x.shape[-1]))
    order = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    out = run(f"top_k:{k}", x)
    np.testing.assert_array_equal(out["classes"], order)
    np.testing.assert_array_equal(out["scores"], np.take_along_axis(x, order, -1))
    found = run("argmax", x)["class"]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, order[..., 0])


@settings(deadline=None)
@given(hnp.arrays(st.sampled_from([np.int32, np.int64]), hnp.array_shapes(max_dims=3, max_side=5)), st.integers(1, 9))
def test_one_hot(x: np.ndarray[Any, Any], depth: int) -> None:
    x = np.where(x % 3 == 0, x, x % (depth + 2) - 1)
    datatype = "INT32" if x.dtype == np.int32 else "INT64"
    twin = (x[..., np.newaxis] == np.arange(depth)).astype(np.float32)
    np.testing.assert_array_equal(run(f"one_hot:{depth}", x, datatype)["x"], twin)


def test_what_they_make_of_a_signature() -> None:
    logits = (TensorSpec("logits", "FP32", (7, 10), allow_nan=True),)
    assert signature_after(logits, ("softmax", "top_k:3")) == (
        TensorSpec("classes", "INT64", (7, 3)),
        TensorSpec("scores", "FP32", (7, 3), allow_nan=True),
    )
    assert signature_after(logits, ("argmax",)) == (TensorSpec("class", "INT64", (7,)),)
    assert signature_after((TensorSpec("c", "INT32", ()),), ("one_hot:4",)) == (TensorSpec("c", "FP32", (4,)),)


@pytest.mark.parametrize(
    ("text", "spec", "words"),
    [
        ("top_k:0", ("FP32", (10,)), "k must be a whole number from 1 to 10, not 0"),
        ("top_k:11", ("FP32", (10,)), "k must be a whole number from 1 to 10, not 11"),
        ("top_k:1.5", ("FP32", (10,)), "k must be a whole number"),
        ("top_k:1", ("FP32", (-1,)), "needs items whose last axis is fixed"),
        ("argmax", ("FP32", ()), "needs items whose last axis is fixed"),
        ("softmax", ("FP32", ()), "needs items of at least one axis"),
        ("one_hot:0", ("INT64", ()), "the depth must be a whole number from 1 to 65536"),
        ("one_hot:9", ("INT64", (-1,)), "needs items of fixed axes"),
        ("one_hot:65536", ("INT64", (1000,)), "would make 65,536,000 elements of one item"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, spec: tuple[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(KernelError, match=words):
        signature_after((TensorSpec("x", *spec),), (text,))
