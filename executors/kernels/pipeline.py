"""Kernels of a manifest, read, checked and chained; what they do to a signature is a pure function.

Registration checks a manifest with ``signatures``: the specs before the first kernel and after each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from executors.kernels.image import IMAGE
from executors.kernels.kernel import Array, Kernel, KernelError, Numbers, read_only
from executors.kernels.scaling import SCALING
from executors.kernels.scores import SCORES
from schemas.model import TensorSpec
from streams.tensors import WIRE_DTYPES

Specs = tuple[TensorSpec, ...]

KERNELS: Final[Mapping[str, Kernel]] = {kernel.name: kernel for kernel in (*IMAGE, *SCALING, *SCORES)}
"""The closed list of kernels that a manifest may name."""


@dataclass(frozen=True, slots=True)
class Step:
    """A parsed kernel name: which kernel, its numbers, and the tensor it works on ("" = the only one)."""

    text: str
    kernel: Kernel
    numbers: Numbers
    tensor: str

    def target(self, specs: Sequence[TensorSpec]) -> int:
        """Index of the tensor that it works on. Raises KernelError when that is not one of its datatypes."""
        index = self._named(specs)
        spec = specs[index]
        if spec.datatype not in self.kernel.datatypes:
            reads = " or ".join(self.kernel.datatypes)
            raise KernelError(self.text, f"reads {reads}, `{spec.name}` is {spec.datatype}")
        return index

    def _named(self, specs: Sequence[TensorSpec]) -> int:
        if not self.tensor and len(specs) == 1:
            return 0
        for index, spec in enumerate(specs):
            if spec.name == self.tensor:
                return index
        names = ", ".join(spec.name for spec in specs)
        raise KernelError(self.text, f"say which tensor with @name, one of: {names}")


def parse(text: str) -> Step:
    """Read ``name[:number,...][@tensor]``. Raises KernelError with a sentence that says what is allowed."""
    body, _, tensor = text.partition("@")
    name, _, written = body.partition(":")
    kernel = KERNELS.get(name)
    if kernel is None:
        raise KernelError(text, f"unknown; known are {', '.join(sorted(KERNELS))}")
    form = f"{name}:{kernel.form}" if kernel.form else name
    try:
        numbers = tuple(float(number) for number in written.split(",")) if written else ()
    except ValueError:
        raise KernelError(text, f"what follows the colon must be numbers: {form}") from None
    if not all(map(math.isfinite, numbers)):
        raise KernelError(text, "its numbers must be finite")
    if not kernel.required <= len(numbers) <= kernel.max_numbers:
        raise KernelError(text, f"is written {form}, {len(numbers)} numbers are given")
    return Step(text, kernel, numbers + kernel.defaults[len(numbers) - kernel.required :], tensor)


def signatures(specs: Sequence[TensorSpec], texts: Sequence[str]) -> tuple[Specs, ...]:
    """The specs before kernels ``texts`` and after each, in order. Raises KernelError where one does not fit."""
    found = [tuple(specs)]
    for text in texts:
        found.append(_after(found[-1], parse(text)))
    return tuple(found)


def signature_after(specs: Sequence[TensorSpec], texts: Sequence[str]) -> Specs:
    """The specs that kernels ``texts``, in order, make of ``specs``. Raises KernelError where one does not fit."""
    return signatures(specs, texts)[-1]


def _after(specs: Specs, step: Step) -> Specs:
    index = step.target(specs)
    made = specs[:index] + step.kernel.outputs(specs[index], step.numbers) + specs[index + 1 :]
    if len({spec.name for spec in made}) < len(made):
        raise KernelError(step.text, "makes two tensors of one name")
    return made


class Pipeline:
    """Kernels bound to a signature: arrays in, arrays out; ``before`` and ``after`` are the signatures at its ends.

    With ``reuse`` the arrays that come out are its own and are overwritten by the next run: pages of a large batch are
    not asked for again. Not safe for threads.
    """

    __slots__ = ("_kept", "_reuse", "_steps", "after", "before")

    def __init__(self, specs: Sequence[TensorSpec], texts: Sequence[str], *, reuse: bool = False) -> None:
        stages = signatures(specs, texts)
        self.before, self.after = stages[0], stages[-1]
        self._reuse = reuse
        self._kept: dict[tuple[int, int], Array] = {}
        self._steps: list[tuple[Step, TensorSpec, Specs | None]] = []
        for current, text in zip(stages, texts, strict=False):
            step = parse(text)
            spec = current[step.target(current)]
            fixed = None if -1 in spec.item_shape else step.kernel.outputs(spec, step.numbers)
            self._steps.append((step, spec, fixed))

    def run(self, tensors: Mapping[str, Array], owned: bool) -> dict[str, Array]:
        """Apply the kernels to batches ``[n, *item_shape]``. ``owned``: the input arrays may be overwritten.

        Raises KernelError where an array has no pixel to resize.
        """
        current = dict(tensors)
        for number, (step, spec, fixed) in enumerate(self._steps):
            given = current.pop(spec.name)
            x = read_only(given)
            outputs = fixed or step.kernel.outputs(replace(spec, item_shape=x.shape[1:]), step.numbers)
            if step.kernel.in_place and given.flags.writeable and given.flags.c_contiguous and (owned or number):
                outs = [given]
            else:
                outs = [self._out(len(x), made, (number, at)) for at, made in enumerate(outputs)]
            step.kernel.run(x, step.numbers, outs)
            current.update(zip([made.name for made in outputs], outs, strict=True))
        return current

    def _out(self, num_items: int, spec: TensorSpec, place: tuple[int, int]) -> Array:
        shape = (num_items, *spec.item_shape)
        if not self._reuse:
            return np.empty(shape, WIRE_DTYPES[spec.datatype])
        kept = self._kept.get(place)
        if kept is None or len(kept) < num_items or kept.shape[1:] != spec.item_shape:
            kept = self._kept[place] = np.empty(shape, WIRE_DTYPES[spec.datatype])
        return kept[:num_items]


def warm() -> None:
    """Compile every kernel for the types it is called with, so that the code cache is full before the first request."""
    for kernel in KERNELS.values():
        for datatype in kernel.datatypes:
            shape = (2, 2, 2) if kernel in IMAGE else (2,)
            step = f"{kernel.name}:{','.join(['1'] * kernel.required)}" if kernel.required else kernel.name
            Pipeline((TensorSpec("x", datatype, shape),), (step,)).run(
                {"x": np.ones((1, *shape), WIRE_DTYPES[datatype])}, owned=False
            )
