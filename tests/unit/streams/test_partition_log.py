"""Reading a partition to its end: markers, early starts, and errors as ours."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

import streams.partition_log
from streams.connection import Connection, UnreachableError
from streams.memory_log import MemoryLog
from streams.partition_log import KafkaLog, LogRecord
from tests.support.fake_consumer import FakeConsumer


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> tuple[MemoryLog, list[Exception]]:
    log, errors = MemoryLog(), list[Exception]()
    log.create("t")
    monkeypatch.setattr(streams.partition_log, "consumer", lambda connection: FakeConsumer(log, errors))
    return log, errors


PARTITIONS = KafkaLog(Connection("127.0.0.1:1"))


async def test_everything_between_start_and_end(made: tuple[MemoryLog, Any]) -> None:
    log, _ = made
    log.skip("t", 0)
    for number in range(5):
        log.append("t", 0, b"k", b"%d" % number, (("h", b"x"),))
    log.skip("t", 0)
    assert await PARTITIONS.bounds("t", 0) == (0, 7)
    assert await PARTITIONS.read("t", 0, 4) == [
        LogRecord(4, b"k", b"3", (("h", b"x"),)),
        LogRecord(5, b"k", b"4", (("h", b"x"),)),
    ]
    assert [record.offset for record in await PARTITIONS.read("t", 0)] == [1, 2, 3, 4, 5]
    assert await PARTITIONS.read("t", 0, 99) == []


async def test_a_broker_that_is_away_is_retriable(made: tuple[MemoryLog, list[Exception]]) -> None:
    log, errors = made
    log.append("t", 0, b"k", b"v")
    errors.append(KafkaConnectionError("gone"))
    with pytest.raises(UnreachableError, match="reading t-0 failed"):
        await PARTITIONS.read("t", 0)
