"""Rows of many frames in, batches out; pure, no clock, no I/O.

The unit is a slice: consecutive rows of one segment with one priority. Between models: weighted deficit round robin on
service time (Shreedhar and Varghese 1995, in its surplus form: a queue is served while its deficit is positive and pays
afterwards). Inside a model: priority 0 first, then first come, first served. Rows whose deadline would pass before the
batch they would ride in is done come back as expired: dropping early keeps goodput up under overload, where earliest
deadline first collapses. Invariant: every row added comes back exactly once, in a batch, as expired, or from ``drop``.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[Any]

PRIORITIES: Final = 10
QUANTUM_US: Final = 1_000.0
"""Service time that a queue of weight 1 earns per round."""


class BatchKey(NamedTuple):
    """What may ride in one batch: ``signature`` tells inputs with different free axes apart."""

    model: str
    version: str
    signature: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """Service time of a session, t(n) = fixed_us + per_item_us * n, and its limits; ``weight`` is its share."""

    fixed_us: float
    per_item_us: float
    max_batch_size: int
    weight: float = 1.0

    def time_us(self, num_items: int) -> float:
        """Time of a batch of ``num_items``."""
        return self.fixed_us + self.per_item_us * num_items

    @property
    def full_batch_us(self) -> float:
        """Time of a full batch."""
        return self.time_us(self.max_batch_size)


@dataclass(frozen=True, slots=True)
class RowSlice:
    """Rows ``[first_row, first_row + num_rows)`` of segment ``segment`` of the caller's frame ``frame``.

    Rows and items count within the segment. ``row_items`` int64 [num_rows], ``deadlines_us`` int64 [num_rows];
    ``earliest_us`` is the smallest deadline. ``frame`` is the caller's own reference and never looked into.
    """

    frame: Any
    segment: int
    first_row: int
    num_rows: int
    first_item: int
    num_items: int
    priority: int
    queued_us: int
    earliest_us: int
    row_items: Ints
    deadlines_us: Ints

    def part(self, start: int, stop: int) -> RowSlice:
        """Rows ``[start, stop)`` of this slice, as a slice."""
        before = int(self.row_items[:start].sum())
        items, deadlines = self.row_items[start:stop], self.deadlines_us[start:stop]
        return RowSlice(
            self.frame, self.segment, self.first_row + start, stop - start, self.first_item + before,
            int(items.sum()), self.priority, self.queued_us, int(deadlines.min()), items, deadlines,
        )  # fmt: skip

    def split(self, max_items: int) -> tuple[RowSlice | None, RowSlice | None]:
        """Divide into the rows that fit into ``max_items`` and the rest; either may be empty (None)."""
        if self.num_items <= max_items:
            return self, None
        fitting = int(np.searchsorted(np.cumsum(self.row_items), max_items, side="right"))
        if fitting == 0:
            return None, self
        return self.part(0, fitting), self.part(fitting, self.num_rows)


@dataclass(frozen=True, slots=True)
class Batch:
    """What to run next, in row order of its slices, and the rows to answer EXPIRED; either may be empty."""

    key: BatchKey
    slices: tuple[RowSlice, ...]
    num_items: int
    expired: tuple[RowSlice, ...]


@dataclass(slots=True)
class _Queue:
    """Waiting slices of one key, by priority, and what the round robin owes it."""

    lanes: tuple[deque[RowSlice], ...] = field(default_factory=lambda: tuple(deque() for _ in range(PRIORITIES)))
    num_items: int = 0
    deficit_us: float = 0.0


class Batcher:
    """Queues per (model, version, signature). Not safe for threads; bounded by its caller through ``queued_items``."""

    __slots__ = ("_queues", "queued_items")

    def __init__(self) -> None:
        self._queues: dict[BatchKey, _Queue] = {}
        self.queued_items = 0

    def add(
        self,
        key: BatchKey,
        frame: Any,
        segment: int,
        priorities: Ints,
        row_items: Ints,
        deadlines_us: Ints,
        now_us: int,
    ) -> None:
        """Queue all rows of a segment; the three columns are the segment's, one entry per row (at least one row)."""
        whole = RowSlice(
            frame, segment, 0, len(row_items), 0, int(row_items.sum()), int(priorities[0]), now_us,
            int(deadlines_us.min()), row_items.astype(np.int64), deadlines_us,
        )  # fmt: skip
        for row_slice in _by_priority(whole, priorities):
            self.add_slice(key, row_slice)

    def add_slice(self, key: BatchKey, row_slice: RowSlice) -> None:
        """Queue one slice."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
        queue.lanes[min(row_slice.priority, PRIORITIES - 1)].append(row_slice)
        queue.num_items += row_slice.num_items
        self.queued_items += row_slice.num_items

    def next_batch(self, now_us: int, profiles: Mapping[tuple[str, str], Profile]) -> Batch | None:
        """Take the next batch; None when nothing waits for a (model, version) in ``profiles``. Others keep waiting."""
        key = self._pick(profiles)
        if key is None:
            return None
        queue, profile = self._queues[key], profiles[key.model, key.version]
        batch = _take(key, queue, profile, now_us)
        taken = batch.num_items + sum(row_slice.num_items for row_slice in batch.expired)
        self.queued_items -= taken
        queue.num_items -= taken
        queue.deficit_us -= profile.time_us(batch.num_items) if batch.slices else 0.0
        if queue.num_items == 0:
            del self._queues[key]  # an empty queue neither saves nor owes
        elif queue.deficit_us <= 0:
            self._queues[key] = self._queues.pop(key)  # to the end of the ring
        return batch

    def waiting(self) -> Mapping[BatchKey, int]:
        """Items waiting per key."""
        return {key: queue.num_items for key, queue in self._queues.items()}

    def drop(self, model: str, version: str) -> tuple[RowSlice, ...]:
        """Take out every row of a version, for the caller to answer: it could not be loaded."""
        found: list[RowSlice] = []
        for key in [key for key in self._queues if (key.model, key.version) == (model, version)]:
            queue = self._queues.pop(key)
            self.queued_items -= queue.num_items
            found.extend(row_slice for lane in queue.lanes for row_slice in lane)
        return tuple(found)

    def drop_frames(self, frames: set[Any]) -> int:
        """Forget the rows of ``frames`` (their partition was lost). Return the number of items forgotten."""
        before = self.queued_items
        for key, queue in list(self._queues.items()):
            for lane in queue.lanes:
                kept = [row_slice for row_slice in lane if row_slice.frame not in frames]
                gone = sum(row_slice.num_items for row_slice in lane) - sum(kept_.num_items for kept_ in kept)
                queue.num_items -= gone
                self.queued_items -= gone
                lane.clear()
                lane.extend(kept)
            if queue.num_items == 0:
                del self._queues[key]
        return before - self.queued_items

    def _pick(self, profiles: Mapping[tuple[str, str], Profile]) -> BatchKey | None:
        ready = [key for key in self._queues if (key.model, key.version) in profiles]
        if len(ready) < 2:
            return ready[0] if ready else None
        for key in ready:
            if self._queues[key].deficit_us > 0:
                return key
        # Nobody has anything left: as many rounds pass at once as the first to become positive needs.
        earn = {key: QUANTUM_US * profiles[key.model, key.version].weight for key in ready}
        rounds = min(int(-self._queues[key].deficit_us // earn[key]) + 1 for key in ready)
        for key in ready:
            self._queues[key].deficit_us += rounds * earn[key]
        return next(key for key in ready if self._queues[key].deficit_us > 0)


def _by_priority(whole: RowSlice, priorities: Ints) -> Iterator[RowSlice]:
    """Cut a segment where the priority changes."""
    if (priorities == priorities[0]).all():
        yield whole
        return
    edges = [0, *(np.flatnonzero(np.diff(priorities)) + 1).tolist(), len(priorities)]
    for start, stop in itertools.pairwise(edges):
        piece = whole.part(start, stop)
        yield RowSlice(
            piece.frame, piece.segment, piece.first_row, piece.num_rows, piece.first_item, piece.num_items,
            int(priorities[start]), piece.queued_us, piece.earliest_us, piece.row_items, piece.deadlines_us,
        )  # fmt: skip


def _take(key: BatchKey, queue: _Queue, profile: Profile, now_us: int) -> Batch:
    """Fill one batch from a queue, dropping on the way what cannot be done in time."""
    cap = profile.max_batch_size
    finish_us = now_us + profile.time_us(min(queue.num_items, cap))
    chosen: list[RowSlice] = []
    expired: list[RowSlice] = []
    room = cap
    for lane in queue.lanes:
        while lane and room > 0:
            late, punctual = _sieve(lane.popleft(), finish_us)
            expired.extend(late)
            for position, row_slice in enumerate(punctual):
                fitting, rest = row_slice.split(room)
                if fitting is None and room == cap:  # one row above the cap is a batch by itself
                    fitting, rest = row_slice.part(0, 1), _rest(row_slice)
                if fitting is not None:
                    chosen.append(fitting)
                    room -= fitting.num_items
                if rest is not None:
                    lane.extendleft(reversed([rest, *punctual[position + 1 :]]))
                    room = min(room, 0)
                    break
        if room <= 0:
            break
    return Batch(key, tuple(chosen), sum(row_slice.num_items for row_slice in chosen), tuple(expired))


def _rest(row_slice: RowSlice) -> RowSlice | None:
    return row_slice.part(1, row_slice.num_rows) if row_slice.num_rows > 1 else None


def _sieve(row_slice: RowSlice, finish_us: float) -> tuple[list[RowSlice], list[RowSlice]]:
    """Divide a slice into the rows whose deadline is before ``finish_us`` and the others."""
    if row_slice.earliest_us >= finish_us:
        return [], [row_slice]
    late = row_slice.deadlines_us < finish_us
    edges = [0, *(np.flatnonzero(np.diff(late)) + 1).tolist(), row_slice.num_rows]
    sides: tuple[list[RowSlice], list[RowSlice]] = ([], [])
    for start, stop in itertools.pairwise(edges):
        sides[0 if late[start] else 1].append(row_slice.part(start, stop))
    return sides
