"""Requests written to a partition of choice, and their results by coordinate: what a client library would hide."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.request import InferenceRequest
from schemas.result import InferenceResult
from streams.codec import Codec
from streams.connection import Connection, consumer, producer
from streams.ledger import source_of
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name

REQUESTS = full_name("inference.requests")
RESULTS = full_name("inference.results")

Place = tuple[int, int]


class Exchange:
    """Writes requests and collects every result from the moment of opening on; a second one of a place is an error."""

    def __init__(self, codec: Codec, sender: AIOKafkaProducer, reader: AIOKafkaConsumer) -> None:
        self.codec = codec
        self._sender = sender
        self._reader = reader
        self._results: dict[Place, InferenceResult] = {}
        self._changed = asyncio.Condition()

    @property
    def num_answered(self) -> int:
        """Results collected so far."""
        return len(self._results)

    @property
    def answered(self) -> list[tuple[Place, InferenceResult]]:
        """What was collected, per partition in the order of the log."""
        return list(self._results.items())

    async def send(self, request: InferenceRequest, partition: int = 0) -> Place:
        """Write a request; its place once the broker has it."""
        value = self.codec.encode("inference.requests", request)
        written = await self._sender.send_and_wait(
            REQUESTS, value, partition=partition, key=request.request_id.encode()
        )
        return written.partition, written.offset

    async def result(self, place: Place, seconds: float = 60.0) -> InferenceResult:
        """The result of a place."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: place in self._results)
        return self._results[place]

    async def ask(self, request: InferenceRequest, partition: int = 0, seconds: float = 60.0) -> InferenceResult:
        """Write a request and wait for its result."""
        return await self.result(await self.send(request, partition), seconds)

    async def read(self) -> None:
        """Collect results until cancelled."""
        while True:
            fetched: dict[Any, list[Any]] = await self._reader.getmany(timeout_ms=200)
            async with self._changed:
                for record in (each for records in fetched.values() for each in records):
                    source = source_of(record.headers)
                    assert source is not None
                    assert source[1:] not in self._results, f"a second result of {source[1:]}"
                    self._results[source[1], source[2]] = self.codec.decode("inference.results", record.value)
                self._changed.notify_all()


@contextlib.asynccontextmanager
async def exchange(bootstrap: str) -> AsyncIterator[Exchange]:
    """An open exchange with the broker; the reading task's failure fails the test."""
    connection = Connection(bootstrap)
    codec = Codec(await read_schema_ids(connection))
    sender, reader = producer(connection), consumer(connection)
    await sender.start()
    await reader.start()
    reading: asyncio.Task[None] | None = None
    try:
        places = [TopicPartition(RESULTS, number) for number in await sender.partitions_for(RESULTS)]
        reader.assign(places)
        for place, end in (await reader.end_offsets(places)).items():
            reader.seek(place, end)
        opened = Exchange(codec, sender, reader)
        reading = asyncio.ensure_future(opened.read())
        yield opened
        if reading.done():
            reading.result()
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.wait({reading})
        await sender.stop()
        await reader.stop()
