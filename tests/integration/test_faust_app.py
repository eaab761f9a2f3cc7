"""Faust on a real broker: what a process that stood still must survive."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import Any

import aiokafka
import pytest
from aiokafka import AIOKafkaProducer

from streams.connection import Connection
from streams.faust_app import create_app
from tests.support.topics import create_topics

STANDSTILL_S = 11.0  # longer than the app's request timeout of 10 s


async def test_a_standstill_while_positions_are_asked_for_does_not_silence_the_consumer(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen process wakes up with every timer run out; Faust's own recovery takes that for a stop and ends."""
    monkeypatch.setattr(aiokafka, "AIOKafkaConsumer", aiokafka.AIOKafkaConsumer)  # put back afterwards
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
            time.sleep(STANDSTILL_S)
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
