"""Along the last axis: softmax, top-k, argmax; and one-hot, which makes a last axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numba
import numpy as np

from executors.kernels.kernel import (
    Array,
    Kernel,
    KernelError,
    Numbers,
    check_size,
    compiled,
    last_axis,
    lines,
    whole_number,
)
from schemas.model import TensorSpec

MAX_DEPTH: Final = 65_536


@numba.njit(inline="always")
def _exp(x: np.float32) -> np.float32:
    """Give exp(x) of x <= 0 to about 1e-6, 0 below -87: straight-line code, of which the compiler makes vector code.

    Range reduction by ln 2 in two parts and a polynomial of degree 6, with the coefficients of Cephes (Moshier 1989).
    """
    bounded = max(x, np.float32(-87.0))
    power = np.floor(bounded * np.float32(1.44269504) + np.float32(0.5))
    rest = bounded - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    series = series * rest * rest + rest + np.float32(1.0)
    scale = np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)  # 2 to the power
    return series * scale if not x < np.float32(-87.0) else np.float32(0.0)


@compiled
def softmax(x: Array, out: Array) -> None:
    """Write exp(x - max) / sum(exp(x - max)) of each line; x and out: float32 [n, k], out may be x.

    Shifting by the maximum changes nothing but that no term overflows (Goodfellow et al. 2016, section 4.1).
    """
    for i in range(x.shape[0]):
        if x.shape[1] == 0:
            continue
        top = x[i, 0]
        for j in range(1, x.shape[1]):
            if x[i, j] > top:
                top = x[i, j]
        for j in range(x.shape[1]):
            out[i, j] = _exp(x[i, j] - top)
        total = 0.0
        for j in range(x.shape[1]):
            total += out[i, j]
        share = np.float32(1.0 / total)
        for j in range(x.shape[1]):
            out[i, j] *= share


@compiled
def top_k(x: Array, classes: Array, scores: Array) -> None:
    """Write the k largest of each line, largest first; the lower index wins a tie, NaN comes last.

    By insertion into a sorted list of k. x: float32 [n, m]; classes: int64 [n, k], scores: float32 [n, k], k <= m.
    """
    k = classes.shape[1]
    for i in range(x.shape[0]):
        filled = 0
        for j in range(x.shape[1]):
            value = x[i, j]
            place = filled
            while place > 0 and (
                value > scores[i, place - 1] or (np.isnan(scores[i, place - 1]) and not np.isnan(value))
            ):
                place -= 1
            if place >= k:
                continue
            if filled < k:
                filled += 1
            for shift in range(filled - 1, place, -1):
                scores[i, shift] = scores[i, shift - 1]
                classes[i, shift] = classes[i, shift - 1]
            scores[i, place] = value
            classes[i, place] = j


@compiled
def argmax(x: Array, out: Array) -> None:
    """Write the index of each line's largest; the first wins a tie, NaN counts least. x: float32 [n, m], out int64 [n].

    0 where all are NaN.
    """
    for i in range(x.shape[0]):
        best = 0
        for j in range(1, x.shape[1]):
            if x[i, j] > x[i, best] or (np.isnan(x[i, best]) and not np.isnan(x[i, j])):
                best = j
        out[i] = best


@compiled
def one_hot(x: Array, out: Array) -> None:
    """Write 1 at each index and 0 elsewhere; an index outside 0 to depth - 1 makes a line of zeros.

    x: int64 or int32 [n], out: float32 [n, depth]. ONNX OneHot with the values (0, 1), but for negative indices, which
    count from the end there.
    """
    for i in range(x.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = 0.0
        if 0 <= x[i] < out.shape[1]:
            out[i, x[i]] = 1.0


def _normalised(spec: TensorSpec, _numbers: Numbers) -> tuple[TensorSpec, ...]:
    last_axis("softmax", spec, fixed=False)
    return (spec,)


def _best(spec: TensorSpec, numbers: Numbers) -> tuple[TensorSpec, ...]:
    width = last_axis("top_k", spec, fixed=True)
    shape = (*spec.item_shape[:-1], whole_number("top_k", "k", numbers[0], 1, width))
    return (TensorSpec("classes", "INT64", shape), TensorSpec("scores", "FP32", shape, spec.allow_nan))


def _best_one(spec: TensorSpec, _numbers: Numbers) -> tuple[TensorSpec, ...]:
    last_axis("argmax", spec, fixed=True)
    return (TensorSpec("class", "INT64", spec.item_shape[:-1]),)


def _marked(spec: TensorSpec, numbers: Numbers) -> tuple[TensorSpec, ...]:
    depth = whole_number("one_hot", "the depth", numbers[0], 1, MAX_DEPTH)
    if -1 in spec.item_shape:
        raise KernelError("one_hot", f"needs items of fixed axes, `{spec.name}` has {list(spec.item_shape)}")
    return (check_size("one_hot", replace(spec, datatype="FP32", item_shape=(*spec.item_shape, depth))),)


def _top_k(x: Array, _numbers: Numbers, outs: Sequence[Array]) -> None:
    top_k(lines(x), lines(outs[0]), lines(outs[1]))


SCORES: Final = (
    Kernel("softmax", "", ("FP32",), 0, (), _normalised, lambda x, _, o: softmax(lines(x), lines(o[0])), in_place=True),
    Kernel("top_k", "k", ("FP32",), 1, (), _best, _top_k),
    Kernel("argmax", "", ("FP32",), 0, (), _best_one, lambda x, _, o: argmax(lines(x), o[0].reshape(-1))),
    Kernel(
        "one_hot", "depth", ("INT64", "INT32"), 1, (), _marked,
        lambda x, _, o: one_hot(x.reshape(-1), lines(o[0])),
    ),
)  # fmt: skip
"""The kernels of this module."""
