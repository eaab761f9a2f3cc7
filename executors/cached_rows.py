"""Rows that the cache answered, counted for drift: in the Router's process, for they reach no executor.

As in an executor (``executors.statistics``), at most ``ROWS_PER_S`` a second are looked at, with the answers that they
got. Rows whose tensors are in a blob, and those of checks, are not.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from executors.statistics import RowStatistics, VersionTally
from schemas.frame import InferenceFrame, TensorBlock
from streams.cache.lookup import Asked, LookedUp
from streams.cache.values import Entry
from streams.check_rows import client_rows
from streams.columns import Array, items_array, segment_starts, take_items
from streams.key_order import ended_before

ALL = slice(None)


class CachedRows:
    """Counts into ``rows`` what is looked up in one process."""

    def __init__(self, rows: RowStatistics) -> None:
        self.rows = rows

    def note(self, frame: InferenceFrame, found: LookedUp, now_us: int) -> None:
        """Look at some of a frame's rows that were found in the cache; rows that ended before were not asked for."""
        watched = self.rows.watched
        left = ended_before(frame)[0] if watched else None
        if left is None:
            return
        for asked, entries in zip(found.lookup.asked, found.entries, strict=True):
            tally = watched.get((asked.model, asked.version))
            if tally is not None and left.segments[asked.segment].blob is None:
                _look(tally, left, asked, entries, now_us)


def _look(
    tally: VersionTally, frame: InferenceFrame, asked: Asked, entries: tuple[Entry | None, ...], now_us: int
) -> None:
    first = segment_starts(frame)[asked.segment]
    mine = client_rows(frame)
    hits = [
        (row, entry)
        for row, entry in zip(asked.rows, entries, strict=True)
        if entry is not None and (mine is None or mine[first + row])
    ]
    count = tally.admit(sum([entry.items for _, entry in hits]), now_us)
    if not count:
        return
    segment = frame.segments[asked.segment]
    row_items = np.frombuffer(frame.row_items, "<u2")[first : first + segment.num_rows].astype(np.int64)
    starts = np.concatenate(([0], np.cumsum(row_items)))
    places = np.concatenate([np.arange(starts[row], starts[row] + entry.items) for row, entry in hits])
    pick = np.arange(count) * len(places) // count
    inputs = _arrays(segment.inputs, places[pick], int(starts[-1]))
    tally.look(inputs, _arrays(_outputs([entry for _, entry in hits]), pick, len(places)), ALL, ALL)


def _outputs(entries: list[Entry]) -> Iterable[TensorBlock]:
    """The answers as blocks; those that are of another form than the first are of another model and none of ours."""
    made = entries[0].made.outputs
    if any(entry.made.outputs != made for entry in entries):
        return ()
    return [
        TensorBlock(name, datatype, shape, b"".join([entry.data[at] for entry in entries]))
        for at, (name, datatype, shape) in enumerate(made)
    ]


def _arrays(blocks: Iterable[TensorBlock], items: Array, num_items: int) -> dict[str, Array]:
    """Some items of each block."""
    return {block.name: items_array(take_items(block, items, num_items), 0, len(items)) for block in blocks}
