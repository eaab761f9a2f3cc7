"""The sending half of a client: one batch per partition under way, what comes meanwhile leaves with the next.

A producer that failed, or did not answer in time, is replaced before the next batch: an idempotent one may be of no use
any more. What it had in hand fails, its outcome unknown; nothing is sent twice by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from aiokafka.errors import KafkaError

from streams.client.calls import Call, Calls
from streams.connection import Connection, UnreachableError, bounded, producer, start, stop_quietly
from streams.errors import IsosError, RetriableError
from streams.topics import MIB

SEND_TIMEOUT_S: Final = 30.0
MAX_QUEUED_BYTES: Final = 64 * MIB
METADATA_AGE_MS: Final = 30_000
"""New partitions are seen after this time at the latest."""

Queue = deque[tuple[Call, bytes | None, bytes | None]]


class Sender:
    """Writes requests to ``topic`` and tells ``calls`` where they went. ``queued_bytes`` counts what waits."""

    def __init__(self, connection: Connection, topic: str, calls: Calls) -> None:
        self._connection = connection
        self._topic = topic
        self._calls = calls
        self._producer: Any = None
        self._renewing = asyncio.Lock()
        self._queues: dict[int, Queue] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._stopping: set[asyncio.Task[bool]] = set()
        self._room = asyncio.Event()
        self._room.set()
        self.queued_bytes = 0

    async def start(self) -> None:
        """Connect. Raises RetriableError."""
        await self._client()

    async def stop(self) -> None:
        """Disconnect; what is on its way is given up."""
        for task in self._draining:
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)
        self._give_up(self._producer)
        await asyncio.gather(*self._stopping)

    async def num_partitions(self, topic: str) -> int:
        """Partitions of a topic, as of the newest metadata. Raises RetriableError."""
        client = await self._client()
        try:
            return len(await bounded(client.partitions_for(topic), SEND_TIMEOUT_S, "asking for topics"))
        except KafkaError as error:
            raise UnreachableError("asking for topics", str(error) or type(error).__name__) from error

    async def room(self) -> None:
        """Wait until what waits to be sent has no more than ``MAX_QUEUED_BYTES``."""
        while self.queued_bytes > MAX_QUEUED_BYTES:
            self._room.clear()
            await self._room.wait()

    def put(self, call: Call, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Send a request with the next batch of its partition. A call that is over by then is left out."""
        queue = self._queues.get(partition)
        if queue is None:
            queue = self._queues[partition] = deque()
            # It runs after the loop's turn, so the calls of one turn leave together.
            task = asyncio.create_task(self._drain(partition, queue), name=f"isos-requests-{partition}")
            self._draining.add(task)
            task.add_done_callback(self._draining.discard)
        queue.append((call, key, value))
        self.queued_bytes += len(value or b"")

    async def _drain(self, partition: int, queue: Queue) -> None:
        try:
            while queue:
                await self._send(partition, queue)
        except BaseException as error:  # our own mistake, or the end: whoever waits is told before it goes on
            self._fail_queue(queue, _failure(error))
            raise
        finally:
            del self._queues[partition]

    async def _send(self, partition: int, queue: Queue) -> None:
        """Write one batch; an error ends its calls, not this task."""
        try:
            client = await self._client()
        except RetriableError as error:  # whoever waits is told, for nothing of it was sent
            self._fail_queue(queue, error)
            return
        lane, batch = self._calls.lane(partition), client.create_batch()
        sent = self._fill(batch, queue)
        if not sent:
            return
        self._calls.sending(lane, len(sent))
        try:
            first_offset = await bounded(self._write(client, batch, partition), SEND_TIMEOUT_S, "sending a request")
        except BaseException as error:  # also what nobody foresaw: the calls are told before it goes on
            self._give_up(client)
            self._calls.unplaced(lane, sent, error if isinstance(error, IsosError) else _failure(error))
            if not isinstance(error, (KafkaError, RetriableError, OSError)):
                raise
        else:
            self._calls.placed(lane, sent, first_offset)

    def _fill(self, batch: Any, queue: Queue) -> list[Call]:
        sent: list[Call] = []
        while queue:
            call, key, value = queue[0]
            # A full batch takes nothing and says so by None; the record is then the first of the next one.
            if not call.future.done():
                if batch.append(timestamp=None, key=key, value=value) is None:
                    break
                sent.append(call)
            queue.popleft()
            self._leave(value)
        return sent

    def _leave(self, value: bytes | None) -> None:
        self.queued_bytes -= len(value or b"")
        if not self._room.is_set() and self.queued_bytes <= MAX_QUEUED_BYTES:
            self._room.set()

    def _fail_queue(self, queue: Queue, error: IsosError) -> None:
        while queue:
            call, _, value = queue.popleft()
            self._leave(value)
            self._calls.fail(call, error)

    async def _write(self, client: Any, batch: Any, partition: int) -> int:
        """Offset of the batch's first record."""
        written = await (await client.send_batch(batch, self._topic, partition=partition))
        if written.offset < 0:  # a repeated batch that the broker had, but no longer knows where
            raise UnreachableError("sending a request", "the broker does not say where the request was written")
        return int(written.offset)

    async def _client(self) -> Any:
        async with self._renewing:
            if self._producer is None:
                client = producer(self._connection, enable_idempotence=True, metadata_max_age_ms=METADATA_AGE_MS)
                await start(client, "connecting to send requests")
                self._producer = client
            return self._producer

    def _give_up(self, client: Any) -> None:
        """Replace this producer before the next batch; stopping it may take its time."""
        if client is not None and client is self._producer:
            self._producer = None
            task = asyncio.create_task(stop_quietly(client), name="isos-old-producer")
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)


def _failure(error: BaseException) -> UnreachableError:
    return UnreachableError("sending a request", str(error) or type(error).__name__)
