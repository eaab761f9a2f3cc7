"""Processes die while rows wait to be tried again: each row still ends once, and OK where its fallback can do it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import numpy as np
import pytest

from executors.model_store import ModelStore
from infra.registration import Registrar
from schemas.request import InferenceRequest
from streams.client.client import to_tensor
from streams.connection import Connection, consumer, start, stop_quietly
from tests.support import models
from tests.support.broker import unique
from tests.support.exchange import Exchange, Place, exchange
from tests.support.faults import TIMEOUT_MS, chaos_seed, ledger
from tests.support.frame_log import ends_of, frames_of
from tests.support.stack import RunningStack

pytestmark = pytest.mark.timeout(240)

TOO_MUCH = 1e13
"""As many floats of memory as nobody has: ``models.hungry`` fails on it."""
KILLED = ("router-0", "router-1", "executor-0", "executor-1")
BAD, GOOD = 8, 40
"""Rows of a burst; the bad ones of all bursts are fewer than what a model may try again at once."""
PATIENCE_S = 90.0


async def registered(stack: RunningStack) -> str:
    """A model whose active version fails on ``TOO_MUCH``, with a fallback that does not, and without a breaker."""
    name = unique("hungry")
    async with Registrar(Connection(stack.settings.bootstrap), ModelStore(stack.settings.data_dir)) as registrar:
        for number, blob in enumerate((models.identity(), models.hungry()), start=1):
            await registrar.register(blob, models.version_of(blob, name=name, version=f"v{number}.0.0"))
    for arguments in (
        ("serving", "set", name, "--fallback", "v1.0.0", "--no-breaker"),
        ("models", "activate", name, "v2.0.0"),
    ):
        await asyncio.to_thread(stack.isos, *arguments)
    return name


async def burst(kafka: Exchange, model: str, rng: random.Random) -> list[tuple[Place, float]]:
    """Rows good and bad on both partitions, with what each holds."""
    values = [TOO_MUCH] * BAD + [float(value) for value in range(1, GOOD + 1)]
    rng.shuffle(values)
    sent = []
    for value in values:
        tensor = to_tensor("x", np.full((1, 4), value, np.float32))
        request = InferenceRequest(unique("again"), model, (tensor,), timeout_ms=TIMEOUT_MS)
        sent.append((await kafka.send(request, rng.randrange(2)), value))
    return sent


async def checked(kafka: Exchange, sent: Sequence[tuple[Place, float]]) -> set[tuple[bool, str]]:
    """Every row is OK with its own numbers; whether it was a bad one, and the version that answered."""
    found = set()
    for place, value in sent:
        result = await kafka.result(place, PATIENCE_S)
        assert result.status == "OK", result.error
        assert np.frombuffer(result.outputs[0].data, "<f4").tolist() == [np.float32(value)] * 4
        found.add((value == TOO_MUCH, result.model_version))
    return found


async def test_rows_that_wait_to_be_tried_again_outlive_who_had_them(two: RunningStack) -> None:
    """Killed at the very moment when something left to be tried again."""
    seed = chaos_seed()
    print(f"\nseed {seed} (CHAOS_SEED={seed} repeats it)")
    rng, connection = random.Random(seed), Connection(two.settings.bootstrap)
    model = await registered(two)
    before = ledger(two)
    async with exchange(two.settings.bootstrap) as kafka:
        async with asyncio.timeout(PATIENCE_S):  # until each Router knows the plan
            while (True, "v1.0.0") not in await checked(kafka, await burst(kafka, model, rng)):
                pass
        reader = consumer(connection)
        await start(reader, "looking at retries")
        try:
            sent = []
            for name in rng.sample(KILLED, len(KILLED)):
                at = await ends_of(reader, connection, "inference.retries")
                sent += await burst(kafka, model, rng)
                async with asyncio.timeout(PATIENCE_S):
                    while await ends_of(reader, connection, "inference.retries") == at:
                        pass
                gone = two.kill(name)
                sent += await burst(kafka, model, rng)
                await asyncio.to_thread(two.wait_restarted, name, gone)
            served = await checked(kafka, sent)
        finally:
            await stop_quietly(reader)
        assert served == {(False, "v2.0.0"), (True, "v1.0.0")}
    books = await asyncio.to_thread(ledger, two)
    assert (books["missing"], books["duplicated"]) == (before["missing"], before["duplicated"]) == (0, 0)
    tried = [
        frame.attempt
        for frame in await frames_of(connection, "inference.retries")
        if any(segment.model == model for segment in frame.segments)
    ]
    assert set(tried) == {1}
