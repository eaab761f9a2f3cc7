"""The log's contract on the in-memory supplier; the same suite runs on a broker in tests/integration/test_log.py."""

from __future__ import annotations

import pytest

from streams.memory_log import LogRecord, MemoryLog
from tests.support.log_contract import Headers, LogContract

TOPIC = "t"


class MemoryWriter:
    """A claim on a MemoryLog."""

    def __init__(self, log: MemoryLog, partition: int) -> None:
        self.log, self.partition, self.epoch = log, partition, log.claim(TOPIC, partition)

    async def send(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        return self.log.append(TOPIC, self.partition, key, value, headers, epoch=self.epoch)


class MemorySupplier:
    """A MemoryLog with one topic."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.log.create(TOPIC, 2)

    async def claim(self, partition: int) -> MemoryWriter:
        return MemoryWriter(self.log, partition)

    async def read(self, partition: int, offset: int) -> list[LogRecord]:
        return list(self.log.scan(TOPIC, partition, offset))

    async def end_offset(self, partition: int) -> int:
        return self.log.end_offset(TOPIC, partition)


class TestMemoryLog(LogContract):
    @pytest.fixture
    def supplier(self) -> MemorySupplier:
        return MemorySupplier()
