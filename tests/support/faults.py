"""Faults under load: a stack with two of every stage, continuous traffic, and a table of recoveries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from executors.model_store import ModelStore
from infra.bench.models import bench_model
from infra.registration import Registrar
from schemas.model import TensorSpec
from streams.client.client import Client
from streams.codec import subject_of
from streams.connection import Connection
from streams.registry.schema_log import read_schema_ids
from streams.topics import full_name
from tests.support import models
from tests.support.load import Load, LoadRun, Record
from tests.support.stack import RunningStack, stack_settings, wait_until

FAST = ("bench-00", "bench-01", "bench-02")
SLOW = "slow-20ms"
RATE = float(os.environ.get("CHAOS_RATE") or 1_000.0)
TIMEOUT_MS = 60_000
FREEZE_S = 15.0
BACKLOG_S = 3.0


def chaos_seed() -> int:
    """Seed of the random moments: ``CHAOS_SEED`` or a new one."""
    return int(os.environ.get("CHAOS_SEED") or random.randrange(1_000_000))


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to whom, and when it counts from (kill, or SIGCONT), us since the epoch."""

    kind: str
    target: str
    at_us: int


@dataclass(slots=True)
class FaultRun:
    """Traffic over a stack while faults are injected; ``finish`` ends it and gives the record."""

    stack: RunningStack
    load: LoadRun
    rng: random.Random
    faults: list[Fault] = field(default_factory=list)
    num_probes: int = 0

    def moment(self) -> None:
        """Let a random moment pass, so that a fault does not hit a fixed phase."""
        threading.Event().wait(self.rng.uniform(0.3, 2.0))

    def kill(self, target: str) -> None:
        """Kill -9 at a random moment; wait until its successor is ready and requests are answered."""
        self.moment()
        pid = self.stack.kill(target)
        self.faults.append(Fault("kill -9", target, time.time_ns() // 1000))
        self.stack.wait_restarted(target, pid)
        self.probe()

    def freeze(self, target: str, *, at_once: bool = False) -> None:
        """SIGSTOP for 15 s at a random moment, SIGCONT; wait until requests are answered."""
        if not at_once:
            self.moment()
        pid = self.stack.freeze(target)
        threading.Event().wait(FREEZE_S)  # the length of the fault, not a wait for something
        self.stack.thaw(pid)
        self.faults.append(Fault("freeze", target, time.time_ns() // 1000))
        self.probe()

    def freeze_with_answers_in_hand(self, validator: str) -> None:
        """Freeze a Validator while it works off a backlog, so that it wakes with results that others have written.

        It is stopped for a while that costs it no partition; the frames of that time keep it busy when it goes on.
        """
        partitions = range(self.stack.settings.partitions)
        with results_ends(self.stack.settings.bootstrap) as ends:
            pid = self.stack.freeze(validator)
            threading.Event().wait(BACKLOG_S - 1.0)
            before = [ends(partition) for partition in partitions]
            threading.Event().wait(1.0)
            still = [(each, before[each]) for each in partitions if ends(each) == before[each]]
            self.stack.thaw(pid)
            if still:  # it holds a partition: catch it when it has begun to write and has most of the backlog in hand
                wait_until(lambda: any(ends(each) > end for each, end in still), 10, f"a result of {validator}")
        self.freeze(validator, at_once=True)

    def probe(self) -> None:
        """Wait until each partition has answered a request that is sent now."""
        count = 2 * self.stack.settings.partitions
        asyncio.run(_probe(self.stack.settings.bootstrap, count))
        self.num_probes += count

    def finish(self) -> Record:
        """Stop the traffic and collect every result."""
        return self.load.stop()


@contextlib.contextmanager
def results_ends(bootstrap: str) -> Iterator[Callable[[int], int]]:
    """The end of a results partition, asked for anew at each call."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "results-ends", "socket.nagle.disable": True})
    topic = full_name("inference.results")
    try:
        yield lambda partition: int(client.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1])
    finally:
        client.close()


async def _probe(bootstrap: str, count: int) -> None:
    row = np.zeros((1, 256), np.float32)
    async with Client(bootstrap) as client:
        for _ in range(count):
            await client.infer(FAST[0], {"x": row}, timeout_ms=TIMEOUT_MS)


def recovery_s(record: Record, at_us: int, partitions: int) -> float | None:
    """Seconds until *every* partition had answered a request sent after ``at_us`` with OK; None if one never did."""
    slowest = 0.0
    for partition in range(partitions):
        mine = (record.sent.sent_us >= at_us) & (record.matched.status == 1) & (record.sent.partition == partition)
        if not mine.any():
            return None
        first = int((record.sent.scheduled_us + record.matched.latency_us)[mine].min())
        slowest = max(slowest, (first - at_us) / 1e6)
    return slowest


def table(rows: Sequence[tuple[Fault, float | None]]) -> str:
    """The recoveries as text."""
    lines = [f"{'fault':<10} {'process':<16} {'first OK on every partition after, s':>38}"]
    lines += [f"{f.kind:<10} {f.target:<16} {'never' if s is None else f'{s:.2f}':>38}" for f, s in rows]
    return "\n".join(lines)


@contextlib.contextmanager
def two_of_each(folder: Path, *, source: Path | None = None, **flags: Any) -> Iterator[RunningStack]:
    """A stack with two instances of every stage, three fast models and a slow one; ``source`` as in RunningStack."""
    settings = stack_settings(folder, **{"edges": 2, "routers": 2, "executors": 2, "validators": 2, **flags})
    with RunningStack(settings, source=source) as stack:
        stack.wait_ready()
        asyncio.run(_register(stack))
        yield stack


async def _register(stack: RunningStack) -> None:
    store = ModelStore(stack.settings.data_dir)
    slow = models.slow(20.0, 256)
    async with Registrar(Connection(stack.settings.bootstrap), store) as registrar:
        for at, name in enumerate(FAST):
            await registrar.register(*bench_model(name, at))
        wide = TensorSpec("x", "FP32", (256,)), TensorSpec("y", "FP32", (256,))
        await registrar.register(slow, models.version_of(slow, wide[:1], wide[1:], name=SLOW))


@contextlib.contextmanager
def traffic(stack: RunningStack, folder: Path, seed: int, rate: float = RATE) -> Iterator[FaultRun]:
    """1,000 requests a second (or ``CHAOS_RATE``), one in fifty to the slow model, with 60 s to answer.

    They go to the partitions that there are at the start.
    """
    ids = asyncio.run(read_schema_ids(Connection(stack.settings.bootstrap)))
    schema_id = ids.write_ids[subject_of("inference.requests")]
    loads = [Load(name, weight=49 / 3) for name in FAST] + [Load(SLOW, weight=1.0)]
    with LoadRun(folder, stack.settings.bootstrap, schema_id, loads, rate, timeout_ms=TIMEOUT_MS) as load:
        load.go()
        load.wait_for_flow()
        run = FaultRun(stack, load, random.Random(seed))
        run.probe()
        yield run


def ledger(stack: RunningStack) -> dict[str, Any]:
    """``isos ledger --drained`` as JSON, whatever its exit status."""
    done = stack.isos("ledger", "--drained", "--output", "json", check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    return {**document, "exit_status": done.returncode}
