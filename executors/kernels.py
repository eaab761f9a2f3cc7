"""What runs around a session: Numba kernels that allocate nothing, and a pure function of what they do to a signature.

A kernel is named in a manifest as ``name[:argument][@tensor]``, e.g. ``scale_u8:16``, ``top_k:3``, ``softmax@logits``;
``@tensor`` may be left out when there is one tensor. Kernels see a tensor as ``[n, k]`` (items, elements of an item),
C-contiguous, and write into outputs that the caller owns. Registration checks a manifest with ``signature_after``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from schemas.model import TensorSpec
from streams.columns import NUMPY_DTYPES
from streams.errors import IsosError

Array = NDArray[Any]

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {name: np.dtype(code) for name, code in NUMPY_DTYPES.items()}
"""Open Inference Protocol datatypes that are served, by the numpy type of their bytes. ``BYTES`` has no fixed width."""


class KernelError(IsosError):
    """A kernel of a manifest is unknown, badly written, or does not fit its tensor."""

    def __init__(self, kernel: str, problem: str) -> None:
        super().__init__(kernel, problem)
        self.kernel = kernel
        self.problem = problem

    def __str__(self) -> str:
        return f"kernel `{self.kernel}`: {self.problem}"


def _jit(function: Callable[..., None]) -> Callable[..., None]:
    """Compile lazily, once per machine: the code is cached under NUMBA_CACHE_DIR."""
    compiled: Callable[..., None] = numba.njit(cache=True, nogil=True)(function)
    return compiled


@_jit
def scale_u8(x: Array, divisor: float, out: Array) -> None:
    """Write ``x / divisor``; x: uint8 [n, k], out: float32 [n, k]."""
    factor = np.float32(divisor)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = np.float32(x[i, j]) / factor


@_jit
def standardise(x: Array, mean: float, deviation: float, out: Array) -> None:
    """Write ``(x - mean) / deviation``; x and out: float32 [n, k], out may be x."""
    centre = np.float32(mean)
    spread = np.float32(deviation)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = (x[i, j] - centre) / spread


@_jit
def softmax(x: Array, out: Array) -> None:
    """Write the softmax of each row, shifted by its maximum; x and out: float32 [n, k], out may be x."""
    for i in range(x.shape[0]):
        top = x[i, 0]
        for j in range(1, x.shape[1]):
            if x[i, j] > top:
                top = x[i, j]
        total = 0.0
        for j in range(x.shape[1]):
            out[i, j] = np.exp(x[i, j] - top)
            total += out[i, j]
        for j in range(x.shape[1]):
            out[i, j] /= total


@_jit
def top_k(x: Array, classes: Array, scores: Array) -> None:
    """Write the k largest of each row, largest first; the lower index wins a tie, NaN comes last.

    x: float32 [n, m]; classes: int64 [n, k], scores: float32 [n, k], k <= m.
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


@_jit
def threshold(x: Array, limit: float, out: Array) -> None:
    """Write ``x >= limit``; x: float32 [n, k], out: bool [n, k]. NaN is below every limit."""
    bound = np.float32(limit)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] >= bound


@_jit
def finite(x: Array, out: Array) -> None:
    """Write whether all elements of a row are neither NaN nor infinite; x: float [n, k], out: bool [n]."""
    for i in range(x.shape[0]):
        good = True
        for j in range(x.shape[1]):
            if not np.isfinite(x[i, j]):
                good = False
                break
        out[i] = good


def finite_rows(x: Array) -> NDArray[np.bool_]:
    """Return per item whether all its elements are finite: bool [n]; integers always are. x: [n, ...], C-contiguous."""
    out = np.ones(x.shape[0], np.bool_)
    if x.dtype.kind == "f" and x.size:
        finite(_rows(x.astype(np.float32) if x.dtype.itemsize == 2 else x), out)
    return out


