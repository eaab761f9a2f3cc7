"""Where rows wait: queues of the batcher, lines of ordered models, places of rows whose blob is fetched.

Every row of a frame is taken once: it waits, or ends in the outbox at once (refused, or ended before it came).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Set
from typing import Final, Protocol

import numpy as np

from executors.attempts import Attempts
from executors.batcher import Batcher
from executors.blob_fetch import Claim
from executors.check_rows import num_client_rows
from executors.executed import Work
from executors.failed_rows import FailedRows
from executors.lines import Group, Lines
from executors.outbox import Outbox
from executors.profile import Profile, Version
from executors.row_queue import PRIORITIES, BatchKey
from executors.row_slice import RowSlice
from executors.run import WorkerCounts
from executors.session import Session
from schemas.frame import InferenceFrame, RowError, TensorBlock
from streams.columns import DATATYPE_BYTES, ERROR, EXPIRED, REJECTED
from streams.key_order import has_ended_rows, has_models

TEXT_BYTES: Final = 16
"""What an element of a text counts as, for the bound of queued bytes."""
RETRY_AFTER_MS: Final = 500
FULL: Final = "more rows of this model wait in its executor than it may hold"
LATE: Final = "the deadline would pass before its batch is done"
WAITED_US: Final = 50_000
"""Who expires after less came with next to no time left."""


class Sessions(Protocol):
    """What the executor has loaded; ``profiles`` may be corrected."""

    sessions: dict[Version, Session]
    profiles: dict[Version, Profile]

    def want(self, model: str, version: str) -> None:
        """Ask for a version that is not here."""


Ordered = Callable[[int], Container[str]]
"""Models whose rows are served in the order they come (``executors/lines.py``), as of a memory sequence."""


class Intake:
    """What waits. ``failed`` ends what may not wait; ``outbox``, ``counts`` and ``attempts`` are the executor's."""

    def __init__(
        self, loaded: Sessions, failed: FailedRows, outbox: Outbox, counts: WorkerCounts, attempts: Attempts,
        ordered: Ordered,
    ) -> None:  # fmt: skip
        self._loaded = loaded
        self._failed = failed
        self._outbox = outbox
        self._counts = counts
        self._attempts = attempts
        self._ordered = ordered
        self._places: dict[tuple[Work, int], Group] = {}
        self.batcher = Batcher()
        self.lines = Lines()
        self.num_late: dict[Version, int] = {}
        """Rows per version that came in time and waited here until it was too late."""

    def clear(self, running: Iterable[Version]) -> None:
        """Forget all; what a thread still computes keeps its session."""
        self.batcher = Batcher()
        self.batcher.busy = dict.fromkeys(running, 0)
        self.lines = Lines()
        self._places.clear()

    def keeps_order(self, frame: InferenceFrame) -> bool:
        """Whether a frame has rows of an ordered model."""
        ordered = self._ordered(frame.memory_sequence)
        return bool(ordered) and has_models(frame, ordered)

    def add(self, work: Work, now_us: int) -> list[Claim]:
        """Queue a frame's rows; the claims are those whose inputs must be fetched first (``add_fetched``)."""
        frame, starts, profiles = work.frame, work.starts, self._loaded.profiles
        row_items: list[int] = np.frombuffer(frame.row_items, "<u2").tolist()
        deadlines_us: list[int] = np.frombuffer(frame.deadlines_us, "<i8").tolist()
        claims: list[Claim] = []
        ordered = self._ordered(frame.memory_sequence)
        if ordered and has_models(frame, ordered):
            self._outbox.keep_order(work)
        ended = has_ended_rows(frame)
        for number, segment in enumerate(frame.segments):
            first, end = starts[number], starts[number + 1]
            if ended and frame.statuses[first]:
                self._pass_on(work, number)
                continue
            if (segment.model, segment.version) not in profiles:
                self._loaded.want(segment.model, segment.version)
            in_line = segment.model in ordered
            if segment.blob is not None:
                claims.append(Claim(work, number, segment.blob, segment.inputs, row_items[first], deadlines_us[first]))
                if in_line:
                    key = BatchKey(segment.model, segment.version, ())
                    self._places[work, number] = self.lines.reserve(key)
                continue
            self._queue(
                work, number, segment.inputs, frame.priorities[first:end], row_items[first:end],
                deadlines_us[first:end], now_us, in_line=in_line,
            )  # fmt: skip
        return claims

    def _pass_on(self, work: Work, number: int) -> None:
        """Rows that ended before they came here, and travel in the place that they have (``streams/key_order.py``)."""
        first, end, status = work.starts[number], work.starts[number + 1], work.frame.statuses
        errors = {error.row: error for error in work.frame.errors if first <= error.row < end}
        unknown = RowError(0, "internal", "nothing says why the row ended")
        for row in range(first, end):
            error = errors.get(row, unknown)
            ended = RowSlice(work, number, row - first, 1, 0, 0, 0, 0, 0, [0], [0])
            self._outbox.end(ended, max(status[row], ERROR), error.code, error.message, error.retry_after_ms)

    @property
    def queued_items(self) -> int:
        """Items that wait for a batch."""
        return self.batcher.queued_items + self.lines.num_items

    def add_fetched(self, claim: Claim, inputs: tuple[TensorBlock, ...], now_us: int) -> None:
        """Queue the row of a claim whose inputs are here."""
        row = claim.work.starts[claim.segment]
        priority = claim.work.frame.priorities[row : row + 1]
        in_line = (claim.work, claim.segment) in self._places
        self._queue(
            claim.work, claim.segment, inputs, priority, [claim.items], [claim.due_us], now_us, in_line=in_line
        )  # fmt: skip

    def _queue(
        self, work: Work, number: int, inputs: tuple[TensorBlock, ...], priorities: bytes, row_items: list[int],
        deadlines_us: list[int], now_us: int, *, in_line: bool,
    ) -> None:  # fmt: skip
        segment = work.frame.segments[number]
        signature = [(block.name, block.item_shape, DATATYPE_BYTES.get(block.datatype, TEXT_BYTES)) for block in inputs]
        if len(signature) > 1:
            signature.sort()  # by name: a blob's order is its client's, and rows of both kinds ride together
        key = BatchKey(segment.model, segment.version, tuple(signature))
        if in_line:
            self._queue_in_line(key, work, number, priorities[0], row_items, deadlines_us, now_us)
            return
        for refused in self.batcher.add(key, work, number, priorities, row_items, deadlines_us, now_us):
            self._counts.num_refused_rows += refused.num_rows
            self._failed.end(refused, REJECTED, "overloaded", FULL, RETRY_AFTER_MS)

    def _queue_in_line(
        self, key: BatchKey, work: Work, number: int, priority: int, row_items: list[int], deadlines_us: list[int],
        now_us: int,
    ) -> None:  # fmt: skip
        rows = RowSlice(
            work, number, 0, len(row_items), 0, sum(row_items), min(priority, PRIORITIES - 1), now_us,
            min(deadlines_us), row_items, deadlines_us,
        )  # fmt: skip
        place = self._places.pop((work, number), None)
        if place is not None:
            self.lines.fill(place, key, rows)
        elif not self.lines.put(key, rows):
            self._counts.num_refused_rows += rows.num_rows
            self._failed.end(rows, REJECTED, "overloaded", FULL, RETRY_AFTER_MS)

    def fail_fetch(self, claim: Claim, status: int, code: str, message: str) -> None:
        """End the row of a claim whose inputs cannot be had."""
        place = self._places.pop((claim.work, claim.segment), None)
        if place is not None:
            self.lines.leave(place)
        row = RowSlice(
            claim.work, claim.segment, 0, 1, 0, claim.items, 0, 0, claim.due_us, [claim.items], [claim.due_us]
        )
        self._counts.num_failed_rows += 1
        self._outbox.end(row, status, code, message)

    def expire(self, version: Version, rows: RowSlice, now_us: int) -> None:
        """End rows that the batcher gave out as too late."""
        self._failed.end(rows, EXPIRED, "deadline_exceeded", LATE)
        if now_us - rows.queued_us > WAITED_US:
            self.num_late[version] = self.num_late.get(version, 0) + rows.num_rows

    def drop(self, model: str, version: str, reason: str) -> None:
        """Let go of the rows of a version that cannot be loaded."""
        for row_slice in (*self.batcher.drop(model, version), *self.lines.drop((model, version))):
            self._attempts.failed((model, version), num_client_rows([row_slice]), "model_unavailable")
            self._failed.fail(row_slice, "model_unavailable", reason)

    def feed(self, under_way: Set[str]) -> None:
        """Give the batcher the next rows of the lines whose last ones have ended; of models ``under_way`` none have."""
        for key, rows in self.lines.feed(lambda model: not (model in under_way or self.batcher.holds(model))):
            self.batcher.put(key, rows)
