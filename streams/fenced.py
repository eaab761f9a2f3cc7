"""One writer per topic partition: a successor shuts its predecessor out before it reads, also one that was frozen.

A claim has two steps, both under a transactional id made of topic and partition:

1. an empty, *aborted* transaction that names the partition. Its marker, invisible to readers, carries the new producer
   epoch into the partition's log. The coordinator answers before the marker is written;
2. a second ``InitProducerId`` with the same id, which the coordinator answers only once the marker stands in the log.

From then on the broker refuses older epochs. The writer drops the transactional id and goes on as a plain idempotent
producer. Rule for every user: **claim first, then read to the end, then write.**

This leans on three private names of aiokafka 0.14.0 (pinned): ``_txn_manager``, ``_message_accumulator`` and its
``_waiter_future``; ``tests/integration/test_fenced.py`` is the canary. The broker forgets an unused transactional id
after ``transactional.id.expiration.ms`` (7 days by default) and then lets a predecessor in: ``age_s`` tells the owner
when to claim anew (daily).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams.connection import Connection, bounded, producer, start, stop_quietly
from streams.errors import FencedError, RetriableError
from streams.ready_batch import ReadyBatch

CLAIM_TIMEOUT_S: Final = 15.0
SEND_TIMEOUT_S: Final = 30.0
RENEW_AFTER_S: Final = 86_400.0
REFUSALS: Final = ("ProducerFenced", "InvalidProducerEpoch", "OutOfOrderSequenceNumber")
"""The client's errors that say another writer has a newer epoch."""

log = logging.getLogger(__name__)

Headers = Sequence[tuple[str, bytes]]
Submission = list[tuple[asyncio.Future[Any], int]]
"""Batches in log order: the future of each and its number of records. Never empty."""


class WriteFailedError(RetriableError):
    """A write's outcome is unknown or it failed: claim again, read to the end, then decide. Never retry in place."""

    def __init__(self, topic: str, partition: int, reason: str) -> None:
        super().__init__(topic, partition, reason)
        self.topic = topic
        self.partition = partition
        self.reason = reason

    def __str__(self) -> str:
        return f"the write to {self.topic}-{self.partition} failed: {self.reason}"


class FencedWriter:
    """Sole writer of one partition. After any error it is broken: claim a new one."""

    def __init__(self, client: AIOKafkaProducer, topic: str, partition: int) -> None:
        self._client = client
        self.topic = topic
        self.partition = partition
        self._claimed_at = time.monotonic()
        self._turn = asyncio.Lock()

    @classmethod
    async def claim(cls, connection: Connection, topic: str, partition: int, *, fence: bool = True) -> FencedWriter:
        """Shut every earlier writer of ``topic``-``partition`` out and return the new one.

        ``fence=False`` skips the claim; only the test that shows what the fence is worth uses it.
        Raises ``RetriableError`` when the broker does not answer in time.
        """
        if not fence:
            plain = producer(connection, acks="all", enable_idempotence=True, linger_ms=0)
            await start(plain, f"starting a writer of {topic}-{partition}")
            return cls(plain, topic, partition)
        return await bounded(cls._claim(connection, topic, partition), CLAIM_TIMEOUT_S, f"claiming {topic}-{partition}")

    @classmethod
    async def _claim(cls, connection: Connection, topic: str, partition: int) -> FencedWriter:
        try:
            marker = await _transactional(connection, topic, partition)
            try:
                await marker.begin_transaction()
                marker._txn_manager.maybe_add_partition_to_txn(TopicPartition(topic, partition))
                wake = marker._message_accumulator._waiter_future
                if not wake.done():
                    wake.set_result(None)
                await marker.abort_transaction()
                writer = await _transactional(connection, topic, partition)
            finally:
                await stop_quietly(marker)
        except (KafkaError, OSError) as error:
            raise WriteFailedError(topic, partition, f"the claim was refused: {error}") from error
        writer._txn_manager.transactional_id = None
        return cls(writer, topic, partition)

    @property
    def age_s(self) -> float:
        """Seconds since the claim."""
        return time.monotonic() - self._claimed_at

    @property
    def producer_id(self) -> tuple[int, int]:
        """Producer id and epoch the broker gave this claim."""
        return self._client._txn_manager.producer_id, self._client._txn_manager.producer_epoch

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """Write one record and return its offset. Raises ``FencedError`` or ``WriteFailedError``."""
        first, _ = await self.confirm(await self.submit([(key, value, headers)]))
        return first

    async def submit(self, records: Sequence[tuple[bytes | None, bytes | None, Headers]]) -> Submission:
        """Hand records over in order; ``confirm`` waits for them.

        Records of one call stand side by side in the log, also when they fill several batches and calls overlap.
        """
        submission: list[tuple[asyncio.Future[Any], int]] = []
        async with self._turn:
            batch = self._client.create_batch()
            for key, value, headers in records:
                if batch.append(key=key, value=value, timestamp=None, headers=list(headers)) is None:
                    submission.append(await self._enqueue(batch))
                    batch = self._client.create_batch()
                    if batch.append(key=key, value=value, timestamp=None, headers=list(headers)) is None:
                        raise WriteFailedError(self.topic, self.partition, "a record did not fit an empty batch")
            if batch.record_count():
                submission.append(await self._enqueue(batch))
        return submission

    async def submit_batches(self, batches: Sequence[ReadyBatch]) -> Submission:
        """Hand over records that are encoded already, in order; they stand side by side like those of ``submit``."""
        async with self._turn:
            return [await self._enqueue(batch) for batch in batches]

    async def _enqueue(self, batch: Any) -> tuple[asyncio.Future[Any], int]:
        batch.close()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                future = await self._client.send_batch(batch, self.topic, partition=self.partition)
        except (KafkaError, TimeoutError) as error:
            raise self._translate(error) from error
        future.add_done_callback(self._observe)
        return future, batch.record_count()

    async def confirm(self, submission: Submission) -> tuple[int, int]:
        """Wait until all records are written; return the first one's offset and the offset behind the last one."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                # Shielded: who stops waiting leaves the write to its end, and a refusal is still noted.
                done = [await asyncio.shield(future) for future, _ in submission]
        except (KafkaError, TimeoutError) as error:
            raise self._translate(error) from error
        return int(done[0].offset), int(done[-1].offset) + submission[-1][1]

    def _observe(self, future: asyncio.Future[Any]) -> None:
        """Note a refusal, also one that nobody waits for any more because the partition was given up meanwhile."""
        error = None if future.cancelled() else future.exception()
        if error is not None and type(error).__name__ in REFUSALS:
            log.warning("%s", FencedError(self.topic, self.partition))

    def _translate(self, error: BaseException) -> RetriableError:
        name = type(error).__name__
        if name in REFUSALS:
            return FencedError(self.topic, self.partition)
        return WriteFailedError(self.topic, self.partition, name)

    async def stop(self) -> None:
        """Close the connection; what was not confirmed stays unknown."""
        await stop_quietly(self._client)


async def _transactional(connection: Connection, topic: str, partition: int) -> AIOKafkaProducer:
    client = producer(connection, acks="all", transactional_id=f"isos-{topic}-{partition}", linger_ms=0)
    try:
        await client.start()
        await client.partitions_for(topic)
        await client._txn_manager.wait_for_pid()
    except BaseException:  # also a time-out or a rebalance that cancels the claim: leave no client behind
        await stop_quietly(client)
        raise
    return client
