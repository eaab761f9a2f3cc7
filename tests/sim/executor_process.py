"""The executor as simulated: the real batcher and frame pieces, sessions that compute y = 2x + 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from executors.batcher import Batch, Batcher, BatchKey, Profile, RowSlice
from executors.executed import Piece, Work, cut, executed_frames, gather, halves
from executors.session import ExecutionError
from schemas.frame import InferenceFrame, Segment, TensorBlock
from streams.columns import ERROR, EXPIRED, OK, Array, Columns
from streams.memory_view import model_version, models
from streams.ordering import InOrder
from tests.sim.group import Place
from tests.sim.processes import Process, Step
from tests.sim.world import Outcome, World

MAX_QUEUED_ITEMS = 40
FAILS = -1.0
NOT_FINITE = -2.0


def compute(x: Array) -> Array:
    """What every simulated model computes; a FAILS item breaks its batch, a NOT_FINITE one comes out as NaN."""
    if (x == FAILS).any():
        raise ExecutionError("execution_failed", "the batch cannot be computed")
    return np.where(x == NOT_FINITE, np.float32(np.nan), x * 2 + 1).astype(np.float32)


@dataclass(eq=False, slots=True)
class Lane:
    """One assigned lane in one generation."""

    window: InOrder[int] = field(default_factory=InOrder)
    committable: int = -1


class ExecutorProcess(Process):
    """Mirrors ``executors.worker.Worker``."""

    role = "executor"

    def __init__(self, world: World, name: str) -> None:
        self.lanes: dict[Place, Lane] = {}
        self.positions: dict[Place, int] = {}
        self.batcher = Batcher()
        self.touched: dict[Any, None] = {}
        self.loaded: dict[tuple[str, str], Profile] = {}
        self.wanted: dict[tuple[str, str], None] = {}
        self.num_batches = 0
        super().__init__(world, name)
        for versions in models(self.view).values():
            self.wanted.update({(version.model, version.version): None for version in versions})

    def assigned(self, places: tuple[Place, ...]) -> None:
        self.lanes = {place: Lane() for place in places}
        self.positions = {place: self.start_of(place) for place in places}
        self.batcher = Batcher()
        self.touched = {}

    def own_steps(self) -> list[Step]:
        found: list[Step] = []
        for place, position in self.positions.items():
            if position < self.world.end(place) and self.batcher.queued_items < MAX_QUEUED_ITEMS:
                found.append(("fetch", partial(self.fetch, place)))
        if any(model_version(self.view, *key) is not None for key in self.wanted):
            found.append(("load", self.load))
        if any((key.model, key.version) in self.loaded for key in self.batcher.waiting()):
            found.append(("execute", self.execute))
        if self.touched:
            found.append(("flush", self.flush))
        return found

    def committable(self) -> dict[Place, int]:
        return {
            place: lane.committable
            for place, lane in self.lanes.items()
            if lane.committable > self.committed.get(place, -1)
        }

    @property
    def idle(self) -> bool:
        return super().idle and not any(len(lane.window) for lane in self.lanes.values())

    def load(self) -> str:
        """A wanted model is warm."""
        key = next(key for key in self.wanted if model_version(self.view, *key) is not None)
        del self.wanted[key]
        version = model_version(self.view, *key)
        assert version is not None
        self.loaded[key] = Profile(100.0, 10.0, version.max_batch_size)
        return f"{key[0]} {key[1]}"

    def fetch(self, place: Place) -> str:
        """Queue the rows of a few routed frames."""
        records = self.world.log.read(*place, self.positions[place], self.world.rng.randint(1, 3))
        lane = self.lanes[place]
        for record in records:
            entry = lane.window.start(record.offset + 1)
            self.add(self.world.wire.decode("inference.routed", record.value), lane, entry)
            release(lane, entry)
            if self.world.bugs.commit_past == self.role:
                lane.committable = record.offset + 1
        self.positions[place] = records[-1].offset + 1 if records else self.world.end(place)
        return f"lane {place[1]}, {len(records)} frames"

    def add(self, frame: InferenceFrame, lane: Lane, entry: Any) -> None:
        """As ``Worker._add``."""
        columns, work = Columns.of(frame), Work.of(frame, lane, entry, 0)
        starts = work.starts
        lane.window.add(entry)
        for number, segment in enumerate(frame.segments):
            rows = slice(starts[number], starts[number + 1])
            signature = tuple([(block.name, block.item_shape) for block in segment.inputs])
            key = BatchKey(segment.model, segment.version, signature)
            self.batcher.add(
                key, work, number, columns.priorities[rows], columns.row_items[rows], columns.deadlines_us[rows],
                self.world.now_us,
            )  # fmt: skip
            if (segment.model, segment.version) not in self.loaded:
                self.wanted[segment.model, segment.version] = None

    def execute(self) -> str:
        """One batch."""
        batch = self.batcher.next_batch(self.world.now_us, self.loaded)
        assert batch is not None
        for row_slice in batch.expired:
            self.end(row_slice, EXPIRED, "deadline_exceeded", "the deadline would pass before its batch is done")
        if batch.slices:
            self.run(batch)
        return f"{batch.key.model} {batch.num_items} items, {len(batch.expired)} slices too late"

    def run(self, batch: Batch) -> None:
        """Compute; a batch that fails runs again in halves."""
        self.num_batches += 1
        try:
            outputs = {"y": compute(gather(batch.slices)["x"])}
        except ExecutionError as error:
            if len(batch.slices) == 1 and batch.slices[0].num_rows == 1:
                self.end(batch.slices[0], ERROR, error.code, error.problem)
                return
            for half in halves(batch.slices):
                self.run(Batch(batch.key, half, sum(each.num_items for each in half), ()))
            return
        at = 0
        for row_slice in batch.slices:
            self.finish(row_slice, outputs, at, batch.num_items)
            at += row_slice.num_items

    def finish(self, row_slice: RowSlice, outputs: Mapping[str, Array], at: int, size: int) -> None:
        """As ``Worker._finish``."""
        source = row_slice.frame.frame.segments[row_slice.segment]
        for part in cut(row_slice, sum(array.nbytes // max(1, len(array)) for array in outputs.values())):
            items = slice(at, at + part.num_items)
            at += part.num_items
            blocks = tuple(
                TensorBlock(name, "FP32", tuple(array.shape[1:]), array[items].tobytes())
                for name, array in outputs.items()
            )
            segment = Segment(
                source.model, source.version, source.cohort, part.num_rows, (), blocks, "", "sim", self.name,
                self.num_batches, size,
            )  # fmt: skip
            self.put(part, Piece(_first_row(part), segment, OK))

    def end(self, row_slice: RowSlice, status: int, code: str, message: str) -> None:
        """As ``Worker._end``."""
        source = row_slice.frame.frame.segments[row_slice.segment]
        segment = Segment(source.model, source.version, source.cohort, row_slice.num_rows, executor=self.name)
        self.put(row_slice, Piece(_first_row(row_slice), segment, status, (code, message)))

    def put(self, row_slice: RowSlice, piece: Piece) -> None:
        row_slice.frame.pieces.append(piece)
        self.touched[row_slice.frame] = None

    def flush(self) -> str:
        """Send what finished since the last flush."""
        touched, self.touched = self.touched, {}
        for work in touched:
            for frame in executed_frames(work, self.world.now_us):
                work.lane.window.add(work.entry)
                value = self.world.wire.encode("inference.executed", frame)
                self.send("inference.executed", frame.partition, value, partial(self.sent, work))
            if work.left == 0:
                release(work.lane, work.entry)
        return f"{len(touched)} frames"

    def sent(self, work: Work, outcome: Outcome) -> None:
        """A frame stands, or its fate is unknown."""
        if outcome.error:
            self.fail(outcome)
        else:
            release(work.lane, work.entry)


def release(lane: Lane, entry: Any) -> None:
    """A part of a routed frame is done."""
    for end in lane.window.finish(entry):
        lane.committable = max(lane.committable, end)


def _first_row(row_slice: RowSlice) -> int:
    first: int = row_slice.frame.starts[row_slice.segment] + row_slice.first_row
    return first
