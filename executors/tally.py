"""Rows of one tensor counted by the measures of a reference; many at once, for each look at numpy has its price."""

from __future__ import annotations

from typing import Final

import numpy as np

from executors.item_columns import ItemColumns
from executors.kernels.histogram import KINDS, tally
from schemas.reference import SampledTensor
from schemas.statistics import MeasureCounts
from streams.columns import Array

CAPACITY: Final = 128
"""Rows that are gathered before they are counted."""


class TensorTally:
    """Counts of one tensor. Not safe for threads."""

    __slots__ = (
        "_bins", "_columns", "_edges", "_gathered", "_kinds", "_limits", "_places", "_rows", "_sums", "is_output",
        "name", "tensor",
    )  # fmt: skip

    def __init__(self, tensor: SampledTensor) -> None:
        measures = tensor.measures
        self.tensor, self.name, self.is_output = tensor, tensor.name, tensor.is_output
        self._columns = columns = ItemColumns(tensor)
        most = max((len(measure.edges) for measure in measures), default=0)
        self._rows = np.empty((CAPACITY, columns.num_columns), np.float64)
        self._gathered = 0
        self._kinds = np.array([KINDS[measure.kind] for measure in measures], np.int64)
        self._places = np.array([columns.column(measure) for measure in measures], np.int64)
        self._edges = np.full((len(measures), most), np.inf)
        for edges, measure in zip(self._edges, measures, strict=True):
            edges[: len(measure.edges)] = measure.edges
        limits = [(measure.low, measure.high, measure.mean, measure.scale) for measure in measures]
        self._limits = np.array(limits, np.float64).reshape(len(measures), 4)
        self._bins = np.zeros((len(measures), most + 1), np.int64)
        self._sums = np.zeros((len(measures), 4), np.int64)

    def add(self, array: Array, pick: slice | Array) -> None:
        """Take the items that ``pick`` names of a batch ``[n, *item_shape]``, at most ``CAPACITY``.

        Items of another size than the reference's are left out.
        """
        found = self._columns.of(array, pick)
        if found is None:
            return
        if self._gathered + len(found) > CAPACITY:
            self._count()
        at, self._gathered = self._gathered, self._gathered + len(found)
        self._rows[at : self._gathered] = found

    def take(self) -> tuple[MeasureCounts, ...]:
        """The counts since the last call."""
        self._count()
        made = tuple(
            MeasureCounts(tuple(bins[: len(measure.edges) + 1]), *sums)
            for measure, bins, sums in zip(self.tensor.measures, self._bins.tolist(), self._sums.tolist(), strict=True)
        )
        self._bins[:] = 0
        self._sums[:] = 0
        return made

    def _count(self) -> None:
        rows = self._rows[: self._gathered]
        width = self._columns.num_whole
        tally(rows, width, self._kinds, self._places, self._edges, self._limits, self._bins, self._sums)
        self._gathered = 0
