"""Processes die under load: OK results of an ordered model's key stand in the order of its requests all the same."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import numpy as np
import pytest

from executors.model_store import ModelStore
from infra.registration import Registrar
from schemas.request import InferenceRequest
from streams.client.client import to_tensor
from streams.connection import Connection
from tests.support import models
from tests.support.broker import unique
from tests.support.exchange import Exchange, Place, exchange
from tests.support.faults import TIMEOUT_MS, chaos_seed, ledger
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(240)

KEYS = ("a", "b", "c", "d", "e")
BURST, PAUSE_S = 25, 0.05
PATIENCE_S = 90.0


async def registered(stack: RunningStack) -> str:
    """An ordered model with two versions, the second one for requests that name it."""
    name = unique("ordered")
    async with Registrar(Connection(stack.settings.bootstrap), ModelStore(stack.settings.data_dir)) as registrar:
        for number, blob in enumerate((models.identity(), models.slow(5.0)), start=1):
            facts = models.version_of(blob, name=name, version=f"v{number}.0.0")
            await registrar.register(blob, replace(facts, ordered=True))
    return name


class Traffic:
    """Requests of all keys, priorities and both versions, until it is told to stop; ``sent``: key by place."""

    def __init__(self, kafka: Exchange, model: str, rng: random.Random) -> None:
        self.sent: dict[Place, str] = {}
        self._kafka, self._model, self._rng = kafka, model, rng
        self._ends = asyncio.Event()

    async def run(self) -> None:
        """About 500 requests a second."""
        while not self._ends.is_set():
            await asyncio.gather(*[self._one() for _ in range(BURST)])
            await asyncio.sleep(PAUSE_S)

    def stop(self) -> None:
        """Send no more."""
        self._ends.set()

    async def _one(self) -> None:
        rng, key = self._rng, self._rng.choice(KEYS)
        tensor = to_tensor("x", np.full((rng.randint(1, 3), 4), rng.random(), np.float32))
        version = "v2.0.0" if rng.random() < 0.02 else None
        request = InferenceRequest(
            unique("r"), self._model, (tensor,), version=version, priority=rng.randint(0, 9), timeout_ms=TIMEOUT_MS,
            routing_key=key,
        )  # fmt: skip
        self.sent[await self._kafka.send(request, rng.randrange(2))] = key


async def test_results_of_a_key_keep_their_order_over_kills(two: RunningStack) -> None:
    seed = chaos_seed()
    print(f"\nseed {seed} (CHAOS_SEED={seed} repeats it)")
    rng = random.Random(seed)
    model = await registered(two)
    before = ledger(two)
    async with exchange(two.settings.bootstrap) as kafka:
        traffic = Traffic(kafka, model, rng)
        running = asyncio.ensure_future(traffic.run())
        for stage in rng.sample(("edge", "router", "executor", "validator"), 4):
            for name in (f"{stage}-0", f"{stage}-1"):  # whichever of them has the partition or the lane
                gone = two.kill(name)
                await asyncio.to_thread(two.wait_restarted, name, gone)
        traffic.stop()
        await running
        for place in traffic.sent:
            await kafka.result(place, PATIENCE_S)
        results = [(place, result) for place, result in kafka.answered if place in traffic.sent]
    last: dict[tuple[int, str], int] = {}
    served = 0
    for (partition, offset), result in results:
        if result.status == "OK":
            line = partition, traffic.sent[partition, offset]
            assert last.get(line, -1) < offset, f"{line}: {offset} stands behind {last[line]}"
            last[line] = offset
            served += 1
    print(f"{len(results)} results, {served} OK, of {len(last)} keys of a partition")
    assert served > 0.9 * len(traffic.sent)
    assert len(last) == 2 * len(KEYS)
    books = await asyncio.to_thread(ledger, two)
    assert (books["missing"], books["duplicated"]) == (before["missing"], before["duplicated"]) == (0, 0)