@dataclass(frozen=True, slots=True)
class Step:
    """A parsed kernel name: which kernel, its numbers, and the tensor it works on ("" = the only one)."""

    text: str
    kernel: str
    arguments: tuple[float, ...]
    tensor: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A registered kernel: how many numbers it takes, the datatype it reads, and what it makes of a tensor.

    ``outputs(spec, arguments)`` is pure. ``run(x, arguments, outs)``: x is ``[n, k]``, outs are ``[n, k_i]``.
    ``in_place``: the output may be the input.
    """

    name: str
    defaults: tuple[float, ...]
    datatype: str
    outputs: Callable[[TensorSpec, tuple[float, ...]], tuple[TensorSpec, ...]]
    run: Callable[[Array, tuple[float, ...], Sequence[Array]], None]
    in_place: bool = False
    required: int = 0


def _same(spec: TensorSpec, _arguments: tuple[float, ...]) -> tuple[TensorSpec, ...]:
    return (spec,)


def _scaled(spec: TensorSpec, arguments: tuple[float, ...]) -> tuple[TensorSpec, ...]:
    if arguments[0] == 0:
        raise KernelError("scale_u8", "the divisor must not be 0")
    return (replace(spec, datatype="FP32"),)


def _standardised(spec: TensorSpec, arguments: tuple[float, ...]) -> tuple[TensorSpec, ...]:
    if arguments[1] <= 0:
        raise KernelError("standardise", "the deviation must be above 0")
    return (spec,)


def _vector(kernel: str, spec: TensorSpec) -> int:
    if len(spec.item_shape) != 1 or spec.item_shape[0] < 1:
        raise KernelError(kernel, f"needs items of one fixed axis, `{spec.name}` has {list(spec.item_shape)}")
    return spec.item_shape[0]


def _best(spec: TensorSpec, arguments: tuple[float, ...]) -> tuple[TensorSpec, ...]:
    width, k = _vector("top_k", spec), int(arguments[0])
    if not 1 <= k <= width or k != arguments[0]:
        raise KernelError("top_k", f"k must be a whole number from 1 to {width}")
    return (TensorSpec("classes", "INT64", (k,)), TensorSpec("scores", "FP32", (k,)))


def _best_one(spec: TensorSpec, _arguments: tuple[float, ...]) -> tuple[TensorSpec, ...]:
    _vector("argmax", spec)
    return (TensorSpec("class", "INT64", ()),)


def _normalised(spec: TensorSpec, _arguments: tuple[float, ...]) -> tuple[TensorSpec, ...]:
    _vector("softmax", spec)
    return (spec,)


def _compared(spec: TensorSpec, _arguments: tuple[float, ...]) -> tuple[TensorSpec, ...]:
    return (replace(spec, datatype="BOOL", allow_nan=False),)


def _argmax(x: Array, _arguments: tuple[float, ...], outs: Sequence[Array]) -> None:
    top_k(x, outs[0], np.empty((x.shape[0], 1), np.float32))


KERNELS: Final[Mapping[str, Kernel]] = {
    kernel.name: kernel
    for kernel in (
        Kernel("scale_u8", (255.0,), "UINT8", _scaled, lambda x, a, o: scale_u8(x, a[0], o[0])),
        Kernel(
            "standardise", (0.0, 1.0), "FP32", _standardised, lambda x, a, o: standardise(x, a[0], a[1], o[0]), True, 2
        ),
        Kernel("softmax", (), "FP32", _normalised, lambda x, _a, o: softmax(x, o[0]), in_place=True),
        Kernel("argmax", (), "FP32", _best_one, _argmax),
        Kernel("top_k", (1.0,), "FP32", _best, lambda x, _a, o: top_k(x, o[0], o[1]), required=1),
        Kernel("threshold", (0.5,), "FP32", _compared, lambda x, a, o: threshold(x, a[0], o[0])),
    )
}
"""The closed list of kernels that a manifest may name."""


def parse(text: str) -> Step:
    """Read ``name[:number,...][@tensor]``. Raises KernelError with a sentence that says what is allowed."""
    body, _, tensor = text.partition("@")
    name, _, numbers = body.partition(":")
    kernel = KERNELS.get(name)
    if kernel is None:
        raise KernelError(text, f"unknown; known are {', '.join(sorted(KERNELS))}")
    try:
        given = tuple(float(number) for number in numbers.split(",")) if numbers else ()
    except ValueError:
        raise KernelError(text, "what follows the colon must be numbers, separated by commas") from None
    if not kernel.required <= len(given) <= len(kernel.defaults) or not all(map(math.isfinite, given)):
        raise KernelError(text, f"takes {kernel.required} to {len(kernel.defaults)} finite numbers, {len(given)} given")
    return Step(text, name, given + kernel.defaults[len(given) :], tensor)


def _target(step: Step, specs: Sequence[TensorSpec]) -> int:
    """Index of the tensor that a step works on."""
    if not step.tensor and len(specs) == 1:
        return 0
    for index, spec in enumerate(specs):
        if spec.name == step.tensor:
            return index
    names = ", ".join(spec.name for spec in specs)
    raise KernelError(step.text, f"say which tensor with @name, one of: {names}")


def signature_after(specs: Sequence[TensorSpec], texts: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Return the signature that kernels ``texts``, in order, make of ``specs``; KernelError where one does not fit."""
    current = tuple(specs)
    for text in texts:
        current = _after(current, parse(text))
    return current


