"""Each kernel of the module equals its numpy twin on random shapes, and the resizes ONNX Runtime's own operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.helper as oh
import onnx.numpy_helper as nh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from executors.kernels.kernel import KernelError
from executors.kernels.pipeline import Pipeline, signature_after, warm
from executors.runtime import CPU, session_options
from schemas.model import TensorSpec
from tests.support.models import build, value

from onnxruntime import InferenceSession  # isort: skip

SIDE = st.integers(1, 9)
PIXELS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), SIDE, SIDE, st.integers(1, 4)))
PLANES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 3), SIDE, SIDE),
    elements=st.floats(-9, 9, width=32),
)

Any4 = np.ndarray[Any, Any]


def setup_module() -> None:
    warm()  # so that no example pays the compiler


def one(name: str, x: Any4, free: bool = False) -> Any4:
    datatype = "UINT8" if x.dtype == np.uint8 else "FP32"
    place = 2 if datatype == "UINT8" else 0
    shape = tuple(-1 if free and axis != place else length for axis, length in enumerate(x.shape[1:]))
    return Pipeline((TensorSpec("x", datatype, shape),), (name,)).run({"x": x}, owned=False)["x"]


def bilinear(x: Any4, height: int, width: int) -> Any4:
    """Twin: [..., h, w] by two matrices of weights, float64."""

    def weights(size: int, out: int) -> Any4:
        source = np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, size - 1)
        low = np.floor(source).astype(int)
        made = np.zeros((out, size))
        made[np.arange(out), low] += 1 - (source - low)
        made[np.arange(out), np.minimum(low + 1, size - 1)] += source - low
        return made

    return np.asarray(weights(x.shape[-2], height) @ x.astype(np.float64) @ weights(x.shape[-1], width).T)


def nearest(size: int, out: int) -> Any4:
    return np.minimum(np.floor((np.arange(out) + 0.5) * size / out).astype(int), size - 1)


def onnx_resize(x: Any4, height: int, width: int, mode: str) -> Any4:
    extra = {"nearest_mode": "round_prefer_ceil"} if mode == "nearest" else {}
    sizes = nh.from_array(np.array([*x.shape[:2], height, width], np.int64), "sizes")
    node = oh.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], mode=mode, coordinate_transformation_mode="half_pixel", **extra
    )
    blob = build([node], [value("x", *x.shape)], [value("y", *x.shape[:2], height, width)], [sizes])
    return np.asarray(InferenceSession(blob, session_options(), providers=[CPU]).run(None, {"x": x})[0])


@settings(deadline=None)
@given(PIXELS, st.sampled_from([1.0, 255.0]), st.booleans())
def test_image_to_float(x: Any4, divisor: float, free: bool) -> None:
    out = one(f"image_to_float:{divisor}", x, free)
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, x.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(divisor))


@settings(deadline=None)
@given(PLANES, SIDE, SIDE, st.booleans())
def test_resize_bilinear(x: Any4, height: int, width: int, free: bool) -> None:
    out = one(f"resize_bilinear:{height},{width}", x, free)
    np.testing.assert_allclose(out, bilinear(x, height, width), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(PLANES, SIDE, SIDE)
def test_resizes_are_those_of_onnx(x: Any4, height: int, width: int) -> None:
    np.testing.assert_allclose(
        one(f"resize_bilinear:{height},{width}", x), onnx_resize(x, height, width, "linear"), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(one(f"resize_nearest:{height},{width}", x), onnx_resize(x, height, width, "nearest"))


@settings(deadline=None)
@given(PIXELS, SIDE, SIDE, st.booleans())
def test_resize_of_pixels(x: Any4, height: int, width: int, free: bool) -> None:
    twin = bilinear(x.transpose(0, 3, 1, 2), height, width).transpose(0, 2, 3, 1)
    out = one(f"resize_bilinear:{height},{width}", x, free)
    assert out.dtype == np.uint8
    halfway = np.abs(twin + 0.5 - np.round(twin + 0.5)) < 1e-4  # where float32 may round the other way
    np.testing.assert_array_equal(out[~halfway], np.floor(twin + 0.5)[~halfway])
    assert (np.abs(out - twin) <= 0.501).all()


@settings(deadline=None)
@given(st.one_of(PIXELS, PLANES), SIDE, SIDE)
def test_resize_nearest(x: Any4, height: int, width: int) -> None:
    rows, columns = (1, 2) if x.dtype == np.uint8 else (2, 3)
    twin = x.take(nearest(x.shape[rows], height), rows).take(nearest(x.shape[columns], width), columns)
    np.testing.assert_array_equal(one(f"resize_nearest:{height},{width}", x), twin)


def test_a_chain_for_a_photograph() -> None:
    photo = (TensorSpec("image", "UINT8", (-1, -1, 3)),)
    chain = ("resize_bilinear:8,6", "image_to_float", "standardise:0.5,0.4,0.3,0.2,0.2,0.1")
    assert signature_after(photo, chain) == (TensorSpec("image", "FP32", (3, 8, 6)),)
    x = np.random.default_rng(5).integers(0, 256, (2, 11, 13, 3), np.uint8)
    out = Pipeline(photo, chain).run({"image": x}, owned=False)["image"]
    small = one("resize_bilinear:8,6", x).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    means, spreads = (np.array(m, np.float32).reshape(3, 1, 1) for m in ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)))
    np.testing.assert_allclose(out, (small - means) / spreads, rtol=1e-5, atol=1e-6)


def test_an_image_without_pixels_is_an_error() -> None:
    for name in ("resize_bilinear:2,2", "resize_nearest:2,2"):
        with pytest.raises(KernelError, match="has no pixel to take"):
            one(name, np.zeros((1, 0, 4, 3), np.uint8), free=True)
    assert one("image_to_float", np.zeros((1, 0, 4, 3), np.uint8), free=True).shape == (1, 3, 0, 4)


@pytest.mark.parametrize(
    ("text", "spec", "words"),
    [
        ("image_to_float", ("UINT8", (8, 8)), r"needs items \[height, width, channel\] with 1 to 64 channels"),
        ("image_to_float", ("UINT8", (8, 8, -1)), "needs items"),
        ("image_to_float:0", ("UINT8", (8, 8, 3)), "the divisor must not be 0"),
        ("image_to_float", ("FP32", (8, 8, 3)), "reads UINT8, `x` is FP32"),
        ("resize_nearest:4,4", ("FP32", (8, 8)), r"needs items \[channel, height, width\]"),
        ("resize_nearest:0,4", ("FP32", (1, 8, 8)), "the height must be a whole number from 1 to 4096, not 0"),
        ("resize_bilinear:4,1.5", ("FP32", (1, 8, 8)), "the width must be a whole number from 1 to 4096, not 1.5"),
        ("resize_bilinear:4", ("FP32", (1, 8, 8)), "is written resize_bilinear:height,width, 1 numbers are given"),
        ("resize_bilinear:4096,4096", ("FP32", (3, 8, 8)), "would make 50,331,648 elements of one item"),
        ("resize_bilinear:4,4", ("FP64", (3, 8, 8)), "reads UINT8 or FP32, `x` is FP64"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, spec: tuple[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(KernelError, match=words):
        signature_after((TensorSpec("x", *spec),), (text,))
