"""A batch on its way through a session, and the counts of an executor."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from executors.coalesce import coalesced
from executors.executed import gather
from executors.profile import Version
from executors.row_slice import RowSlice
from executors.session import ExecutionError, Session
from streams.columns import Array


@dataclass(slots=True)
class WorkerCounts:
    """What this executor did since its start. ``num_coalesced``: items that another item of their batch ran for.

    ``num_retried_rows``: rows that left to be tried elsewhere; what ran again here is not counted.
    """

    num_frames: int = 0
    num_rows: int = 0
    num_batches: int = 0
    num_failed_rows: int = 0
    num_blobs: int = 0
    num_coalesced: int = 0
    num_refused_rows: int = 0
    num_retried_rows: int = 0


@dataclass(eq=False, slots=True)
class Run:
    """A batch on its way through a session. ``time_us``: how long it should take; what came of it is filled in.

    ``is_second``: its only row failed in passing and was paused.
    """

    session: Session
    version: Version
    slices: Sequence[RowSlice]
    num_items: int
    time_us: float
    started_us: int = 0
    run_us: int = 0
    inputs: Mapping[str, Array] = field(default_factory=dict)
    places: Array | None = None
    outputs: dict[str, Array] | None = None
    error: ExecutionError | None = None
    num_coalesced: int = 0
    is_second: bool = False

    @property
    def priority(self) -> int:
        """That of its most urgent row."""
        return min([each.priority for each in self.slices])

    def prepare(self) -> None:
        """Gather the inputs, those of identical items once."""
        self.inputs = gather(self.slices)
        if self.num_items > 1 and self.session.model.deterministic:
            found = coalesced(self.inputs)
            if found is not None:
                self.inputs, self.places = found
                self.num_coalesced = self.num_items - int(self.places.max()) - 1

    def compute(self) -> None:
        """Run the session. Touches nothing but this object and the session: may run in a thread of its own."""
        self.started_us = time.time_ns() // 1000
        begun = time.perf_counter_ns()
        try:
            outputs = self.session.run(self.inputs)
        except ExecutionError as error:
            self.error = error
            return
        self.run_us = (time.perf_counter_ns() - begun) // 1000
        if self.places is not None:
            outputs = {name: np.ascontiguousarray(array[self.places]) for name, array in outputs.items()}
        self.outputs = outputs
