"""The executor's loop: routed frames in, batches through ONNX Runtime, executed frames out.

Frames of its lanes are cut into slices and batched (``executors/execution.py``). Short batches run in the loop, some
milliseconds at a time; long ones run in threads of their own (``executors/long_runs.py``).
A frame leaves when its last row is finished; rows of frames that wait for others leave on the executor's own tick. Rows
whose tensors wait in the blob store join once they are fetched (``executors/blob_fetch.py``). A routed frame's offset
is committed when all its rows stand in acknowledged executed frames, or, where they
failed in passing, on ``inference.retries``. Delivery is at least once: a row that runs twice
is dropped by the Validator. Copies for shadows run beside all this (``executors/shadow_runs.py``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Container
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from executors.blob_fetch import BlobFetcher, NotFetched
from executors.executed import Work
from executors.execution import Execution
from executors.intake import Sessions
from executors.lane_reader import LaneReader
from executors.lanes import Lanes
from executors.load_report import LoadReport
from executors.long_runs import MAX_THREADS, LongRuns
from executors.retry import MAX_ATTEMPTS
from executors.run import WorkerCounts
from executors.shadow_runs import ShadowRuns, is_of_copies
from executors.statistics import RowStatistics
from executors.utilisation import Utilisation
from schemas.load import ExecutorLoad
from schemas.telemetry import Telemetry
from streams.blobs.blob_store import BlobStore
from streams.codec import Codec
from streams.columns import STATUSES
from streams.errors import CODES, PoisonRecordError
from streams.frame_check import checked
from streams.registry.schema_watch import SchemaWatch, decode_or_learn
from streams.topics import full_name

EXECUTED: Final = "inference.executed"
EXECUTED_TOPIC: Final = full_name(EXECUTED)
RETRIES: Final = "inference.retries"
RETRIES_TOPIC: Final = full_name(RETRIES)
COMMIT_S: Final = 1.0
MAX_QUEUED_ITEMS: Final = 500_000
"""Above it nothing is read, for no model: room for five that have all waiting that they may. Bytes bound the memory."""
MAX_HELD_BYTES: Final = 256 << 20
INLINE_US: Final = 2_000
SLICE_US: Final = 4_000.0
"""How long batches run in the loop before it reads, sends and answers the broker again."""
IDLE_MS: Final = 200
LONG_MS: Final = 20
"""How often to look while rows wait behind a batch in a thread, which wakes the loop when it ends."""
BLOB_MS: Final = 2

DeadLetter = Callable[[Any, PoisonRecordError], Awaitable[None]]


class Loaded(Sessions, Protocol):
    """What the worker asks of whoever loads models."""

    def take_failed(self) -> list[tuple[tuple[str, str], str]]:
        """Versions that cannot be loaded, with the reason."""


class Worker:
    """One executor process."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
        codec: Codec,
        loader: Loaded,
        blobs: BlobStore,
        dead_letter: DeadLetter,
        *,
        name: str,
        tick_ms: int,
        schemas: SchemaWatch | None = None,
        ordered: Callable[[int], Container[str]] = lambda _sequence: frozenset(),
        max_attempts: Callable[[str], int] = lambda _model: MAX_ATTEMPTS,
    ) -> None:
        self._lanes = Lanes(consumer, self._forget)
        self._reader = LaneReader(self._lanes)
        self._producer = producer
        self._codec = codec
        self._loader = loader
        self._dead_letter = dead_letter
        self._schemas = schemas
        self._tick_s = tick_ms / 1000
        self._frame_bytes = 0
        self._blobs = BlobFetcher(blobs)
        self._execution = Execution(name, loader, self._blobs.release, ordered, max_attempts)
        self._long = LongRuns(name, self._execution, self._lanes, self._reader.wake.set)
        self._shadows = ShadowRuns(name, loader, self._execution, self._lanes, self._reader.wake.set)
        self._load = LoadReport(name, MAX_THREADS, INLINE_US)
        self._ran = False

    @property
    def counts(self) -> WorkerCounts:
        """What was done since the start."""
        return self._execution.counts

    @property
    def lanes(self) -> Lanes:
        """Its membership in the group."""
        return self._lanes

    @property
    def joined(self) -> asyncio.Event:
        """Set once lanes were assigned."""
        return self._lanes.joined

    def attempts(self, instance: int) -> Telemetry | None:
        """How rows fared with each version since the last call; None where none was tried."""
        return self._execution.attempts.close(instance, self.queue_depth)

    @property
    def utilisation(self) -> Utilisation:
        """How much of the time batches took since it was last closed."""
        return self._execution.utilisation

    @property
    def statistics(self) -> RowStatistics:
        """What is counted of versions that have a reference."""
        return self._execution.statistics

    @property
    def queue_depth(self) -> int:
        """Items waiting for a batch or for their blob."""
        return self._execution.intake.queued_items + self._blobs.num_items

    @property
    def held_bytes(self) -> int:
        """Bytes of the routed frames under way and of fetched blobs."""
        return self._frame_bytes + self._blobs.held_bytes

    def _forget(self) -> None:
        self._frame_bytes = 0
        self._execution.clear()
        self._shadows.clear()
        self._blobs.stop()

    def load(self, now_us: int) -> ExecutorLoad | None:
        """What is to be said of the load; None where nothing changed since the last report."""
        return self._load.make(self._execution.intake, self._loader.profiles, self._long.left_us(now_us), now_us)

    async def drain(self) -> None:
        """Take no more frames, finish those at hand, commit."""
        await self._lanes.drain()

    async def run(self) -> None:
        """Run until cancelled. Raises RetriableError when a frame's fate is unknown: the process starts anew."""
        self._lanes.subscribe()
        outbox = self._execution.outbox
        next_flush = next_commit = time.perf_counter()
        try:
            while True:
                self._lanes.check()
                await self._fetch()
                self._take_blobs()
                self._drop_unavailable()
                waiting = outbox.has_partial
                self._reader.wake.clear()  # here: what ends from now on must not be slept through
                self._execute()
                now = time.perf_counter()
                if not waiting:  # a tick from the first finished row of a frame that waits for others
                    next_flush = now + self._tick_s
                if not outbox.is_empty:
                    await self._flush(partial=now >= next_flush or not self._ran)
                if self._shadows:
                    await self._flush_shadows()
                if now >= next_commit:
                    await self._lanes.commit()
                    next_commit = now + COMMIT_S
                if self._ran:  # under load nothing else here blocks: sends and heartbeats need the loop too
                    await asyncio.sleep(0)
        finally:
            self._stop()

    def _stop(self) -> None:
        self._long.stop()
        self._shadows.stop()
        self._reader.stop()
        self._blobs.stop()

    async def _fetch(self) -> None:
        if self.queue_depth >= MAX_QUEUED_ITEMS or self.held_bytes >= MAX_HELD_BYTES:
            if not self._ran:  # all wait for their blobs, or for batches under way
                await self._reader.pause(BLOB_MS, wakes=self._wakes)
            return
        generation, fetched = await self._reader.read(self._wait_ms(), wakes=self._wakes)
        alone = len(fetched) == 1 and sum([len(records) for records in fetched.values()]) == 1
        for place, records in fetched.items():
            for record in records:
                if generation != self._lanes.generation:  # a rebalance meanwhile: all is read again
                    return
                lane = self._lanes.progress(place)
                entry = lane.window.start(record.offset + 1)
                try:
                    frame = checked(await decode_or_learn(self._codec, self._schemas, "inference.routed", record.value))
                except PoisonRecordError as error:
                    await self._dead_letter(record, error)
                else:
                    if generation != self._lanes.generation:  # a rebalance while its schema was looked for
                        return
                    if is_of_copies(frame):
                        self._shadows.take(frame, len(record.value), time.time_ns() // 1000)
                    else:
                        self._add(Work.of(frame, lane, entry, len(record.value)), alone=alone)
                lane.finish(entry)

    @property
    def _wakes(self) -> bool:
        """Whether a batch in a thread may end while frames are waited for."""
        return bool(self._long) or self._shadows.is_running

    def _wait_ms(self) -> int:
        """How long to wait for frames: not at all where something may be done without."""
        if self._ran or self._blobs.has_arrived or self._reader.wake.is_set():
            return 0
        if self._blobs.is_busy:
            return BLOB_MS
        if self._execution.outbox.is_empty and not (self._execution.intake.queued_items or self._shadows):
            return self._execution.retries.wait_ms(IDLE_MS)
        if self._execution.outbox.is_empty and self._wakes:
            return self._execution.retries.wait_ms(LONG_MS)
        # rows wait for a model that is loaded, or for others of their frame
        return self._execution.retries.wait_ms(max(1, int(self._tick_s * 1000)))

    def _add(self, work: Work, *, alone: bool) -> None:
        work.lane.window.add(work.entry)
        self._frame_bytes += work.num_bytes
        self._load.took(work.frame)
        now_us = time.time_ns() // 1000
        if alone and self._execution.run_alone(work, now_us, SLICE_US):
            return
        for claim in self._execution.add(work, now_us):
            self._blobs.claim(claim)

    def _take_blobs(self) -> None:
        if not self._blobs.has_arrived:
            return
        now_us = time.time_ns() // 1000
        for claim, outcome in self._blobs.take():
            if isinstance(outcome, NotFetched):
                status = STATUSES.index(CODES[outcome.code].status)
                self._execution.intake.fail_fetch(claim, status, outcome.code, outcome.message)
                continue
            self.counts.num_blobs += 1
            claim.work.fetched[claim.segment] = outcome
            self._execution.intake.add_fetched(claim, outcome.inputs, now_us)

    def _drop_unavailable(self) -> None:
        for (model, version), reason in self._loader.take_failed():
            self._execution.intake.drop(model, version, reason)
            self._shadows.drop(model, version, reason)

    def _execute(self) -> None:
        """Run short batches for a while and start long ones."""
        long = self._execution.run_short(time.time_ns() // 1000, SLICE_US, INLINE_US, self._long.room)
        self._ran = long is not None
        for run in long or ():
            self._long.start(run)
        if self._shadows and self._execution.is_idle:
            self._ran |= self._shadows.step(time.time_ns() // 1000, INLINE_US)

    async def _flush(self, *, partial: bool) -> None:
        for work, frame in self._execution.outbox.flush(time.time_ns() // 1000, partial=partial):
            if frame is not None:
                fails = frame.attempt > work.frame.attempt  # to be tried elsewhere
                value = self._codec.encode(RETRIES if fails else EXECUTED, frame)
                topic, holder = RETRIES_TOPIC if fails else EXECUTED_TOPIC, (work.lane, work.entry)
                await self._lanes.send(self._producer, topic, value, frame.partition, (holder,))
                continue
            if self._lanes.is_current(work.lane):
                self._frame_bytes -= work.num_bytes
            work.lane.finish(work.entry)

    async def _flush_shadows(self) -> None:
        """Send what came of copies; nobody's offset waits for it."""
        for frame in self._shadows.flush(time.time_ns() // 1000):
            value = self._codec.encode(EXECUTED, frame)
            await self._lanes.send(self._producer, EXECUTED_TOPIC, value, frame.partition, ())
