"""Finished rows leave once, with their frame, and give back what their blob held."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from executors.blob_fetch import Fetched
from executors.executed import Work
from executors.outbox import BatchFacts, Outbox
from executors.row_slice import RowSlice
from schemas.model import TensorSpec
from streams.columns import EXPIRED, OK, Columns, block_array, items_array
from streams.ordering import Entry
from tests.support.frames import MODEL, T, frame, row, with_blob

SESSION: Any = SimpleNamespace(model=MODEL, provider="CPUExecutionProvider")


def work_of(*rows: Any) -> Work:
    return Work.of(frame(rows), None, Entry(0), 100)


def slice_of(work: Work, segment: int, num_rows: int) -> RowSlice:
    columns = Columns.of(work.frame)
    rows = slice(work.starts[segment], work.starts[segment] + num_rows)
    items, deadlines = columns.row_items[rows].tolist(), columns.deadlines_us[rows].tolist()
    return RowSlice(work, segment, 0, num_rows, 0, sum(items), 5, T, min(deadlines), items, deadlines)


def test_rows_leave_when_they_are_finished_and_the_work_is_done_with_its_last_row() -> None:
    freed: list[int] = []
    outbox = Outbox("executor-0", freed.append)
    work = work_of(row(0), row(1), with_blob(row(2)))
    work.fetched[1] = Fetched(work.frame.segments[1].inputs, (), 8)
    assert outbox.is_empty is True
    outbox.finish([slice_of(work, 0, 2)], SESSION, {"y": np.ones((2, 3), "<f4")}, BatchFacts(7, 2, T + 5, 30))
    assert outbox.has_partial is True
    assert list(outbox.flush(T, partial=False)) == []
    ((_, first),) = outbox.flush(T + 40)
    assert first is not None
    segment = first.segments[0]
    assert (segment.executor, segment.batch_id, segment.batch_size) == ("executor-0", 7, 2)
    assert (segment.queued_us, segment.run_us, first.executed_us) == (5, 30, T + 40)
    assert block_array(segment.outputs[0]).shape == (2, 3)
    assert list(first.statuses) == [OK, OK]
    assert (outbox.is_empty, freed) == (True, [])

    outbox.end(slice_of(work, 1, 1), EXPIRED, "deadline_exceeded", "late")
    assert freed == [8]
    assert (outbox.is_empty, outbox.has_partial) == (False, False)
    (_, last), (done, nothing) = outbox.flush(T + 50)
    assert last is not None
    assert (list(last.statuses), last.errors[0].code, last.segments[0].blob) == ([EXPIRED], "deadline_exceeded", None)
    assert (done, nothing) == (work, None)
    assert list(outbox.flush(T + 60)) == []


def test_rows_that_finish_while_others_leave_end_their_frame_once() -> None:
    outbox = Outbox("executor-0", lambda size: None)
    works = [work_of(row(0)), work_of(row(1), row(2))]
    outbox.end(slice_of(works[0], 0, 1), EXPIRED, "deadline_exceeded", "late")
    outbox.end(slice_of(works[1], 0, 1), EXPIRED, "deadline_exceeded", "late")
    leaving = outbox.flush(T)
    assert next(leaving)[0] is works[0]
    outbox.end(slice_of(works[1], 0, 2).part(1, 2), EXPIRED, "deadline_exceeded", "late")  # a thread has come back
    ended = [work for work, frame in (*leaving, *outbox.flush(T)) if frame is None]
    assert ended == works


def test_what_is_cleared_does_not_leave() -> None:
    outbox = Outbox("executor-0", lambda size: None)
    work = work_of(row(0))
    outbox.end(slice_of(work, 0, 1), EXPIRED, "deadline_exceeded", "late")
    outbox.clear()
    assert list(outbox.flush(T)) == []


def test_texts_leave_as_lengths_and_bytes_and_are_cut_by_what_they_weigh() -> None:
    outbox = Outbox("executor-0", lambda size: None)
    model = replace(MODEL, outputs=(TensorSpec("word", "BYTES", ()), TensorSpec("none", "FP16", (0,))))
    session: Any = SimpleNamespace(model=model, provider="CPUExecutionProvider")
    work = work_of(row(0), row(1), row(2))
    words = np.array(["é", "x" * (3 << 18), "y" * (3 << 18)], object)
    outputs = {"word": words, "none": np.zeros((3, 0), np.float16)}
    outbox.finish([slice_of(work, 0, 3)], session, outputs, BatchFacts(1, 3, T, 1))
    frames = [made for _, made in outbox.flush(T) if made is not None]
    segments = [segment for made in frames for segment in made.segments]
    found = [text for each in segments for text in items_array(each.outputs[0], 0, each.num_rows).tolist()]
    assert found == words.tolist()
    assert len(frames) > 1
    assert {each.outputs[1].data for each in segments} == {b""}


def test_texts_of_one_row_that_no_record_can_take_end_it() -> None:
    outbox = Outbox("executor-0", lambda size: None)
    model = replace(MODEL, outputs=(TensorSpec("word", "BYTES", ()),))
    work = work_of(row(0))
    session: Any = SimpleNamespace(model=model, provider="CPUExecutionProvider")
    outbox.finish(
        [slice_of(work, 0, 1)], session, {"word": np.array(["x" * 10_000_000], object)}, BatchFacts(1, 1, T, 1)
    )
    ((_, ended), _) = outbox.flush(T)
    assert ended is not None
    assert ended.errors[0].code == "output_invalid"
