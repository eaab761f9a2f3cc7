"""The log's contract on a real broker, through the fenced writer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiokafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.connection import Connection, bounded, consumer, start, stop_quietly
from streams.fenced import FencedWriter
from streams.memory_log import LogRecord
from tests.support.broker import unique
from tests.support.log_contract import LogContract


class KafkaSupplier:
    """One fresh topic on the session's broker; ``close`` stops the writers."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.connection, self.topic, self.writers = Connection(bootstrap), topic, list[FencedWriter]()

    async def claim(self, partition: int) -> FencedWriter:
        writer = await FencedWriter.claim(self.connection, self.topic, partition)
        self.writers.append(writer)
        return writer

    async def end_offset(self, partition: int) -> int:
        client = consumer(self.connection)
        await start(client, "reading")
        try:
            at = TopicPartition(self.topic, partition)
            return int((await client.end_offsets([at]))[at])
        finally:
            await stop_quietly(client)

    async def read(self, partition: int, offset: int) -> list[LogRecord]:
        end = await self.end_offset(partition)
        client = consumer(self.connection)
        await start(client, "reading")
        try:
            return await bounded(self._read(client, partition, offset, end), 10, "reading to the end")
        finally:
            await stop_quietly(client)

    async def _read(self, client, partition: int, offset: int, end: int) -> list[LogRecord]:  # type: ignore[no-untyped-def]
        at = TopicPartition(self.topic, partition)
        client.assign([at])
        client.seek(at, offset)
        found: list[LogRecord] = []
        while await client.position(at) < end:
            for record in (await client.getmany(at, timeout_ms=100)).get(at, ()):
                head = tuple(record.headers)
                found.append(LogRecord(self.topic, partition, record.offset, record.key, record.value, head))
        return found

    async def close(self) -> None:
        for writer in self.writers:
            await writer.stop()


class TestKafkaLog(LogContract):
    @pytest.fixture
    async def supplier(self, bootstrap: str) -> AsyncIterator[KafkaSupplier]:
        topic = unique("log-contract")
        admin = AdminClient({"bootstrap.servers": bootstrap})
        admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(15)
        running = KafkaSupplier(bootstrap, topic)
        yield running
        await running.close()
