"""Reading control topics for commands: typed, in order, without what is void or garbage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import streams.partition_log
from infra.log_reader import LogReader, TypedRecord
from schemas.review import ReviewRequest
from streams.connection import Connection
from streams.control.event_store import EventStore
from streams.memory_log import MemoryLog
from tests.support.event_store_contract import CODEC, event
from tests.support.fake_consumer import FakeConsumer
from tests.support.partitions import MemoryPartitions

REVIEWS = "control.review-requests"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryLog]:
    log = MemoryLog()
    log.create(f"isos.{REVIEWS}.v1")
    monkeypatch.setattr(streams.partition_log, "consumer", lambda connection: FakeConsumer(log))
    return log


@pytest.fixture
def reader() -> LogReader:
    return LogReader(Connection("127.0.0.1:1"), CODEC)


def request(number: int) -> ReviewRequest:
    return ReviewRequest(f"q{number}", "planner", "plan/x", "ab", "", 5, 1)


async def test_typed_records(log: MemoryLog, reader: LogReader) -> None:
    topic = f"isos.{REVIEWS}.v1"
    for number in range(3):
        log.append(topic, 0, b"k", CODEC.encode(REVIEWS, request(number)))
    log.append(topic, 0, b"k", b"garbage")
    assert await reader.read(REVIEWS) == [TypedRecord(n, 0, request(n)) for n in range(3)]
    assert await reader.read(REVIEWS, last=2) == [TypedRecord(2, 0, request(2))]
    assert len(await reader.read(REVIEWS, last=99)) == 3


async def test_the_accepted_chain(log: MemoryLog, reader: LogReader) -> None:
    store = EventStore(MemoryPartitions(log), CODEC)
    await store.open()
    await store.append(event(1, "a"))
    log.append("isos.memory.events.v1", 0, b"a", CODEC.encode("memory.events", event(2, "a", "forged")))
    log.append("isos.memory.events.v1", 0, b"a", b"garbage")
    await store.append(event(2, "b"))
    assert [stored.event.key for stored in await reader.memory_events()] == ["a", "b"]
