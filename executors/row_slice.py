"""Consecutive rows of one segment on their way through the executor; pure.

Columns are plain lists: at the few rows that a segment has per frame they cost a third of what numpy's do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False, slots=True)
class RowSlice:
    """Rows ``[first_row, first_row + num_rows)`` of segment ``segment`` of the caller's frame ``frame``.

    Rows and items count within the segment. ``row_items`` and ``deadlines_us`` have one entry per row; ``earliest_us``
    is the smallest deadline. ``frame`` is the caller's own reference and never looked into. Not changed once made.
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
    row_items: Sequence[int]
    deadlines_us: Sequence[int]

    def part(self, start: int, stop: int) -> RowSlice:
        """Rows ``[start, stop)`` of this slice (at least one), as a slice."""
        items, deadlines = self.row_items[start:stop], self.deadlines_us[start:stop]
        return RowSlice(
            self.frame, self.segment, self.first_row + start, stop - start,
            self.first_item + sum(self.row_items[:start]), sum(items), self.priority, self.queued_us, min(deadlines),
            items, deadlines,
        )  # fmt: skip

    def split(self, max_items: int) -> tuple[RowSlice | None, RowSlice | None]:
        """Divide into the rows that fit into ``max_items`` and the rest; either may be empty (None)."""
        if self.num_items <= max_items:
            return self, None
        fitting = total = 0
        for items in self.row_items:
            total += items
            if total > max_items:
                break
            fitting += 1
        if fitting == 0:
            return None, self
        return self.part(0, fitting), self.part(fitting, self.num_rows)

    def sieve(self, finish_us: float) -> tuple[list[RowSlice], list[RowSlice]]:
        """Divide into slices of the rows whose deadline is before ``finish_us``, and of the others."""
        if self.earliest_us >= finish_us:
            return [], [self]
        sides: tuple[list[RowSlice], list[RowSlice]] = ([], [])
        for start, stop, late in _runs([deadline < finish_us for deadline in self.deadlines_us]):
            sides[0 if late else 1].append(self.part(start, stop))
        return sides

    def by_priority(self, priorities: Sequence[int]) -> Iterator[RowSlice]:
        """Cut where the priority changes; ``priorities`` has one entry per row."""
        for start, stop, priority in _runs(priorities):
            piece = self.part(start, stop)
            piece.priority = priority
            yield piece


def _runs(values: Sequence[Any]) -> Iterator[tuple[int, int, Any]]:
    """Start, end and value of each run of equal values."""
    at = 0
    for value, run in itertools.groupby(values):
        end = at + sum(1 for _ in run)
        yield at, end, value
        at = end
