"""More than an executor carries, on a real stack: what would be late is refused at once, the rest is done in time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from executors.model_store import ModelStore
from infra.bench.models import VERSION, mlps, slow
from infra.monitor_view import read_monitor
from infra.registration import Registrar
from streams.client.answer import Answer
from streams.client.client import Client, Request
from streams.codec import subject_of
from streams.connection import Connection
from streams.registry.schema_log import read_schema_ids
from tests.support.load import LoadRun
from tests.support.stack import RunningStack, stack_settings

ROW_MS = 20.0
BUDGET_MS = 1_000
RATE = 1.5 * 1000 / ROW_MS
SECONDS = 12.0
BESIDE = 0.1
"""Rate of the other model, of the flood's."""
SLOW = slow("slow-row", ROW_MS)
(FAST,) = mlps(1)
INPUTS = {"x": np.ones((1, *SLOW.load.item_shape), np.float32)}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with RunningStack(stack_settings(tmp_path_factory.mktemp("overload"), partitions=1)) as running:
        running.wait_ready()
        asyncio.run(_register(running))
        yield running


async def _register(stack: RunningStack) -> None:
    async with Registrar(Connection(stack.settings.bootstrap), ModelStore(stack.settings.data_dir)) as registrar:
        for model in (SLOW, FAST):
            await registrar.register(model.blob, model.facts)
    async with Client(stack.settings.bootstrap) as client:  # both are loaded and warm
        await client.infer(SLOW.load.model, INPUTS, timeout_ms=60_000)
        await client.infer(FAST.load.model, {"x": np.ones((1, *FAST.load.item_shape), np.float32)}, timeout_ms=60_000)


async def _refused(client: Client) -> Answer:
    """Ask with ids of our own until one is refused; the others end as they may."""
    number = 0
    while True:
        number += 1
        request = Request(SLOW.load.model, INPUTS, VERSION, timeout_ms=BUDGET_MS, request_id=f"mine-{number}")
        answer = await client.submit(request, wait_s=30.0)
        if answer.result.status == "REJECTED":
            return answer


async def _seen_waiting(stack: RunningStack) -> str:
    """Ask as `isos status` does until somebody is said to wait."""
    while True:
        seen = await asyncio.to_thread(read_monitor, stack.settings)
        if seen is not None and seen["longest_wait"] != "-":
            return str(seen["longest_wait"])


async def test_a_flood_is_refused_at_once_and_what_is_taken_is_answered(stack: RunningStack, tmp_path: Path) -> None:
    bootstrap = stack.settings.bootstrap
    schema_id = (await read_schema_ids(Connection(bootstrap))).write_ids[subject_of("inference.requests")]
    loads = [SLOW.load, replace(FAST.load, weight=BESIDE)]
    rate = RATE * (1 + BESIDE)
    async with Client(bootstrap) as client:
        with LoadRun(tmp_path, bootstrap, schema_id, loads, rate, timeout_ms=BUDGET_MS, seconds=SECONDS) as load:
            await asyncio.to_thread(load.go)
            refusal = asyncio.ensure_future(_refused(client))
            waiting = asyncio.ensure_future(_seen_waiting(stack))
            record = await asyncio.to_thread(load.wait)
        for each in (refusal, waiting):
            each.cancel()  # has come long ago, or the assertions say how the flood ended
        summary, matched = record.summary, record.matched
        assert (summary["missing"], summary["duplicated"], summary["error"]) == (0, 0, 0)
        flood, beside = record.sent.load == 0, record.sent.load == 1
        # In the first seconds it is learned how much slower than its session this machine is, with all that runs here.
        learned = record.sent.scheduled_us >= record.sent.scheduled_us[0] + SECONDS / 2 * 1e6
        ok, rejected, expired = (int(np.sum(flood & learned & (matched.status == status))) for status in (1, 3, 4))
        print(f"\nok {ok}, rejected {rejected}, expired {expired}")
        assert rejected >= 4 * expired, "who is refused is refused at the door"
        assert ok >= expired, "what is taken is done in time, as a rule"
        waited_ms = matched.latency_us[flood & learned & (matched.status == 3)] / 1000
        assert float(np.median(waited_ms)) < BUDGET_MS / 2, "who is refused hears of it long before the time is up"
        assert not np.any(matched.status[beside] == 3), "the other model has nothing to do with it"
        assert waiting.result().startswith(f"{SLOW.load.model} {VERSION}, ")
        refused = refusal.result()
        error = refused.result.error
        assert error is not None
        assert (error.code, error.retry_after_ms >= 50) == ("overloaded", True)
        assert f"{SLOW.load.model} {VERSION} would be done with it in about" in error.message
        again = await client.infer(SLOW.load.model, INPUTS, request_id=refused.result.request_id, timeout_ms=60_000)
        assert again.outputs["y"].shape == INPUTS["x"].shape


def test_the_ledger_balances(stack: RunningStack) -> None:
    stack.isos("ledger", "--drained")
