"""A frame that is alone runs at once: segment by segment, without the queues.

At moderate load one frame is at hand and nothing waits. Then each of its segments is the batch that the queues would
make of it, and all they would do is cost. The same rules hold: batches within the cap, no row that comes too late,
identical items once. What is not plain (a long batch, inputs in a blob, a deadline that is near) goes the other way.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from executors.coalesce import coalesced, told_apart
from executors.executed import Work
from executors.profile import Profile, Version
from executors.session import ExecutionError, Session
from schemas.frame import Segment
from streams.columns import Array, items_array

FEW: Final = 32


@dataclass(eq=False, slots=True)
class DirectRun:
    """A segment's batch: what is to run, and what came of it (``outputs`` or ``error``)."""

    number: int
    segment: Segment
    session: Session
    num_items: int
    inputs: Mapping[str, Array]
    places: Array | None = None
    started_us: int = 0
    run_us: int = 0
    outputs: dict[str, Array] | None = None
    error: ExecutionError | None = None


def planned(
    work: Work,
    sessions: Mapping[Version, Session],
    profiles: Mapping[Version, Profile],
    now_us: int,
    budget_us: float,
) -> list[DirectRun] | None:
    """The batches of a frame that may run as it is within ``budget_us``, else None."""
    frame = work.frame
    counts = _items(work)
    runs: list[DirectRun] = []
    time_us = 0.0
    for number, segment in enumerate(frame.segments):
        version = (segment.model, segment.version)
        profile = profiles.get(version)
        num_items = segment.num_rows if counts is None else counts[number]
        if profile is None or segment.blob is not None or num_items > profile.cap:
            return None
        time_us += profile.fixed_us + profile.per_item_us * num_items
        runs.append(DirectRun(number, segment, sessions[version], num_items, {}))
    if time_us > budget_us or earliest(frame.deadlines_us) < now_us + time_us:
        return None
    return runs


def earliest(deadlines_us: bytes) -> int:
    """The smallest of a column of deadlines; without numpy where they are few."""
    if len(deadlines_us) > 8 * FEW or sys.byteorder != "little":
        return int(np.frombuffer(deadlines_us, "<i8").min())
    return min(memoryview(deadlines_us).cast("q"))


def _items(work: Work) -> list[int] | None:
    """Items per segment, None where every row is one item."""
    row_items = work.frame.row_items
    if row_items == b"\x01\x00" * (len(row_items) // 2):
        return None
    counts: list[int] = np.add.reduceat(np.frombuffer(row_items, "<u2"), work.starts[:-1], dtype=np.int64).tolist()
    return counts


def run_all(runs: list[DirectRun]) -> None:
    """Gather the inputs of all, then run all: code that just ran for one is still in the processor's caches."""
    for run in runs:
        blocks, num_items = run.segment.inputs, run.num_items
        run.inputs = inputs = {block.name: items_array(block, 0, num_items) for block in blocks}
        if num_items > 1 and run.session.model.deterministic and not told_apart(blocks[0], num_items):
            found = coalesced(inputs)
            if found is not None:
                run.inputs, run.places = found
    began = time.perf_counter_ns()
    now_us = time.time_ns() // 1000
    at = began
    for run in runs:
        run.started_us = now_us + (at - began) // 1000
        try:
            run.outputs = run.session.run(run.inputs)
        except ExecutionError as error:
            run.error = error
        end = time.perf_counter_ns()
        run.run_us = (end - at) // 1000
        at = end


def distinct_items(run: DirectRun) -> int:
    """Items that the session ran for."""
    return run.num_items if run.places is None else int(run.places.max()) + 1


def outputs_of(run: DirectRun) -> dict[str, Array]:
    """Outputs for every item, in place."""
    assert run.outputs is not None
    if run.places is None:
        return run.outputs
    return {name: np.ascontiguousarray(array[run.places]) for name, array in run.outputs.items()}
