"""The executor's loop: routed frames in, batches through ONNX Runtime, executed frames out.

Frames of its lanes are cut into slices by the batcher; finished rows leave on the executor's own tick, any models
mixed, so that a slow model never holds a frame's other rows back. Rows whose tensors wait in the blob store join once
they are fetched (``executors/blob_fetch.py``). A routed frame's offset is committed when all its rows stand in
acknowledged executed frames. Delivery is at least once: a row that runs twice is dropped by the Validator.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from executors.batcher import Batcher, BatchKey, RowSlice
from executors.blob_fetch import BlobFetcher, Claim, NotFetched
from executors.executed import Work, gather, halves
from executors.loader import ModelLoader
from executors.outbox import BatchFacts, Outbox
from executors.session import ExecutionError, ModelSession
from schemas.coordinate import RecordCoordinate
from schemas.frame import TensorBlock
from streams.blobs.blob_store import BlobStore
from streams.codec import Codec
from streams.columns import ERROR, EXPIRED, REJECTED, STATUSES, Columns
from streams.committed import CommittedConsumer
from streams.errors import CODES, PoisonRecordError
from streams.registry.schema_watch import SchemaWatch, decode_or_learn
from streams.topics import full_name

ROUTED: Final = full_name("inference.routed")
EXECUTED: Final = "inference.executed"
COMMIT_S: Final = 1.0
MAX_QUEUED_ITEMS: Final = 50_000
MAX_HELD_BYTES: Final = 256 << 20
INLINE_US: Final = 2_000
FETCH_RECORDS: Final = 200
IDLE_MS: Final = 50
BLOB_MS: Final = 2

DeadLetter = Callable[[bytes | None, PoisonRecordError, RecordCoordinate], Awaitable[None]]


@dataclass(slots=True)
class WorkerCounts:
    """What this executor did since its start."""

    num_frames: int = 0
    num_rows: int = 0
    num_batches: int = 0
    num_failed_rows: int = 0
    num_blobs: int = 0


class _Lanes(CommittedConsumer):
    """The assigned lanes; ``forget`` is called when a rebalance voids what is under way."""

    def __init__(self, consumer: AIOKafkaConsumer, forget: Callable[[], None]) -> None:
        super().__init__(consumer, ROUTED)
        self._forget = forget

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Another executor gets it again from the committed offset."""
        await super().on_partitions_revoked(revoked)
        self._forget()


