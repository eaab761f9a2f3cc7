"""Puts request ids back into Redis after it was emptied or away: first what this process remembers, then results.

Beside the edge's loop, one partition at a time, a quarter of the time at most. Of ``inference.results`` the window is
read, newest ``MAX_RECORDS`` at most, without decoding: a result's value begins with id, tenant and the request's broker
timestamp, its coordinate and status stand in headers. Only OK results hold an id; their input digest is not known and
is taken from the request when it is asked for. Requests that were under way when Redis was emptied come back only
from the memory of the process that claimed them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.edge.request_ids import NO_DIGEST, Claim, RequestIds
from streams.errors import RetriableError
from streams.ledger import STATUS_HEADER, source_of
from streams.topics import full_name
from streams.varint import read_long

log = logging.getLogger(__name__)

RESULTS: Final = full_name("inference.results")
PREFIX_BYTES: Final = 5
MAX_RECORDS: Final = 1_000_000
BATCH: Final = 500
REST: Final = 3.0
"""Pause after each batch, in times of what the batch took."""
RETRY_S: Final = 2.0
READ_TIMEOUT_S: Final = 10.0


class IdRestore:
    """Restores what ``ids.incomplete`` names. ``num_restored`` counts the claims read from results."""

    def __init__(self, connection: Connection, topic_id: bytes, ids: RequestIds) -> None:
        self._connection = connection
        self._topic_id = topic_id
        self._ids = ids
        self.num_restored = 0

    async def run(self) -> None:
        """Run until cancelled; a restoration that fails is tried again."""
        while True:
            await self._ids.doubt.wait()
            self._ids.doubt.clear()
            for partition in sorted(self._ids.incomplete):
                try:
                    await self.restore(partition)
                except (RetriableError, KafkaError, OSError) as error:
                    log.info("restoring the request ids of partition %d failed (%s); tried again", partition, error)
            if self._ids.incomplete:
                await asyncio.sleep(RETRY_S)
                self._ids.doubt.set()

    async def restore(self, partition: int) -> None:
        """Restore one partition. Raises RetriableError or KafkaError; an outage meanwhile leaves it incomplete."""
        outages, began = self._ids.num_outages, time.monotonic()
        remembered = list(self._ids.local_claims(partition))
        await self._ids.put(remembered)
        count = await self._from_results(partition)
        if outages == self._ids.num_outages and partition in self._ids.incomplete:
            await self._ids.restored(partition)
            log.warning(
                "request ids of partition %d are restored: %d from memory, %d from results, %.1f s",
                *(partition, len(remembered), count, time.monotonic() - began),
            )

    async def _from_results(self, partition: int) -> int:
        reader = consumer(self._connection, isolation_level="read_committed")
        await start(reader, f"reading results-{partition} for request ids")
        try:
            return await self._read(reader, TopicPartition(RESULTS, partition))
        finally:
            await stop_quietly(reader)

    async def _read(self, reader: AIOKafkaConsumer, place: TopicPartition) -> int:
        reader.assign([place])
        since_ms = (time.time_ns() // 1000 - self._ids.window_us) // 1000
        found = (await bounded(reader.offsets_for_times({place: since_ms}), READ_TIMEOUT_S, "finding results"))[place]
        if found is None:
            return 0
        end = (await bounded(reader.end_offsets([place]), READ_TIMEOUT_S, "finding the end of results"))[place]
        if end - found.offset > MAX_RECORDS:
            log.warning("only the newest %d results of partition %d count", MAX_RECORDS, place.partition)
        reader.seek(place, max(found.offset, end - MAX_RECORDS))
        count, began = 0, time.perf_counter()
        while await reader.position(place) < end:
            records = (await reader.getmany(place, timeout_ms=200, max_records=BATCH)).get(place, [])
            claims = [each for record in records if (each := self._claim_of(record, place.partition)) is not None]
            await self._ids.put(claims)
            count += len(claims)
            self.num_restored += len(claims)
            await asyncio.sleep((time.perf_counter() - began) * REST if records else 0)
            began = time.perf_counter()
        return count

    def _claim_of(self, record: Any, partition: int) -> tuple[bytes, bytes] | None:
        """Key and claim of an OK result of our requests topic."""
        source = source_of(record.headers)
        if source is None or source[0] != self._topic_id or source[1] != partition or record.value is None:
            return None
        if (STATUS_HEADER, b"O") not in record.headers:
            return None
        try:
            request_id, tenant, received_us = head_of(record.value)
        except (EOFError, ValueError):
            return None
        return self._ids.key(tenant, request_id), Claim(partition, source[2], received_us, NO_DIGEST).pack()


def head_of(value: bytes) -> tuple[bytes, str, int]:
    """Request id, tenant and received time of a result's value. Raises EOFError or ValueError."""
    length, at = read_long(value, PREFIX_BYTES)
    request_id, at = value[at : at + length], at + length
    length, at = read_long(value, at)
    tenant, at = value[at : at + length].decode(), at + length
    return request_id, tenant, read_long(value, at)[0]
