"""Control topics read to their end by a command: typed records, or memory's events with their stored hashes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streams.codec import Codec
from streams.connection import Connection
from streams.errors import PoisonRecordError
from streams.memory_fold import StoredEvent, void_reason
from streams.memory_view import MemoryHead
from streams.partition_log import KafkaLog
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name


@dataclass(frozen=True, slots=True)
class TypedRecord:
    """A decoded record and where it stood."""

    offset: int
    timestamp_ms: int
    record: Any


class LogReader:
    """Reads one-partition topics as of now; undecodable records are passed over."""

    def __init__(self, connection: Connection, codec: Codec) -> None:
        self._partitions = KafkaLog(connection)
        self._codec = codec

    @classmethod
    async def connect(cls, connection: Connection) -> LogReader:
        """A reader with the registered schemas. Raises RetriableError when the broker is away."""
        return cls(connection, Codec(await read_schema_ids(connection)))

    async def read(self, topic: str, last: int | None = None) -> list[TypedRecord]:
        """All records of ``topic`` (short name), or those on its ``last`` offsets."""
        first = 0 if last is None else (await self._partitions.bounds(full_name(topic), 0))[1] - last
        found: list[TypedRecord] = []
        for raw in await self._partitions.read(full_name(topic), 0, max(0, first)):
            try:
                found.append(TypedRecord(raw.offset, raw.timestamp_ms, self._codec.decode(topic, raw.value)))
            except PoisonRecordError:
                continue
        return found

    async def memory_events(self) -> list[StoredEvent]:
        """The accepted chain of memory, oldest first."""
        accepted: list[StoredEvent] = []
        head = MemoryHead()
        for raw in await self._partitions.read(full_name("memory.events"), 0):
            try:
                stored = StoredEvent.of(self._codec.decode("memory.events", raw.value), raw.value or b"")
            except PoisonRecordError:
                continue
            if void_reason(head, stored.event) is None:
                accepted.append(stored)
                head = MemoryHead(stored.event.sequence, stored.value_hash)
        return accepted
