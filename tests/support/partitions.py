"""Partitions as logs in memory: ``MemoryLog`` behind the interface that journal and event store are written against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.errors import RetriableError
from streams.memory_log import MemoryLog
from streams.partition_log import Headers, LogRecord, Outgoing


@dataclass
class Faults:
    """Writes that fail, by their number from 1 on: ``lost`` before they are stored, ``unknown`` after."""

    lost: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)
    count: int = 0


class MemoryWriter:
    """A claim on a partition of a MemoryLog."""

    def __init__(self, log: MemoryLog, topic: str, partition: int, faults: Faults) -> None:
        self._log, self._topic, self._partition, self._faults = log, topic, partition, faults
        self._epoch = log.claim(topic, partition)

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        self._faults.count += 1
        if self._faults.count in self._faults.lost:
            raise RetriableError("the write was lost")
        offset = self._log.append(self._topic, self._partition, key, value, tuple(headers), epoch=self._epoch)
        if self._faults.count in self._faults.unknown:
            raise RetriableError("the outcome is unknown")
        return offset

    async def submit(self, records: Sequence[Outgoing]) -> Any:
        return [await self.send(*record) for record in records]

    async def confirm(self, submission: Any) -> tuple[int, int]:
        return submission[0], submission[-1] + 1

    async def stop(self) -> None:
        return


class MemoryPartitions:
    """Supplier of partitions; topics are created when they are first named."""

    def __init__(self, log: MemoryLog | None = None) -> None:
        self.log = log or MemoryLog()
        self.faults = Faults()
        self.first = 0  # what retention has left

    async def claim(self, topic: str, partition: int) -> MemoryWriter:
        self.log.create(topic)
        return MemoryWriter(self.log, topic, partition, self.faults)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        self.log.create(topic)
        return self.first, self.log.end_offset(topic, partition)

    async def read(self, topic: str, partition: int, first: int = 0) -> list[LogRecord]:
        self.log.create(topic)
        return [
            LogRecord(r.offset, r.key, r.value, r.headers)
            for r in self.log.scan(topic, partition, max(first, self.first))
        ]
