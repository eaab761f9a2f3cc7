"""Frames of some segments of a frame, or of parts of segments with their rows in another order.

Columns of whole segments are joined from slices of bytes; only rows that are chosen one by one are gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from schemas.frame import InferenceFrame, RowError, Segment
from schemas.quick import quick, replaced
from streams.columns import Array, request_ids, routing_keys, segment_starts, take_items

_WIDTHS: Final = {
    "offsets": 8, "gaps": 4, "received_us": 8, "deadlines_us": 8, "priorities": 1, "statuses": 1, "roles": 1,
    "row_items": 2, "tenant_index": 2, "id_lengths": 1, "key_lengths": 2,
}  # fmt: skip
"""Bytes per row of each column that has one entry per row."""
_DIGESTED: Final = {**_WIDTHS, "input_digests": 16}


@quick
@dataclass(frozen=True, slots=True)
class Cut:
    """A segment by its number, or the ``rows`` of it (numbers within the segment) in their new order."""

    segment: int
    rows: tuple[int, ...] | None = None


def arranged(frame: InferenceFrame, cuts: Sequence[Cut]) -> InferenceFrame:
    """The frame with one segment per cut, in their order; no row may stand in two of them.

    Every segment whole and in its place is the frame itself.
    """
    numbers = [cut.segment for cut in cuts]
    whole = all(cut.rows is None for cut in cuts)
    if whole and numbers == list(range(len(frame.segments))):
        return frame
    if whole:
        return _of_segments(frame, numbers)
    return _of_rows(frame, cuts)


def _of_segments(frame: InferenceFrame, numbers: list[int]) -> InferenceFrame:
    starts = segment_starts(frame)
    runs = _runs([(starts[number], starts[number + 1]) for number in numbers])
    columns: dict[str, Any] = {
        name: _column(getattr(frame, name), runs, width) for name, width in _widths(frame).items()
    }
    ids = _texts(frame.ids, np.frombuffer(frame.id_lengths, "|u1"), runs)
    keys = _texts(frame.routing_keys, np.frombuffer(frame.key_lengths, "<u2"), runs)
    order = [row for start, stop in runs for row in range(start, stop)] if frame.errors else []
    segments = tuple([frame.segments[number] for number in numbers])
    return replaced(frame, segments=segments, errors=_placed(frame, order), ids=ids, routing_keys=keys, **columns)


def _widths(frame: InferenceFrame) -> dict[str, int]:
    return _WIDTHS if frame.input_digests is None else _DIGESTED


def _runs(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans with neighbours joined."""
    runs = spans[:1]
    for start, stop in spans[1:]:
        if start == runs[-1][1]:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def _column(data: bytes, runs: list[tuple[int, int]], width: int) -> bytes:
    """The runs' part of a column of ``width`` bytes per row; most columns hold one value all over."""
    if data == data[:width] * (len(data) // width):
        return data[: sum([stop - start for start, stop in runs]) * width]
    return _joined(data, runs, width)


def _joined(data: bytes, runs: list[tuple[int, int]], width: int = 1) -> bytes:
    return b"".join([data[start * width : stop * width] for start, stop in runs])


def _texts(data: bytes, lengths: Array, runs: list[tuple[int, int]]) -> bytes:
    """The runs' part of the rows' texts, which stand one behind the other."""
    if not data:
        return b""
    ends = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]
    return _joined(data, [(ends[start], ends[stop]) for start, stop in runs])


def _placed(frame: InferenceFrame, order: Sequence[int]) -> tuple[RowError, ...]:
    """The errors of the rows in ``order``, each at its new place."""
    if not frame.errors:
        return ()
    place = {row: at for at, row in enumerate(order)}
    return tuple([replaced(error, row=place[error.row]) for error in frame.errors if error.row in place])


def _of_rows(frame: InferenceFrame, cuts: Sequence[Cut]) -> InferenceFrame:
    starts = segment_starts(frame)
    row_items = np.frombuffer(frame.row_items, "<u2")
    segments, chosen = [], []
    for cut in cuts:
        first, stop = starts[cut.segment], starts[cut.segment + 1]
        segment = frame.segments[cut.segment]
        whole = cut.rows is None or cut.rows == tuple(range(segment.num_rows))
        rows = np.arange(stop - first) if whole else np.array(cut.rows, np.int64)
        segments.append(segment if whole else _part(segment, rows, row_items[first:stop]))
        chosen.append(rows + first)
    order = np.concatenate(chosen)
    listed = order.tolist()
    columns: dict[str, Any] = {
        name: np.frombuffer(getattr(frame, name), f"|V{width}")[order].tobytes()
        for name, width in _widths(frame).items()
    }
    ids, keys = request_ids(frame), routing_keys(frame)
    return replaced(
        frame,
        segments=tuple(segments),
        errors=_placed(frame, listed),
        ids=b"".join([ids[row] for row in listed]),
        routing_keys=b"".join([keys[row] for row in listed]) if frame.routing_keys else b"",
        **columns,
    )


def _part(segment: Segment, rows: Array, row_items: Array) -> Segment:
    """Some rows of a segment; ``row_items`` are those of the whole segment."""
    ends = np.cumsum(row_items, dtype=np.int64)
    total = int(ends[-1])
    if total == len(row_items) and (row_items == 1).all():
        items = rows
    else:
        counts = row_items[rows].astype(np.int64)
        shift = (ends - row_items)[rows] - (np.cumsum(counts) - counts)
        items = np.repeat(shift, counts) + np.arange(int(counts.sum()))
    return replaced(
        segment,
        num_rows=len(rows),
        inputs=tuple([take_items(block, items, total) for block in segment.inputs]),
        outputs=tuple([take_items(block, items, total) for block in segment.outputs]),
    )
