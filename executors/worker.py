"""The executor's loop: routed frames in, batches through ONNX Runtime, executed frames out.

Frames of its lanes are cut into slices by the batcher; finished rows leave on the executor's own tick, any models
mixed, so that a slow model never holds a frame's other rows back. A routed frame's offset is committed when all its
rows stand in acknowledged executed frames. Delivery is at least once: a row that runs twice is dropped by the
Validator.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from executors.batcher import Batch, Batcher, BatchKey, RowSlice
from executors.executed import MAX_OUTPUT_BYTES, Piece, Work, cut, executed_frames, gather, halves
from executors.loader import ModelLoader
from executors.session import ExecutionError, ModelSession
from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame, Segment, TensorBlock
from streams.codec import Codec
from streams.columns import ERROR, EXPIRED, OK, Array, Columns
from streams.errors import CODES, PoisonRecordError, RetriableError
from streams.ordering import InOrder
from streams.schema_watch import SchemaWatch, decode_or_learn
from streams.topics import full_name

log = logging.getLogger(__name__)

ROUTED: Final = full_name("inference.routed")
EXECUTED: Final = "inference.executed"
COMMIT_S: Final = 1.0
MAX_QUEUED_ITEMS: Final = 50_000
MAX_HELD_BYTES: Final = 256 << 20
INLINE_US: Final = 2_000
FETCH_RECORDS: Final = 200

DeadLetter = Callable[[bytes | None, PoisonRecordError, RecordCoordinate], Awaitable[None]]


@dataclass(eq=False, slots=True)
class _Lane:
    """One assigned lane in one generation."""

    window: InOrder[int] = field(default_factory=InOrder)
    committable: int = -1
    held_bytes: int = 0


@dataclass(slots=True)
class WorkerCounts:
    """What this executor did since its start."""

    num_frames: int = 0
    num_rows: int = 0
    num_batches: int = 0
    num_failed_rows: int = 0


class Worker(ConsumerRebalanceListener):  # type: ignore[misc]
    """One executor process."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
        codec: Codec,
        loader: ModelLoader,
        dead_letter: DeadLetter,
        *,
        name: str,
        tick_ms: int,
        schemas: SchemaWatch | None = None,
    ) -> None:
        self._schemas = schemas
        self._consumer = consumer
        self._producer = producer
        self._codec = codec
        self._loader = loader
        self._dead_letter = dead_letter
        self._name = name
        self._tick_s = tick_ms / 1000
        self._lanes: dict[TopicPartition, _Lane] = {}
        self._batcher = Batcher()
        self._touched: dict[Work, None] = {}
        self._failure: BaseException | None = None
        self._committed: dict[TopicPartition, int] = {}
        self._generation = 0
        self.joined = asyncio.Event()
        self.counts = WorkerCounts()

    @property
    def queue_depth(self) -> int:
        """Items waiting for a batch."""
        return self._batcher.queued_items

    @property
    def held_bytes(self) -> int:
        """Bytes of the routed frames under way."""
        return sum(lane.held_bytes for lane in self._lanes.values())

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget what is under way: another executor gets it again from the committed offset."""
        self._generation += 1
        self._lanes = {}
        self._batcher = Batcher()
        self._touched = {}

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Begin anew at the committed offsets."""
        await self.on_partitions_revoked(assigned)
        self._committed = {}
        self.joined.set()
        log.info("assigned lanes %s", sorted(each.partition for each in assigned))

    async def run(self) -> None:
        """Run until cancelled. Raises RetriableError when a frame's fate is unknown: the process starts anew."""
        self._consumer.subscribe([ROUTED], listener=self)
        next_flush = next_commit = time.perf_counter()
        while True:
            if self._failure is not None:
                raise RetriableError(f"an executed frame could not be sent: {self._failure}")
            await self._fetch(0 if self._batcher.queued_items or self._touched else 50)
            self._drop_unavailable()
            idle = not self._touched
            busy = await self._execute_one()
            await asyncio.sleep(0)  # under load nothing else here blocks: sends and heartbeats need the loop too
            now = time.perf_counter()
            if idle and self._touched:
                next_flush = (
                    now + self._tick_s
                )  # a tick from the first finished row, so that a frame's rows leave together
            if self._touched and (not busy or now >= next_flush):
                await self._flush()
            if now >= next_commit:
                await self._commit()
                next_commit = now + COMMIT_S
            if not busy and self._batcher.queued_items:
                await asyncio.sleep(self._tick_s)  # rows wait for a model that is being loaded

    async def _fetch(self, timeout_ms: int) -> None:
        if self._batcher.queued_items >= MAX_QUEUED_ITEMS or self.held_bytes >= MAX_HELD_BYTES:
            return
        fetched = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=FETCH_RECORDS)
        generation = self._generation
        for place, records in fetched.items():
            for record in records:
                if generation != self._generation:  # a rebalance while a dead letter was written: all is read again
                    return
                lane = self._lanes.setdefault(place, _Lane())
                entry = lane.window.start(record.offset + 1)
                try:
                    frame = await decode_or_learn(self._codec, self._schemas, "inference.routed", record.value)
                except PoisonRecordError as error:
                    where = RecordCoordinate(record.topic, record.partition, record.offset)
                    await self._dead_letter(record.value, error, where)
                else:
                    if generation != self._generation:  # a rebalance while its schema was looked for
                        return
                    self._add(Work.of(frame, lane, entry, len(record.value)))
                _release(lane, entry)

    def _add(self, work: Work) -> None:
        frame, starts, columns = work.frame, work.starts, Columns.of(work.frame)
        work.lane.window.add(work.entry)
        work.lane.held_bytes += work.num_bytes
        self.counts.num_frames += 1
        self.counts.num_rows += work.left
        now_us = time.time_ns() // 1000
        for number, segment in enumerate(frame.segments):
            rows = slice(starts[number], starts[number + 1])
            signature = tuple([(block.name, block.item_shape) for block in segment.inputs])
            key = BatchKey(segment.model, segment.version, signature)
            self._batcher.add(
                key, work, number, columns.priorities[rows], columns.row_items[rows], columns.deadlines_us[rows], now_us
            )
            self._loader.want(segment.model, segment.version)

    def _drop_unavailable(self) -> None:
        for (model, version), reason in self._loader.take_failed():
            for row_slice in self._batcher.drop(model, version):
                self._end(row_slice, ERROR, "model_unavailable", reason)

    async def _execute_one(self) -> bool:
        batch = self._batcher.next_batch(time.time_ns() // 1000, self._loader.profiles)
        if batch is None:
            return False
        for row_slice in batch.expired:
            self._end(row_slice, EXPIRED, "deadline_exceeded", "the deadline would pass before its batch is done")
        if batch.slices:
            session = self._loader.sessions[batch.key.model, batch.key.version]
            await self._run(session, batch)
        return True

    async def _run(self, session: ModelSession, batch: Batch) -> None:
        self.counts.num_batches += 1
        started = time.time_ns() // 1000
        inputs = gather(batch.slices)
        try:
            if session.profile.time_us(batch.num_items) < INLINE_US:
                outputs = session.run(inputs)
            else:
                outputs = await asyncio.to_thread(session.run, inputs)
        except ExecutionError as error:
            await self._isolate(session, batch, error)
            return
        run_us = time.time_ns() // 1000 - started
        at = 0
        for row_slice in batch.slices:
            self._finish(row_slice, session, outputs, at, batch.num_items, started, run_us)
            at += row_slice.num_items

    async def _isolate(self, session: ModelSession, batch: Batch, error: ExecutionError) -> None:
        """A failed batch runs again in halves, so that only the rows at fault get the error."""
        if len(batch.slices) == 1 and batch.slices[0].num_rows == 1:
            self.counts.num_failed_rows += 1
            # what admission let through and the session refuses is our defect, whatever the session calls it
            code = error.code if CODES[error.code].status == "ERROR" else "internal"
            self._end(batch.slices[0], ERROR, code, error.problem)
            return
        for half in halves(batch.slices):
            await self._run(session, Batch(batch.key, half, sum(each.num_items for each in half), ()))

    def _finish(
        self, row_slice: RowSlice, session: ModelSession, outputs: dict[str, Array], at: int, size: int, started: int,
        run_us: int,
    ) -> None:  # fmt: skip
        source = row_slice.frame.frame.segments[row_slice.segment]
        datatypes = {spec.name: spec.datatype for spec in session.model.outputs}
        item_bytes = sum(array.nbytes // max(1, len(array)) for array in outputs.values())
        for part in cut(row_slice, item_bytes):
            items = slice(at, at + part.num_items)
            at += part.num_items
            if part.num_items * item_bytes > MAX_OUTPUT_BYTES and part.num_rows == 1:
                self._end(part, ERROR, "output_invalid", f"the outputs are larger than {MAX_OUTPUT_BYTES} bytes")
                continue
            blocks = tuple(
                TensorBlock(name, datatypes[name], tuple(array.shape[1:]), array[items].tobytes())
                for name, array in outputs.items()
            )
            segment = Segment(
                source.model, source.version, source.cohort, part.num_rows, (), blocks, session.model.digest,
                session.provider, self._name, self.counts.num_batches, size, max(0, started - part.queued_us), run_us,
            )  # fmt: skip
            self._put(part, Piece(_first_row(part), segment, OK))

    def _end(self, row_slice: RowSlice, status: int, code: str, message: str) -> None:
        source = row_slice.frame.frame.segments[row_slice.segment]
        segment = Segment(source.model, source.version, source.cohort, row_slice.num_rows, executor=self._name)
        self._put(row_slice, Piece(_first_row(row_slice), segment, status, (code, message)))

    def _put(self, row_slice: RowSlice, piece: Piece) -> None:
        row_slice.frame.pieces.append(piece)
        self._touched[row_slice.frame] = None

    async def _flush(self) -> None:
        touched, self._touched = self._touched, {}
        now_us = time.time_ns() // 1000
        for work in touched:
            for frame in executed_frames(work, now_us):
                await self._send(frame, work)
            if work.left == 0:
                work.lane.held_bytes -= work.num_bytes
                _release(work.lane, work.entry)

    async def _send(self, frame: InferenceFrame, work: Work) -> None:
        value = self._codec.encode(EXECUTED, frame)
        work.lane.window.add(work.entry)
        try:
            future = await self._producer.send(full_name(EXECUTED), value, partition=frame.partition)
        except KafkaError as error:
            raise RetriableError(f"sending an executed frame failed: {error}") from error
        future.add_done_callback(lambda done: self._sent(done, work))

    def _sent(self, done: asyncio.Future[Any], work: Work) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            self._failure = self._failure or error or asyncio.CancelledError()
            return
        _release(work.lane, work.entry)

    async def _commit(self) -> None:
        offsets = {
            place: lane.committable
            for place, lane in self._lanes.items()
            if lane.committable > self._committed.get(place, -1)
        }
        if not offsets:
            return
        try:
            async with asyncio.timeout(5):
                await self._consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            log.info("offsets were not committed (%s); they will be with the next ones", type(error).__name__)
        else:
            self._committed.update(offsets)


def _release(lane: _Lane, entry: Any) -> None:
    for end in lane.window.finish(entry):
        lane.committable = max(lane.committable, end)


def _first_row(row_slice: RowSlice) -> int:
    """First row of a slice, over its whole frame."""
    first: int = row_slice.frame.starts[row_slice.segment] + row_slice.first_row
    return first
