"""Drift looked at once more: what executors and Routers counted since the alert, beside the reference of the version.

Per measure the distance of the two distribution functions at the edges of the bins (KS), over the values that are
there; and how many values are missing or outside of what the reference's rows had.
"""

from __future__ import annotations

from typing import Any, Final

from agents.drift import ROUTER
from schemas.figures import DriftFigures, FeatureDrift, StatisticsFigures
from schemas.reference import Reference
from schemas.statistics import VersionStatistics
from streams.canonical import from_json
from streams.histogram import ks
from streams.memory_view import MemoryView
from streams.references import REFERENCES, reference_id
from streams.strata import kept, rounded

ENOUGH_ROWS: Final = 500


class StatisticsCounts:
    """The windows of a version that began at ``since_us`` or later, summed; those of another reference are left out."""

    def __init__(self, reference: Reference, named: str, since_us: int) -> None:
        self._reference = reference
        self._named = named
        self._since_us = since_us
        self._bins = [[[0] * len(measure.counts) for measure in reference.measures] for _ in (False, True)]
        self._rows, self._sampled = [0, 0], [0, 0]
        self.num_missing = 0
        self.num_out_of_range = 0

    def add(self, window: Any) -> bool:
        """Count a window; whether there are rows enough."""
        reference = self._reference
        if (
            isinstance(window, VersionStatistics)
            and (window.model, window.version, window.reference) == (reference.model, reference.version, self._named)
            and window.window_start_us >= self._since_us
            and [len(each.bins) for each in window.measures] == [len(each) for each in self._bins[0]]
        ):
            kind = window.executor.startswith(ROUTER)
            self._rows[kind] += window.num_rows
            self._sampled[kind] += window.num_sampled
            for sums, measure in zip(self._bins[kind], window.measures, strict=True):
                self.num_missing += measure.num_missing
                self.num_out_of_range += measure.num_below + measure.num_above
                for at, count in enumerate(measure.bins):
                    sums[at] += count
        return self.num_sampled >= ENOUGH_ROWS

    @property
    def num_sampled(self) -> int:
        """How many rows were looked at."""
        return sum(self._sampled)

    def drift(self) -> DriftFigures:
        """The distance per measure that both have values of."""
        ran, cached = self._thinned(False), self._thinned(True)
        bins = [[a + b for a, b in zip(*both, strict=True)] for both in zip(ran, cached, strict=True)]
        pairs = zip(self._reference.measures, bins, strict=True)
        return DriftFigures(
            tuple(
                FeatureDrift(measure.name, ks(measure.counts, bins), sum(bins), sum(measure.counts))
                for measure, bins in pairs
                if sum(bins) and sum(measure.counts)
            )
        )

    def _thinned(self, cached: bool) -> list[list[int]]:
        """The bins of rows that the cache answered, or of those that ran, as dense as the others at most."""
        here, there = int(cached), int(not cached)
        part, whole = kept(self._rows[here], self._sampled[here], self._rows[there], self._sampled[there])
        return [[rounded(each, part, whole) for each in sums] for sums in self._bins[here]]

    def statistics(self, num_rows: int, num_rejected: int) -> StatisticsFigures:
        """Missing values and those out of range, beside the requests of the time."""
        num_values = self.num_sampled * len(self._reference.measures)
        return StatisticsFigures(num_rows, num_rejected, num_values, self.num_missing, self.num_out_of_range)


def reference_of(view: MemoryView, model: str, version: str) -> tuple[Reference, str] | None:
    """The reference of a version and the name that windows know it by, or None where it has none."""
    entry = view.entries.get(f"{REFERENCES}{model}/{version}")
    return None if entry is None else (from_json(Reference, entry.body, newer=True), reference_id(entry.body))