class Worker:
    """One executor process."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
        codec: Codec,
        loader: ModelLoader,
        blobs: BlobStore,
        dead_letter: DeadLetter,
        *,
        name: str,
        tick_ms: int,
        schemas: SchemaWatch | None = None,
    ) -> None:
        self._lanes = _Lanes(consumer, self._forget)
        self._producer = producer
        self._codec = codec
        self._loader = loader
        self._dead_letter = dead_letter
        self._schemas = schemas
        self._tick_s = tick_ms / 1000
        self._frame_bytes = 0
        self._batcher = Batcher()
        self._blobs = BlobFetcher(blobs)
        self._outbox = Outbox(name, self._blobs.release)
        self.counts = WorkerCounts()

    @property
    def joined(self) -> asyncio.Event:
        """Set once lanes were assigned."""
        return self._lanes.joined

    @property
    def queue_depth(self) -> int:
        """Items waiting for a batch or for their blob."""
        return self._batcher.queued_items + self._blobs.num_items

    @property
    def held_bytes(self) -> int:
        """Bytes of the routed frames under way and of fetched blobs."""
        return self._frame_bytes + self._blobs.held_bytes

    def _forget(self) -> None:
        self._frame_bytes = 0
        self._batcher = Batcher()
        self._blobs.stop()
        self._outbox.clear()

    async def drain(self) -> None:
        """Take no more frames, finish those at hand, commit."""
        await self._lanes.drain()

    async def run(self) -> None:
        """Run until cancelled. Raises RetriableError when a frame's fate is unknown: the process starts anew."""
        self._lanes.subscribe()
        next_flush = next_commit = time.perf_counter()
        try:
            while True:
                self._lanes.check()
                await self._fetch()
                self._take_blobs()
                self._drop_unavailable()
                idle = self._outbox.is_empty
                busy = await self._execute_one()
                await asyncio.sleep(0)  # under load nothing else here blocks: sends and heartbeats need the loop too
                now = time.perf_counter()
                if idle and not self._outbox.is_empty:
                    # a tick from the first finished row, so that a frame's rows leave together
                    next_flush = now + self._tick_s
                if not self._outbox.is_empty and (not busy or now >= next_flush):
                    await self._flush()
                if now >= next_commit:
                    await self._lanes.commit()
                    next_commit = now + COMMIT_S
                if not busy and self._batcher.queued_items:
                    await asyncio.sleep(self._tick_s)  # rows wait for a model that is being loaded
        finally:
            self._blobs.stop()

    async def _fetch(self) -> None:
        if self.queue_depth >= MAX_QUEUED_ITEMS or self.held_bytes >= MAX_HELD_BYTES:
            if not self._batcher.queued_items:
                await asyncio.sleep(BLOB_MS / 1000)  # all wait for their blobs
            return
        idle_ms = BLOB_MS if self._blobs.is_busy else IDLE_MS
        timeout_ms = 0 if self._batcher.queued_items or not self._outbox.is_empty else idle_ms
        fetched = await self._lanes.read(timeout_ms=timeout_ms, max_records=FETCH_RECORDS)
        generation = self._lanes.generation
        for place, records in fetched.items():
            for record in records:
                if (
                    generation != self._lanes.generation
                ):  # a rebalance while a dead letter was written: all is read again
                    return
                lane = self._lanes.progress(place)
                entry = lane.window.start(record.offset + 1)
                try:
                    frame = await decode_or_learn(self._codec, self._schemas, "inference.routed", record.value)
                except PoisonRecordError as error:
                    where = RecordCoordinate(record.topic, record.partition, record.offset)
                    await self._dead_letter(record.value, error, where)
                else:
                    if generation != self._lanes.generation:  # a rebalance while its schema was looked for
                        return
                    self._add(Work.of(frame, lane, entry, len(record.value)))
                lane.finish(entry)

    def _add(self, work: Work) -> None:
        columns = Columns.of(work.frame)
        work.lane.window.add(work.entry)
        self._frame_bytes += work.num_bytes
        self.counts.num_frames += 1
        self.counts.num_rows += work.left
        now_us = time.time_ns() // 1000
        for number, segment in enumerate(work.frame.segments):
            self._loader.want(segment.model, segment.version)
            if segment.blob is None:
                self._queue(work, number, columns, segment.inputs, now_us)
                continue
            row = work.starts[number]
            items, due_us = int(columns.row_items[row]), int(columns.deadlines_us[row])
            self._blobs.claim(Claim(work, number, segment.blob, segment.inputs, items, due_us))

    def _queue(
        self, work: Work, number: int, columns: Columns, inputs: tuple[TensorBlock, ...], now_us: int
    ) -> None:  # fmt: skip
        segment, rows = work.frame.segments[number], slice(work.starts[number], work.starts[number + 1])
        # by name: a blob's order is its client's, and rows of both kinds ride together
        signature = tuple(sorted([(block.name, block.item_shape) for block in inputs]))
        self._batcher.add(
            BatchKey(segment.model, segment.version, signature),
            *(work, number, columns.priorities[rows], columns.row_items[rows], columns.deadlines_us[rows], now_us),
        )

    def _take_blobs(self) -> None:
        now_us = time.time_ns() // 1000
        for claim, outcome in self._blobs.take():
            work, number = claim.work, claim.segment
            columns = Columns.of(work.frame)
            if isinstance(outcome, NotFetched):
                self.counts.num_failed_rows += 1
                status = STATUSES.index(CODES[outcome.code].status)
                self._outbox.end(_row_of(work, number, columns), status, outcome.code, outcome.message)
                continue
            self.counts.num_blobs += 1
            work.fetched[number] = outcome
            self._queue(work, number, columns, outcome.inputs, now_us)

    def _drop_unavailable(self) -> None:
        for (model, version), reason in self._loader.take_failed():
            for row_slice in self._batcher.drop(model, version):
                self._outbox.end(row_slice, ERROR, "model_unavailable", reason)

    async def _execute_one(self) -> bool:
        batch = self._batcher.next_batch(time.time_ns() // 1000, self._loader.profiles)
        if batch is None:
            return False
        for row_slice in batch.expired:
            self._outbox.end(
                row_slice, EXPIRED, "deadline_exceeded", "the deadline would pass before its batch is done"
            )
        if batch.slices:
            session = self._loader.sessions[batch.key.model, batch.key.version]
            slices = tuple([each for each in batch.slices if self._admit_fetched(each, session)])
            if slices:
                await self._run(session, slices)
        return True

    def _admit_fetched(self, row_slice: RowSlice, session: ModelSession) -> bool:
        """What the door could not check of a blob that the client stored: NaN and infinity."""
        fetched = row_slice.frame.fetched.get(row_slice.segment)
        if fetched is None or not fetched.not_finite:
            return True
        for spec in session.model.inputs:
            if spec.name in fetched.not_finite and not spec.allow_nan:
                reason = f"input {spec.name} holds NaN or infinity, which the model's manifest forbids"
                self._outbox.end(row_slice, REJECTED, "not_finite", reason)
                return False
        return True

    async def _run(self, session: ModelSession, slices: tuple[RowSlice, ...]) -> None:
        self.counts.num_batches += 1
        number, generation = self.counts.num_batches, self._lanes.generation
        num_items = sum(each.num_items for each in slices)
        started_us = time.time_ns() // 1000
        inputs = gather(slices)
        try:
            if session.profile.time_us(num_items) < INLINE_US:
                outputs = session.run(inputs)
            else:
                outputs = await asyncio.to_thread(session.run, inputs)
        except ExecutionError as error:
            if generation == self._lanes.generation:
                await self._isolate(session, slices, error)
            return
        if generation != self._lanes.generation:
            return  # the rows are another executor's by now
        batch = BatchFacts(number, num_items, started_us, time.time_ns() // 1000 - started_us)
        at = 0
        for row_slice in slices:
            self._outbox.finish(row_slice, session, outputs, at, batch)
            at += row_slice.num_items

    async def _isolate(self, session: ModelSession, slices: tuple[RowSlice, ...], error: ExecutionError) -> None:
        """A failed batch runs again in halves, so that only the rows at fault get the error."""
        if len(slices) == 1 and slices[0].num_rows == 1:
            self.counts.num_failed_rows += 1
            # what admission let through and the session refuses is our defect, whatever the session calls it
            code = error.code if CODES[error.code].status == "ERROR" else "internal"
            self._outbox.end(slices[0], ERROR, code, error.problem)
            return
        generation = self._lanes.generation
        for half in halves(slices):
            if generation == self._lanes.generation:
                await self._run(session, half)

    async def _flush(self) -> None:
        for work, frame in self._outbox.flush(time.time_ns() // 1000):
            if frame is not None:
                value = self._codec.encode(EXECUTED, frame)
                holder = (work.lane, work.entry)
                await self._lanes.send(self._producer, full_name(EXECUTED), value, frame.partition, [holder])
                continue
            if self._lanes.is_current(work.lane):
                self._frame_bytes -= work.num_bytes
            work.lane.finish(work.entry)


def _row_of(work: Work, number: int, columns: Columns) -> RowSlice:
    """The only row of a segment with a blob."""
    rows = slice(work.starts[number], work.starts[number] + 1)
    items, deadlines = columns.row_items[rows], columns.deadlines_us[rows]
    return RowSlice(work, number, 0, 1, 0, int(items[0]), 0, 0, int(deadlines[0]), items, deadlines)
