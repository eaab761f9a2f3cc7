"""Hedging on a real stack: an executor stands still, and the other one answers some of its rows, each but once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from aiokafka import TopicPartition

from executors.model_store import ModelStore
from infra.bench.models import bench_model
from infra.hedging import STAGE
from infra.log_reader import LogReader
from infra.registration import Registrar
from schemas.frame import InferenceFrame
from schemas.memory import MemoryCommand
from schemas.plan import HASHED
from schemas.serving import ServingPolicy
from streams.canonical import to_json
from streams.client.client import Client
from streams.codec import Codec, subject_of
from streams.columns import HEDGE
from streams.connection import Connection, consumer, producer
from streams.lane_class import lane_for
from streams.memory_view import plan
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from streams.watch import MemoryWatch
from tests.support.broker import unique
from tests.support.faults import ledger
from tests.support.load import Load, LoadRun
from tests.support.stack import RunningStack, stack_settings, wait_until

LANES = 2
RATE = 300.0
WARM_S = 6.0
"""As many rows as the Router wants to have seen, and a credit of some copies."""
FROZEN_S = 4.0
MODELS = [
    next(name for name in (f"bench-{n:02}" for n in range(50)) if lane_for(name, HASHED, LANES, 0) == lane)
    for lane in range(LANES)
]
"""A model at home on each lane."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    settings = stack_settings(tmp_path_factory.mktemp("hedge"), executors=LANES)
    with RunningStack(settings) as running:
        running.wait_ready()
        asyncio.run(_register(running))
        yield running


async def _register(stack: RunningStack) -> None:
    async with Registrar(Connection(stack.settings.bootstrap), ModelStore(stack.settings.data_dir)) as registrar:
        for number, name in enumerate(MODELS):
            await registrar.register(*bench_model(name, number))


async def hedge(stack: RunningStack, *, on: bool) -> None:
    """Set the policy of both models and wait until it is in their plans."""
    connection = Connection(stack.settings.bootstrap)
    codec = Codec(await read_schema_ids(connection))
    sender, memory = producer(connection), MemoryWatch(connection, codec)
    await sender.start()
    await memory.start(30)
    try:
        for name in MODELS:
            key, body = f"serving/{name}", to_json(ServingPolicy(name, hedge=on))
            command = MemoryCommand(unique(name), "cli", "SetServingPolicy", key, -1, body, "", (), time.time_ns())
            value = codec.encode("memory.commands", command)
            await sender.send_and_wait(full_name("memory.commands"), value, key=key.encode())
        await memory.wait_for(
            lambda view: all(known is not None and known.hedge is on for known in (plan(view, m) for m in MODELS)),
            30,
            "hedging in the plans",
        )
    finally:
        await memory.stop()
        await sender.stop()


async def routed(stack: RunningStack) -> tuple[int, int]:
    """Rows on the lanes, and how many of them are copies."""
    connection = Connection(stack.settings.bootstrap)
    codec = Codec(await read_schema_ids(connection))
    client = consumer(connection)
    await client.start()
    places = [TopicPartition(full_name("inference.routed"), lane) for lane in range(LANES)]
    client.assign(places)
    await client.seek_to_beginning(*places)
    last = await client.end_offsets(places)
    num_rows = num_copies = 0
    try:
        for place in places:
            while await client.position(place) < last[place]:
                for record in (await client.getmany(place, timeout_ms=200)).get(place, ()):
                    frame: InferenceFrame = codec.decode("inference.routed", record.value)
                    num_rows += len(frame.roles)
                    num_copies += frame.roles.count(HEDGE)
    finally:
        await client.stop()
    return num_rows, num_copies


async def told(stack: RunningStack) -> int:
    """Copies that the Router told of, and that `isos status` makes a rate of."""
    reader = await LogReader.connect(Connection(stack.settings.bootstrap))
    windows = [each.record for each in await reader.read("control.telemetry")]
    return sum(part.num_rows for window in windows if window.stage == STAGE for part in window.models)


def executors(stack: RunningStack) -> dict[str, str]:
    """Who answers for each model."""

    async def ask() -> dict[str, str]:
        async with Client(stack.settings.bootstrap) as client:
            row = {"x": np.zeros((1, 256), np.float32)}
            found = {name: await client.infer(name, row, timeout_ms=60_000) for name in MODELS}
        return {name: answer.result.provenance.executor for name, answer in found.items()}

    return asyncio.run(ask())


def freeze_under_load(stack: RunningStack, folder: Path, warm_s: float = 1.0) -> int:
    """How many rows at home with an executor were answered while it stood still, but for the first second of that."""
    ids = asyncio.run(read_schema_ids(Connection(stack.settings.bootstrap)))
    schema_id = ids.write_ids[subject_of("inference.requests")]
    at_home = executors(stack)
    assert sorted(at_home.values()) == ["executor-0", "executor-1"]
    pid = stack.pid(at_home[MODELS[0]])
    with LoadRun(folder, stack.settings.bootstrap, schema_id, [Load(name) for name in MODELS], RATE) as load:
        load.go()
        load.wait_for_flow()
        threading.Event().wait(warm_s)
        began_us = time.time_ns() // 1000
        os.kill(pid, signal.SIGSTOP)
        try:
            threading.Event().wait(FROZEN_S)  # the length of the fault
            thawed_us = time.time_ns() // 1000
        finally:
            os.kill(pid, signal.SIGCONT)
        load.wait_for_flow()
        record = load.stop()
    counts = record.summary
    assert counts["ok"] == counts["sent"] == counts["acknowledged"] > 0, counts
    assert (counts["missing"], counts["duplicated"], counts["reaped"]) == (0, 0, 0)
    answered_us = (record.sent.sent_us + record.matched.latency_us)[record.sent.load == 0]
    return int(np.count_nonzero((answered_us > began_us + 1_000_000) & (answered_us < thawed_us)))


def test_rows_of_an_executor_that_stands_still_are_answered_by_the_other_one(
    stack: RunningStack, tmp_path: Path
) -> None:
    assert freeze_under_load(stack, tmp_path) == 0
    assert asyncio.run(routed(stack))[1] == 0
    asyncio.run(hedge(stack, on=True))
    rows_before, _ = asyncio.run(routed(stack))
    answered = freeze_under_load(stack, tmp_path, WARM_S)
    rows, copies = asyncio.run(routed(stack))
    print(f"\n{answered} rows answered by the other executor, {copies} copies of {rows - copies - rows_before} rows")
    assert answered >= 5
    assert answered <= copies <= (rows - copies - rows_before) // 20
    wait_until(lambda: asyncio.run(told(stack)) == copies, 10, "a record of the Router for each copy")
    books = ledger(stack)
    assert books["exit_status"] == 0, books
    assert (books["missing"], books["duplicated"], books["reaped"], books["in_flight"]) == (0, 0, 0, 0)
