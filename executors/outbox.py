"""Finished rows of routed frames on their way out, as pieces of executed frames.

A row is given to ``end`` or ``finish`` exactly once; ``flush`` makes frames of what finished since, any models mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from executors.batcher import RowSlice
from executors.executed import MAX_OUTPUT_BYTES, Piece, Work, cut, executed_frames
from executors.session import ModelSession
from schemas.frame import InferenceFrame, Segment, TensorBlock
from streams.columns import ERROR, OK, Array
from streams.tensors import data_of, largest_item_bytes


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """A batch that ran: its number in this executor, its items, when it began and how long the session took."""

    number: int
    num_items: int
    started_us: int
    run_us: int


class Outbox:
    """Frames with finished rows. ``freed`` is told the bytes that a row with a blob held, when it is finished."""

    def __init__(self, executor: str, freed: Callable[[int], None]) -> None:
        self._executor = executor
        self._freed = freed
        self._touched: dict[Work, None] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing finished since the last flush."""
        return not self._touched

    def clear(self) -> None:
        """Forget everything."""
        self._touched = {}

    def end(self, row_slice: RowSlice, status: int, code: str, message: str) -> None:
        """Rows that end without outputs."""
        source = row_slice.frame.frame.segments[row_slice.segment]
        segment = Segment(source.model, source.version, source.cohort, row_slice.num_rows, executor=self._executor)
        self._put(row_slice, Piece(_first_row(row_slice), segment, status, (code, message)))

    def finish(
        self, row_slice: RowSlice, session: ModelSession, outputs: dict[str, Array], at: int, batch: BatchFacts
    ) -> None:
        """Rows that ran: theirs are the items of ``outputs`` from ``at`` on."""
        source = row_slice.frame.frame.segments[row_slice.segment]
        datatypes = {spec.name: spec.datatype for spec in session.model.outputs}
        item_bytes = sum([largest_item_bytes(array) for array in outputs.values()])
        for part in cut(row_slice, item_bytes):
            items = slice(at, at + part.num_items)
            at += part.num_items
            blocks = tuple(
                TensorBlock(name, datatypes[name], tuple(array.shape[1:]), data_of(array[items]))
                for name, array in outputs.items()
            )
            if part.num_rows == 1 and sum([len(block.data) for block in blocks]) > MAX_OUTPUT_BYTES:
                self.end(part, ERROR, "output_invalid", f"the outputs are larger than {MAX_OUTPUT_BYTES} bytes")
                continue
            segment = Segment(
                source.model, source.version, source.cohort, part.num_rows, (), blocks, session.model.digest,
                session.provider, self._executor, batch.number, batch.num_items,
                max(0, batch.started_us - part.queued_us), batch.run_us,
            )  # fmt: skip
            self._put(part, Piece(_first_row(part), segment, OK))

    def flush(self, now_us: int) -> Iterator[tuple[Work, InferenceFrame | None]]:
        """Each executed frame with its work, and a work with None behind the last frame of its last rows."""
        touched, self._touched = self._touched, {}
        for work in touched:
            for frame in executed_frames(work, now_us):
                yield work, frame
            if work.left == 0:
                yield work, None

    def _put(self, row_slice: RowSlice, piece: Piece) -> None:
        work: Work = row_slice.frame
        work.pieces.append(piece)
        self._touched[work] = None
        fetched = work.fetched.pop(row_slice.segment, None)
        if fetched is not None:
            self._freed(fetched.num_bytes)


def _first_row(row_slice: RowSlice) -> int:
    """First row of a slice, over its whole frame."""
    first: int = row_slice.frame.starts[row_slice.segment] + row_slice.first_row
    return first
