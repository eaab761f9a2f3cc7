"""News of executed frames: only while wanted, from the end of the log on, and anew for each run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

import streams.executed_news
from schemas.frame import InferenceFrame
from streams.codec import Codec, SchemaIds
from streams.connection import Connection
from streams.executed_news import TOPIC, ExecutedNews
from streams.frame_effects import Answered, Followed
from streams.memory_log import MemoryLog
from streams.takeover import HeldPartition
from streams.topics import full_name
from tests.support.fake_consumer import FakeConsumer
from tests.support.frames import executed

CODEC = Codec(SchemaIds.local())
NAME = full_name(TOPIC)


class Router:
    """A process that holds partition 0 and may want news."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.log.create(NAME)
        self.errors: list[Exception] = []
        self.clients: list[FakeConsumer] = []
        self.held = [self.hold()]
        self.wanted = True
        self.news = ExecutedNews(Connection("nowhere:1"), CODEC, None, lambda: self.held, lambda: self.wanted)

    def hold(self) -> HeldPartition:
        held = HeldPartition("isos.admitted", 0, 1, num_runs=1)
        held.ready.set()
        return held

    def client(self, *_: Any, **__: Any) -> FakeConsumer:
        self.clients.append(FakeConsumer(self.log, self.errors))
        return self.clients[-1]

    def execute(self, frame: InferenceFrame) -> None:
        self.log.append(NAME, 0, None, CODEC.encode(TOPIC, frame))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def heard(self, count: int) -> list[Any]:
        """The next news of the partition."""
        news = self.held[0].news
        await self.until(lambda: len(news) >= count)
        return [news.popleft() for _ in range(count)]


@pytest.fixture
async def router(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Router]:
    made = Router()
    monkeypatch.setattr(streams.executed_news, "consumer", made.client)
    monkeypatch.setattr(streams.executed_news, "LOOK_S", 0.001)
    monkeypatch.setattr(streams.executed_news, "RETRY_S", 0.001)
    made.execute(executed(1, first=1))  # stands there before anybody follows
    running = asyncio.ensure_future(made.news.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert all(client.stopped for client in made.clients)


async def test_offsets_statuses_roles_and_who_ran_it_are_told(router: Router) -> None:
    assert await router.heard(1) == [Followed(on=True)]
    router.execute(replace(executed(3), roles=bytes([0, 2, 0])))
    (news,) = await router.heard(1)
    assert isinstance(news, Answered)
    assert [each.tolist() for each in (news.offsets, news.statuses, news.roles)] == [
        [100, 101, 102],
        [1, 1, 1],
        [0, 2, 0],
    ]
    assert news.executor == "executor-0"


async def test_what_is_no_frame_or_contradicts_itself_is_passed_over(router: Router) -> None:
    await router.heard(1)
    for value in (None, b"rubbish"):
        router.log.append(NAME, 0, None, value)
    router.execute(replace(executed(2), offsets=bytes(8)))
    router.execute(executed(1, first=7))
    (news,) = await router.heard(1)
    assert news.offsets.tolist() == [7]


async def test_trouble_is_told_and_begins_anew_at_the_end(router: Router) -> None:
    await router.heard(1)
    router.errors.append(KafkaConnectionError("the broker went away"))
    assert await router.heard(2) == [Followed(on=False), Followed(on=True)]
    router.execute(executed(1, first=8))
    (news,) = await router.heard(1)
    assert news.offsets.tolist() == [8]
    assert len(router.clients) == 2


async def test_a_new_run_of_a_partition_is_told_too(router: Router) -> None:
    await router.heard(1)
    router.held[0].num_runs += 1
    assert await router.heard(1) == [Followed(on=True)]
    router.held = [router.hold()]
    assert await router.heard(1) == [Followed(on=True)]


async def test_what_is_not_ready_or_not_held_is_not_followed(router: Router) -> None:
    await router.heard(1)
    router.held[0].ready.clear()
    await router.until(lambda: router.clients[0].stopped)
    assert await router.heard(1) == [Followed(on=False)]
    router.held[0].ready.set()
    assert await router.heard(1) == [Followed(on=True)]


async def test_no_client_while_nobody_wants_news(router: Router) -> None:
    await router.heard(1)
    router.wanted = False
    await router.until(lambda: router.clients[0].stopped)
    assert await router.heard(1) == [Followed(on=False)]
    router.execute(executed(1, first=9))
    router.wanted = True
    assert await router.heard(1) == [Followed(on=True)]
    router.execute(executed(1, first=10))
    (news,) = await router.heard(1)
    assert news.offsets.tolist() == [10]
