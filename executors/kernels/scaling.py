"""Element by element: uint8 to float, standardise, threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from executors.kernels.kernel import Array, Kernel, KernelError, Numbers, compiled, flat
from schemas.model import TensorSpec

MAX_CHANNELS: Final = 512


@compiled
def scale_u8(x: Array, divisor: float, out: Array) -> None:
    """Write ``x / divisor``; x: uint8 [n, k], out: float32 [n, k]."""
    factor = np.float32(divisor)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = np.float32(x[i, j]) / factor


@compiled
def standardise(x: Array, means: Array, deviations: Array, out: Array) -> None:
    """Write ``(x - mean) / deviation`` (the z-score) with one mean and deviation per channel.

    x and out: float32 [n, c, k], out may be x; means and deviations: float32 [c].
    """
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            mean, deviation = means[c], deviations[c]
            for j in range(x.shape[2]):
                out[i, c, j] = (x[i, c, j] - mean) / deviation


@compiled
def threshold(x: Array, limit: float, out: Array) -> None:
    """Write ``x >= limit``; x: float32 [n, k], out: bool [n, k]. NaN is below every limit."""
    bound = np.float32(limit)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] >= bound


def _scaled(spec: TensorSpec, numbers: Numbers) -> tuple[TensorSpec, ...]:
    if numbers[0] == 0:
        raise KernelError("scale_u8", "the divisor must not be 0")
    return (replace(spec, datatype="FP32"),)


def _standardised(spec: TensorSpec, numbers: Numbers) -> tuple[TensorSpec, ...]:
    channels = len(numbers) // 2
    if len(numbers) % 2:
        raise KernelError("standardise", f"needs as many means as deviations, {len(numbers)} numbers are given")
    if min(numbers[channels:]) <= 0:
        raise KernelError("standardise", "each deviation must be above 0")
    if channels > 1 and spec.item_shape[:1] != (channels,):
        shape = list(spec.item_shape)
        raise KernelError("standardise", f"has {channels} means; `{spec.name}` {shape} must have as many channels")
    return (spec,)


def _standardise(x: Array, numbers: Numbers, outs: Sequence[Array]) -> None:
    channels = len(numbers) // 2
    pairs = np.array(numbers, np.float32)
    rows = flat(x)
    shape = (len(x), channels, rows.shape[1] // channels)
    standardise(rows.reshape(shape), pairs[:channels], pairs[channels:], flat(outs[0]).reshape(shape))


def _compared(spec: TensorSpec, _numbers: Numbers) -> tuple[TensorSpec, ...]:
    return (replace(spec, datatype="BOOL", allow_nan=False),)


SCALING: Final = (
    Kernel(
        "scale_u8", "divisor=255", ("UINT8",), 0, (255.0,), _scaled, lambda x, a, o: scale_u8(flat(x), a[0], flat(o[0]))
    ),
    Kernel(
        "standardise", "mean,...,deviation,...", ("FP32",), 2, (), _standardised, _standardise,
        in_place=True, most=2 * MAX_CHANNELS,
    ),
    Kernel(
        "threshold", "limit=0.5", ("FP32",), 0, (0.5,), _compared,
        lambda x, a, o: threshold(flat(x), a[0], flat(o[0])),
    ),
)  # fmt: skip
"""The kernels of this module."""
