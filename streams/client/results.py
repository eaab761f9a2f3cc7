"""The reading half of a client: results of the partitions that were asked for, from their ends, without a group.

Nothing else is fetched. A consumer that fails is replaced and goes on where it stood, so a broker that was away costs
time and no result.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streams.client.sender import METADATA_AGE_MS, SEND_TIMEOUT_S
from streams.connection import Connection, UnreachableError, bounded, consumer, start, stop_quietly
from streams.errors import IsosError, RetriableError

FETCH_MS: Final = 100
"""An idle fetch ends after this time; a partition that was added meanwhile is read from then on."""

RETRY_S: Final = 0.2
MAX_RETRY_S: Final = 5.0
_RETRIABLE: Final = (RetriableError, OSError)

log = logging.getLogger(__name__)

Take = Callable[[Any, int], None]
"""What gets every record, with the time it was read (us since the epoch)."""


class Results:
    """Reads ``topic``; ``fail`` is told an error that waiting does not help against, such as a missing right."""

    def __init__(self, connection: Connection, topic: str, take: Take, fail: Callable[[IsosError], None]) -> None:
        self._connection = connection
        self._topic = topic
        self._take = take
        self._fail = fail
        self._consumer: Any = None
        self._next: dict[int, int] = {}
        self._assigned: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()

    async def start(self) -> None:
        """Connect and begin to read. Raises RetriableError."""
        await self._connect()
        self._task = asyncio.create_task(self._run(), name="isos-results")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stop reading and disconnect."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._next.clear()
        await self._disconnect()

    def reads(self, partition: int) -> bool:
        """Whether results of this partition are read."""
        return partition in self._next

    @property
    def is_alive(self) -> bool:
        """Whether results are read, or will be again."""
        return self._task is not None and not self._task.done()

    async def read(self, partition: int) -> None:
        """Read this partition too, from its end as of now: results of what is sent from now on. RetriableError."""
        async with self._asking:
            if partition in self._next:
                return
            client = self._consumer
            if client is None:
                raise UnreachableError("reading results", "the connection is being made anew")
            place = TopicPartition(self._topic, partition)
            try:
                asked = client.end_offsets([place])
                ends = await bounded(asked, SEND_TIMEOUT_S, "asking for the end of the results")
            except KafkaError as error:
                raise _unreachable("asking for the end of the results", error) from error
            self._next[partition] = ends[place]

    async def _run(self) -> None:
        delay = RETRY_S
        while True:
            try:
                if self._consumer is None:
                    await self._connect()
                await self._read()
            except (KafkaError, *_RETRIABLE) as error:
                log.warning("reading results: %s; trying again in %.1f s", error or type(error).__name__, delay)
                if not (isinstance(error, _RETRIABLE) or getattr(error, "retriable", False)):
                    self._fail(_unreachable("reading results", error))
                await self._disconnect()
                await asyncio.sleep(delay)
                delay = min(MAX_RETRY_S, 2 * delay)
            else:
                delay = RETRY_S

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:  # our own mistake: say so to whoever waits, rather than to nobody
            log.error("reading results ended", exc_info=error)
            self._fail(_unreachable("reading results", error))

    async def _read(self) -> None:
        """Hand over what has come."""
        if self._assigned != self._next.keys():
            self._assign()
        if not self._assigned:
            await asyncio.sleep(FETCH_MS / 1000)
            return
        batches = await self._consumer.getmany(timeout_ms=FETCH_MS)
        now_us = time.time_ns() // 1000
        for place, records in batches.items():
            for record in records:
                self._take(record, now_us)
            self._next[place.partition] = records[-1].offset + 1

    def _assign(self) -> None:
        places = {number: TopicPartition(self._topic, number) for number in self._next}
        self._consumer.assign(list(places.values()))
        for number, place in places.items():
            self._consumer.seek(place, self._next[number])
        self._assigned = set(places)

    async def _connect(self) -> None:
        client = consumer(self._connection, isolation_level="read_committed", metadata_max_age_ms=METADATA_AGE_MS)
        await start(client, "connecting to read results")
        self._consumer, self._assigned = client, set()

    async def _disconnect(self) -> None:
        client, self._consumer, self._assigned = self._consumer, None, set()
        if client is not None:
            await stop_quietly(client)


def _unreachable(what: str, error: BaseException) -> UnreachableError:
    return UnreachableError(what, str(error) or type(error).__name__)
