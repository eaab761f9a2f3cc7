"""Finished rows leave once, with their frame, and give back what their blob held."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from executors.blob_fetch import Fetched
from executors.executed import Work
from executors.outbox import BatchFacts, Outbox
from executors.row_slice import RowSlice
from streams.columns import EXPIRED, OK, Columns, block_array
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


def test_what_is_cleared_does_not_leave() -> None:
    outbox = Outbox("executor-0", lambda size: None)
    work = work_of(row(0))
    outbox.end(slice_of(work, 0, 1), EXPIRED, "deadline_exceeded", "late")
    outbox.clear()
    assert list(outbox.flush(T)) == []
