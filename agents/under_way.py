"""Rows that were routed and are not answered, as a table: an array by offset, with an entry per row, never written to.

What the Router's hedging looks at; bounded, the newest rows stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from schemas.frame import InferenceFrame
from streams.columns import Array

MAX_ROWS: Final = 4096
ROW: Final = np.dtype(
    [
        ("offset", "<i8"), ("sent_us", "<i8"), ("deadline_us", "<i8"), ("kept", "<i8"), ("model", "<i4"),
        ("row", "<i4"), ("lane", "<i4"), ("copy", "<i4"),
    ]
)  # fmt: skip
"""``kept`` and ``row``: number of the frame and place in it; ``copy``: the lane of the row's copy, or one of these."""
NO_COPY: Final = -1
NOWHERE: Final = -2
"""There is no other lane for a copy."""
NO_ROWS: Final = np.zeros(0, ROW)
_BYTES_PER_ROW: Final = 64
"""Of a frame's columns, about."""


def rows_of(frame: InferenceFrame, lane: int, number: int, subjects: Mapping[str, int], now_us: int) -> Array:
    """The frame's rows of the models in ``subjects`` (the number of each), in the frame's order; none with a blob."""
    numbers = [-1 if segment.blob is not None else subjects.get(segment.model, -1) for segment in frame.segments]
    per_row = np.repeat(np.array(numbers, np.int32), [segment.num_rows for segment in frame.segments])
    mine = np.flatnonzero(per_row >= 0)
    rows = np.empty(len(mine), ROW)
    rows["offset"] = np.frombuffer(frame.offsets, "<i8")[mine]
    rows["deadline_us"] = np.frombuffer(frame.deadlines_us, "<i8")[mine]
    rows["model"], rows["row"] = per_row[mine], mine
    rows["sent_us"], rows["kept"], rows["lane"], rows["copy"] = now_us, number, lane, NO_COPY
    return rows


def merged(rows: Array, new: Array) -> Array:
    """All rows by offset; of one offset that which was there first, of too many the highest offsets."""
    new = new[np.argsort(new["offset"], kind="stable")]
    joined = np.concatenate((rows, new))
    if len(rows) and rows["offset"][-1] >= new["offset"][0]:
        joined = joined[np.argsort(joined["offset"], kind="stable")]
    offsets = joined["offset"]
    repeated = offsets[1:] == offsets[:-1]
    if repeated.any():
        joined = joined[np.concatenate(([True], ~repeated))]
    return joined[-MAX_ROWS:]


def num_bytes(frame: InferenceFrame) -> int:
    """About what a frame takes."""
    tensors = sum([len(block.data) for segment in frame.segments for block in segment.inputs])
    return tensors + _BYTES_PER_ROW * len(frame.statuses) + len(frame.ids) + len(frame.routing_keys)
