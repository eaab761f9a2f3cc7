"""Long batches, in threads of their own, so that nothing waits for them.

One per model version, and one more of rows that are more urgent than those under way. The threads are nicer than their
process: what takes long anyway lets the short things of this machine go first.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from executors.execution import Execution
from executors.lanes import Lanes
from executors.profile import Version
from executors.run import Run

MAX_THREADS: Final = 2
"""Long batches at a time."""
NICE: Final = 2
"""Threads of long batches are nicer than their process by so much: two thirds of its weight where processors are short.

A third (5) starved a model that takes 9 ms a batch beside its own flood.
"""


class LongRuns:
    """The batches of ``execution`` that run in threads; true while there is one. ``ended`` is called after each.

    What a thread raises fails ``lanes``. A batch that a rebalance of theirs overtook is abandoned.
    """

    def __init__(self, name: str, execution: Execution, lanes: Lanes, ended: Callable[[], None]) -> None:
        self._execution = execution
        self._lanes = lanes
        self._ended = ended
        self._threads = ThreadPoolExecutor(MAX_THREADS, f"{name}-batch", _yield_to_others)
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: set[Run] = set()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    @property
    def room(self) -> int:
        """How many more may run now."""
        return MAX_THREADS - len(self._tasks)

    def start(self, run: Run) -> None:
        """Have a batch run as soon as a thread is free."""
        task = asyncio.ensure_future(self._run(run))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def left_us(self, now_us: int) -> dict[Version, float]:
        """How long the batches under way should still take, by version."""
        found: dict[Version, float] = {}
        for run in self._under_way:
            left_us = max(1.0, run.time_us - max(0, now_us - (run.started_us or now_us)))
            found[run.version] = found.get(run.version, 0.0) + left_us
        return found

    def stop(self) -> None:
        """Wait for no batch any more."""
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, run: Run) -> None:
        generation = self._lanes.generation
        run.prepare()
        self._under_way.add(run)
        self._execution.let_pass(run)
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, run.compute)
        finally:
            self._under_way.discard(run)
        if generation == self._lanes.generation:
            self._execution.done(run)
        else:
            self._execution.abandon(run)  # the rows are another executor's by now

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lanes.fail(error)


def _yield_to_others() -> None:
    """Lower this thread's priority."""
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
