"""What a model version's rows looked like when it was released: the value of ``reference/<model>/<version>`` in memory.

Executors count the rows that they run by these bins; the Monitor compares the counts with those of the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

MAX_MEASURES: Final = 96
MAX_BYTES: Final = 65_536
"""Of the body in memory: every process that follows memory holds it."""
MAX_EDGES: Final = 65
MAX_PLACES: Final = 256
"""Most elements of an item with free axes that are looked at."""
MIN_ROWS: Final = 50
"""Fewer rows say nothing about a distribution in ten bins."""

MeasureKind = Literal["element", "mean", "deviation", "largest", "class", "length", "bucket", "axis"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a row, and how it was distributed over the rows of the reference.

    ``kind``: ``element`` number ``element`` of the tensor (row-major; of one with free axes, the spot); ``mean`` and
    standard ``deviation`` of the row's elements; the ``largest`` of them (a confidence); the index of the largest, its
    ``class``; of a text its ``length`` and ``bucket``; the length of the free ``axis`` number ``element``.
    ``edges`` ascend: a value is in bin i when i edges are at most as large. ``counts`` has one more entry than
    ``edges``. ``num_missing``: rows whose value is NaN or infinite. ``low`` to ``high``, ``mean`` and ``deviation``:
    of the values that are there.
    """

    name: str
    kind: MeasureKind
    element: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    num_missing: int
    low: float
    high: float
    mean: float
    deviation: float

    @property
    def scale(self) -> float:
        """What a shift is told in: the deviation; 1 where all values are the same."""
        return self.deviation or 1.0


@dataclass(frozen=True, slots=True)
class SampledTensor:
    """A tensor of the public signature that is measured. ``size``: elements of an item, 0 where axes are free.

    ``mean``, ``deviation``, ``largest`` and ``class`` are of its elements 0, ``stride``, 2 ``stride``, ... ``datatype``
    "": some numbers, of which there were no others once. ``free``: the item's axes without a fixed length; then
    ``places`` spots are looked at, evenly spread over the elements that an item has (``executors.item_columns``).
    """

    name: str
    is_output: bool
    size: int
    stride: int
    measures: tuple[Measure, ...]
    datatype: str = ""
    free: tuple[int, ...] = ()
    places: int = 0

    @property
    def num_places(self) -> int:
        """How many elements of an item are looked at."""
        return self.places if self.free else math.ceil(self.size / self.stride)


@dataclass(frozen=True, slots=True)
class Reference:
    """Body of ``reference/<model>/<version>``. ``source``: the file that ``num_rows`` rows (items) came from."""

    model: str
    version: str
    num_rows: int
    tensors: tuple[SampledTensor, ...]
    source: str = ""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """All measures in the order in which they are counted."""
        return tuple(measure for tensor in self.tensors for measure in tensor.measures)
