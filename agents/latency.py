"""How long something takes, per subject: decaying histograms in one table, whose quantiles are integers.

Buckets grow by a tenth, so that a quantile is at most a tenth above the sample that it stands for. All arithmetic is on
integers: the same samples give the same quantiles on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streams.columns import Array

FIRST_US: Final = 100
LAST_US: Final = 300_000_000
MEMORY: Final = 1024
"""Samples of a subject at which all of its counts are halved."""
UNKNOWN: Final = 1 << 62


def _edges() -> Array:
    edges = [FIRST_US]
    while edges[-1] < LAST_US:
        edges.append(edges[-1] + edges[-1] // 10)
    return np.array(edges, np.int64)


_EDGES: Final = _edges()
"""Upper edges of the buckets in microseconds; what is longer than the last one counts as that."""
_NUM_BUCKETS: Final = len(_EDGES)


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Counts ``[subjects, buckets]`` (int64); never written in place."""

    counts: Array

    @classmethod
    def none(cls) -> Latencies:
        """No subject yet."""
        return cls(np.zeros((0, _NUM_BUCKETS), np.int64))

    def for_subjects(self, number: int) -> Latencies:
        """The same for at least ``number`` subjects."""
        missing = number - len(self.counts)
        if missing <= 0:
            return self
        return Latencies(np.concatenate((self.counts, np.zeros((missing, _NUM_BUCKETS), np.int64))))

    def plus(self, subjects: Array, lengths_us: Array) -> Latencies:
        """With samples: the subject (a number) and the microseconds of each."""
        buckets = np.minimum(np.searchsorted(_EDGES, lengths_us), _NUM_BUCKETS - 1)
        flat = np.bincount(subjects * _NUM_BUCKETS + buckets, minlength=self.counts.size)
        counts = self.counts + flat.reshape(self.counts.shape)
        full = counts.sum(axis=1) >= MEMORY
        if full.any():
            counts[full] //= 2
        return Latencies(counts)

    def quantiles(self, percents: tuple[int, ...], *, at_least: int) -> tuple[Any, ...]:
        """Per percentage an array of microseconds per subject; UNKNOWN with fewer than ``at_least`` samples."""
        below = self.counts.cumsum(axis=1)
        totals = below[:, -1] if len(below) else np.zeros(0, np.int64)
        found = []
        for percent in percents:
            wanted = (totals * percent + 99) // 100
            edges = _EDGES[(below >= wanted[:, None]).argmax(axis=1)]
            found.append(np.where(totals < at_least, UNKNOWN, edges))
        return tuple(found)
