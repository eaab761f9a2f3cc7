"""The broadcast reader: ready at the high watermark, each record once, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

import streams.watch
from streams.connection import Connection
from streams.memory_log import MemoryLog
from streams.memory_view import MemoryView
from streams.partition_log import LogRecord
from streams.watch import MemoryWatch, PartitionWatch, WatchTimeoutError
from tests.support.event_store_contract import CODEC, event
from tests.support.fake_consumer import FakeConsumer
from tests.support.partitions import MemoryPartitions

NOWHERE = Connection("127.0.0.1:1")


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    log.create("t")
    return log


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch, log: MemoryLog) -> list[Exception]:
    """Faults of the readers to come; makes all readers fakes on ``log``."""
    faults: list[Exception] = []
    monkeypatch.setattr(streams.watch, "consumer", lambda connection, **_: FakeConsumer(log, faults))
    monkeypatch.setattr(streams.watch, "RETRY_S", 0.001)
    return faults


def watch(on_batch: Callable[[Sequence[LogRecord]], None], first: int = 0) -> PartitionWatch:
    return PartitionWatch(NOWHERE, "t", on_batch, first=first)


async def test_ready_at_the_high_watermark_though_the_log_ends_in_markers(log: MemoryLog, errors: list[Any]) -> None:
    for number in range(10):
        log.append("t", 0, b"k", b"%d" % number)
    log.skip("t", 0, 2)
    seen: list[LogRecord] = []
    one = watch(seen.extend)
    await one.start(5)
    assert [record.value for record in seen] == [b"%d" % number for number in range(10)]
    assert one.position == 12
    log.append("t", 0, b"k", b"later")
    await one.wait_for_offset(12, 5)
    assert seen[-1].value == b"later"
    await one.stop()


async def test_only_what_is_written_from_now_on(log: MemoryLog, errors: list[Any]) -> None:
    for number in range(5):
        log.append("t", 0, b"k", b"%d" % number)
    seen: list[LogRecord] = []
    one = PartitionWatch(NOWHERE, "t", seen.extend, from_end=True)
    await one.start(5)
    assert seen == []
    for number in range(5, 8):
        errors.append(KafkaConnectionError())
        log.append("t", 0, b"k", b"%d" % number)
        await one.wait_for_offset(number, 5)
    assert [record.value for record in seen] == [b"5", b"6", b"7"], "an interruption is no new beginning"
    await one.stop()


async def test_an_empty_log_is_ready_at_once(log: MemoryLog, errors: list[Any]) -> None:
    one = watch(lambda batch: None)
    await one.start(5)
    assert one.is_ready
    await one.stop()


async def test_interruptions_repeat_and_lose_nothing(log: MemoryLog, errors: list[Any]) -> None:
    for number in range(20):
        log.append("t", 0, b"k", b"%d" % number)
    seen: list[int] = []

    def on_batch(batch: Sequence[LogRecord]) -> None:
        seen.extend(record.offset for record in batch)
        if len(seen) in (3, 9, 12):
            errors.append(KafkaConnectionError("the broker went away"))

    one = watch(on_batch, first=2)
    await one.start(5)
    assert seen == list(range(2, 20))
    await one.stop()


async def test_what_does_not_happen_is_said(log: MemoryLog, errors: list[Any]) -> None:
    one = watch(lambda batch: None)
    await one.start(5)
    with pytest.raises(WatchTimeoutError, match="reading t-0 up to offset 7 did not happen within 0.05 s"):
        await one.wait_for_offset(7, 0.05)
    await one.stop()


async def test_a_defect_in_the_callback_reaches_who_waits(log: MemoryLog, errors: list[Any]) -> None:
    log.append("t", 0, b"k", b"v")

    def on_batch(batch: Sequence[LogRecord]) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await watch(on_batch).start(5)


async def test_memory_is_folded_and_voids_are_counted(log: MemoryLog, errors: list[Any]) -> None:
    from streams.control.event_store import EventStore, MemoryPlace

    store = EventStore(MemoryPartitions(log), CODEC, MemoryPlace("t", "state"))
    await store.open()
    await store.append(event(1, "a"))
    views: list[MemoryView] = []
    memory = MemoryWatch(NOWHERE, CODEC, on_change=views.append, topic="t")
    await memory.start(5)
    assert memory.is_ready
    assert memory.view == store.view == views[-1]
    log.append("t", 0, b"a", CODEC.encode("memory.events", event(2, "a", "forged")))
    log.append("t", 0, b"a", b"garbage")
    await store.append(event(2, "a", "true"))
    view = await memory.wait_for_sequence(2, 5)
    assert view.entries["a"].body == "true"
    assert memory.voids == 2
    await memory.stop()


async def test_memory_looks_for_the_schema_of_each_event_before_it_folds(log: MemoryLog, errors: list[Any]) -> None:
    log.append("t", 0, b"k", CODEC.encode("memory.events", event(1)))
    asked: list[tuple[str, bytes | None, bool]] = []

    class Schemas:
        """Cannot say at first."""

        async def prepare(self, topic: str, value: bytes | None, *, surely: bool = False) -> None:
            asked.append((topic, value, surely))
            if len(asked) == 1:
                raise WatchTimeoutError("an answer", 1.0)

    memory = MemoryWatch(NOWHERE, CODEC, topic="t", schemas=Schemas())
    await memory.start(5)
    assert asked == [("memory.events", log.read("t", 0, 0)[0].value, True)] * 2
    assert (memory.view.sequence, memory.voids) == (1, 0)
    await memory.stop()
