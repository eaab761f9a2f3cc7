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

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=9)
FLOATS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-50, 50, width=32))


def setup_module() -> None:
    warm()  # so that no example pays the compiler


def one(name: str, x: np.ndarray[Any, Any], datatype: str = "FP32") -> np.ndarray[Any, Any]:
    return Pipeline((TensorSpec("x", datatype, x.shape[1:]),), (name,)).run({"x": x}, owned=False)["x"]


@settings(deadline=None)
@given(hnp.arrays(np.uint8, SHAPES), st.sampled_from([1.0, 16.0, 255.0]))
def test_scale_u8(x: np.ndarray[Any, Any], divisor: float) -> None:
    out = one(f"scale_u8:{divisor}", x, "UINT8")
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, x.astype(np.float32) / np.float32(divisor))


@settings(deadline=None)
@given(FLOATS, st.floats(-5, 5, width=16), st.floats(0.5, 5, width=16))
def test_standardise_all_alike(x: np.ndarray[Any, Any], mean: float, deviation: float) -> None:
    before = x.copy()
    out = one(f"standardise:{mean},{deviation}", x)
    np.testing.assert_allclose(out, (x - np.float32(mean)) / np.float32(deviation), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(x, before)


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=st.floats(-9, 9, width=32)),
    st.data(),
)
def test_standardise_by_channel(x: np.ndarray[Any, Any], data: st.DataObject) -> None:
    channels = x.shape[1]
    means = data.draw(st.lists(st.floats(-5, 5, width=16), min_size=channels, max_size=channels))
    spreads = data.draw(st.lists(st.floats(0.5, 5, width=16), min_size=channels, max_size=channels))
    shape = (channels,) + (1,) * (x.ndim - 2)
    twin = (x - np.array(means, np.float32).reshape(shape)) / np.array(spreads, np.float32).reshape(shape)
    out = one("standardise:" + ",".join(map(str, (*means, *spreads))), x)
    np.testing.assert_allclose(out, twin, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32)), st.floats(-5, 5, width=16))
def test_threshold(x: np.ndarray[Any, Any], limit: float) -> None:
    out = one(f"threshold:{limit}", x)
    assert out.dtype == np.bool_
    np.testing.assert_array_equal(out, x >= np.float32(limit))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scale_u8:0", "the divisor must not be 0"),
        ("standardise:0,0", "each deviation must be above 0"),
        ("standardise:0,-1", "each deviation must be above 0"),
        ("standardise:1,2,3", "needs as many means as deviations, 3 numbers are given"),
        ("standardise:1,2,3,4", r"has 2 means; `x` \[3, 5\] must have as many channels"),
    ],
)
def test_numbers_are_checked_when_the_model_is_registered(text: str, words: str) -> None:
    datatype = "UINT8" if text.startswith("scale") else "FP32"
    with pytest.raises(KernelError, match=words):
        signature_after((TensorSpec("x", datatype, (3, 5)),), (text,))
