"""Rows that failed in passing: once more here after a pause, then elsewhere through ``inference.retries``.

Here: a row that failed alone runs again after a jittered pause in which everything else goes on. Elsewhere: it leaves
with what it failed with, and the Router gives it another version or lane after a back-off (exponential, full jitter).
Neither where the deadline would pass, and both from budgets (``streams.retry_budget``).
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from executors.row_slice import RowSlice
from schemas.frame import InferenceFrame, RowError
from schemas.quick import replaced
from streams.columns import PENDING, PRIMARY, take
from streams.memory_view import MemoryView, ordered_models, plan
from streams.retry_budget import NO_RETRIES, Tokens, earned, spent

PAUSE_US: Final = (5_000, 25_000)
"""Shortest and longest pause before a row runs again here."""
MAX_ATTEMPTS: Final = 2
"""Where there is no plan that says so: by default a row is tried elsewhere once."""
BACKOFF_US: Final = 50_000
"""Longest time before a row's first retry elsewhere; each later one's is twice as long."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Rows that are to be tried elsewhere, not before ``not_before_us``, and what all of them failed with."""

    row_slice: RowSlice
    code: str
    message: str
    not_before_us: int


class Retries:
    """What one executor tries again. Not safe for threads."""

    def __init__(self, max_attempts: Callable[[str], int]) -> None:
        self._max_attempts = max_attempts
        self._paused: list[tuple[int, int, Any]] = []
        self._tokens: Tokens = NO_RETRIES
        self._number = 0

    def clear(self) -> None:
        """Forget what waits: a rebalance voided it."""
        self._paused = []

    def tried(self, frame: InferenceFrame) -> None:
        """Note rows that are tried here for the first time."""
        if self._tokens and frame.attempt == 0:
            for segment in frame.segments:
                self._tokens = earned(self._tokens, segment.model, segment.num_rows)

    def pause(self, run: Any, model: str, time_us: float, deadline_us: int) -> bool:
        """Keep a run of one row, of about ``time_us``, for ``due``; False where it would be late or has no token."""
        shortest, longest = PAUSE_US
        pause_us = int(shortest + (longest - shortest) * random.random())
        if time.time_ns() // 1000 + pause_us + time_us > deadline_us:
            return False
        self._tokens, granted = spent(self._tokens, model, 1)
        if granted:
            self._number += 1
            heapq.heappush(self._paused, (_now_us() + pause_us, self._number, run))
        return bool(granted)

    def __bool__(self) -> bool:
        """Whether a run is paused."""
        return bool(self._paused)

    def due(self) -> list[Any]:
        """The runs whose pause is over; they are the caller's again."""
        found: list[Any] = []
        while self._paused and self._paused[0][0] <= _now_us():
            found.append(heapq.heappop(self._paused)[2])
        return found

    def wait_ms(self, longest_ms: int) -> int:
        """How long until a pause is over, at most ``longest_ms``."""
        if not self._paused:
            return longest_ms
        return min(longest_ms, max(0, -(-(self._paused[0][0] - _now_us()) // 1000)))

    def elsewhere(
        self, row_slice: RowSlice, code: str, message: str, time_us: float = 0.0
    ) -> tuple[list[Failed], list[RowSlice]]:
        """Divide rows that failed into those to be tried elsewhere and those that end.

        These are rows tried often enough, those whose deadline would pass, and copies of others (shadows, hedges).
        """
        work = row_slice.frame
        frame, first = work.frame, work.starts[row_slice.segment] + row_slice.first_row
        attempts = frame.attempt + 1
        if attempts >= self._max_attempts(frame.segments[row_slice.segment].model) or any(
            role != PRIMARY for role in frame.roles[first : first + row_slice.num_rows]
        ):
            return [], [row_slice]
        pause_us = int(random.random() * (BACKOFF_US << frame.attempt))
        not_before_us = time.time_ns() // 1000 + pause_us
        late, punctual = row_slice.sieve(not_before_us + time_us)
        return [Failed(each, code, message, not_before_us) for each in punctual], late


def retry_frame(work: Any, rows: Sequence[Failed]) -> InferenceFrame:
    """The rows of a routed frame that are tried elsewhere, with their inputs, as a frame of ``inference.retries``."""
    frame: InferenceFrame = work.frame
    failed: dict[int, Failed] = {}
    for each in rows:
        first = work.starts[each.row_slice.segment] + each.row_slice.first_row
        failed |= dict.fromkeys(range(first, first + each.row_slice.num_rows), each)
    numbers = sorted(failed)
    part = take(frame, np.array(numbers, np.int64))
    errors = [RowError(at, failed[row].code, failed[row].message) for at, row in enumerate(numbers)]
    return replaced(
        part, statuses=bytes([PENDING]) * len(numbers), errors=tuple(errors), attempt=frame.attempt + 1,
        not_before_us=max(each.not_before_us for each in rows),
    )  # fmt: skip


def last_error(frame: InferenceFrame, row: int) -> RowError | None:
    """What a row of a frame failed with before, or None."""
    return next((error for error in frame.errors if error.row == row), None)


def max_attempts(memory: MemoryView, model: str) -> int:
    """Tries of a model's rows over the whole path; rows of an ordered model must not overtake each other elsewhere."""
    effective = plan(memory, model)
    if model in ordered_models(memory):
        return 1
    return MAX_ATTEMPTS if effective is None else effective.max_attempts


def _now_us() -> int:
    """A clock that is never set."""
    return time.monotonic_ns() // 1000
