"""Images: from uint8 as cameras and files have them to float as networks want them, and to another size.

UINT8 items are ``[height, width, channel]``, FP32 items ``[channel, height, width]``. Height and width may be free.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from executors.kernels.kernel import Array, Kernel, KernelError, Numbers, check_size, compiled, whole_number
from schemas.model import TensorSpec

MAX_CHANNELS: Final = 64
MAX_SIDE: Final = 4096


@compiled
def image_to_float(x: Array, levels: Array, out: Array) -> None:
    """Write the level of each pixel with the channels first; x: uint8 [n, h, w, c], out: float32 [n, c, h, w].

    levels: float32 [256], the quotients, so that nothing is divided per pixel.
    """
    for i in range(x.shape[0]):
        for c in range(x.shape[3]):
            for row in range(x.shape[1]):
                for column in range(x.shape[2]):
                    out[i, c, row, column] = levels[x[i, row, column, c]]


@compiled
def _between(i: int, size: int, wanted: int) -> tuple[int, int, np.float32]:
    """Between which two of ``size`` pixels the i-th of ``wanted`` lies, and how far from the first to the second."""
    at = min(max((i + 0.5) * size / wanted - 0.5, 0.0), size - 1.0)
    first = int(at)
    return first, min(first + 1, size - 1), np.float32(at - first)


@compiled
def resize_bilinear(x: Array, out: Array) -> None:
    """Write planes of another size: each pixel from its four neighbours, weighted by nearness; no anti-aliasing.

    The source of pixel i is (i + 0.5) h / H - 0.5, clamped to the plane: ONNX Resize, mode linear, half_pixel, which is
    also PyTorch's align_corners=False. x: float32 [n, h, w], out: float32 [n, H, W]; no axis is empty.
    """
    for i in range(out.shape[0]):
        for row in range(out.shape[1]):
            top, bottom, down = _between(row, x.shape[1], out.shape[1])
            for column in range(out.shape[2]):
                left, right, across = _between(column, x.shape[2], out.shape[2])
                above = x[i, top, left] + across * (x[i, top, right] - x[i, top, left])
                below = x[i, bottom, left] + across * (x[i, bottom, right] - x[i, bottom, left])
                out[i, row, column] = above + down * (below - above)


@compiled
def resize_bilinear_u8(x: Array, out: Array) -> None:
    """As ``resize_bilinear``, rounded to the nearest, halves up; x: uint8 [n, h, w, c], out: uint8 [n, H, W, c]."""
    for i in range(out.shape[0]):
        for row in range(out.shape[1]):
            top, bottom, down = _between(row, x.shape[1], out.shape[1])
            for column in range(out.shape[2]):
                left, right, across = _between(column, x.shape[2], out.shape[2])
                for c in range(x.shape[3]):
                    first, third = np.float32(x[i, top, left, c]), np.float32(x[i, bottom, left, c])
                    above = first + across * (np.float32(x[i, top, right, c]) - first)
                    below = third + across * (np.float32(x[i, bottom, right, c]) - third)
                    out[i, row, column, c] = np.uint8(above + down * (below - above) + np.float32(0.5))


@compiled
def resize_nearest(x: Array, out: Array) -> None:
    """Write images of another size: each pixel is a copy of one; x: [n, h, w, c], out: [n, H, W, c], any one datatype.

    The source of pixel i is floor((i + 0.5) h / H): ONNX Resize, mode nearest, half_pixel, round_prefer_ceil, which is
    also PyTorch's nearest-exact. No axis is empty.
    """
    height, width = x.shape[1], x.shape[2]
    for i in range(out.shape[0]):
        for row in range(out.shape[1]):
            y = min(int((row + 0.5) * height / out.shape[1]), height - 1)
            for column in range(out.shape[2]):
                z = min(int((column + 0.5) * width / out.shape[2]), width - 1)
                for c in range(x.shape[3]):
                    out[i, row, column, c] = x[i, y, z, c]


@functools.lru_cache(64)
def _levels(divisor: float) -> Array:
    """Quotients of all uint8 values, float32 [256]."""
    return np.arange(256, dtype=np.float32) / np.float32(divisor)


def _channels(kernel: str, spec: TensorSpec) -> int:
    """Channels of an image. Raises KernelError where a spec is not one, says of which form it must be."""
    place, form = (2, "[height, width, channel]") if spec.datatype == "UINT8" else (0, "[channel, height, width]")
    if len(spec.item_shape) != 3 or not 1 <= spec.item_shape[place] <= MAX_CHANNELS:
        shape = list(spec.item_shape)
        words = f"needs items {form} with 1 to {MAX_CHANNELS} channels, `{spec.name}` has {shape}"
        raise KernelError(kernel, words)
    return spec.item_shape[place]


def _floated(spec: TensorSpec, numbers: Numbers) -> tuple[TensorSpec, ...]:
    channels = _channels("image_to_float", spec)
    if numbers[0] == 0:
        raise KernelError("image_to_float", "the divisor must not be 0")
    return (check_size("image_to_float", replace(spec, datatype="FP32", item_shape=(channels, *spec.item_shape[:2]))),)


def _resized(kernel: str) -> Callable[[TensorSpec, Numbers], tuple[TensorSpec, ...]]:
    def outputs(spec: TensorSpec, numbers: Numbers) -> tuple[TensorSpec, ...]:
        channels = _channels(kernel, spec)
        height = whole_number(kernel, "the height", numbers[0], 1, MAX_SIDE)
        width = whole_number(kernel, "the width", numbers[1], 1, MAX_SIDE)
        shape = (height, width, channels) if spec.datatype == "UINT8" else (channels, height, width)
        return (check_size(kernel, replace(spec, item_shape=shape)),)

    return outputs


def _not_empty(kernel: str, x: Array) -> None:
    if 0 in x.shape[1:]:
        raise KernelError(kernel, f"an image of the shape {list(x.shape[1:])} has no pixel to take")


def _bilinear(x: Array, _numbers: Numbers, outs: Sequence[Array]) -> None:
    _not_empty("resize_bilinear", x)
    if x.dtype == np.uint8:
        resize_bilinear_u8(x, outs[0])
    else:
        resize_bilinear(x.reshape(-1, *x.shape[2:]), outs[0].reshape(-1, *outs[0].shape[2:]))


def _nearest(x: Array, _numbers: Numbers, outs: Sequence[Array]) -> None:
    _not_empty("resize_nearest", x)
    if x.dtype == np.uint8:
        resize_nearest(x, outs[0])
    else:  # planes are images of one channel
        resize_nearest(x.reshape(-1, *x.shape[2:], 1), outs[0].reshape(-1, *outs[0].shape[2:], 1))


IMAGE: Final = (
    Kernel(
        "image_to_float", "divisor=255", ("UINT8",), 0, (255.0,), _floated,
        lambda x, a, o: image_to_float(x, _levels(a[0]), o[0]),
    ),
    Kernel("resize_bilinear", "height,width", ("UINT8", "FP32"), 2, (), _resized("resize_bilinear"), _bilinear),
    Kernel("resize_nearest", "height,width", ("UINT8", "FP32"), 2, (), _resized("resize_nearest"), _nearest),
)  # fmt: skip
"""The kernels of this module."""
