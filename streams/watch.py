"""Broadcast reader: every process folds a whole partition up to the high watermark, then follows it.

``PartitionWatch`` hands batches of records to a callback in offset order, each record once. It outlives its broker: on
an error it makes a new client and goes on at its position. ``MemoryWatch`` folds ``memory.events`` with it and always
has the newest view.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.errors import PoisonRecordError, RetriableError
from streams.memory_fold import StoredEvent, extend
from streams.memory_view import MemoryView
from streams.partition_log import LogRecord, log_record
from streams.topics import full_name

log = logging.getLogger(__name__)

MEMORY_TOPIC: Final = "memory.events"
FETCH_MS: Final = 500
"""Longest wait in an idle fetch. Nobody waits for it: what is written ends the fetch at once."""
FETCH_TIMEOUT_S: Final = 20.0
CALL_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 0.5

OnBatch = Callable[[Sequence[LogRecord]], None]
Prepare = Callable[[Sequence[LogRecord]], Awaitable[None]]


class EventDecoder(Protocol):
    """The part of the codec that is needed here."""

    def decode(self, topic: str, value: bytes | None) -> Any:
        """Record of ``value``; raises PoisonRecordError."""


class SchemaLearner(Protocol):
    """What looks for a schema that the codec does not know yet (``streams.registry.schema_watch``)."""

    async def prepare(self, topic: str, value: bytes | None, *, surely: bool = False) -> None:
        """Learn the schema of a value of ``topic``; raises RetriableError."""


class WatchTimeoutError(RetriableError):
    """The awaited condition did not come true in time."""

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(what, timeout_s)
        self.what = what
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"{self.what} did not happen within {self.timeout_s:g} s"


class PartitionWatch:
    """Follows one partition from offset ``first``; ``on_batch`` runs in the loop and must not block.

    ``from_end``: only what is written from now on. ``pause_s``: between two reads that found something, where nobody
    needs it at once: a fetch costs as much as many records.
    ``prepare`` is awaited with each batch before; when it raises RetriableError the batch is read again.
    """

    def __init__(
        self,
        connection: Connection,
        topic: str,
        on_batch: OnBatch,
        *,
        partition: int = 0,
        first: int = 0,
        from_end: bool = False,
        prepare: Prepare | None = None,
        pause_s: float = 0.0,
    ) -> None:
        self._connection = connection
        self._pause_s = pause_s
        self._from_end = from_end
        self._place = TopicPartition(topic, partition)
        self._on_batch = on_batch
        self._prepare = prepare
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.position = first
        self.is_ready = False
        self._ended = False

    async def start(self, timeout_s: float = 60.0) -> None:
        """Start following; returns once everything up to the high watermark of now was handed over."""
        self._task = asyncio.create_task(self._follow(), name=f"watch {self._place.topic}-{self._place.partition}")
        await self.wait_for(lambda: self.is_ready, timeout_s, f"reading {self._place.topic} to its end")

    async def wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait until ``condition`` holds, looked at after each batch. Raises WatchTimeoutError."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: condition() or self._ended)
        except TimeoutError as error:
            raise WatchTimeoutError(what, timeout_s) from error
        if self._ended and self._task is not None:
            await self._task  # raises what ended it

    async def wait_for_offset(self, offset: int, timeout_s: float) -> None:
        """Read your writes: wait until the record at ``offset`` was handed over."""
        what = f"reading {self._place.topic}-{self._place.partition} up to offset {offset}"
        await self.wait_for(lambda: self.position > offset, timeout_s, what)

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        try:
            while True:
                client = consumer(self._connection, fetch_max_wait_ms=FETCH_MS)
                try:
                    await start(client, f"connecting to watch {self._place.topic}", CALL_TIMEOUT_S)
                    await self._read(client)
                except (KafkaError, RetriableError, OSError) as error:
                    log.warning("watching %s is interrupted: %s", self._place.topic, error)
                    await asyncio.sleep(RETRY_S)
                finally:
                    await stop_quietly(client)
        finally:
            self._ended = True  # waiters must hear of the end, whatever it was (a defect in the callback included)
            await self._tell()

    async def _read(self, client: Any) -> None:
        place = self._place
        client.assign([place])
        begin = (await bounded(client.beginning_offsets([place]), CALL_TIMEOUT_S, "asking for the start"))[place]
        end = (await bounded(client.end_offsets([place]), CALL_TIMEOUT_S, "asking for the end"))[place]
        self.position = max(self.position, end if self._from_end and not self.is_ready else begin)
        client.seek(place, self.position)
        while True:
            # Position against end offset: the log may end in a marker that no reader sees.
            if not self.is_ready and self.position >= end:
                self.is_ready = True
                await self._tell()
            got = await bounded(client.getmany(place, timeout_ms=FETCH_MS), FETCH_TIMEOUT_S, f"fetching {place.topic}")
            batch = [log_record(raw) for raw in got.get(place, ()) if raw.offset >= self.position]
            if batch:
                if self._prepare is not None:
                    await self._prepare(batch)
                self._on_batch(batch)
            position = await client.position(place)
            if batch or position != self.position:
                self.position = position
                await self._tell()
                if self._pause_s:
                    await asyncio.sleep(self._pause_s)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class MemoryWatch:
    """The newest view of memory in this process. ``voids`` counts events that did not follow the chain."""

    def __init__(
        self,
        connection: Connection,
        codec: EventDecoder,
        *,
        on_change: Callable[[MemoryView], None] | None = None,
        topic: str | None = None,
        schemas: SchemaLearner | None = None,
    ) -> None:
        self.view = MemoryView()
        self.voids = 0
        self._codec = codec
        self._on_change = on_change
        self._schemas = schemas
        self._watch = PartitionWatch(connection, topic or full_name(MEMORY_TOPIC), self._fold, prepare=self._learn)

    async def start(self, timeout_s: float = 60.0) -> None:
        """Ready when the view holds everything up to the high watermark."""
        await self._watch.start(timeout_s)

    @property
    def is_ready(self) -> bool:
        """Whether the high watermark of the start was reached."""
        return self._watch.is_ready

    async def wait_for(self, condition: Callable[[MemoryView], bool], timeout_s: float, what: str) -> MemoryView:
        """Wait until ``condition`` holds for the view and return that view. Raises WatchTimeoutError."""
        await self._watch.wait_for(lambda: condition(self.view), timeout_s, what)
        return self.view

    async def wait_for_sequence(self, sequence: int, timeout_s: float) -> MemoryView:
        """Wait until the view holds event ``sequence``."""
        return await self.wait_for(lambda v: v.sequence >= sequence, timeout_s, f"memory sequence {sequence}")

    async def stop(self) -> None:
        """Stop following."""
        await self._watch.stop()

    async def _learn(self, batch: Sequence[LogRecord]) -> None:
        """An event that cannot be read voids all after it: a newer writer's schema is looked for first, surely."""
        if self._schemas is not None:
            for record in batch:
                await self._schemas.prepare(MEMORY_TOPIC, record.value, surely=True)

    def _fold(self, batch: Sequence[LogRecord]) -> None:
        events: list[StoredEvent] = []
        for record in batch:
            try:
                events.append(StoredEvent.of(self._codec.decode(MEMORY_TOPIC, record.value), record.value or b""))
            except PoisonRecordError as error:
                self._void(f"offset {record.offset}: {error}")
        before = self.view
        self.view, reasons = extend(before, events)
        for reason in reasons:
            self._void(reason)
        if self.view is not before and self._on_change is not None:
            self._on_change(self.view)

    def _void(self, reason: str) -> None:
        self.voids += 1
        log.error("a memory event is void: %s", reason)
