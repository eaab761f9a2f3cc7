"""Redis as the edges see it: three scripts and a SET; shared by all, away for a while, slow to say so, or flushed."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from streams.edge.quota import LocalQuota
from tests.sim.world import World
from tests.support import cache_scripts

Script = Callable[["RedisDouble", Sequence[Any]], Any]


class RedisDouble:
    """The client of one process; what it stores is the world's."""

    def __init__(self, world: World) -> None:
        self.world = world

    def register_script(self, text: str) -> Callable[..., Awaitable[Any]]:
        """A script by what it does."""
        script: Script = _charge if "isos:quota" in text else _claim if "'NX'" in text else _take_over
        if "isos_cache" in text:
            script = _look_up if "'look up'" in text else _fill

        async def call(*, args: Sequence[Any]) -> Any:
            return await self.answer(lambda: script(self, args))

        return call

    async def set(self, key: str, value: Any) -> Any:
        """SET without an expiry."""
        return await self.answer(lambda: self.world.redis.__setitem__(key, (str(value), float("inf"))))

    async def answer(self, act: Callable[[], Any]) -> Any:
        """A call, which may fail before or after it had its effect."""
        try:
            return await self._answer(act)
        except asyncio.CancelledError:
            self.world.count("redis answers late")
            raise

    async def _answer(self, act: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        if self.world.redis_away:
            self.world.count("redis calls refused")
            raise RedisConnectionError("simulated: Redis is away")
        answer = act()
        await asyncio.sleep(0)
        if self.world.rng.random() < self.world.profile.refusal:
            self.world.count("redis answers lost")
            raise RedisConnectionError("simulated: the answer is lost")
        return answer

    async def aclose(self) -> None:
        await asyncio.sleep(0)

    def get(self, key: Any) -> Any:
        """The value of a key that has not expired."""
        value, until_us = self.world.redis.get(key, (None, 0.0))
        return value if until_us > self.world.now_us else None

    def put(self, key: Any, value: Any, ttl_ms: int) -> None:
        """A value with an expiry."""
        self.world.redis[key] = (value, self.world.now_us + ttl_ms * 1000)


def answers_of(world: World) -> cache_scripts.Hashes:
    """The cached answers, which go with a flush like everything else."""
    hashes: cache_scripts.Hashes = world.redis.setdefault("cache", ({}, float("inf")))[0]
    return hashes


def _look_up(redis: RedisDouble, args: Sequence[Any]) -> bytes:
    return cache_scripts.look_up(answers_of(redis.world), args)


def _fill(redis: RedisDouble, args: Sequence[Any]) -> int:
    return cache_scripts.fill(answers_of(redis.world), args)


def redis_module(world: World) -> Any:
    """In place of the package ``redis``."""
    client = SimpleNamespace(from_url=lambda *_, **__: RedisDouble(world))
    return SimpleNamespace(asyncio=SimpleNamespace(Redis=client))


def _charge(redis: RedisDouble, args: Sequence[Any]) -> list[int]:
    """``streams.edge.quota``: a coordinate that was judged before is judged alike again."""
    interval_us, burst, _, _, groups = args[:5]
    quota: LocalQuota = redis.world.redis.setdefault("quota", (LocalQuota(interval_us, burst), float("inf")))[0]
    refused: list[int] = []
    at, index = 5, 0
    for _ in range(groups):
        name, _, _, packed, runs = args[at : at + 5]
        at += 5
        offsets = [number for (number,) in struct.iter_unpack(">q", packed)]
        for _ in range(runs):
            tenant, time_us, count = args[at : at + 3]
            at += 3
            for offset in offsets[:count]:
                place = ("quota", name, offset)
                if redis.get(place) is None:
                    redis.put(place, quota.one(tenant, time_us), 10**9)
                if redis.get(place) >= 0:
                    refused += [index, redis.get(place)]
                index += 1
            offsets = offsets[count:]
    return refused


def _claim(redis: RedisDouble, args: Sequence[Any]) -> list[Any]:
    """``streams.edge.request_ids``: claim ids; met holders, and partitions whose mark does not reach."""
    window_ms, claims, count = args[:3]
    met: list[Any] = []
    lost: list[int] = []
    for number in range(len(claims) // 52):
        key, claim = claims[number * 52 : number * 52 + 16], claims[number * 52 + 16 : number * 52 + 52]
        held = redis.get(key)
        if held is None:
            redis.put(key, claim, window_ms)
        elif held[:12] != claim[:12]:
            met += [number, held]
    for number in range(count):
        mark, first, last = args[3 + 3 * number : 6 + 3 * number]
        seen = int(redis.get(mark) or 0)
        if seen < first:
            lost.append(number)
        elif seen < last:
            redis.world.redis[mark] = (str(last), float("inf"))
    return [met, lost]


def _take_over(redis: RedisDouble, args: Sequence[Any]) -> bytes:
    """``streams.edge.request_ids``: a new holder in place of the expected one."""
    window_ms, key, expected, new = args
    held: bytes | None = redis.get(key)
    if held is None or held == expected or held[:12] == new[:12]:
        redis.put(key, new, window_ms)
        return bytes(new)
    return held
