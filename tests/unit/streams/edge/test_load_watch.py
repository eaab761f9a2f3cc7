"""Reports reach the forecast; old ones, unreadable ones and a broker that is away do it no harm."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

import streams.watch
from streams.codec import Codec, SchemaIds
from streams.connection import Connection
from streams.edge.forecast import Forecast
from streams.edge.load_watch import TOPIC, LoadWatch
from streams.edge.steering import Steering
from streams.memory_log import MemoryLog
from streams.topics import full_name
from tests.support.fake_consumer import FakeConsumer
from tests.support.fake_kafka import until
from tests.unit.streams.edge.test_forecast import load, version

CODEC = Codec(SchemaIds.local())


class FakeSchemas:
    """Knows our own schemas; remembers for which values it was asked."""

    codec = CODEC

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes | None]] = []

    async def prepare(self, topic: str, value: bytes | None) -> None:
        self.asked.append((topic, value))


async def test_only_what_comes_from_now_on_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    log, schemas, forecast, steering = MemoryLog(), FakeSchemas(), Forecast(), Steering()
    log.create(full_name(TOPIC))
    faults: list[Exception] = []
    monkeypatch.setattr(streams.watch, "consumer", lambda connection, **_: FakeConsumer(log, faults))
    monkeypatch.setattr(streams.watch, "RETRY_S", 0.001)
    given: Any = schemas
    watch = LoadWatch(Connection("127.0.0.1:1"), given, forecast, steering)
    say(log, CODEC.encode(TOPIC, load(version("before"))))
    running = asyncio.ensure_future(watch.run())
    try:
        await until(lambda: watch._watch.is_ready)
        say(log, b"rubbish")
        say(log, CODEC.encode(TOPIC, load(version(), sent_us=time.time_ns() // 1000)))
        await until(lambda: bool(forecast.executors))
        faults.append(KafkaConnectionError())
        say(log, CODEC.encode(TOPIC, load(version(), executor="executor-1")))
        await until(lambda: len(forecast.executors) == 2)
    finally:
        running.cancel()
        await asyncio.wait({running})
    now_us = time.time_ns() // 1000
    assert forecast.service("digits", "", now_us) is not None
    assert not steering.is_uneven
    assert forecast.service("before", "", now_us) is None
    assert {topic for topic, _ in schemas.asked} == {TOPIC}


def say(log: MemoryLog, value: bytes) -> None:
    log.append(full_name(TOPIC), 0, b"executor", value)
