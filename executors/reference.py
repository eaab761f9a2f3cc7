"""A reference from rows: which numbers of a row are measured, in which bins, and how many of the rows are in each.

Up to ``MAX_ELEMENTS`` elements of the inputs, evenly spread over them, so that the same signature always gives the same
ones; mean and deviation of a row where a tensor has several elements. Of the outputs, the first element of integer
ones (the most likely class, of ``top_k``); of floating ones the value, or the largest and, where nothing tells classes,
which one is largest. Of texts, length and bucket (``executors.item_columns``); of tensors with free axes, elements at
relative places and the axes' lengths.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from executors.item_columns import NUM_BUCKETS, ItemColumns
from executors.tally import CAPACITY, TensorTally
from schemas.model import ModelVersion, TensorSpec
from schemas.reference import (
    MAX_BYTES,
    MAX_EDGES,
    MAX_MEASURES,
    MIN_ROWS,
    Measure,
    MeasureKind,
    Reference,
    SampledTensor,
)
from streams.canonical import to_json
from streams.columns import Array
from streams.errors import IsosError
from streams.tensors import BYTES, DTYPES, FLOATING, count_of

MAX_ELEMENTS: Final = 64
NUM_BINS: Final = 10
MAX_SPREAD: Final = 256
"""Most elements that a row's mean and deviation are of."""
MAX_SCORES: Final = 1_024
"""An output of more elements is no list of scores: only its mean and deviation are measured."""
MAX_SPOTS: Final = 16
"""Most texts of a row, and elements of one with free axes, that are measured by themselves."""
NUM_PLACES: Final = 64
"""Elements that a row with free axes is looked at by, its mean and deviation too."""
MAX_OUTPUT_MEASURES: Final = 16
MAX_INPUT_MEASURES: Final = MAX_MEASURES - MAX_OUTPUT_MEASURES
BUCKET_EDGES: Final = tuple(number + 0.5 for number in range(NUM_BUCKETS - 1))
_DIGITS: Final = 9

Batch = tuple[Mapping[str, Array], Mapping[str, Array]]
"""Inputs and outputs of rows, by tensor."""

Wanted = tuple[MeasureKind, int]
"""A kind of measure and its element."""


