"""A slow model on a real stack: found out, moved to the slow lane's executor, and its neighbour does not notice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from executors.model_store import ModelStore
from infra.bench.models import bench_model
from infra.registration import Registrar
from streams.client.client import Client
from streams.connection import Connection
from tests.support.models import slow, version_of
from tests.support.stack import RunningStack, stack_settings, wait_until

FAST, SLOW_MODEL = "bench-00", "slow-one"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    folder = tmp_path_factory.mktemp("slow-lane")
    settings = stack_settings(folder, partitions=1, slow_executors=1, max_slow_executors=2)
    with RunningStack(settings) as running:
        running.wait_ready()
        asyncio.run(_register(running))
        wait_until(lambda: _lane(running, SLOW_MODEL) == -2, 30, "the slow lane in the plan")
        yield running


async def _register(stack: RunningStack) -> None:
    blob = slow(60)
    async with Registrar(Connection(stack.settings.bootstrap), ModelStore(stack.settings.data_dir)) as registrar:
        await registrar.register(*bench_model(FAST, 0))
        await registrar.register(blob, version_of(blob, name=SLOW_MODEL))


def _lane(stack: RunningStack, model: str) -> int:
    (entry,) = stack.isos_json("memory", "show", f"plan/{model}")
    body = entry["body"]
    return int((json.loads(body) if isinstance(body, str) else body)["lane"])


def inputs(model: str, value: float = 1.0) -> dict[str, np.ndarray]:
    return {"x": np.full((1, 256 if model == FAST else 4), value, np.float32)}


async def test_the_slow_lanes_executor_answers_for_the_slow_model_and_only_for_it(stack: RunningStack) -> None:
    async with Client(stack.settings.bootstrap) as client:
        answers = {name: await client.infer(name, inputs(name), timeout_ms=60_000) for name in (FAST, SLOW_MODEL)}
    served = {name: answer.result.provenance.executor for name, answer in answers.items()}
    assert served == {FAST: "executor-0", SLOW_MODEL: "executor-1"}


async def test_the_fast_lane_goes_on_while_the_slow_executor_stands_still(stack: RunningStack) -> None:
    async with Client(stack.settings.bootstrap) as client:
        await client.infer(SLOW_MODEL, inputs(SLOW_MODEL), timeout_ms=60_000)
        pid = stack.pid("executor-1")
        os.kill(pid, signal.SIGSTOP)
        try:
            waiting = asyncio.ensure_future(client.infer(SLOW_MODEL, inputs(SLOW_MODEL, 2.0), timeout_ms=60_000))
            for value in range(20):
                await client.infer(FAST, inputs(FAST, float(value)), timeout_ms=10_000)
            assert not waiting.done()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (await waiting).outputs["y"].tolist() == [[2.0] * 4]


async def test_a_killed_slow_executor_answers_again_and_no_request_is_lost(stack: RunningStack) -> None:
    async with Client(stack.settings.bootstrap) as client:
        calls = [
            asyncio.ensure_future(client.infer(SLOW_MODEL, inputs(SLOW_MODEL, float(value)), timeout_ms=60_000))
            for value in range(8)
        ]
        await calls[0]
        before = stack.pid("executor-1")
        os.kill(before, signal.SIGKILL)
        answers = await asyncio.gather(*calls)
        assert [answer.outputs["y"][0, 0] for answer in answers] == [float(value) for value in range(8)]
    stack.wait_restarted("executor-1", before, 120)


def test_a_roll_waits_for_each_class_of_lanes(stack: RunningStack) -> None:
    wait_until(lambda: stack.processes()["executor-1"]["phase"] == "ready", 60, "readiness of the slow executor")
    rows = stack.isos_json("restart", "executor")
    assert [row["process"] for row in rows] == ["executor-0", "executor-1"]
    assert all(row["caught_up_s"] is not None for row in rows)


def test_slow_executors_scale_by_a_policy_of_their_own(stack: RunningStack) -> None:
    quick = ("--pool", "slow", "--upscale-delay-s", "0", "--downscale-delay-s", "1", "--cooldown-s", "0")
    stack.isos("scaling", "set", "--min-replicas", "2", "--max-replicas", "2", *quick)
    wait_until(lambda: stack.isos_json("scaling", "show", "--pool", "slow")["replicas"] == 2, 60, "a second one")
    assert asyncio.run(_served_by(stack)) == {"executor-1", "executor-2"}
    pools = {row["pool"]: row["ready"] for row in stack.isos_json("status")["pools"]}
    assert pools == {"executors": 1, "executors-slow": 2}
    stack.isos("scaling", "set", "--pool", "slow", "--min-replicas", "1")
    wait_until(lambda: "executor-2" not in stack.processes(), 60, "one slow executor again")
    assert asyncio.run(_served_by(stack)) == {"executor-1"}
    assert stack.isos_json("scaling", "show")["is_set"] is False, "the fast pool has no policy"


async def _served_by(stack: RunningStack) -> set[str]:
    async with Client(stack.settings.bootstrap) as client:
        calls = [client.infer(SLOW_MODEL, inputs(SLOW_MODEL), timeout_ms=60_000) for _ in range(6)]
        found = [(await call).result.provenance.executor for call in calls]
    return set(found)
