"""Events keep their order, feeders wait for room, the reader sleeps until there is a reason not to."""

from __future__ import annotations

import asyncio

import pytest

from streams.event_queue import EventQueue
from tests.support.fake_kafka import turns

LONG_S = 3600.0


async def test_events_come_in_their_order() -> None:
    queue = EventQueue(3)
    assert (queue.empty(), queue.full(), queue.qsize(), len(queue)) == (True, False, 0, 0)
    for number in range(3):
        await queue.put(number)
    assert (queue.empty(), queue.full(), queue.qsize(), len(queue)) == (False, True, 3, 3)
    assert [queue.get_nowait() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(IndexError):
        queue.get_nowait()


async def test_feeders_wait_for_room_and_one_that_gave_up_takes_nobodys_place() -> None:
    queue = EventQueue(1)
    await queue.put(0)
    feeders = [asyncio.ensure_future(queue.put(number)) for number in (1, 2)]
    await turns()
    assert not any(feeder.done() for feeder in feeders)
    feeders[0].cancel()
    await turns()
    assert queue.get_nowait() == 0
    await turns()
    assert (feeders[1].done(), queue.get_nowait()) == (True, 2)


async def test_every_feeder_comes_in_with_its_turn() -> None:
    queue = EventQueue(1)
    feeders = [asyncio.ensure_future(queue.put(number)) for number in range(4)]
    seen = []
    for _ in range(4):
        await turns()
        assert queue.qsize() == 1
        seen.append(queue.get_nowait())
    await asyncio.gather(*feeders)
    assert seen == [0, 1, 2, 3]


async def test_the_reader_wakes_for_an_event_for_a_call_and_for_the_time() -> None:
    queue = EventQueue(1)
    for end in (lambda: queue.put_nowait("x"), queue.wake):
        sleep = asyncio.ensure_future(queue.sleep(LONG_S))
        await turns()
        assert not sleep.done()
        end()
        await sleep
    await queue.sleep(0.0)


async def test_a_wake_up_that_nobody_waits_for_is_forgotten() -> None:
    queue = EventQueue(1)
    queue.wake()
    sleep = asyncio.ensure_future(queue.sleep(LONG_S))
    await turns()
    assert not sleep.done()
    sleep.cancel()
    await asyncio.wait({sleep})
    queue.wake()
    await queue.sleep(0.0)
