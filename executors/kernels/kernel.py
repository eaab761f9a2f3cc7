"""What a kernel is: a compiled function, the numbers it takes, and a pure function of what it makes of a tensor.

A kernel is named in a manifest as ``name[:number,...][@tensor]``, e.g. ``scale_u8:16``, ``top_k:3``,
``softmax@logits``; ``@tensor`` may be left out when there is one tensor. It runs on a batch ``[n, *item_shape]``,
C-contiguous, and writes into outputs that the caller owns; it allocates nothing and holds no lock while it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from schemas.model import TensorSpec
from streams.errors import IsosError

P = ParamSpec("P")
T = TypeVar("T")

Array = NDArray[Any]
Numbers = tuple[float, ...]

MAX_ITEM_ELEMENTS: Final = 1 << 24
"""Elements that a kernel may make of one item: 64 MiB of FP32."""


class KernelError(IsosError):
    """A kernel of a manifest is unknown, badly written, or does not fit its tensor."""

    def __init__(self, kernel: str, problem: str) -> None:
        super().__init__(kernel, problem)
        self.kernel = kernel
        self.problem = problem

    def __str__(self) -> str:
        return f"kernel `{self.kernel}`: {self.problem}"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of the closed list.

    ``form`` is how its numbers are written, for people. It takes ``required`` to ``most`` numbers; ``defaults`` are
    those that may be left out, the last ones. ``outputs(spec, numbers)`` is pure and raises KernelError.
    ``run(x, numbers, outs)`` reads the batch ``x`` and fills ``outs``. ``in_place``: the output may be the input.
    """

    name: str
    form: str
    datatypes: tuple[str, ...]
    required: int
    defaults: Numbers
    outputs: Callable[[TensorSpec, Numbers], tuple[TensorSpec, ...]]
    run: Callable[[Array, Numbers, Sequence[Array]], None]
    in_place: bool = False
    most: int = -1

    @property
    def max_numbers(self) -> int:
        """Most numbers that it takes."""
        return self.most if self.most >= 0 else self.required + len(self.defaults)


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """Compile when first called, once per machine: the code is cached under NUMBA_CACHE_DIR."""
    made: Callable[P, T] = numba.njit(cache=True, nogil=True)(function)
    return made


def flat(x: Array) -> Array:
    """View ``[n, *item_shape]`` as ``[n, elements of an item]``."""
    return x if x.ndim == 2 else x.reshape(len(x), math.prod(x.shape[1:]))


def lines(x: Array) -> Array:
    """View ``[..., k]`` as ``[number of lines, k]``."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def last_axis(kernel: str, spec: TensorSpec, *, fixed: bool) -> int:
    """Length of a tensor's last axis, -1 where it is free and may be. Raises KernelError."""
    length = spec.item_shape[-1] if spec.item_shape else 0
    if length > 0 or (spec.item_shape and not fixed):
        return length
    wanted = "items whose last axis is fixed" if fixed else "items of at least one axis"
    raise KernelError(kernel, f"needs {wanted}, `{spec.name}` has {list(spec.item_shape)}")


def whole_number(kernel: str, what: str, number: float, low: int, high: int) -> int:
    """``number`` as an int. Raises KernelError unless it is whole and within ``low`` to ``high``."""
    if number != int(number) or not low <= number <= high:
        raise KernelError(kernel, f"{what} must be a whole number from {low} to {high}, not {number:g}")
    return int(number)


def check_size(kernel: str, spec: TensorSpec) -> TensorSpec:
    """The spec of an output. Raises KernelError where one item of it is too large; free axes are not counted."""
    elements = math.prod(max(1, axis) for axis in spec.item_shape)
    if elements > MAX_ITEM_ELEMENTS:
        raise KernelError(kernel, f"would make {elements:,} elements of one item, at most {MAX_ITEM_ELEMENTS:,} may be")
    return spec


def read_only(x: Array) -> Array:
    """A C-contiguous view that cannot be written: to Numba a type of its own, so that each kernel has just one."""
    if not x.flags.c_contiguous:
        x = np.ascontiguousarray(x)
    elif not x.flags.writeable:
        return x
    view = x.view()
    view.setflags(write=False)
    return view