class ReferenceDataError(IsosError):
    """No reference can be made of these rows."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


def make_reference(facts: ModelVersion, batches: Sequence[Batch], source: str) -> Reference:
    """The reference of a version's rows. Raises ReferenceDataError.

    ``batches``: inputs and outputs by tensor, ``[n, *item_shape]``, texts as ``str`` objects, BF16 as uint16; in
    several batches where free axes have several lengths.
    """
    num_rows = sum(len(next(iter(inputs.values()), ())) for inputs, _ in batches)
    if num_rows < MIN_ROWS:
        raise ReferenceDataError(f"{num_rows} rows say too little, at least {MIN_ROWS} are needed")
    inputs, outputs = [each for each, _ in batches], [each for _, each in batches]
    tensors = [*_measured(facts.inputs, inputs, is_output=False), *_measured(facts.outputs, outputs, is_output=True)]
    if not tensors:
        raise ReferenceDataError(f"{facts.model} {facts.version} has no tensor with elements to measure")
    made = Reference(facts.model, facts.version, num_rows, tuple(tensors), source)
    size = len(to_json(made).encode())
    if size > MAX_BYTES:
        raise ReferenceDataError(f"the reference has {size} bytes, at most {MAX_BYTES} may stand in memory")
    return made


def _measured(
    specs: tuple[TensorSpec, ...], batches: Sequence[Mapping[str, Array]], *, is_output: bool
) -> Iterator[SampledTensor]:
    usable = [spec for spec in specs if all(spec.name in each for each in batches) and count_of(spec.item_shape)]
    has_classes = any(spec.datatype in DTYPES and spec.datatype not in FLOATING for spec in usable)
    left = MAX_OUTPUT_MEASURES if is_output else MAX_INPUT_MEASURES
    budget = min(MAX_ELEMENTS, left - sum(len(_of_row(spec)) for spec in usable))
    for number, spec in enumerate(usable):
        tensor = _bare(spec, is_output=is_output)
        if is_output:
            wanted = _of_output(spec, tensor, has_classes=has_classes)
        else:
            wanted = _of_elements(spec, tensor, max(budget, 0) // (len(usable) - number))
            budget -= len(wanted)
            wanted += _of_row(spec)
        rows = [each[spec.name] for each in batches]
        columns = ItemColumns(tensor)
        gathered = np.concatenate([np.asarray(columns.of(each, slice(None)), np.float64) for each in rows])
        most = MAX_EDGES if is_output and spec.datatype in DTYPES and spec.datatype not in FLOATING else NUM_BINS
        measures = tuple(_measures(tensor, columns, gathered, wanted[:left], most))
        left -= len(measures)
        if measures:
            yield _counted(replace(tensor, measures=measures), rows)


def _bare(spec: TensorSpec, *, is_output: bool) -> SampledTensor:
    """What is looked at of a tensor, without measures."""
    free = tuple(axis for axis, length in enumerate(spec.item_shape) if length < 0)
    is_text = spec.datatype == BYTES
    if free:
        places = MAX_SPOTS if is_text else NUM_PLACES
        return SampledTensor(spec.name, is_output, 0, 1, (), spec.datatype, free, places)
    size = math.prod(spec.item_shape)
    most = MAX_SPOTS if is_text else MAX_SPREAD
    stride = 1 if is_output and size <= MAX_SCORES and not is_text else math.ceil(size / most)
    return SampledTensor(spec.name, is_output, size, stride, (), spec.datatype)


def _of_row(spec: TensorSpec) -> list[Wanted]:
    """Measures of a whole input: mean and deviation of several numbers, lengths of free axes."""
    found: list[Wanted] = []
    if spec.datatype != BYTES and (-1 in spec.item_shape or math.prod(spec.item_shape) > 1):
        found += [("mean", 0), ("deviation", 0)]
    return found + [("axis", axis) for axis, length in enumerate(spec.item_shape) if length < 0]


def _of_elements(spec: TensorSpec, tensor: SampledTensor, most: int) -> list[Wanted]:
    """Up to ``most`` measures of single elements, as evenly spread as they can be; two of each text."""
    places = range(tensor.places) if tensor.free else range(0, tensor.size, tensor.stride)
    if spec.datatype == BYTES:
        kinds: tuple[MeasureKind, ...] = ("length", "bucket") if most > 1 else ("bucket",)
        return [(kind, place) for place in _spread(places, most // len(kinds)) for kind in kinds]
    return [("element", place) for place in _spread(places, min(most, MAX_SPOTS) if tensor.free else most)]


def _spread(places: range, most: int) -> list[int]:
    """Up to ``most`` of the places, as evenly as they can be."""
    count = min(len(places), most)
    return [places[number * len(places) // count] for number in range(count)]


def _of_output(spec: TensorSpec, tensor: SampledTensor, *, has_classes: bool) -> list[Wanted]:
    axes: list[Wanted] = [("axis", axis) for axis in tensor.free]
    if spec.datatype == BYTES:
        return [("length", 0), ("bucket", 0), *axes]
    if spec.datatype not in FLOATING or tensor.size == 1:
        return [("element", 0), *axes]
    if tensor.free or tensor.size > MAX_SCORES:
        return [("mean", 0), ("deviation", 0), *axes]
    return [("largest", 0)] if has_classes else [("class", 0), ("largest", 0)]


def _measures(
    tensor: SampledTensor, columns: ItemColumns, gathered: Array, wanted: list[Wanted], most: int
) -> Iterator[Measure]:
    for kind, element in wanted:
        measure = Measure(_title(tensor, kind, element), kind, element, (), (), 0, 0.0, 0.0, 0.0, 0.0)
        values = values_of(gathered, columns.num_whole, kind, columns.column(measure))
        present = values[np.isfinite(values)]
        if len(present):
            edges = BUCKET_EDGES if kind == "bucket" else edges_of(present, MAX_EDGES if kind == "class" else most)
            low, high = (0.0, NUM_BUCKETS - 1.0) if kind == "bucket" else (float(present.min()), float(present.max()))
            mean, deviation = _rounded(float(present.mean())), _rounded(float(present.std()))
            yield replace(measure, edges=edges, low=low, high=high, mean=mean, deviation=deviation)


def _title(tensor: SampledTensor, kind: MeasureKind, element: int) -> str:
    """The name of a measure, as people read it; a spot of an item of any size is told in percent."""
    if kind in ("mean", "deviation", "largest", "class"):
        return f"{tensor.name}.{kind}"
    if kind == "axis":
        return f"{tensor.name}.axis{element}"
    where = f"[{100 * element // tensor.places}%]" if tensor.free else f"[{element}]"
    return f"{tensor.name}{where}" if kind == "element" else f"{tensor.name}{where}.{kind}"


def values_of(gathered: Array, num_whole: int, kind: MeasureKind, column: int) -> Array:
    """A measure of each row; gathered: float64 [n, w], whole rows are its first ``num_whole`` columns.

    NaN where a row has no finite element.
    """
    if kind not in ("mean", "deviation", "largest", "class"):
        values: Array = gathered[:, column]
        return values
    gathered = gathered[:, :num_whole]
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


def _counted(tensor: SampledTensor, batches: Sequence[Array]) -> SampledTensor:
    """The tensor with the counts of its rows, by the code that counts when it serves."""
    tally = TensorTally(tensor)
    for rows in batches:
        for first in range(0, len(rows), CAPACITY):
            tally.add(rows, slice(first, first + CAPACITY))
    measures = [
        replace(measure, counts=counts.bins, num_missing=counts.num_missing)
        for measure, counts in zip(tensor.measures, tally.take(), strict=True)
    ]
    return replace(tensor, measures=tuple(measures))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
