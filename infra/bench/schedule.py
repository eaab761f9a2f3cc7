"""When each request of an open loop is due: pieces of constant rate, one after the other. Pure."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_REQUESTS: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """Request ``n`` is due ``n`` intervals after the start; an interval is one over the rate of its piece.

    ``starts_s``: when each piece begins; ``firsts``: the number of the first request of each; ``rates`` per second.
    """

    starts_s: tuple[float, ...]
    firsts: tuple[int, ...]
    rates: tuple[float, ...]
    end_s: float
    size: int

    @classmethod
    def of(cls, steps: Sequence[tuple[float, float]]) -> Schedule:
        """Make it of (rate per second, seconds) pairs; at most ``MAX_REQUESTS`` requests."""
        starts = (0.0, *itertools.accumulate(seconds for _, seconds in steps))
        counts = [int(rate * seconds) for rate, seconds in steps]
        firsts = (0, *itertools.accumulate(counts))
        rates = tuple(rate for rate, _ in steps)
        return cls(starts[:-1], firsts[:-1], rates, starts[-1], min(firsts[-1], MAX_REQUESTS))

    def due(self, elapsed_s: float) -> int:
        """How many requests are due ``elapsed_s`` after the start."""
        if elapsed_s >= self.end_s:
            return self.size
        piece = bisect.bisect_right(self.starts_s, elapsed_s) - 1
        within = int((elapsed_s - self.starts_s[piece]) * self.rates[piece]) + 1
        last = self.firsts[piece + 1] if piece + 1 < len(self.firsts) else self.size
        return min(self.firsts[piece] + within, last, self.size)

    def at_s(self, number: int) -> float:
        """When a request is due, in seconds after the start; the end for one that there is none of."""
        if number >= self.size:
            return self.end_s
        piece = bisect.bisect_right(self.firsts, number) - 1
        return self.starts_s[piece] + (number - self.firsts[piece]) / self.rates[piece]

    def times_us(self, size: int) -> NDArray[np.int64]:
        """When the first ``size`` requests are due, in microseconds after the start."""
        numbers = np.arange(size, dtype=np.int64)
        piece = np.searchsorted(np.array(self.firsts), numbers, side="right") - 1
        starts, firsts, rates = np.array(self.starts_s), np.array(self.firsts), np.array(self.rates)
        times: NDArray[np.int64] = ((starts[piece] + (numbers - firsts[piece]) / rates[piece]) * 1e6).astype(np.int64)
        return times
