"""From a routed frame to its executed frames: the pure part of the worker.

Rows finish in pieces, in any order. ``executed_frames`` makes frames of the pieces at hand, in row order and of at most
``MAX_FRAME_BYTES`` of outputs, so that a model whose outputs are larger than its inputs cannot make a record that the
broker refuses; a larger row is a frame by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from executors.batcher import RowSlice
from executors.blob_fetch import Fetched
from schemas.frame import InferenceFrame, RowError, Segment, TensorBlock
from streams.columns import Array, items_array, num_rows, segment_starts, take

MAX_FRAME_BYTES: Final = 1 << 20
MAX_OUTPUT_BYTES: Final = 10_000_000
"""Outputs of one row; with more its result would not fit a record."""


@dataclass(eq=False, slots=True)
class Piece:
    """Consecutive finished rows of one segment, as a segment of the executed frame."""

    first_row: int
    segment: Segment
    status: int
    error: tuple[str, str] | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of the outputs."""
        return sum(len(block.data) for block in self.segment.outputs)


@dataclass(eq=False, slots=True)
class Work:
    """A routed frame under way.

    ``bare``: the frame without tensors; ``starts``: first row per segment; ``left``: rows that stand in no executed
    frame yet; ``pieces``: rows finished since the last flush; ``fetched``: inputs of unfinished segments with a blob.
    ``lane`` and ``entry`` are the worker's own.
    """

    frame: InferenceFrame
    bare: InferenceFrame
    lane: Any
    entry: Any
    starts: list[int]
    left: int
    num_bytes: int = 0
    pieces: list[Piece] = field(default_factory=list)
    fetched: dict[int, Fetched] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: InferenceFrame, lane: Any, entry: Any, num_bytes: int) -> Work:
        """Begin a frame whose record had ``num_bytes``."""
        bare = replace(frame, segments=tuple(replace(segment, inputs=(), blob=None) for segment in frame.segments))
        return cls(frame, bare, lane, entry, segment_starts(frame), num_rows(frame), num_bytes)

    def inputs(self, segment: int) -> tuple[TensorBlock, ...]:
        """The inputs of a segment, those of a blob once they are fetched."""
        fetched = self.fetched.get(segment)
        return self.frame.segments[segment].inputs if fetched is None else fetched.inputs


def executed_frames(work: Work, now_us: int) -> list[InferenceFrame]:
    """The frames of the rows that finished since the last call; they leave ``work``."""
    pieces, work.pieces = sorted(work.pieces, key=lambda piece: piece.first_row), []
    frames = [_frame(work.bare, group, now_us) for group in _groups(pieces)]
    work.left -= sum(num_rows(frame) for frame in frames)
    return frames


def _groups(pieces: list[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        if group and size + piece.num_bytes > MAX_FRAME_BYTES:
            yield group
            group, size = [], 0
        group.append(piece)
        size += piece.num_bytes
    if group:
        yield group


def _frame(bare: InferenceFrame, pieces: list[Piece], now_us: int) -> InferenceFrame:
    rows = np.concatenate(
        [np.arange(piece.first_row, piece.first_row + piece.segment.num_rows, dtype=np.int64) for piece in pieces]
    )
    errors: list[RowError] = []
    statuses = bytearray()
    for piece in pieces:
        if piece.error is not None:
            errors += [RowError(len(statuses) + at, *piece.error) for at in range(piece.segment.num_rows)]
        statuses += bytes([piece.status]) * piece.segment.num_rows
    return replace(
        take(bare, rows),
        segments=tuple(piece.segment for piece in pieces),
        statuses=bytes(statuses),
        errors=tuple(errors),
        executed_us=now_us,
    )


def gather(slices: Sequence[RowSlice]) -> dict[str, Array]:
    """Inputs of a batch by name, ``[items, *item_shape]``; one slice is passed on without a copy."""
    parts: dict[str, list[Array]] = {}
    for row_slice in slices:
        for block in row_slice.frame.inputs(row_slice.segment):
            array = items_array(block, row_slice.first_item, row_slice.num_items)
            parts.setdefault(block.name, []).append(array)
    return {name: arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for name, arrays in parts.items()}


def halves(slices: tuple[RowSlice, ...]) -> tuple[tuple[RowSlice, ...], tuple[RowSlice, ...]]:
    """A batch of at least two rows in two parts, neither empty; a single slice is cut between its rows."""
    if len(slices) > 1:
        middle = len(slices) // 2
        return slices[:middle], slices[middle:]
    whole = slices[0]
    middle = whole.num_rows // 2
    return (whole.part(0, middle),), (whole.part(middle, whole.num_rows),)


def cut(row_slice: RowSlice, item_bytes: int) -> Iterator[RowSlice]:
    """Parts of a slice whose outputs (``item_bytes`` per item) fit a frame each; one row at least."""
    if row_slice.num_items * item_bytes <= MAX_FRAME_BYTES:
        yield row_slice
        return
    start, size = 0, 0
    for row, items in enumerate(row_slice.row_items.tolist()):
        if row > start and size + items * item_bytes > MAX_FRAME_BYTES:
            yield row_slice.part(start, row)
            start, size = row, 0
        size += items * item_bytes
    yield row_slice.part(start, row_slice.num_rows)
