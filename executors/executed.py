"""From a routed frame to its executed frames: the pure part of the executor.

Rows finish in pieces, in any order. ``executed_frames`` makes frames of the pieces at hand, in row order and of at most
``MAX_FRAME_BYTES`` of outputs, so that a model whose outputs are larger than its inputs cannot make a record that the
broker refuses; a larger row is a frame by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Final

import numpy as np

from executors.blob_fetch import Fetched
from executors.retry import Failed
from executors.row_slice import RowSlice
from schemas.frame import InferenceFrame, RowError, Segment, TensorBlock
from streams.columns import OK, Array, item_bytes, items_array, num_rows, segment_starts, take
from streams.errors import InvariantError
from streams.tensors import BYTES, WIRE_DTYPES

MAX_FRAME_BYTES: Final = 1 << 20
MAX_OUTPUT_BYTES: Final = 10_000_000
"""Outputs of one row; with more its result would not fit a record."""

ALL_OK: Final = bytes([OK])

Failure = tuple[str, str, int]
"""Code of the closed list, sentence, milliseconds after which to try again (0: never)."""

_first_row: Final = attrgetter("first_row")


@dataclass(eq=False, slots=True)
class Piece:
    """Consecutive finished rows of one segment, as a segment of the executed frame. ``num_bytes``: of the outputs."""

    first_row: int
    segment: Segment
    status: int
    error: Failure | None = None
    num_bytes: int = 0


@dataclass(eq=False, slots=True)
class Work:
    """A routed frame under way.

    ``starts``: first row per segment; ``left``: rows that stand in no executed frame yet; ``unfinished``: rows that are
    in no piece yet; ``pieces``: rows finished since the last flush; ``fetched``: inputs of unfinished segments with a
    blob; ``bare``: the frame without tensors, once it left in parts; ``turn``: its number among those that keep order,
    0 for none; ``again``: rows that are tried elsewhere, since the last flush. ``lane`` and ``entry`` are the worker's
    own.
    """

    frame: InferenceFrame
    lane: Any
    entry: Any
    starts: list[int]
    left: int
    unfinished: int
    num_bytes: int = 0
    pieces: list[Piece] = field(default_factory=list)
    fetched: dict[int, Fetched] = field(default_factory=dict)
    bare: InferenceFrame | None = None
    turn: int = 0
    again: list[Failed] = field(default_factory=list)

    @classmethod
    def of(cls, frame: InferenceFrame, lane: Any, entry: Any, num_bytes: int) -> Work:
        """Begin a frame whose record had ``num_bytes``."""
        rows = num_rows(frame)
        return cls(frame, lane, entry, segment_starts(frame), rows, rows, num_bytes)

    def inputs(self, segment: int) -> tuple[TensorBlock, ...]:
        """The inputs of a segment, those of a blob once they are fetched."""
        if self.fetched:
            fetched = self.fetched.get(segment)
            if fetched is not None:
                return fetched.inputs
        return self.frame.segments[segment].inputs


def executed_frames(work: Work, now_us: int) -> list[InferenceFrame]:
    """The frames of the rows that finished since the last call; they leave ``work``.

    Raises InvariantError when a row finished twice.
    """
    pieces, work.pieces = work.pieces, []
    if len(pieces) > 1:
        pieces.sort(key=_first_row)
    at = num_finished = num_bytes = 0
    for piece in pieces:
        first_row, rows = piece.first_row, piece.segment.num_rows
        if first_row < at:
            raise InvariantError(f"row {first_row} of frame {work.frame.frame_id} finished twice")
        at = first_row + rows
        num_finished += rows
        num_bytes += piece.num_bytes
    if num_finished != work.left - work.unfinished:
        raise InvariantError(f"rows of frame {work.frame.frame_id} finished twice")
    if pieces and num_bytes <= MAX_FRAME_BYTES and work.left == num_finished == num_rows(work.frame):
        work.left = 0
        return [_filled(work.frame, pieces, now_us)]
    groups = list(_groups(pieces))
    if work.bare is None:
        bare = [replace(segment, inputs=(), blob=None) for segment in work.frame.segments]
        work.bare = replace(work.frame, segments=tuple(bare))
    frames = [_filled(take(work.bare, _rows_of(group)), group, now_us) for group in groups]
    work.left -= sum([num_rows(frame) for frame in frames])
    return frames


def _groups(pieces: list[Piece]) -> Iterator[list[Piece]]:
    if sum([piece.num_bytes for piece in pieces]) <= MAX_FRAME_BYTES:
        if pieces:
            yield pieces
        return
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


def _rows_of(pieces: list[Piece]) -> Array:
    return np.concatenate(
        [np.arange(piece.first_row, piece.first_row + piece.segment.num_rows, dtype=np.int64) for piece in pieces]
    )


def _filled(frame: InferenceFrame, pieces: list[Piece], now_us: int) -> InferenceFrame:
    """A frame of exactly the pieces' rows, with their outputs, statuses and errors."""
    statuses, errors = _endings(pieces, num_rows(frame))
    return InferenceFrame(
        frame.frame_id, frame.created_us, frame.topic_id, frame.partition, frame.memory_sequence, frame.admitted_us,
        frame.routed_us, now_us, tuple([piece.segment for piece in pieces]), frame.tenants, errors, frame.offsets,
        frame.gaps, frame.received_us, frame.deadlines_us, frame.priorities, statuses, frame.roles, frame.row_items,
        frame.tenant_index, frame.id_lengths, frame.ids, frame.key_lengths, frame.routing_keys, frame.input_digests,
    )  # fmt: skip


