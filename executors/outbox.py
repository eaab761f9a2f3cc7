"""Finished rows of routed frames on their way out, as pieces of executed frames.

A row is given to ``end`` or ``finish`` exactly once; ``flush`` makes frames of what finished since, any models mixed:
of frames whose last row is finished at once, of the others on the executor's tick, so that a slow model never holds a
frame's other rows back. Works that keep an order (``keep_order``) leave in it: where a later one leaves, what is
finished of the earlier ones leaves before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from executors.executed import MAX_FRAME_BYTES, MAX_OUTPUT_BYTES, Piece, Work, cut, executed_frames
from executors.retry import Failed, retry_frame
from executors.row_slice import RowSlice
from executors.session import Session
from schemas.frame import InferenceFrame, Segment, TensorBlock
from streams.columns import ERROR, OK, Array
from streams.tensors import data_of, largest_item_bytes


@dataclass(eq=False, slots=True)
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
        self._complete: list[Work] = []
        self._partial: dict[Work, None] = {}
        self._turns = 0

    def keep_order(self, work: Work) -> None:
        """Let a work's rows leave behind what was finished of the works before it that were told so."""
        self._turns += 1
        work.turn = self._turns

    @property
    def is_empty(self) -> bool:
        """Whether nothing finished since the last flush."""
        return not (self._complete or self._partial)

    @property
    def has_partial(self) -> bool:
        """Whether finished rows wait for others of their frame."""
        return bool(self._partial)

    def clear(self) -> None:
        """Forget everything: a rebalance voided it."""
        self._complete, self._partial = [], {}

    def end(self, row_slice: RowSlice, status: int, code: str, message: str, retry_after_ms: int = 0) -> None:
        """Rows that end here without outputs."""
        source = row_slice.frame.frame.segments[row_slice.segment]
        segment = Segment(source.model, source.version, source.cohort, row_slice.num_rows, executor=self._executor)
        self._put(row_slice, Piece(_first_row(row_slice), segment, status, (code, message, retry_after_ms)))

    def again(self, failed: Failed) -> None:
        """Rows that leave to be tried elsewhere."""
        work: Work = failed.row_slice.frame
        work.again.append(failed)
        work.left -= failed.row_slice.num_rows
        self._finished(work, failed.row_slice.num_rows)
        self._free(failed.row_slice)

    def finish(
        self, slices: Sequence[RowSlice], session: Session, outputs: dict[str, Array], batch: BatchFacts
    ) -> None:
        """Rows that ran: the items of ``outputs`` are theirs, in the order of ``slices``."""
        item_bytes = 0
        made: list[tuple[str, str, tuple[int, ...], Array]] = []
        for spec in session.model.outputs:
            array = outputs[spec.name]
            item_bytes += largest_item_bytes(array)
            made.append((spec.name, spec.datatype, array.shape[1:], array))
        at = 0
        for row_slice in slices:
            whole = row_slice.num_items * item_bytes <= MAX_FRAME_BYTES
            for part in (row_slice,) if whole else cut(row_slice, item_bytes):
                end = at + part.num_items
                self._finish_part(part, session, [_block(*each, at, end) for each in made], batch)
                at = end

    def finish_segment(
        self, work: Work, number: int, session: Session, outputs: dict[str, Array], batch: BatchFacts, now_us: int
    ) -> bool:  # fmt: skip
        """All rows of a segment, which were a batch; False, and nothing done, where they do not fit a frame."""
        source, size = work.frame.segments[number], 0
        blocks: list[TensorBlock] = []
        for spec in session.model.outputs:
            array = outputs[spec.name]
            data = array.tobytes() if not array.dtype.hasobject else data_of(array)
            size += len(data)
            blocks.append(TensorBlock(spec.name, spec.datatype, array.shape[1:], data))
        if size > MAX_FRAME_BYTES:
            return False
        segment = Segment(
            source.model, source.version, source.cohort, source.num_rows, (), tuple(blocks), session.model.digest,
            session.provider, self._executor, batch.number, batch.num_items, max(0, batch.started_us - now_us),
            batch.run_us,
        )  # fmt: skip
        work.pieces.append(Piece(work.starts[number], segment, OK, None, size))
        self._finished(work, source.num_rows)
        return True

    def _finish_part(self, part: RowSlice, session: Session, blocks: list[TensorBlock], batch: BatchFacts) -> None:
        size = sum([len(block.data) for block in blocks])
        if size > MAX_OUTPUT_BYTES and part.num_rows == 1:
            self.end(part, ERROR, "output_invalid", f"the outputs are larger than {MAX_OUTPUT_BYTES} bytes")
        else:
            self._put(part, Piece(_first_row(part), self._ran(part, session, blocks, batch), OK, None, size))

    def _ran(self, part: RowSlice, session: Session, blocks: list[TensorBlock], batch: BatchFacts) -> Segment:
        source = part.frame.frame.segments[part.segment]
        return Segment(
            source.model, source.version, source.cohort, part.num_rows, (), tuple(blocks), session.model.digest,
            session.provider, self._executor, batch.number, batch.num_items,
            max(0, batch.started_us - part.queued_us), batch.run_us,
        )  # fmt: skip

    def flush(self, now_us: int, *, partial: bool = True) -> Iterator[tuple[Work, InferenceFrame | None]]:
        """Each frame with its work, and a work with None behind the last frame of its last rows.

        Frames of rows that are to be tried elsewhere have a higher attempt than their work's; the others are executed.
        Without ``partial`` only of the works whose last row is finished.
        """
        touched, self._complete = self._complete, []
        if partial and self._partial:
            touched += self._partial
            self._partial = {}
        if self._turns and (last := max([work.turn for work in touched], default=0)):
            yield from self._in_turn([work for work in touched if work.turn], last, now_us)
            touched = [work for work in touched if not work.turn]
        for work in touched:
            if work.again:
                again, work.again = work.again, []
                yield work, retry_frame(work, again)
            elif not work.pieces:  # finished by a thread while others left, and left with them
                continue
            for frame in executed_frames(work, now_us):
                yield work, frame
            if work.left == 0:
                yield work, None

    def _in_turn(self, works: list[Work], last: int, now_us: int) -> list[tuple[Work, InferenceFrame | None]]:
        """Frames of works that keep an order, and of what is finished of those before ``last``.

        Made at once: what finishes while the first ones are sent must not leave with the later ones.
        """
        before = [work for work in self._partial if 0 < work.turn < last]
        for work in before:
            del self._partial[work]
        leaving: list[tuple[Work, InferenceFrame | None]] = []
        for work in sorted([*works, *before], key=_turn):
            if work.pieces or work.again:
                if work.again:
                    again, work.again = work.again, []
                    leaving.append((work, retry_frame(work, again)))
                leaving += [(work, frame) for frame in executed_frames(work, now_us)]
                if work.left == 0:
                    leaving.append((work, None))
        return leaving

    def _put(self, row_slice: RowSlice, piece: Piece) -> None:
        work: Work = row_slice.frame
        work.pieces.append(piece)
        self._finished(work, row_slice.num_rows)
        self._free(row_slice)

    def _free(self, row_slice: RowSlice) -> None:
        work: Work = row_slice.frame
        if work.fetched:
            fetched = work.fetched.pop(row_slice.segment, None)
            if fetched is not None:
                self._freed(fetched.num_bytes)

    def _finished(self, work: Work, num_rows: int) -> None:
        work.unfinished -= num_rows
        if work.unfinished == 0:
            self._partial.pop(work, None)
            self._complete.append(work)
        else:
            self._partial[work] = None


_turn: Final = attrgetter("turn")


def _block(name: str, datatype: str, shape: tuple[int, ...], array: Array, start: int, end: int) -> TensorBlock:
    return TensorBlock(name, datatype, shape, data_of(array[start:end]))


def _first_row(row_slice: RowSlice) -> int:
    """First row of a slice, over its whole frame."""
    first: int = row_slice.frame.starts[row_slice.segment] + row_slice.first_row
    return first
