"""Faust's consumer in the app's own loop: no thread, the settings it reads with, and how a record is handed over."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faust.types import TP

from streams import faust_transport
from streams.connection import Connection
from streams.faust_app import create_app
from streams.faust_transport import LoopConsumer, LoopConsumerThread

PLACE = TP("t", 0)


class SilentConsumer:
    """In place of aiokafka's: remembers its settings, starts and stops."""

    made: SilentConsumer

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.events: list[str] = []
        SilentConsumer.made = self

    async def start(self) -> None:
        self.events.append("start")

    async def stop(self) -> None:
        self.events.append("stop")


def consumer_of(folder: Path, **given: Any) -> LoopConsumer:
    app = create_app("router", Connection("127.0.0.1:1"), session_timeout_s=9.0, data_dir=str(folder), **given)
    app.finalize()
    consumer = app.consumer
    assert isinstance(consumer, LoopConsumer)
    return consumer


async def test_it_lives_in_the_loop_and_starts_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_transport, "RewindingConsumer", SilentConsumer)
    thread = consumer_of(tmp_path, fetch_max_wait_ms=250)._thread
    assert isinstance(thread, LoopConsumerThread)
    before = threading.active_count()
    await thread.start()
    assert threading.active_count() == before
    assert thread.thread_loop is asyncio.get_running_loop()
    made = SilentConsumer.made
    assert made.settings["fetch_max_wait_ms"] == 250
    assert made.settings["partition_assignment_strategy"] == [RangePartitionAssignor]
    assert made.settings["group_id"] == "isos-router"
    assert made.settings["session_timeout_ms"] == 9_000
    assert made.settings["enable_auto_commit"] is False
    await thread.stop()
    assert made.events == ["start", "stop"]


async def test_calls_are_made_here_whether_they_wait_or_not(tmp_path: Path) -> None:
    thread = cast("LoopConsumerThread", consumer_of(tmp_path)._thread)

    async def slow(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    assert await thread.call_thread(lambda number: number + 1, 1) == 2
    assert await thread.call_thread(slow, number=2) == 3


async def test_rebalances_reach_faust_by_a_plain_await(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = consumer_of(tmp_path)
    heard: list[Any] = []

    async def revoked(places: Any) -> None:
        heard.append(places)

    async def assigned(places: Any, generation: int) -> None:
        heard.append((places, generation))

    monkeypatch.setattr(consumer, "on_partitions_revoked", revoked)
    monkeypatch.setattr(consumer, "on_partitions_assigned", assigned)
    await consumer._thread.on_partitions_revoked({PLACE})
    await consumer._thread.on_partitions_assigned({PLACE}, 7)
    assert heard == [{PLACE}, ({PLACE}, 7)]


@pytest.fixture
async def delivering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[int], list[tuple[int, int]]]:
    """A consumer whose flow is open, what it delivered, and the gaps that it noted."""
    consumer: Any = consumer_of(tmp_path)
    seen: list[int] = []
    gaps: list[tuple[int, int]] = []

    async def callback(message: Any) -> None:
        consumer.entered.set()
        await consumer.app.flow_control.acquire()
        seen.append(message.offset)

    async def add_gap(_place: Any, first: int, last: int) -> None:
        gaps.append((first, last))

    monkeypatch.setattr(consumer, "_add_gap", add_gap)
    consumer.entered = asyncio.Event()
    consumer.callback = callback
    consumer.app.topics._acking_topics.add("t")
    consumer.app.flow_control.resume()
    consumer.resume_flow()
    return consumer, seen, gaps


def message(offset: int) -> Any:
    return SimpleNamespace(topic="t", offset=offset, tp=PLACE)


async def test_records_are_delivered_in_order_once_and_gaps_are_noted(delivering: Any) -> None:
    consumer, seen, gaps = delivering
    for offset in (5, 6, 4, 9, 9):  # an older one was seen; the newest may come again before it is passed
        await consumer._deliver(PLACE, message(offset))
    assert seen == [5, 6, 9, 9]
    assert gaps == [(7, 9)]


async def test_a_delivery_that_must_wait_ends_with_the_flow(delivering: Any) -> None:
    consumer, seen, _ = delivering
    consumer.app.flow_control.suspend()
    waiting = asyncio.ensure_future(consumer._deliver(PLACE, message(1)))
    await asyncio.wait_for(consumer.entered.wait(), 5)
    assert not consumer._flows(PLACE)
    assert not waiting.done()
    consumer.stop_flow()
    await asyncio.wait_for(waiting, 5)
    assert seen == []


async def test_a_full_stream_is_not_fed_directly(delivering: Any) -> None:
    consumer, _, _ = delivering
    assert consumer._flows(PLACE)
    full = SimpleNamespace(queue=SimpleNamespace(full=lambda: True))
    consumer.app.topics._tp_index[PLACE] = [full]
    assert not consumer._flows(PLACE)


async def test_the_drain_goes_on_until_the_fetcher_stops(delivering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer, seen, _ = delivering
    fetcher = SimpleNamespace(should_stop=False)

    async def getmany(timeout: float) -> Any:
        assert timeout == faust_transport.POLL_S
        for offset in (1, 2):
            yield PLACE, message(offset)
        fetcher.should_stop = True

    monkeypatch.setattr(consumer, "getmany", getmany)
    await consumer._drain_messages(fetcher)
    assert seen == [1, 2]
