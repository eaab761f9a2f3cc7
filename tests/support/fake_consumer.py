"""A consumer over ``MemoryLog`` with the part of aiokafka's interface that our readers use, and faults on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from streams.memory_log import MemoryLog


class FakeConsumer:
    """One partition's reader. ``errors`` are raised by the next calls of ``getmany``, oldest first."""

    def __init__(self, log: MemoryLog, errors: list[Exception] | None = None, max_records: int = 3) -> None:
        self._log = log
        self._errors = errors if errors is not None else []
        self._max_records = max_records
        self._offset = 0
        self.stopped = False

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        self.stopped = True

    def assign(self, places: Sequence[TopicPartition]) -> None:
        (self._place,) = places

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._offset = offset

    async def position(self, place: TopicPartition) -> int:
        return self._offset

    async def beginning_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: self._log.end_offset(place.topic, place.partition) for place in places}

    async def getmany(self, *places: TopicPartition, timeout_ms: int = 0) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        if self._errors:
            raise self._errors.pop(0)
        topic, partition = self._place
        found = self._log.read(topic, partition, self._offset, self._max_records)
        if not found:  # only markers are left, or nothing: the position passes them, as the real one's does
            self._offset = self._log.end_offset(topic, partition)
            await asyncio.sleep(0.001)
            return {}
        self._offset = found[-1].offset + 1
        records = [
            ConsumerRecord(topic, partition, r.offset, r.timestamp_us // 1000, 0, r.key, r.value, None, 0, 0, r.headers)
            for r in found
        ]
        return {self._place: records}
