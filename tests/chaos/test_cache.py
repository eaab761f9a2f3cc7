"""Cached answers while Redis is emptied, lies, stands still and dies: each request OK, each answer its own input's."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import redis

from executors.model_store import ModelStore
from infra.registration import Registrar
from schemas.model import TensorSpec
from streams.client.client import Client, Request
from streams.connection import Connection
from tests.support import models
from tests.support.broker import unique
from tests.support.faults import chaos_seed, ledger
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(400)

NUM_INPUTS = 40
SIGNATURE = (TensorSpec("x", "FP32", (4,)),), (TensorSpec("y", "FP32", (3,)),)
FROZEN_S = 3.0


class Questions:
    """A model, some inputs that come again and again, and the answer to each."""

    def __init__(self, stack: RunningStack, rng: random.Random) -> None:
        self.stack = stack
        self.rng = rng
        self.model = unique("cached")
        self.inputs = [np.full((1, 4), value, np.float32) for value in range(NUM_INPUTS)]
        self.answers: list[np.ndarray] = []

    async def register(self) -> None:
        """Register the model and learn the answers before anything is cached."""
        settings, blob = self.stack.settings, models.mlp(seed=11)
        async with Registrar(Connection(settings.bootstrap), ModelStore(settings.data_dir), 60) as registrar:
            await registrar.register(blob, models.version_of(blob, *SIGNATURE, name=self.model))
        async with Client(settings.bootstrap) as client:
            answers = await client.infer_many([Request(self.model, {"x": each}) for each in self.inputs])
        self.answers = [answer.outputs["y"] for answer in answers]

    async def ask(self, number: int) -> int:
        """Ask in random order, check every answer; how many came from the cache."""
        chosen = [self.rng.randrange(NUM_INPUTS) for _ in range(number)]
        async with Client(self.stack.settings.bootstrap, partitions=2, max_in_flight=50) as client:
            asked = [Request(self.model, {"x": self.inputs[each]}, timeout_ms=60_000) for each in chosen]
            answers = await client.infer_many(asked)
        for each, answer in zip(chosen, answers, strict=True):
            assert answer.outputs["y"] == pytest.approx(self.answers[each], abs=1e-5)
        return sum(answer.result.provenance.cached for answer in answers)

    async def until_cached(self) -> None:
        """Ask until the cache answers."""
        while await self.ask(NUM_INPUTS) == 0:
            pass

    async def flush(self) -> None:
        """Begin a new epoch: the Routers' own answers count no more either."""
        await asyncio.to_thread(self.stack.isos, "cache", "flush", self.model)


def confuse(client: redis.Redis, rng: random.Random) -> None:
    """Every cached answer stands under another one's key."""
    for name in client.scan_iter("isos:cache:*"):
        values = {key: value for key, value in client.hgetall(name).items() if key != b"bytes"}
        keys = list(values)
        rng.shuffle(keys)
        if keys:
            client.hset(name, mapping=dict(zip(keys, values.values(), strict=True)))


@contextmanager
def confused(url: str, rng: random.Random) -> Iterator[None]:
    """Confuse the cache all the time."""
    ended = threading.Event()

    def run() -> None:
        with redis.Redis.from_url(url) as client:
            while not ended.wait(0.02):
                confuse(client, rng)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def test_answers_stay_right_whatever_redis_does(two: RunningStack) -> None:
    seed = chaos_seed()
    print(f"\nseed {seed} (CHAOS_SEED={seed} repeats it)")
    rng, url = random.Random(seed), two.settings.redis_address
    before, questions = ledger(two), Questions(two, rng)
    await questions.register()
    await asyncio.to_thread(two.isos, "cache", "enable", questions.model)
    await questions.until_cached()

    with redis.Redis.from_url(url) as client:
        client.flushall()
    await questions.flush()
    await questions.until_cached()

    with confused(url, rng):
        while not _incidents(two):
            await questions.flush()
            await questions.ask(4 * NUM_INPUTS)

    await questions.flush()
    pid = two.freeze("redis")
    try:
        asking = asyncio.create_task(questions.ask(300))
        await asyncio.sleep(FROZEN_S)  # the length of the fault
    finally:
        two.thaw(pid)
    await asking
    await questions.until_cached()

    pid = two.kill("redis")
    await questions.flush()
    await questions.ask(100)
    await asyncio.to_thread(two.wait_restarted, "redis", pid)
    await questions.until_cached()

    books = await asyncio.to_thread(ledger, two)
    assert books["exit_status"] == 0, books
    assert all(books[name] == before[name] for name in ("error", "rejected", "expired", "duplicated", "missing"))


def _incidents(stack: RunningStack) -> bool:
    """Whether an incident about planted answers is open."""
    return stack.isos("memory", "show", "incident/cache_forged", check=False).returncode == 0
