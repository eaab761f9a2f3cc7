"""Background traffic: rates are kept, changes take effect, every request is counted, the end waits for the answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from infra.day.traffic import Flow, Inputs, Traffic
from streams.client.client import NoResultError


class Echo:
    """Answers each request after a moment; ``fails`` names the numbers that get no result."""

    def __init__(self, *, fails: frozenset[int] = frozenset()) -> None:
        self.asked: list[tuple[str, int]] = []
        self.fails = fails

    async def infer(self, model: str, inputs: Inputs, *, timeout_ms: int) -> Any:
        number = int(inputs["x"][0])
        self.asked.append((model, number))
        await asyncio.sleep(0.02)
        if number in self.fails:
            raise NoResultError(str(number), 1)
        return SimpleNamespace(result=SimpleNamespace(model_version="v1.0.0"), read_us=time.time_ns() // 1000)


def rows(number: int) -> Inputs:
    return {"x": np.array([number])}


async def reached(flow: Flow, count: int) -> None:
    async with asyncio.timeout(20):
        while flow.sent < count:
            await asyncio.sleep(0.001)


async def test_flows_run_side_by_side_until_the_end_and_every_request_is_answered() -> None:
    client = Echo()
    first, second = Flow("first", rows, rate=400.0), Flow("second", rows, rate=200.0)
    async with Traffic(client, first, second):
        await reached(first, 40)
        await reached(second, 20)
    assert (first.num_ok, second.num_ok) == (first.sent, second.sent)
    assert [number for model, number in client.asked if model == "first"] == list(range(first.sent))
    assert first.ok == {"v1.0.0": first.sent}
    assert len(first.latencies) == first.sent
    assert all(latency >= 20 for _, latency in first.latencies)


async def test_requests_are_due_at_the_rate_and_late_ones_are_made_up_for() -> None:
    flow = Flow("model", rows, rate=1000.0)
    async with Traffic(Echo(), flow):
        await reached(flow, 50)
    due = sorted(at for at, _ in flow.latencies)
    assert {round((after - before) / 1000) for before, after in itertools.pairwise(due)} == {1}


async def test_a_flow_without_a_rate_sends_nothing_and_begins_when_it_gets_one() -> None:
    idle, driven = Flow("idle", rows), Flow("driven", rows, rate=500.0)
    async with Traffic(Echo(), idle, driven):
        await reached(driven, 20)
        assert idle.sent == 0
        idle.rate = 500.0
        since_us = time.time_ns() // 1000
        await reached(idle, 5)
    assert min(at for at, _ in idle.latencies) >= since_us - 100_000


async def test_what_is_not_ok_is_counted_by_its_code() -> None:
    flow = Flow("model", rows, rate=500.0)
    async with Traffic(Echo(fails=frozenset({0, 3})), flow):
        await reached(flow, 10)
    assert flow.failed == {"no_result": 2}
    assert flow.num_ok == flow.sent - 2
