"""Rows that come to no good: each leaves once, to be tried elsewhere or with an error, and is counted there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from executors.attempts import Attempts
from executors.executed import Work
from executors.failed_rows import FailedRows
from executors.outbox import Outbox
from executors.retry import Retries
from executors.row_slice import RowSlice
from executors.run import Run, WorkerCounts
from executors.session import ExecutionError
from schemas.frame import RowError
from streams.columns import ERROR, EXPIRED, Columns
from tests.support.frames import T, frame, row

FAR = 1 << 61
NOBODY: Any = None


class Bench:
    """Failed rows of one frame, with one row per offset; ``attempt`` of two tries."""

    def __init__(self, *offsets: int, attempt: int = 0) -> None:
        errors = tuple(RowError(at, "model_unavailable", f"no {offset}") for at, offset in enumerate(offsets))
        made = frame([row(offset, deadline_us=FAR) for offset in offsets])
        self.work = Work.of(replace(made, attempt=attempt, errors=errors if attempt else ()), None, None, 0)
        self.outbox = Outbox("executor-0", lambda size: None)
        self.counts = WorkerCounts()
        self.failed = FailedRows(self.outbox, Retries(lambda model: 2), self.counts, Attempts())
        deadlines = Columns.of(self.work.frame).deadlines_us.tolist()
        items = [1] * len(offsets)
        self.rows = RowSlice(self.work, 0, 0, len(items), 0, len(items), 5, T, min(deadlines), items, deadlines)

    def left(self) -> dict[int, tuple[int, str, str]]:
        """Attempt, and code and sentence of each row that left, by offset."""
        found = {}
        for _, made in self.outbox.flush(T):
            if made is not None:
                offsets = Columns.of(made).offsets.tolist()
                found |= {offsets[each.row]: (made.attempt, each.code, each.message) for each in made.errors}
        return found


@pytest.mark.parametrize("transient", [True, False])
@pytest.mark.parametrize("attempt", [0, 1])
def test_a_row_that_failed_goes_elsewhere_as_often_as_it_may(attempt: int, transient: bool) -> None:
    bench = Bench(7, attempt=attempt)
    error = ExecutionError("wrong_shape", "no such input", transient=transient)
    bench.failed.finish(Run(NOBODY, ("digits", "v1.0.0"), [bench.rows], 1, 1.0), error)
    again = transient and attempt == 0
    assert bench.left() == {7: (1 if again else 0, "internal", "no such input")}  # a refusal is ours to explain here
    assert (bench.counts.num_retried_rows, bench.counts.num_failed_rows) == ((1, 0) if again else (0, 1))


def test_rows_that_cannot_run_end_with_what_they_failed_with_before() -> None:
    for attempt, wanted in ((0, ("deadline_exceeded", "late")), (1, ("model_unavailable", "no 3"))):
        bench = Bench(2, 3, attempt=attempt)
        bench.failed.end(bench.rows, EXPIRED, "deadline_exceeded", "late")
        assert bench.left()[3] == (0, *wanted)
        assert (bench.work.left, bench.work.unfinished) == (0, 0)


def test_what_is_not_known_is_not_made_up() -> None:
    bench = Bench(2, attempt=1)
    bench.work.frame = replace(bench.work.frame, errors=())
    bench.failed.end(bench.rows, ERROR, "deadline_exceeded", "late")
    assert bench.left() == {2: (0, "deadline_exceeded", "late")}


def test_all_rows_of_a_version_go_elsewhere_together() -> None:
    bench = Bench(1, 2, 3)
    bench.failed.fail(bench.rows, "model_unavailable", "no blob")
    assert bench.left() == dict.fromkeys((1, 2, 3), (1, "model_unavailable", "no blob"))
    assert bench.counts.num_retried_rows == 3
