"""Faults at 2,000 requests/s: executors, Redis and the broker fail; every well-formed request ends OK, exactly once."""

import asyncio
import os
import random
import threading

import numpy as np
import pytest
import redis

from executors.model_store import ModelStore
from infra.registration import Registrar
from isos import Client, Request
from schemas.model import TensorSpec
from schemas.request import InferenceRequest
from streams.client.client import to_tensor
from streams.connection import Connection
from tests.support import models
from tests.support.broker import unique
from tests.support.exchange import exchange
from tests.support.faults import FAST, TIMEOUT_MS, chaos_seed, cpu_ticks, traffic
from tests.support.lying_redis import LIES, Liar, few, keys_of, plant
from tests.support.poison import GARBAGE, Poison
from tests.support.stack import wait_until

pytestmark = pytest.mark.timeout(300)

RATE = float(os.environ.get("CHAOS_RATE") or 2_000.0)
SLOW_PER_S = 10.0
HUNG_S = 15.0
REDIS_FROZEN_S = 4.0
BROKER_FROZEN_S = 20.0
GARBAGE_S = 8.0
HEALED_S = 15.0
RECOVERY_S = 30.0


@pytest.fixture
def stack(two):
    return two


@pytest.fixture
def rng():
    seed = chaos_seed()
    print(f"\nseed {seed} (CHAOS_SEED={seed} repeats it)")
    return random.Random(seed)


@pytest.fixture
def run(stack, tmp_path, rng):
    """Traffic under a fault; afterwards its record and the ledger are right to the last request."""
    with traffic(stack, tmp_path, rng.randrange(1 << 30), RATE, SLOW_PER_S) as running:
        yield running
        running.check(RECOVERY_S)


def starts(stack):
    return {name: each["started_us"] for name, each in stack.processes().items()}


def test_an_executor_is_killed_in_the_middle_of_a_batch_and_one_hangs(stack, run):
    """What either had in its hands is done again by the other one, which has the lanes after the session time-out."""
    killed = run.busiest("executor")
    pid = stack.freeze(killed)
    threading.Event().wait(1.0)  # the length of the backlog that it has in its hands then
    ticks = cpu_ticks(pid)
    stack.thaw(pid)
    wait_until(lambda: cpu_ticks(pid) >= ticks + 2, 10, "work on the backlog")
    run.kill_now(killed)
    run.freeze_until_replaced(run.busiest("executor"), HUNG_S)


def test_redis_is_killed_frozen_and_flushed_and_lies(stack, run):
    """No process of ours is started anew for it."""
    before = {name: started for name, started in starts(stack).items() if name != "redis"}
    run.kill("redis")
    run.freeze("redis", REDIS_FROZEN_S)
    redis.Redis.from_url(stack.settings.redis_address).flushall()
    run.note("flush", "redis")
    run.probe()
    liar = Liar(stack.settings.redis_address, run.rng)
    liar.start()
    wait_until(lambda: liar.num_rounds >= len(LIES), 60, "all kinds of lies")
    liar.finish()
    run.note("lies", "redis")
    run.probe()
    assert liar.num_planted > 0
    assert {name: started for name, started in starts(stack).items() if name != "redis"} == before


async def test_redis_lies_about_an_id(stack, rng):
    """Under each key beside it, and under its own; asked on the other edge, which has nothing but Redis to ask.

    Whatever stands there, the request is answered, and ids are shared again soon: nobody has to clean up.
    """
    url = stack.settings.redis_address
    before = starts(stack)
    async with exchange(stack.settings.bootstrap) as kafka:

        async def ask(request_id, partition):
            return await kafka.ask(request(request_id), partition)

        async def shared():
            """An id that was used on one partition is known on the other."""
            async with asyncio.timeout(HEALED_S):
                while True:
                    name = unique("shared")
                    await ask(name, 0)
                    if (await ask(name, 1)).provenance.cached:
                        return

        async def lied_to(keys, lie):
            """Plant under some keys, or under those that came with the request."""
            before, name = set(keys_of(url)), unique("lied")
            first = await ask(name, 0)
            planted = keys or [key for key in keys_of(url) if key not in before]
            await asyncio.to_thread(plant, url, planted, lie, rng)
            again, other = await ask(name, 1), await ask(unique("lied"), 0)
            ends = [each.error.code if each.error else each.status for each in (first, again, other)]
            assert ends == ["OK"] * 3, (planted, lie)
            assert first.outputs == again.outputs
            await shared()

        redis.Redis.from_url(url).flushall()
        await shared()
        for lie in LIES:
            await lied_to([], lie)
        for key in few(keys_of(url)):
            await lied_to([key], rng.choice(list(LIES)))
    assert starts(stack) == before


def request(request_id):
    row = np.full((1, 256), 0.5, np.float32)
    return InferenceRequest(request_id, FAST[0], (to_tensor("x", row),), timeout_ms=TIMEOUT_MS)


def test_the_broker_is_restarted_and_killed_and_frozen(stack, run):
    stack.isos("restart", "broker")
    run.note("restart", "broker")
    run.probe()
    run.kill("broker")
    run.wait_for_traffic()
    run.freeze("broker", BROKER_FROZEN_S)


CRASHING = "divides"
NUM_BESIDE = 20


def test_a_model_that_crashes_its_process(stack, run):
    """One request divides the least number by -1: it ends with an error, those beside it and all others end OK."""
    asyncio.run(register_crashing(stack.settings))
    bad, beside = asyncio.run(divide(stack.settings.bootstrap))
    assert (bad.status, bad.error.code) == ("ERROR", "execution_failed")
    assert {each.status for each in beside} == {"OK"}
    assert [np.frombuffer(each.outputs[0].data, "<i8")[0] for each in beside] == list(range(NUM_BESIDE))
    run.num_garbage, run.num_probes = 1, run.num_probes + NUM_BESIDE
    run.note("crash", "executor")
    run.probe()


async def register_crashing(settings):
    blob = models.divides()
    inputs = tuple(TensorSpec(name, "INT64", (1,)) for name in ("x", "d"))
    facts = models.version_of(blob, inputs, (TensorSpec("y", "INT64", (1,)),), name=CRASHING)
    async with Registrar(Connection(settings.bootstrap), ModelStore(settings.data_dir)) as registrar:
        await registrar.register(blob, facts)


async def divide(bootstrap):
    """Results of the request that crashes and of those sent with it: 2 n / 2."""
    pairs = [(np.iinfo(np.int64).min, -2), *((2 * number, 1) for number in range(NUM_BESIDE))]
    async with Client(bootstrap) as client:
        sent = [
            Request(CRASHING, {"x": np.array([[x]], np.int64), "d": np.array([[d]], np.int64)}, timeout_ms=TIMEOUT_MS)
            for x, d in pairs
        ]
        answers = await asyncio.gather(*(client.submit(each, wait_s=120) for each in sent))
    return answers[0].result, [each.result for each in answers[1:]]


def test_garbage_among_the_requests(stack, run):
    """One record in twenty is none."""
    before = starts(stack)
    poison = Poison(stack.settings.bootstrap, GARBAGE, rate=RATE / 20)
    poison.start()
    threading.Event().wait(GARBAGE_S)  # the length of the fault
    poison.finish()
    run.num_garbage = len(poison.places)
    assert run.num_garbage > 0.9 * GARBAGE_S * RATE / 20
    run.probe()
    assert starts(stack) == before
