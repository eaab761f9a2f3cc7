"""Reading lanes: a wait may be interrupted, and what an interrupted read brings comes with the next one."""

from __future__ import annotations

import asyncio
from typing import Any

from executors.lane_reader import FETCH_RECORDS, LaneReader
from tests.support.fake_kafka import turns, until

LONG_MS = 60_000
"""Nothing but what the test does may end such a wait within its limit."""


class FakeLanes:
    """Gives what the test puts into ``coming``, and keeps how it was asked."""

    def __init__(self) -> None:
        self.generation = 1
        self.coming: asyncio.Queue[dict[Any, list[Any]]] = asyncio.Queue()
        self.asked: list[tuple[int, int]] = []
        self.num_cancelled = 0

    async def read(self, *, timeout_ms: int, max_records: int) -> dict[Any, list[Any]]:
        self.asked.append((timeout_ms, max_records))
        try:
            return await self.coming.get()
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise


def reader_of(lanes: Any) -> LaneReader:
    return LaneReader(lanes)


async def test_records_come_with_the_generation_that_they_were_read_in() -> None:
    lanes = FakeLanes()
    reader = reader_of(lanes)
    for generation, wakes in ((3, False), (4, True)):
        lanes.generation = generation
        lanes.coming.put_nowait({"lane": [generation]})
        assert await reader.read(LONG_MS, wakes=wakes) == (generation, {"lane": [generation]})
    assert lanes.asked == [(LONG_MS, FETCH_RECORDS)] * 2


async def test_a_read_that_is_interrupted_goes_on_and_is_not_asked_twice() -> None:
    lanes = FakeLanes()
    reader = reader_of(lanes)
    first = asyncio.ensure_future(reader.read(LONG_MS, wakes=True))
    await turns()
    assert not first.done()
    reader.wake.set()
    assert await first == (1, {})
    reader.wake.clear()
    lanes.generation = 2
    assert await reader.read(0, wakes=False) == (2, {})
    lanes.coming.put_nowait({"lane": ["late"]})
    assert await reader.read(LONG_MS, wakes=False) == (2, {"lane": ["late"]})
    assert len(lanes.asked) == 1


async def test_a_wait_that_is_not_to_be_interrupted_is_not() -> None:
    lanes = FakeLanes()
    reader = reader_of(lanes)
    reader.wake.set()
    reading = asyncio.ensure_future(reader.read(LONG_MS, wakes=False))
    await turns()
    assert not reading.done()
    lanes.coming.put_nowait({})
    assert await reading == (1, {})


async def test_a_pause_ends_by_itself_or_when_it_is_interrupted() -> None:
    reader = reader_of(FakeLanes())
    await reader.pause(1, wakes=False)
    await reader.pause(1, wakes=True)
    pausing = asyncio.ensure_future(reader.pause(LONG_MS, wakes=True))
    await turns()
    assert not pausing.done()
    reader.wake.set()
    await until(pausing.done)


async def test_a_read_that_goes_on_ends_with_the_reader() -> None:
    lanes = FakeLanes()
    reader = reader_of(lanes)
    reader.stop()
    assert await reader.read(1, wakes=True) == (1, {})
    reader.stop()
    await until(lambda: lanes.num_cancelled == 1)