def _after(specs: tuple[TensorSpec, ...], step: Step) -> tuple[TensorSpec, ...]:
    kernel, index = KERNELS[step.kernel], _target(step, specs)
    if specs[index].datatype != kernel.datatype:
        raise KernelError(step.text, f"reads {kernel.datatype}, `{specs[index].name}` is {specs[index].datatype}")
    made = specs[:index] + kernel.outputs(specs[index], step.arguments) + specs[index + 1 :]
    if len({spec.name for spec in made}) < len(made):
        raise KernelError(step.text, "makes two tensors of one name")
    return made


def _rows(x: Array) -> Array:
    """View an array ``[n, ...]`` as ``[n, k]``."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


class Pipeline:
    """Kernels bound to a signature: arrays in, arrays out; ``before`` and ``after`` are the signatures at its ends."""

    __slots__ = ("_steps", "after", "before")

    def __init__(self, specs: Sequence[TensorSpec], texts: Sequence[str]) -> None:
        self.before = tuple(specs)
        self._steps: list[tuple[Step, Kernel, TensorSpec, tuple[TensorSpec, ...]]] = []
        current = self.before
        for text in texts:
            step = parse(text)
            spec = current[_target(step, current)]
            following = _after(current, step)
            kernel = KERNELS[step.kernel]
            self._steps.append((step, kernel, spec, kernel.outputs(spec, step.arguments)))
            current = following
        self.after = current

    def run(self, tensors: Mapping[str, Array], owned: bool) -> dict[str, Array]:
        """Apply the kernels. ``owned``: the input arrays may be overwritten. Returned arrays belong to the caller."""
        current = dict(tensors)
        for step, kernel, spec, outputs in self._steps:
            x = np.ascontiguousarray(current.pop(spec.name))
            outs = [self._out(x, out, kernel.in_place and owned) for out in outputs]
            kernel.run(_rows(x), step.arguments, [_rows(out) for out in outs])
            current.update(zip((out.name for out in outputs), outs, strict=True))
            owned = True
        return current

    @staticmethod
    def _out(x: Array, spec: TensorSpec, reuse: bool) -> Array:
        if reuse and x.flags.writeable:
            return x
        # A free axis (-1) never changes in a kernel that accepts it, so the input's own shape serves.
        shape = x.shape[1:] if -1 in spec.item_shape else spec.item_shape
        return np.empty((x.shape[0], *shape), DTYPES[spec.datatype])


def warm() -> None:
    """Compile every kernel for the types it is called with, so that the code cache is full before the first request."""
    for kernel in KERNELS.values():
        spec = TensorSpec("x", kernel.datatype, (2,))
        step = kernel.name + (":" + ",".join(["1"] * kernel.required) if kernel.required else "")
        x = np.ones((1, 2), DTYPES[kernel.datatype])
        Pipeline((spec,), (step,)).run({"x": x}, owned=False)
        x.flags.writeable = False  # frames hand in read-only views, a type of its own to Numba
        Pipeline((spec,), (step,)).run({"x": x}, owned=False)
    for dtype in (np.float32, np.float64):
        x = np.ones((1, 2), dtype)
        finite_rows(x)
        x.flags.writeable = False
        finite_rows(x)
