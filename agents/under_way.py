"""Rows that were routed and are not answered, as a table: int64 ``[8 columns, rows]`` by offset, never written to.

What the Router's hedging looks at; bounded, the newest rows stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame
from streams.columns import Array
from streams.splice import wire_of

MAX_ROWS: Final = 4096
OFFSET, SENT_US, DEADLINE_US, KEPT, MODEL, ROW, LANE, COPY = range(8)
"""Columns: ``KEPT`` and ``ROW`` are the number of the frame and the place in it, ``COPY`` the lane of a row's copy."""
NO_COPY: Final = -1
NOWHERE: Final = -2
"""In place of a lane: there is none for a copy."""
NO_ROWS: Final = np.zeros((8, 0), np.int64)
_BYTES_PER_ROW: Final = 64
"""Of a frame's columns, about."""


def rows_of(frame: InferenceFrame, lane: int, number: int, subjects: Mapping[str, int], now_us: int) -> Array:
    """The frame's rows of the models in ``subjects`` (the number of each), in the frame's order; none with a blob."""
    numbers = [-1 if segment.blob is not None else subjects.get(segment.model, -1) for segment in frame.segments]
    per_row = np.repeat(np.array(numbers, np.int32), [segment.num_rows for segment in frame.segments])
    mine = np.flatnonzero(per_row >= 0)
    rows = np.empty((8, len(mine)), np.int64)
    rows[OFFSET] = np.frombuffer(frame.offsets, "<i8")[mine]
    rows[SENT_US] = now_us
    rows[DEADLINE_US] = np.frombuffer(frame.deadlines_us, "<i8")[mine]
    rows[KEPT], rows[MODEL], rows[ROW], rows[LANE], rows[COPY] = number, per_row[mine], mine, lane, NO_COPY
    return rows


def merged(rows: Array, new: Array) -> Array:
    """All rows by offset; of one offset that which was there first, of too many the highest offsets."""
    new = new[:, new[OFFSET].argsort(kind="stable")]
    joined = np.concatenate((rows, new), axis=1)
    if rows.shape[1] and rows[OFFSET, -1] >= new[OFFSET, 0]:
        joined = joined[:, joined[OFFSET].argsort(kind="stable")]
    repeated = joined[OFFSET, 1:] == joined[OFFSET, :-1]
    if repeated.any():
        joined = joined[:, np.concatenate(([True], ~repeated))]
    return joined if joined.shape[1] <= MAX_ROWS else joined[:, -MAX_ROWS:].copy()


def num_bytes(frame: InferenceFrame) -> int:
    """About what a kept frame takes, what it was read from included."""
    tensors = sum([len(block.data) for segment in frame.segments for block in segment.inputs])
    wire = wire_of(frame.segments[0])
    read_from = 0 if wire is None else memoryview(wire.obj).nbytes
    return tensors + read_from + _BYTES_PER_ROW * len(frame.statuses) + len(frame.ids) + len(frame.routing_keys)
