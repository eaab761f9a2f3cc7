"""Rows that come to no good here: what may do better elsewhere leaves to be tried there, the others end."""

from __future__ import annotations

from executors.attempts import Attempts
from executors.check_rows import num_client_rows
from executors.outbox import Outbox
from executors.retry import Retries, last_error
from executors.row_slice import RowSlice
from executors.run import Run, WorkerCounts
from executors.session import ExecutionError
from streams.columns import ERROR
from streams.errors import CODES


class FailedRows:
    """Hands rows that failed to ``outbox``, and notes them where they are counted."""

    def __init__(self, outbox: Outbox, retries: Retries, counts: WorkerCounts, attempts: Attempts) -> None:
        self.outbox = outbox
        self.retries = retries
        self.counts = counts
        self.attempts = attempts

    def finish(self, run: Run, error: ExecutionError) -> None:
        """The only row of a run failed, here for good."""
        self.attempts.failed(run.version, num_client_rows(run.slices), error.code)
        # what admission let through and the session refuses is our defect, whatever the session calls it
        code = error.code if CODES[error.code].status == "ERROR" else "internal"
        if error.transient:
            self.fail(run.slices[0], code, error.problem, run.time_us)
        else:
            self.counts.num_failed_rows += 1
            self.outbox.end(run.slices[0], ERROR, code, error.problem)

    def fail(self, row_slice: RowSlice, code: str, problem: str, time_us: float = 0.0) -> None:
        """Rows that may do better elsewhere leave to be tried there, the others end."""
        again, rest = self.retries.elsewhere(row_slice, code, problem, time_us)
        for failed in again:
            self.counts.num_retried_rows += failed.row_slice.num_rows
            self.outbox.again(failed)
        for each in rest:
            self.counts.num_failed_rows += each.num_rows
            self.outbox.end(each, ERROR, code, problem)

    def end(self, row_slice: RowSlice, status: int, code: str, message: str, retry_after_ms: int = 0) -> None:
        """Rows that end here unexecuted: those that failed before with what they failed with, which says more."""
        work = row_slice.frame
        if work.frame.attempt == 0:
            self.outbox.end(row_slice, status, code, message, retry_after_ms)
            return
        first = work.starts[row_slice.segment] + row_slice.first_row
        for at in range(row_slice.num_rows):
            part, error = row_slice.part(at, at + 1), last_error(work.frame, first + at)
            if error is None:
                self.outbox.end(part, status, code, message, retry_after_ms)
            else:
                self.outbox.end(part, ERROR, error.code, error.message)
