"""What must hold of rows that are tried again, and the rows that fail in passing.

A request whose first number is ``FAILING`` or less is one row of one item, and its second number says how often it
fails by itself; a batch that holds it fails until then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from executors.session import ExecutionError
from schemas.frame import InferenceFrame
from streams import retry_budget
from streams.columns import HEDGE, PENDING, Array, request_ids
from streams.retry_budget import SHARE
from tests.sim.world import World

RETRIED: Final = "what is tried again is so in time, after its pause, as often as it may and within its budget"
FAILING: Final = -1_000.0
RECOVERS: Final = 3
"""Failures that a row has left behind by its last try: it has two here and two elsewhere."""
FOR_EVER: Final = 1_000_000
MAX_ATTEMPTS: Final = 2

Row = tuple[int, int]
Violated = Callable[..., None]


def fail_in_passing(world: World, x: Array) -> None:
    """Raise ExecutionError where a row of the batch has to fail yet."""
    for first, times in x[x[:, 0] <= FAILING].tolist():
        failed = world.failures.get(first, 0)
        if failed < times:
            if len(x) == 1:
                world.failures[first] = failed + 1
                world.count("passing failures")
            raise ExecutionError("execution_failed", "no memory", transient=True)


class RetryInvariants:
    """``tries``: rows by topic and attempt; what stands on ``inference.retries`` by row and attempt."""

    def __init__(self, world: World, violated: Violated) -> None:
        self.world = world
        self.violated = violated
        self.tries: set[tuple[str, Row, int]] = set()
        self.earliest_us: dict[tuple[Row, int], int] = {}
        self.first: dict[str, set[Row]] = {}
        self.again: dict[str, set[tuple[Row, int]]] = {}

    def frame(self, topic: str, partition: int, frame: InferenceFrame) -> None:
        """A frame of the data plane was appended."""
        if HEDGE in frame.roles:
            return
        offsets = np.frombuffer(frame.offsets, "<i8").tolist()
        rows = [(frame.partition, offset) for offset in offsets]
        attempt = 0 if topic == "inference.executed" else frame.attempt
        self.tries.update((topic, row, attempt) for row in rows)
        if topic == "inference.retries":
            self.left(partition, frame, rows)
        elif topic == "inference.routed" and frame.attempt:
            self.routed(frame, rows)
        if topic != "inference.routed":
            return
        at = 0
        for segment in frame.segments:
            mine = rows[at : at + segment.num_rows]
            at += segment.num_rows
            if frame.attempt == 0:
                self.first.setdefault(segment.model, set()).update(mine)
            else:
                self.again.setdefault(segment.model, set()).update((row, frame.attempt) for row in mine)

    def left(self, partition: int, frame: InferenceFrame, rows: list[Row]) -> None:
        """Rows left an executor to be tried elsewhere."""
        self.world.count("tried again", len(rows))
        errors = sorted(error.row for error in frame.errors)
        if partition != frame.partition or set(frame.statuses) - {PENDING} or errors != list(range(len(rows))):
            self.violated(RETRIED, f"{request_ids(frame)} are to be tried again, and nobody could say why")
        if not 0 < frame.attempt < MAX_ATTEMPTS:
            self.violated(RETRIED, f"{request_ids(frame)} are to have try {frame.attempt + 1} of {MAX_ATTEMPTS}")
        for row in rows:
            known = self.earliest_us.get((row, frame.attempt), frame.not_before_us)
            self.earliest_us[row, frame.attempt] = min(known, frame.not_before_us)

    def routed(self, frame: InferenceFrame, rows: list[Row]) -> None:
        """Rows go to another try. Both times are the Router's and the executor's own, and no clock is asked here."""
        deadlines = np.frombuffer(frame.deadlines_us, "<i8").tolist()
        for row, deadline_us in zip(rows, deadlines, strict=True):
            name = f"{row[0]}@{row[1]}"
            if frame.routed_us >= deadline_us:
                self.violated(RETRIED, f"request {name} was tried again after its deadline", name)
            if frame.routed_us < self.earliest_us[row, frame.attempt]:
                self.violated(RETRIED, f"request {name} was tried again before its time", name)

    def stands(self, group: str, row: Row, attempt: int) -> bool:
        """Whether a row that a stage took in with ``attempt`` stands behind it as its try demands; a copy need not."""
        if ("inference.executed", row, 0) in self.tries or row[1] < 0:
            return True
        if group == "router":
            return ("inference.routed", row, attempt) in self.tries
        return ("inference.retries", row, attempt + 1) in self.tries

    def final(self) -> None:
        """No model was tried again beyond its budget; a bucket is full anew with each state of a Router."""
        for model, again in self.again.items():
            most = retry_budget.FULL * self.world.counts.get("router states", 0) + SHARE * len(
                self.first.get(model, ())
            )
            if len(again) > most:
                self.violated(RETRIED, f"{len(again)} rows of {model} were tried again, of {most:.0f} at most")
