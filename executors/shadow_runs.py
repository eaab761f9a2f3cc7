"""Copies that a shadow version runs in an executor: in the time that rows to be answered leave.

Copies have queues, batches, counts and retries of their own (a second ``Execution`` over the same sessions), so that
nothing that is judged, reported or planned by sees them: no breaker, no load, no drift, no utilisation, and not the
profiles that rows are batched by, for a nicer thread takes longer. Their frames are committed as soon as they are read,
so that copies hold nobody's offsets back; a process that dies loses its own.

A batch of them starts only while no row to be answered waits or runs, and one at a time: so a row waits for one such
batch at most. Long ones run in a thread that is nicer than those of other batches. At most ``MOST_ROWS`` rows and
``MOST_BYTES`` wait; frames above it are rejected, ``overloaded``, and copies whose time is over expire.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from executors.executed import Work
from executors.execution import Execution
from executors.intake import FULL, RETRY_AFTER_MS, Sessions
from executors.lanes import Lanes
from executors.run import Run
from schemas.frame import InferenceFrame, RowError
from streams.columns import REJECTED, SHADOW, end_rows

MOST_ROWS: Final = 4_096
MOST_BYTES: Final = 32 << 20
NICE: Final = 10
COPIES: Final = bytes([SHADOW])


def is_of_copies(frame: InferenceFrame) -> bool:
    """Whether a routed frame holds copies for a shadow; the Router mixes them with nothing else."""
    return frame.roles.startswith(COPIES)


class ShadowRuns:
    """The copies of one executor; true while some wait or run. ``rows``: what runs the rows that are answered.

    What a thread raises fails ``lanes``; ``ended`` is called behind each batch that ran in one.
    """

    def __init__(self, name: str, loaded: Sessions, rows: Execution, lanes: Lanes, ended: Callable[[], None]) -> None:
        self._execution = Execution(name, loaded, _nothing, max_attempts=lambda _model: 1, corrects=False)
        self._rows = rows
        self._lanes = lanes
        self._ended = ended
        self._threads = ThreadPoolExecutor(1, f"{name}-shadow", _yield_to_others)
        self._task: asyncio.Task[None] | None = None
        self._refused: list[InferenceFrame] = []
        self._num_rows = 0
        self._num_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._num_rows or self._refused)

    @property
    def is_running(self) -> bool:
        """Whether a batch is in the thread."""
        return self._task is not None

    def take(self, frame: InferenceFrame, num_bytes: int, now_us: int) -> None:
        """Keep a frame of copies that was a record of ``num_bytes``, or refuse it."""
        count = len(frame.statuses)
        if self._num_rows + count > MOST_ROWS or self._num_bytes + num_bytes > MOST_BYTES:
            errors = [RowError(row, "overloaded", FULL, RETRY_AFTER_MS) for row in range(count)]
            self._refused.append(replace(end_rows(frame, REJECTED, errors), executed_us=now_us))
            return
        self._num_rows += count
        self._num_bytes += num_bytes
        self._execution.add(Work.of(frame, None, None, num_bytes), now_us)

    def step(self, now_us: int, inline_us: float) -> bool:
        """Run one batch, in the thread from ``inline_us`` on; False where none may run now."""
        if self._task is not None:
            return False
        run = self._execution.next(now_us)
        if run is None:
            return False
        if run.time_us < inline_us:
            run.prepare()
            run.compute()
            self._execution.done(run)
        else:
            self._task = asyncio.ensure_future(self._run(run))
            self._task.add_done_callback(self._end)
        return True

    def drop(self, model: str, version: str, reason: str) -> None:
        """Let go of the copies of a version that cannot be loaded."""
        self._execution.intake.drop(model, version, reason)

    def flush(self, now_us: int) -> list[InferenceFrame]:
        """The executed frames of what finished since."""
        frames, self._refused = self._refused, []
        for work, frame in self._execution.outbox.flush(now_us):
            if frame is not None:
                self._num_rows -= len(frame.statuses)
                frames.append(frame)
            else:
                self._num_bytes -= work.num_bytes
        return frames

    def clear(self) -> None:
        """Forget all: a rebalance gave the lanes to others."""
        self._execution.clear()
        self._refused = []
        self._num_rows = self._num_bytes = 0

    def stop(self) -> None:
        """Wait for no batch any more."""
        if self._task is not None:
            self._task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, run: Run) -> None:
        generation = self._lanes.generation
        run.prepare()
        self._rows.occupy(run)  # one batch of a version at a time: rows of it wait for this one
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, run.compute)
        finally:
            self._rows.abandon(run)
        if generation == self._lanes.generation:
            self._execution.done(run)
        else:
            self._execution.abandon(run)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._ended()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lanes.fail(error)


def _nothing(_num_bytes: int) -> None:
    """No copy has a blob that could be done with."""


def _yield_to_others() -> None:
    """Lower this thread's priority."""
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