def _endings(pieces: list[Piece], rows: int) -> tuple[bytes, tuple[RowError, ...]]:
    for piece in pieces:
        if piece.status != OK:
            break
    else:
        return ALL_OK * rows, ()
    errors: list[RowError] = []
    statuses = bytearray()
    for piece in pieces:
        if piece.error is not None:
            errors += [RowError(len(statuses) + at, *piece.error) for at in range(piece.segment.num_rows)]
        statuses += bytes([piece.status]) * piece.segment.num_rows
    return bytes(statuses), tuple(errors)


def gather(slices: Sequence[RowSlice]) -> dict[str, Array]:
    """Inputs of a batch by name, ``[items, *item_shape]``; those of a single slice are views of the frame's bytes."""
    first = slices[0]
    blocks = _inputs(first)
    if len(slices) == 1:
        return {block.name: items_array(block, first.first_item, first.num_items) for block in blocks}
    num_items = sum([row_slice.num_items for row_slice in slices])
    if len(blocks) == 1 and blocks[0].datatype != BYTES:  # nearly always
        block = blocks[0]
        data = b"".join([_bytes_of(_inputs(row_slice)[0], row_slice) for row_slice in slices])
        return {block.name: np.frombuffer(data, WIRE_DTYPES[block.datatype]).reshape(num_items, *block.item_shape)}
    parts: dict[str, list[Array]] = {block.name: [] for block in blocks}
    for row_slice in slices:
        for block in _inputs(row_slice):
            parts[block.name].append(items_array(block, row_slice.first_item, row_slice.num_items))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _inputs(row_slice: RowSlice) -> tuple[TensorBlock, ...]:
    work: Work = row_slice.frame
    return work.inputs(row_slice.segment)


def _bytes_of(block: TensorBlock, row_slice: RowSlice) -> bytes | memoryview:
    """The bytes of a slice's items, which have one width."""
    starts = row_slice.frame.starts
    if row_slice.num_rows == starts[row_slice.segment + 1] - starts[row_slice.segment]:
        return block.data
    width = item_bytes(block)
    first = row_slice.first_item * width
    return memoryview(block.data)[first : first + row_slice.num_items * width]


def halves(slices: Sequence[RowSlice]) -> tuple[Sequence[RowSlice], Sequence[RowSlice]]:
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
    for row, items in enumerate(row_slice.row_items):
        if row > start and size + items * item_bytes > MAX_FRAME_BYTES:
            yield row_slice.part(start, row)
            start, size = row, 0
        size += items * item_bytes
    yield row_slice.part(start, row_slice.num_rows)
