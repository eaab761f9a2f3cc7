"""The watch over a consumer, on a real broker: records wait and nobody is handed any."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaProducer

from streams.connection import Connection
from streams.silence import FedPartition, SilentConsumerError, watch_for_silence
from tests.support.topics import create_topics

LOOK_S = 0.05


@pytest.fixture
async def topic(bootstrap: str) -> str:
    """One partition with three records."""
    name = f"silence-{uuid.uuid4().hex[:8]}"
    create_topics(bootstrap, name)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    for _ in range(3):
        await producer.send_and_wait(name, b"x")
    await producer.stop()
    return name


@pytest.mark.parametrize("fed_offset", [-1, 1])
async def test_records_that_nobody_is_handed_are_noticed(bootstrap: str, topic: str, fed_offset: int) -> None:
    held = FedPartition(topic, 0, fed_offset)
    with pytest.raises(SilentConsumerError, match=f"records wait on {topic}-0"):
        async with asyncio.timeout(30):
            await watch_for_silence(Connection(bootstrap), topic, lambda: [held], LOOK_S)


async def test_a_consumer_that_has_all_is_not_called_silent(bootstrap: str, topic: str) -> None:
    """It looks on: a second partition that is silent ends the watch, the one that has all does not."""
    done, silent = FedPartition(topic, 0, 2), FedPartition(topic, 0, 0)
    looks = 0

    def held() -> list[FedPartition]:
        nonlocal looks
        looks += 1
        return [done] if looks <= 20 else [silent]

    with pytest.raises(SilentConsumerError):
        async with asyncio.timeout(30):
            await watch_for_silence(Connection(bootstrap), topic, held, LOOK_S)
    assert looks > 20
