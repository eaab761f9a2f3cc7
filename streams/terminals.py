"""Which requests of a partition have a result: a low watermark and a state per offset above it.

Values are immutable: every change returns a new ``Terminals`` over a copied array (70 kB cost 8 us). An offset is
``OPEN``, ``PENDING`` (its result was handed to the broker) or ``SET`` (acknowledged, or no request stands there).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

OPEN: Final = 0
PENDING: Final = 1
SET: Final = 2
_CAPACITY: Final = 4096

Offsets = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Terminals:
    """State of the offsets from ``base`` on (uint8, one per offset); everything below ``low_watermark`` is SET."""

    base: int
    low_watermark: int
    states: NDArray[np.uint8]

    @classmethod
    def starting_at(cls, offset: int) -> Terminals:
        """All below ``offset`` is terminal, nothing is known from there on."""
        return cls(offset, offset, np.zeros(_CAPACITY, np.uint8))

    @classmethod
    def from_bits(cls, low_watermark: int, bits: bytes) -> Terminals:
        """Restore what ``to_bits`` gave."""
        unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
        states = np.zeros(max(_CAPACITY, 2 * len(unpacked)), np.uint8)
        states[: len(unpacked)] = unpacked * np.uint8(SET)
        return cls(low_watermark, low_watermark, states)._advanced()

    def to_bits(self) -> tuple[int, bytes]:
        """Low watermark and packed bits (little bit order) of the SET offsets from there on; pending ones are 0."""
        above = self.states[self.low_watermark - self.base :] == SET
        used = int(np.flatnonzero(above)[-1]) + 1 if above.any() else 0
        return self.low_watermark, np.packbits(above[:used], bitorder="little").tobytes()

    def open_mask(self, offsets: Offsets) -> NDArray[np.bool_]:
        """Which of ``offsets`` have neither a result nor one under way (bool, one per offset)."""
        at = offsets - self.base
        inside = (at >= 0) & (at < len(self.states))
        mask: NDArray[np.bool_] = (offsets >= self.low_watermark) & ~(
            inside & (self.states[np.where(inside, at, 0)] != OPEN)
        )
        return mask

    def mark_pending(self, offsets: Offsets) -> Terminals:
        """The offsets' results are under way; they must be open."""
        return self._with(offsets, PENDING)

    def mark_set(self, offsets: Offsets) -> Terminals:
        """The offsets' results are acknowledged."""
        return self._with(offsets, SET)

    def mark_gaps(self, offsets: Offsets, gaps: NDArray[Any]) -> Terminals:
        """The ``gaps[i]`` offsets just before ``offsets[i]`` hold no request."""
        holes = np.flatnonzero(gaps)
        if not len(holes):
            return self
        empty = [np.arange(offsets[i] - gaps[i], offsets[i]) for i in holes.tolist()]
        return self._with(np.concatenate(empty).astype(np.int64), SET)

    def open_below(self, offset: int) -> Offsets:
        """Offsets from the low watermark up to (not including) ``offset`` without a result, pending ones included."""
        known = self.states[self.low_watermark - self.base : max(0, min(offset - self.base, len(self.states)))]
        first = np.flatnonzero(known != SET).astype(np.int64) + self.low_watermark
        rest = np.arange(self.low_watermark + len(known), max(offset, self.low_watermark + len(known)), dtype=np.int64)
        return np.concatenate((first, rest))

    @property
    def highest_set(self) -> int:
        """Highest offset with a result, or ``low_watermark - 1``."""
        marked = np.flatnonzero(self.states == SET)
        return max(self.base + int(marked[-1]) if len(marked) else -1, self.low_watermark - 1)

    @property
    def num_pending(self) -> int:
        """How many results are under way."""
        return int(np.count_nonzero(self.states == PENDING))

    def _with(self, offsets: Offsets, state: int) -> Terminals:
        offsets = offsets[offsets >= self.low_watermark]
        if not len(offsets):
            return self
        base, states = self.base, self.states
        needed = int(offsets.max()) - base + 1
        skipped = self.low_watermark - base
        if needed > len(states) or skipped > len(states) // 2:
            kept = states[skipped:]
            base, needed = self.low_watermark, needed - skipped
            grown = np.zeros(max(_CAPACITY, 2 * needed, len(kept)), np.uint8)
            grown[: len(kept)] = kept
            states = grown
        else:
            states = states.copy()
        states[offsets - base] = state
        return Terminals(base, self.low_watermark, states)._advanced()

    def _advanced(self) -> Terminals:
        at = self.low_watermark - self.base
        if at >= len(self.states) or self.states[at] != SET:
            return self
        unset = np.flatnonzero(self.states[at:] != SET)
        run = int(unset[0]) if len(unset) else len(self.states) - at
        return Terminals(self.base, self.low_watermark + run, self.states)
