"""The result cache on a real Redis: shared, bounded, and right when Redis is dead, frozen, emptied or lies."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from infra.redis_server import answers_redis, find_redis
from streams.cache import store as store_module
from streams.cache.store import CacheStore
from streams.cache.values import Entry, Seal
from tests.support import cache_scripts
from tests.support.broker import free_ports
from tests.support.cached import digests_of, entry, executed, filled
from tests.support.frames import T, frame, row

HOUR_US = 3_600_000_000
TOOLS = Path(__file__).resolve().parent.parent.parent / ".isos"


class Stack:
    """The secret of a stack and its processes' stores."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seal = Seal(secrets.token_bytes(32))
        self.stores: list[CacheStore] = []
        self.client = redis.asyncio.Redis.from_url(url)

    def process(self, *, max_bytes: int = 1 << 24, local_bytes: int = 0) -> CacheStore:
        self.stores.append(CacheStore(self.url, self.seal, max_bytes=max_bytes, local_bytes=local_bytes))
        return self.stores[-1]

    @property
    def newer(self) -> str:
        return f"isos:cache:{self.seal.fingerprint}:newer"

    @property
    def older(self) -> str:
        return f"isos:cache:{self.seal.fingerprint}:older"

    async def close(self) -> None:
        for store in self.stores:
            await store.close()
        with contextlib.suppress(redis.exceptions.ConnectionError):
            await self.client.delete(self.newer, self.older)
        await self.client.aclose()


@pytest.fixture
async def stack(redis_url: str) -> AsyncIterator[Stack]:
    made = Stack(redis_url)
    yield made
    await made.close()


def answers(*offsets: int, items: int = 1) -> list[tuple[bytes, bytes]]:
    routed = frame([row(offset, items=items) for offset in offsets])
    return filled(executed(routed), digests_of(routed))


def fields(*offsets: int, items: int = 1) -> list[bytes]:
    return [field for field, _ in answers(*offsets, items=items)]


