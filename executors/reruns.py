"""Batches that run again: those that failed, in halves, and rows that failed in passing, after a pause.

So only the rows at fault have the error. While halves of a batch wait, or a paused row that others must not pass, their
version runs nothing else.
"""

from __future__ import annotations

from collections import deque

from executors.executed import halves
from executors.failed_rows import FailedRows
from executors.intake import Ordered
from executors.profile import Version
from executors.retry import Retries
from executors.run import Run
from executors.running import Running
from executors.session import ExecutionError


class Reruns:
    """What runs again in one executor; true while something waits that may run now.

    ``retries`` keeps who is paused, ``failed`` takes who has failed for good; ``ordered`` as of an intake.
    """

    def __init__(self, retries: Retries, failed: FailedRows, ordered: Ordered) -> None:
        self._retries = retries
        self._failed = failed
        self._ordered = ordered
        self._waiting: deque[Run] = deque()
        self._holding: set[Version] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def clear(self) -> None:
        """Forget all: a rebalance voided it."""
        self._waiting.clear()
        self._holding.clear()
        self._retries.clear()

    def versions(self) -> list[Version]:
        """The versions that run nothing else."""
        return [*self._holding, *[run.version for run in self._waiting]]

    def holds(self, version: Version) -> bool:
        """Whether a version runs nothing else."""
        if version in self._holding:
            return True
        return bool(self._waiting) and any(run.version == version for run in self._waiting)

    def next(self, running: Running, max_time_us: float) -> Run | None:
        """Take the next batch, of less than ``max_time_us`` and of a version that neither runs nor waits for a row."""
        for second in self._retries.due():
            self._holding.discard(second.version)
            self._waiting.appendleft(second)
        for run in self._waiting:
            if run.version not in running and run.version not in self._holding and run.time_us < max_time_us:
                self._waiting.remove(run)
                return run
        return None

    def take(self, run: Run, error: ExecutionError) -> None:
        """Take a batch that failed: what is left of it runs again, or has failed for good."""
        slices = run.slices
        if len(slices) == 1 and slices[0].num_rows == 1:
            if run.is_second or not error.transient or not self._pause(run):
                self._failed.finish(run, error)
            return
        for half in reversed(halves(slices)):
            items = sum([row_slice.num_items for row_slice in half])
            self._waiting.appendleft(Run(run.session, run.version, half, items, run.time_us / 2))

    def _pause(self, run: Run) -> bool:
        """Have a row run once more after a pause, in which its version serves others unless they must not pass it."""
        second = Run(run.session, run.version, run.slices, run.num_items, run.time_us, is_second=True)
        if not self._retries.pause(second, run.version[0], run.time_us, run.slices[0].deadlines_us[0]):
            return False
        if run.version[0] in self._ordered(run.slices[0].frame.frame.memory_sequence):
            self._holding.add(run.version)
        return True
