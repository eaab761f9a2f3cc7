"""Which requests of a partition have a result: a low watermark and a state per offset above it.

Values are immutable: every change returns a new ``Terminals`` over a copied array (70 kB cost 8 us). An offset is
``OPEN``, ``PENDING`` (its result was handed to the broker) or ``SET`` (acknowledged, or no request stands there).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
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

    def begin(self, offsets: Offsets, wanted: NDArray[np.bool_]) -> tuple[Terminals, NDArray[np.int64]]:
        """Mark those of the wanted offsets that are open as pending; also the places of these in ``offsets``.

        An offset that stands there twice is begun once, at its first place. ``wanted``: one per offset.
        """
        given = np.array(offsets, np.int64)
        base, states = self._room_for(given)
        rows = np.empty(len(given), np.int64)
        count = _begin(states, base, self.low_watermark, given, np.array(wanted, np.bool_), rows)
        if not count:
            return self, rows[:0]
        return Terminals(base, self.low_watermark, states), rows[:count]

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
        given = np.array(offsets, np.int64)  # aligned, as compiled code wants it; a frame's column need not be
        base, states = self._room_for(given)
        low = _mark(states, base, self.low_watermark, given, state)
        return self if low < 0 else Terminals(base, low, states)

    def _room_for(self, offsets: Offsets) -> tuple[int, NDArray[np.uint8]]:
        """A copy of the states with room for the offsets, and the offset it begins at."""
        base, states = self.base, self.states
        needed = _highest(offsets) - base + 1
        skipped = self.low_watermark - base
        if needed <= len(states) and skipped <= len(states) // 2:
            return base, states.copy()
        kept = states[skipped:]
        grown = np.zeros(max(_CAPACITY, 2 * (needed - skipped), len(kept)), np.uint8)
        grown[: len(kept)] = kept
        return self.low_watermark, grown

    def _advanced(self) -> Terminals:
        low = _mark(self.states, self.base, self.low_watermark, np.empty(0, np.int64), SET)
        return Terminals(self.base, self.low_watermark if low < 0 else low, self.states)


@njit("int64(int64[::1])", cache=True, nogil=True)
def _highest(offsets: Any) -> Any:
    highest = np.int64(-1)
    for offset in offsets:
        highest = max(highest, offset)
    return highest


@njit("int64(uint8[::1], int64, int64, int64[::1], int64)", cache=True, nogil=True)
def _mark(states: Any, base: Any, low: Any, offsets: Any, state: Any) -> Any:
    """Mark the offsets from ``low`` on and return the low watermark; -1 when nothing changed."""
    changed = False
    for offset in offsets:
        if offset >= low:
            states[offset - base] = state
            changed = True
    at = low - base
    while at < len(states) and states[at] == SET:
        at += 1
    return base + at if changed or base + at > low else np.int64(-1)


@njit("int64(uint8[::1], int64, int64, int64[::1], boolean[::1], int64[::1])", cache=True, nogil=True)
def _begin(states: Any, base: Any, low: Any, offsets: Any, wanted: Any, rows: Any) -> Any:
    """Mark what is wanted and open as pending, and put its places into ``rows``; how many."""
    count = 0
    for row in range(len(offsets)):
        offset = offsets[row]
        if wanted[row] and offset >= low and states[offset - base] == OPEN:
            states[offset - base] = PENDING
            rows[count] = row
            count += 1
    return count