async def look(store: CacheStore, wanted: list[bytes]) -> list[Entry | None]:
    return await store.look_up(wanted, [HOUR_US] * len(wanted), T + 1)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine cuts no look-up short."""
    monkeypatch.setattr(store_module, "WAIT_S", 10.0)


async def settled(store: CacheStore) -> None:
    while store._asking or store._filling is not None:
        await asyncio.wait([*store._asking, *([] if store._filling is None else [store._filling])])


async def fill(store: CacheStore, payloads: list[tuple[bytes, bytes]]) -> None:
    store.fill(payloads)
    await settled(store)


async def test_processes_of_a_stack_share_answers_and_others_see_none(stack: Stack, redis_url: str) -> None:
    validator, router, stranger = stack.process(), stack.process(local_bytes=1 << 20), Stack(redis_url)
    await fill(validator, answers(*range(600)))
    wanted = fields(*range(700))
    assert await look(router, wanted) == [entry(float(n)) for n in range(600)] + [None] * 100
    assert await look(stranger.process(), wanted) == [None] * 700
    assert validator.counts.num_filled == 600
    held = await router.held()
    assert held is not None
    assert held.num_answers == 600
    assert 600 * 100 < held.num_bytes < 600 * 1000
    assert 0 < await stack.client.ttl(stack.newer) <= store_module.KEY_TTL_S
    await stranger.close()


async def test_the_cache_is_bounded_by_itself(stack: Stack) -> None:
    """What was filled last is there; what Redis holds stays within the bound and one write more."""
    store = stack.process(max_bytes=200_000)
    for first in range(0, 4_000, 100):
        await fill(store, answers(*range(first, first + 100)))
    held = [await stack.client.memory_usage(name) or 0 for name in (stack.newer, stack.older)]
    assert 0 < sum(held) < 300_000
    assert await look(store, fields(*range(100))) == [None] * 100
    newest = await look(store, fields(*range(3_800, 4_000)))
    assert newest == [entry(float(n)) for n in range(3_800, 4_000)]


async def test_the_double_does_what_redis_does(stack: Stack) -> None:
    """Random fills and look-ups, through rotations, on both."""
    chance = random.Random(7)
    real, double = stack.process(max_bytes=60_000), stack.process(max_bytes=60_000)
    hashes: cache_scripts.Hashes = {}

    async def look_up(*, args: list[object]) -> bytes:
        return cache_scripts.look_up(hashes, args)

    async def put(*, args: list[object]) -> int:
        return cache_scripts.fill(hashes, args)

    double._look_up, double._fill = look_up, put
    for _ in range(150):
        offsets = [chance.randrange(400) for _ in range(chance.randrange(1, 30))]
        if chance.random() < 0.5:
            wanted = fields(*offsets)
            assert await look(real, wanted) == await look(double, wanted)
        else:
            payloads = answers(*offsets, items=chance.randrange(1, 3))
            await fill(real, payloads)
            await fill(double, payloads)
    assert len(await stack.client.hgetall(stack.older)) == len(hashes[stack.older])


async def test_an_emptied_redis_is_filled_again(stack: Stack) -> None:
    store = stack.process()
    await fill(store, answers(1, 2))
    await stack.client.delete(stack.newer, stack.older)
    await stack.client.script_flush()
    assert await look(store, fields(1, 2)) == [None, None]
    await fill(store, answers(1))
    assert await look(store, fields(1, 2)) == [entry(1.0), None]
    assert store.is_away is False


async def test_planted_values_are_misses(stack: Stack) -> None:
    store, other = stack.process(), Stack(stack.url)
    await fill(store, answers(1, 2, 3, 4))
    first, second, third, fourth = fields(1, 2, 3, 4)
    sealed = await stack.client.hget(stack.newer, first)
    assert isinstance(sealed, bytes)
    await stack.client.hset(stack.newer, second, sealed)  # a true value under another key
    await stack.client.hset(stack.newer, third, sealed[:20] + b"\x00" * (len(sealed) - 20))
    ((_, payload),) = answers(9)
    await stack.client.hset(stack.newer, fourth, other.seal.close(fourth, payload))
    assert await look(store, [first, second, third, fourth]) == [entry(1.0), None, None, None]
    assert store.counts.num_forged == 3
    await fill(store, answers(2, 3))
    assert await look(store, [second, third]) == [entry(2.0), entry(3.0)]
    await other.close()


async def test_whatever_stands_in_the_place_of_the_hashes_is_a_miss_and_goes(stack: Stack) -> None:
    store = stack.process()
    await stack.client.set(stack.newer, "planted")
    await stack.client.rpush(stack.older, "planted")
    assert await look(store, fields(1)) == [None]
    await fill(store, answers(1))
    assert await look(store, fields(1)) == [entry(1.0)]
    await stack.client.hset(stack.newer, "bytes", "no number")
    await fill(store, answers(2))
    await fill(store, answers(2))
    assert await look(store, fields(2)) == [entry(2.0)]
    assert store.is_away is False


async def test_huge_values_neither_fill_the_answer_nor_the_process(stack: Stack) -> None:
    store = stack.process(local_bytes=1 << 20)
    await stack.client.hset(stack.newer, fields(1)[0], b"x" * (20 << 20))
    await fill(store, answers(2))
    assert await look(store, fields(1, 2)) == [None, entry(2.0)]
    assert store.counts.num_forged == 0  # it did not even travel
    await fill(store, answers(*range(10, 40), items=20_000))  # 240 kB each
    found = await look(store, fields(*range(10, 40), items=20_000))
    assert found[0] == entry(10.0, items=20_000)
    assert 1 <= len(found) - found.count(None) <= 4
    assert store.local.num_bytes <= 1 << 20


@contextlib.asynccontextmanager
async def own_redis(port: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A Redis of the test's own, to be stopped and killed."""
    server, variables = find_redis(TOOLS)
    command = (server, "--port", str(port), "--bind", "127.0.0.1", "--save", "")
    process = subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL)
    ready = answers_redis("127.0.0.1", port)
    try:
        while not await ready(process.pid):
            assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.wait()


async def test_a_frozen_redis_costs_milliseconds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    stack = Stack(f"redis://127.0.0.1:{port}/0")
    async with own_redis(port) as process:
        store = stack.process()
        await fill(store, answers(1))
        assert await look(store, fields(1)) == [entry(1.0)]
        monkeypatch.setattr(store_module, "WAIT_S", 0.01)
        process.send_signal(signal.SIGSTOP)
        began = time.perf_counter()
        for _ in range(200):
            assert await store.look_up(fields(1), [HOUR_US], T + 1) == [None]
        assert time.perf_counter() - began < 1.0
        assert store.counts.num_unanswered == 200
        process.send_signal(signal.SIGCONT)
        await settled(store)
        monkeypatch.setattr(store_module, "WAIT_S", 10.0)
        assert await look(store, fields(1)) == [entry(1.0)]
        assert store.is_away is False
        await stack.close()


async def test_a_dead_redis_is_a_miss_and_one_that_comes_back_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_AFTER_S", 0.05)
    (port,) = free_ports(1)
    stack = Stack(f"redis://127.0.0.1:{port}/0")
    store = stack.process()
    async with own_redis(port):
        await fill(store, answers(1))
        assert await look(store, fields(1)) == [entry(1.0)]
    assert await store.look_up(fields(1), [HOUR_US], T + 1) == [None]
    await fill(store, answers(2))
    assert store.counts.num_dropped == 1
    assert await store.held() is None
    async with own_redis(port):
        while store.is_away:
            await fill(store, answers(3))
        assert await look(store, fields(1, 3)) == [None, entry(3.0)]
        await stack.close()
