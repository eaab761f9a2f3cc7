"""A reference from rows: which numbers of a row are measured, in which bins, and how many of the rows are in each.

Up to ``MAX_ELEMENTS`` elements of the inputs, evenly spread over them, so that the same signature always gives the same
ones; mean and deviation of a row where a tensor has several elements. Of the outputs, the first element of integer
ones (the most likely class, of ``top_k``); of floating ones the value, or the largest and, where nothing tells classes,
which one is largest. Texts, BF16 and tensors with free axes are not measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from executors.tally import CAPACITY, TensorTally
from schemas.model import ModelVersion, TensorSpec
from schemas.reference import MAX_BYTES, MAX_EDGES, MIN_ROWS, Measure, MeasureKind, Reference, SampledTensor
from streams.canonical import to_json
from streams.columns import Array
from streams.errors import IsosError
from streams.tensors import DTYPES, FLOATING

MAX_ELEMENTS: Final = 64
NUM_BINS: Final = 10
MAX_SPREAD: Final = 256
"""Most elements that a row's mean and deviation are of."""
MAX_SCORES: Final = 1_024
"""An output of more elements is no list of scores: only its mean and deviation are measured."""
_DIGITS: Final = 9

Wanted = tuple[MeasureKind, int]
"""A kind of measure and its element."""


class ReferenceDataError(IsosError):
    """No reference can be made of these rows."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


def make_reference(
    facts: ModelVersion, inputs: Mapping[str, Array], outputs: Mapping[str, Array], source: str
) -> Reference:
    """The reference of a version's rows ``[n, *item_shape]``, by tensor. Raises ReferenceDataError."""
    num_rows = len(next(iter(inputs.values()), ()))
    if num_rows < MIN_ROWS:
        raise ReferenceDataError(f"{num_rows} rows say too little, at least {MIN_ROWS} are needed")
    tensors = [*_measured(facts.inputs, inputs, is_output=False), *_measured(facts.outputs, outputs, is_output=True)]
    if not tensors:
        raise ReferenceDataError(f"{facts.model} {facts.version} has no tensor of numbers with fixed axes")
    made = Reference(facts.model, facts.version, num_rows, tuple(tensors), source)
    size = len(to_json(made).encode())
    if size > MAX_BYTES:
        raise ReferenceDataError(f"the reference has {size} bytes, at most {MAX_BYTES} may stand in memory")
    return made


def _measured(
    specs: tuple[TensorSpec, ...], arrays: Mapping[str, Array], *, is_output: bool
) -> Iterator[SampledTensor]:
    usable = [spec for spec in specs if spec.datatype in DTYPES and -1 not in spec.item_shape and spec.name in arrays]
    has_classes = any(spec.datatype not in FLOATING for spec in usable)
    budget = MAX_ELEMENTS
    for number, spec in enumerate(usable):
        size = math.prod(spec.item_shape)
        if not size:
            continue
        is_scores = is_output and size <= MAX_SCORES
        stride = 1 if is_scores else math.ceil(size / MAX_SPREAD)
        if is_output:
            wanted = _of_output(spec, size, has_classes=has_classes)
        else:
            elements = _spread(size, stride, budget // (len(usable) - number))
            budget -= len(elements)
            wanted = [("element", element) for element in elements]
            if size > 1:
                wanted += [("mean", 0), ("deviation", 0)]
        rows = arrays[spec.name].reshape(len(arrays[spec.name]), size)
        most = MAX_EDGES if is_output and spec.datatype not in FLOATING else NUM_BINS
        measures = tuple(_measures(spec.name, rows, stride, wanted, most))
        if measures:
            yield _counted(SampledTensor(spec.name, is_output, size, stride, measures), rows)


def _spread(size: int, stride: int, most: int) -> list[int]:
    """Up to ``most`` of the elements 0, stride, 2 stride, ..., as evenly as they can be."""
    places = range(0, size, stride)
    count = min(len(places), most)
    return [places[number * len(places) // count] for number in range(count)]


def _of_output(spec: TensorSpec, size: int, *, has_classes: bool) -> list[Wanted]:
    if spec.datatype not in FLOATING or size == 1:
        return [("element", 0)]
    if size > MAX_SCORES:
        return [("mean", 0), ("deviation", 0)]
    return [("largest", 0)] if has_classes else [("class", 0), ("largest", 0)]


def _measures(name: str, rows: Array, stride: int, wanted: list[Wanted], most: int) -> Iterator[Measure]:
    gathered = rows[:, ::stride].astype(np.float64)
    for kind, element in wanted:
        values = values_of(gathered, kind, element // stride)
        present = values[np.isfinite(values)]
        if len(present):
            title = f"{name}[{element}]" if kind == "element" else f"{name}.{kind}"
            low, high = float(present.min()), float(present.max())
            mean, deviation = _rounded(float(present.mean())), _rounded(float(present.std()))
            edges = edges_of(present, MAX_EDGES if kind == "class" else most)
            yield Measure(title, kind, element, edges, (), 0, low, high, mean, deviation)


def values_of(gathered: Array, kind: MeasureKind, place: int) -> Array:
    """A measure of each row; gathered: float64 [n, w]. NaN where a row has no finite element."""
    if kind == "element":
        column: Array = gathered[:, place]
        return column
    present = np.isfinite(gathered)
    some = present.any(axis=1)
    if kind in ("largest", "class"):
        bounded = np.where(present, gathered, -np.inf)
        found = bounded.max(axis=1) if kind == "largest" else bounded.argmax(axis=1).astype(np.float64)
        return np.where(some, found, np.nan)
    counts = np.maximum(present.sum(axis=1), 1)
    means = np.where(present, gathered, 0).sum(axis=1) / counts
    if kind == "deviation":
        squares = np.where(present, gathered - means[:, None], 0) ** 2
        means = np.sqrt(squares.sum(axis=1) / counts)
    return np.where(some, means, np.nan)


def edges_of(values: Array, most: int) -> tuple[float, ...]:
    """Edges of bins for finite values: between all where there are up to ``most``, else of about equally many rows.

    Edges lie between values that occur, so that what is frequent has a bin of its own. Of values that never vary: the
    value and what follows it, so that anything else is in another bin.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) == 1:
        only = float(distinct[0])
        return only, math.nextafter(only, math.inf)
    last = np.arange(len(distinct) - 1)
    if len(distinct) > most:
        shares = np.arange(1, NUM_BINS) * len(values) / NUM_BINS
        last = np.unique(np.searchsorted(np.cumsum(counts), shares))
        last = last[last < len(distinct) - 1]
    between = (distinct[last] + distinct[last + 1]) / 2
    return tuple(sorted({_rounded(edge) for edge in between.tolist()}))


def _counted(tensor: SampledTensor, rows: Array) -> SampledTensor:
    """The tensor with the counts of ``rows``, by the code that counts when it serves."""
    tally = TensorTally(tensor)
    for first in range(0, len(rows), CAPACITY):
        tally.add(rows, slice(first, first + CAPACITY))
    measures = [
        replace(measure, counts=counts.bins, num_missing=counts.num_missing)
        for measure, counts in zip(tensor.measures, tally.take(), strict=True)
    ]
    return replace(tensor, measures=tuple(measures))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
