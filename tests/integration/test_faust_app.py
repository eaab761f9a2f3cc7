"""Faust on a real broker: what a process that stood still must survive."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from streams.connection import Connection
from streams.faust_app import create_app
from streams.faust_transport import RewindingConsumer
from tests.support.topics import create_topics

STANDSTILL_S = 11.0  # longer than the app's request timeout of 10 s


async def test_a_standstill_while_positions_are_asked_for_does_not_silence_the_consumer(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen process wakes up with every timer run out; Faust's own recovery takes that for a stop and ends."""
    name = f"standstill-{uuid.uuid4().hex[:8]}"
    create_topics(bootstrap, name)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    await producer.send_and_wait(name, b"1")
    await producer.stop()

    app = create_app(name, Connection(bootstrap), data_dir=str(tmp_path))
    topic = app.topic(name, value_type=bytes, value_serializer="raw", key_serializer="raw")
    arrived = asyncio.Event()
    standstills = 0

    async def collect(stream: Any) -> None:
        async for event in stream.noack().events():
            event.ack()
            arrived.set()

    app.agent(topic, name=name)(collect)
    real = app.consumer.perform_seek

    async def slow_seek() -> None:
        nonlocal standstills
        if not standstills:
            standstills += 1
            await asyncio.sleep(0)  # the wait for us has begun, its timer runs
            time.sleep(STANDSTILL_S)  # the length of the fault
        await real()

    monkeypatch.setattr(app.consumer, "perform_seek", slow_seek)
    await app.start()
    try:
        async with asyncio.timeout(60):
            await arrived.wait()
    finally:
        async with asyncio.timeout(30):
            await app.stop()
    assert standstills == 1


async def test_what_was_thrown_away_before_a_first_commit_is_read_again(bootstrap: str) -> None:
    """Faust fetches in the middle of a rebalance, throws away what came and goes back; in a new group, to the start."""
    name = f"rewind-{uuid.uuid4().hex[:8]}"
    create_topics(bootstrap, name)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    reader = RewindingConsumer(
        name, bootstrap_servers=bootstrap, group_id=name, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    place = TopicPartition(name, 0)
    await producer.start()
    await reader.start()
    try:
        async with asyncio.timeout(60):
            for number in range(5):
                await producer.send_and_wait(name, str(number).encode())
            assert (await reader.getone()).offset == 0
            assert await reader.seek_to_committed() == {place: None}
            assert [(await reader.getone()).offset for _ in range(3)] == [0, 1, 2]
            await reader.commit({place: 2})
            assert await reader.seek_to_committed() == {place: 2}
            assert (await reader.getone()).offset == 2
    finally:
        await reader.stop()
        await producer.stop()
