"""The edge's loop: request records in, frames out. The rules are pure functions that ``infra`` hands in.

A tick's records of one source partition become frames on ``inference.admitted`` (rows that passed) and
``inference.executed`` (rows that ended here), on the same partition number. Offsets are committed only behind frames
that the broker has acknowledged; a redelivered request makes a row again, which the Validator drops by its coordinate.
Reads ``read_committed``: markers and aborted records are gaps, noted in the row after them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from schemas.coordinate import RecordCoordinate
from schemas.frame import InferenceFrame, RowError
from schemas.request import InferenceRequest
from streams.codec import Codec
from streams.columns import ERROR, REJECTED, FrameBuilder, Row
from streams.errors import CODES, PoisonRecordError, RetriableError
from streams.ledger_log import fallback_id, identity_of
from streams.ordering import InOrder
from streams.quota import Charge, QuotaStore
from streams.topics import full_name

log = logging.getLogger(__name__)

REQUESTS: Final = full_name("inference.requests")
COMMIT_S: Final = 1.0
MAX_TICK_RECORDS: Final = 5_000
MAX_IN_FLIGHT: Final = 256
FRAMES_PER_S: Final = 100
"""Frame budget of a process: a frame costs every stage and the broker as much as some twenty rows do."""
IDLE_MS: Final = 50
DRAIN_MS: Final = 2
MAX_MESSAGE: Final = 500  # characters; 5,000 refused rows of one tick must fit one frame


class Verdict(Protocol):
    """What the admission rule gives for a request that passed."""

    items: int
    timeout_ms: int
    blocks: tuple[tuple[str, str, tuple[int, ...], bytes], ...]


Admit = Callable[[InferenceRequest], Any]
DeadLetter = Callable[[bytes | None, PoisonRecordError, RecordCoordinate], Awaitable[None]]


@dataclass(slots=True)
class _Partition:
    """One assigned partition: next expected offset, the offset to commit, frames under way."""

    expected: int
    admitted: FrameBuilder
    ended: FrameBuilder
    window: InOrder[int] = field(default_factory=InOrder)
    committable: int = -1


@dataclass(slots=True)
class EdgeCounts:
    """What this process did since its start."""

    num_requests: int = 0
    num_frames: int = 0
    num_refused: int = 0


class Edge(ConsumerRebalanceListener):  # type: ignore[misc]
    """One edge process. ``admit`` returns a ``Verdict`` or a refusal with ``code``, ``message``, ``retry_after_ms``."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        producer: AIOKafkaProducer,
        codec: Codec,
        quota: QuotaStore,
        admit: Admit,
        memory_sequence: Callable[[], int],
        dead_letter: DeadLetter,
        *,
        topic_id: bytes,
        tick_ms: int,
    ) -> None:
        self._consumer = consumer
        self._producer = producer
        self._codec = codec
        self._quota = quota
        self._admit = admit
        self._memory_sequence = memory_sequence
        self._dead_letter = dead_letter
        self._topic_id = topic_id
        self._tick_s = tick_ms / 1000
        self._partitions: dict[int, _Partition] = {}
        self._frame_id = 0
        self._failure: BaseException | None = None
        self._in_flight = 0
        self._generation = 0
        self.joined = asyncio.Event()
        self._committed: dict[TopicPartition, int] = {}
        self.counts = EdgeCounts()

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget what is under way: another edge reads it again from the committed offset."""
        self._generation += 1
        self._partitions = {}

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Begin anew at the committed offsets."""
        await self.on_partitions_revoked(assigned)
        self._committed = {}
        self.joined.set()
        log.info("assigned %s", sorted(each.partition for each in assigned))

    async def run(self) -> None:
        """Run until cancelled. Raises RetriableError when a frame's fate is unknown: the process starts anew."""
        self._consumer.subscribe([REQUESTS], listener=self)
        next_tick = next_commit = time.perf_counter()
        while True:
            if self._failure is not None:
                raise RetriableError(f"a frame could not be sent: {self._failure}")
            fetched = await self._fetch()
            if fetched:
                await self._take(fetched)
            now = time.perf_counter()
            if now >= next_commit:
                await self._commit()
                next_commit = now + COMMIT_S
            while self._in_flight >= MAX_IN_FLIGHT and self._failure is None:
                await asyncio.sleep(self._tick_s)
            next_tick = max(next_tick + max(self._tick_s, len(self._partitions) / FRAMES_PER_S), now)
            if next_tick > now:
                await asyncio.sleep(next_tick - now)

    async def _fetch(self) -> dict[TopicPartition, list[Any]]:
        """What the tick brought; a rebalance between its two halves voids the first.

        The client's buffer holds only what the broker had when the last fetch came, the first records after the last
        drain; the next fetch is sent now that it is empty and brings the others, which would else wait another tick.
        """
        fetched: dict[TopicPartition, list[Any]] = await self._consumer.getmany(
            timeout_ms=IDLE_MS, max_records=MAX_TICK_RECORDS
        )
        if not fetched:
            return fetched
        generation = self._generation
        more = await self._consumer.getmany(timeout_ms=DRAIN_MS, max_records=MAX_TICK_RECORDS)
        if generation != self._generation:
            return more  # type: ignore[no-any-return]  # aiokafka is untyped
        for place, records in more.items():
            fetched.setdefault(place, []).extend(records)
        return fetched

    async def _take(self, fetched: dict[TopicPartition, list[Any]]) -> None:
        """Make the frames of one fetch. A rebalance meanwhile voids it: everything is read again."""
        generation = self._generation
        candidates: list[tuple[_Partition, Row, int]] = []
        charges: list[Charge] = []
        ends: list[tuple[_Partition, int]] = []
        for place, records in fetched.items():
            partition = await self._partition(place, records[0].offset, generation)
            for record in records:
                row, passed = await self._row(partition, record)
                candidates.append((partition, row, len(charges) if passed else -1))
                if passed:
                    charges.append(Charge(place.partition, record.offset, row.tenant, row.received_us))
            ends.append((partition, records[-1].offset + 1))
        waits = await self._quota.charge(charges)
        if generation != self._generation:
            return
        self.counts.num_requests += len(candidates)
        for partition, row, index in candidates:
            if index >= 0 and waits[index] >= 0:
                _end(row, "quota_exceeded", f"tenant {row.tenant} is above its request rate", -(-waits[index] // 1000))
            if row.error is None:
                partition.admitted.add(row)
            else:
                self.counts.num_refused += 1
                partition.ended.add(row)
        for partition, end in ends:
            await self._flush(partition, end)

    async def _partition(self, place: TopicPartition, first: int, generation: int) -> _Partition:
        """The partition's state; one that a rebalance has voided meanwhile is not kept."""
        partition = self._partitions.get(place.partition) if generation == self._generation else None
        if partition is None:
            partition = _Partition(
                await self._start_of(place, first),
                FrameBuilder(self._topic_id, place.partition),
                FrameBuilder(self._topic_id, place.partition),
            )
            if generation == self._generation:
                self._partitions[place.partition] = partition
        return partition

    async def _start_of(self, place: TopicPartition, first: int) -> int:
        """Where this generation began to read: the committed offset, else the log's start."""
        committed = await self._consumer.committed(place)
        if committed is None or committed > first:
            committed = (await self._consumer.beginning_offsets([place]))[place]
        return min(int(committed), first)

    async def _row(self, partition: _Partition, record: Any) -> tuple[Row, bool]:
        gap = max(0, record.offset - partition.expected)
        partition.expected = record.offset + 1
        received_us = record.timestamp * 1000
        row = Row(record.offset, gap, received_us, 0, 5, b"", "default", b"", "", "", 0, ())
        try:
            request: InferenceRequest = self._codec.decode("inference.requests", record.value)
        except PoisonRecordError as error:
            row.request_id = fallback_id(record.key, record.partition, record.offset)
            await self._dead_letter(
                record.value, error, RecordCoordinate(record.topic, record.partition, record.offset)
            )
            _end(row, error.code, error.message)
            return row, False
        verdict = self._admit(request)
        _describe(row, request, record)
        if hasattr(verdict, "code"):
            _end(row, verdict.code, verdict.message, verdict.retry_after_ms)
            return row, False
        row.items, row.blocks = verdict.items, verdict.blocks
        row.deadline_us = received_us + verdict.timeout_ms * 1000
        return row, True

    async def _flush(self, partition: _Partition, end: int) -> None:
        entry = partition.window.start(end)
        now_us = time.time_ns() // 1000
        for topic, builder in (("inference.admitted", partition.admitted), ("inference.executed", partition.ended)):
            for frame in builder.build(self._frame_id, now_us, self._memory_sequence()):
                self._frame_id += 1
                await self._send(topic, frame, partition, entry)
        self._release(partition, entry)

    async def _send(self, topic: str, frame: InferenceFrame, partition: _Partition, entry: Any) -> None:
        value = self._codec.encode(topic, frame)
        partition.window.add(entry)
        self._in_flight += 1
        self.counts.num_frames += 1
        try:
            future = await self._producer.send(full_name(topic), value, partition=frame.partition)
        except KafkaError as error:
            raise RetriableError(f"sending to {topic} failed: {error}") from error
        future.add_done_callback(lambda done: self._sent(done, partition, entry))

    def _sent(self, done: asyncio.Future[Any], partition: _Partition, entry: Any) -> None:
        self._in_flight -= 1
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            self._failure = self._failure or error or asyncio.CancelledError()
            return
        self._release(partition, entry)

    def _release(self, partition: _Partition, entry: Any) -> None:
        for end in partition.window.finish(entry):
            partition.committable = max(partition.committable, end)

    async def _commit(self) -> None:
        offsets = {}
        for number, partition in self._partitions.items():
            place = TopicPartition(REQUESTS, number)
            if partition.committable > self._committed.get(place, -1):
                offsets[place] = partition.committable
        if not offsets:
            return
        try:
            async with asyncio.timeout(5):
                await self._consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            log.info("offsets were not committed (%s); they will be with the next ones", type(error).__name__)
        else:
            self._committed.update(offsets)


def _describe(row: Row, request: InferenceRequest, record: Any) -> None:
    """Copy the identity of a request into its row, cut to what a result may hold."""
    row.request_id = identity_of(request.request_id, fallback_id(record.key, record.partition, record.offset))
    row.tenant = request.tenant[:64]
    row.model = request.model[:64]
    row.version = (request.version or "")[:64]
    row.priority = min(max(request.priority, 0), 9)
    row.routing_key = (request.routing_key or "").encode()[:256]


def _end(row: Row, code: str, message: str, retry_after_ms: int = 0) -> None:
    row.status = REJECTED if CODES[code].status == "REJECTED" else ERROR
    row.error = RowError(0, code, message[:MAX_MESSAGE], retry_after_ms)
    row.items, row.blocks = 0, ()
