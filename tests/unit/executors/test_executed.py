"""Routed frames into executed frames: every row once, in order, none too large."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.executed import MAX_FRAME_BYTES, Piece, Work, cut, executed_frames, gather, halves
from executors.row_slice import RowSlice
from schemas.frame import Segment, TensorBlock
from streams.columns import EXPIRED, OK, Columns, num_rows
from streams.errors import InvariantError
from tests.support.frames import T, frame, row


def work_of(rows: int, items: int = 1) -> Work:
    return Work.of(frame([row(n, items=items) for n in range(rows)]), None, None, 10)


def piece(first: int, rows: int, *, width: int = 1, status: int = OK) -> Piece:
    block = TensorBlock("y", "FP32", (width,), np.full((rows, width), first, "<f4").tobytes())
    segment = Segment("digits", "v1.0.0", "", rows, (), (block,) if status == OK else ())
    error = None if status == OK else ("deadline_exceeded", "late", 7)
    return Piece(first, segment, status, error, len(block.data) if status == OK else 0)


def finished(work: Work, *pieces: Piece) -> None:
    work.pieces = list(pieces)
    work.unfinished = work.left - sum(each.segment.num_rows for each in pieces)


def slice_of(work: Work, segment: int = 0) -> RowSlice:
    columns = Columns.of(work.frame)
    items = columns.row_items.tolist()
    return RowSlice(work, segment, 0, len(items), 0, sum(items), 5, T, T, items, columns.deadlines_us.tolist())


def test_pieces_come_out_in_row_order_with_their_status() -> None:
    work = work_of(6)
    finished(work, piece(4, 1, status=EXPIRED), piece(0, 2), piece(2, 1))
    (made,) = executed_frames(work, T + 5)
    assert Columns.of(made).offsets.tolist() == [0, 1, 2, 4]
    assert made.statuses == bytes([OK, OK, OK, EXPIRED])
    assert [(error.row, error.code, error.retry_after_ms) for error in made.errors] == [(3, "deadline_exceeded", 7)]
    assert [segment.num_rows for segment in made.segments] == [2, 1, 1]
    assert (made.executed_us, work.left, work.pieces) == (T + 5, 2, [])
    assert executed_frames(work, T) == []


def test_a_whole_frame_keeps_all_that_is_not_the_executors() -> None:
    work = work_of(2)
    names = [each.name for each in dataclasses.fields(work.frame)]
    work.frame = dataclasses.replace(work.frame, frame_id=11, routed_us=12, memory_sequence=13, input_digests=bytes(32))
    finished(work, piece(0, 2))
    (made,) = executed_frames(work, T + 5)
    changed = {"segments", "statuses", "executed_us"}
    assert {name for name in names if getattr(made, name) != getattr(work.frame, name)} == changed


def test_a_row_that_finishes_twice_is_a_defect_and_no_frame() -> None:
    for pieces in ((piece(0, 1), piece(1, 1), piece(1, 1)), (piece(1, 1), piece(1, 1))):
        work = work_of(2)
        finished(work, *pieces)
        work.unfinished = 0
        with pytest.raises(InvariantError):
            executed_frames(work, T)


def test_frames_are_cut_by_the_bytes_of_their_outputs() -> None:
    work = work_of(4)
    third = MAX_FRAME_BYTES // 4 // 3
    finished(work, piece(0, 1, width=third), piece(1, 1, width=third), piece(2, 1, width=6 * third), piece(3, 1))
    frames = executed_frames(work, T)
    assert [Columns.of(made).offsets.tolist() for made in frames] == [[0, 1], [2], [3]]
    assert work.left == 0


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(7)), st.integers(1, 7))
def test_every_row_stands_in_exactly_one_frame(order: list[int], per_flush: int) -> None:
    work = work_of(7)
    offsets: list[int] = []
    for start in range(0, 7, per_flush):
        finished(work, *[piece(first, 1) for first in order[start : start + per_flush]])
        for made in executed_frames(work, T):
            offsets += Columns.of(made).offsets.tolist()
            assert len(made.statuses) == num_rows(made)
    assert sorted(offsets) == list(range(7))
    assert work.left == 0


def test_a_batch_is_gathered_over_frames() -> None:
    first, second = work_of(2), work_of(3, items=2)
    inputs = gather((slice_of(first), slice_of(second).part(1, 3)))
    assert inputs["x"][:, 0].tolist() == [0, 1, 1, 1, 2, 2]
    alone = gather((slice_of(first),))["x"]
    assert not alone.flags.owndata  # one slice is not copied


def test_halves_are_never_empty_and_lose_nothing() -> None:
    whole = slice_of(work_of(5))
    left, right = halves((whole,))
    assert [(each.first_row, each.num_rows) for each in (*left, *right)] == [(0, 2), (2, 3)]
    assert halves((whole, whole, whole)) == ((whole,), (whole, whole))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=10), st.integers(0, MAX_FRAME_BYTES // 8))
def test_cut_parts_fit_and_cover_the_slice(items: list[int], item_bytes: int) -> None:
    work = Work.of(frame([row(n, items=count) for n, count in enumerate(items)]), None, None, 0)
    parts = list(cut(slice_of(work), item_bytes))
    assert [at for part in parts for at in range(part.first_row, part.first_row + part.num_rows)] == list(
        range(len(items))
    )
    assert sum(part.num_items for part in parts) == sum(items)
    assert all(part.num_items * item_bytes <= MAX_FRAME_BYTES or part.num_rows == 1 for part in parts)
