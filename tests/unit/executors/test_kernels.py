"""Each kernel equals its numpy twin; the signature function tells what the kernels do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from executors.kernels import DTYPES, KERNELS, KernelError, Pipeline, finite_rows, parse, signature_after, warm
from schemas.model import TensorSpec

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 17))
FLOATS = st.floats(-50, 50, width=32)
ANY_FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


def setup_module() -> None:
    warm()  # so that no example pays the compiler


def floats(elements: st.SearchStrategy[float] = FLOATS) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    return hnp.arrays(np.float32, SHAPES, elements=elements)


def one(name: str, x: np.ndarray[Any, Any], datatype: str = "FP32") -> dict[str, np.ndarray[Any, Any]]:
    return Pipeline((TensorSpec("x", datatype, x.shape[1:]),), (name,)).run({"x": x}, owned=False)


@settings(deadline=None)
@given(hnp.arrays(np.uint8, SHAPES), st.sampled_from([1.0, 16.0, 255.0]))
def test_scale_u8(x: np.ndarray[Any, Any], divisor: float) -> None:
    out = one(f"scale_u8:{divisor}", x, "UINT8")["x"]
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, x.astype(np.float32) / np.float32(divisor))


@settings(deadline=None)
@given(floats(), st.floats(-5, 5, width=16), st.floats(0.5, 5, width=16))
def test_standardise(x: np.ndarray[Any, Any], mean: float, deviation: float) -> None:
    before = x.copy()
    out = one(f"standardise:{mean},{deviation}", x)["x"]
    np.testing.assert_allclose(out, (x - np.float32(mean)) / np.float32(deviation), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(x, before)


@settings(deadline=None)
@given(floats())
def test_softmax(x: np.ndarray[Any, Any]) -> None:
    wide = x.astype(np.float64)
    twin = np.exp(wide - wide.max(1, keepdims=True))
    np.testing.assert_allclose(one("softmax", x)["x"], twin / twin.sum(1, keepdims=True), rtol=1e-4, atol=1e-7)


@settings(deadline=None)
@given(floats(ANY_FLOATS), st.data())
def test_top_k_and_argmax(x: np.ndarray[Any, Any], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, x.shape[1]))
    order = np.argsort(-x, axis=1, kind="stable")[:, :k]
    out = one(f"top_k:{k}", x)
    np.testing.assert_array_equal(out["classes"], order)
    np.testing.assert_array_equal(out["scores"], np.take_along_axis(x, order, 1))
    found = one("argmax", x)["class"]
    assert found.shape == (x.shape[0],)
    np.testing.assert_array_equal(found, order[:, 0])


@settings(deadline=None)
@given(floats(ANY_FLOATS), st.floats(-5, 5, width=16))
def test_threshold(x: np.ndarray[Any, Any], limit: float) -> None:
    np.testing.assert_array_equal(one(f"threshold:{limit}", x)["x"], x >= np.float32(limit))


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(st.sampled_from([np.float16, np.float32, np.float64]), SHAPES, elements=st.floats(width=16)))
def test_finite_rows(x: np.ndarray[Any, Any]) -> None:
    np.testing.assert_array_equal(finite_rows(x), np.isfinite(x).all(1))


def test_integers_are_finite() -> None:
    assert finite_rows(np.zeros((3, 2), np.int64)).tolist() == [True] * 3


def test_signature_of_a_classifier() -> None:
    logits = (TensorSpec("logits", "FP32", (10,)),)
    assert signature_after(logits, ("softmax", "top_k:3")) == (
        TensorSpec("classes", "INT64", (3,)),
        TensorSpec("scores", "FP32", (3,)),
    )
    pixels = (TensorSpec("image", "UINT8", (64,)),)
    assert signature_after(pixels, ("scale_u8:16",)) == (TensorSpec("image", "FP32", (64,)),)


def test_a_step_names_its_tensor_among_several() -> None:
    specs = (TensorSpec("a", "FP32", (2,)), TensorSpec("b", "FP32", (-1, 3)))
    assert signature_after(specs, ("threshold:1@b",))[1] == TensorSpec("b", "BOOL", (-1, 3))
    with pytest.raises(KernelError, match="say which tensor"):
        signature_after(specs, ("softmax",))


@pytest.mark.parametrize(
    "text",
    ["", "nothing", "top_k", "top_k:0", "top_k:11", "top_k:1.5", "top_k:x", "softmax:1", "scale_u8", "top_k:nan"],
)
def test_what_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(KernelError):
        signature_after((TensorSpec("logits", "FP32", (10,)),), (text,))


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_pipeline_makes_what_the_signature_says(name: str) -> None:
    kernel = KERNELS[name]
    text = name + (":" + ",".join(["1"] * kernel.required) if kernel.required else "")
    spec = TensorSpec("x", kernel.datatype, (4,))
    x = np.ones((3, 4), DTYPES[kernel.datatype])
    x.flags.writeable = False
    out = Pipeline((spec,), (text,)).run({"x": x}, owned=True)
    for made in signature_after((spec,), (text,)):
        assert out[made.name].shape == (3, *made.item_shape)
        assert out[made.name].dtype == DTYPES[made.datatype]


def test_a_chain_leaves_the_callers_array_alone() -> None:
    x = np.array([[3.0, 1.0]], np.float32)
    Pipeline((TensorSpec("x", "FP32", (2,)),), ("softmax", "standardise:0,1")).run({"x": x}, owned=False)
    assert x.tolist() == [[3.0, 1.0]]


def test_parse_fills_defaults() -> None:
    assert parse("scale_u8").arguments == (255.0,)
    assert parse("threshold@y").tensor == "y"


def test_warm_compiles_without_an_error() -> None:
    warm()
