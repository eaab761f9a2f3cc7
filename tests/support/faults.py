"""Faults under load: a stack with two of every stage, continuous traffic, and a table of recoveries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
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
from infra.child_environment import child_environment
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
FREEZE_S = 8.0
BACKLOG_S = 3.0
FLOWING = 200
CLAIMED = "is claimed with producer id"


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
    num_garbage: int = 0
    books: dict[str, Any] = field(default_factory=dict)

    def moment(self) -> None:
        """Let a random moment pass, so that a fault does not hit a fixed phase."""
        threading.Event().wait(self.rng.uniform(0.3, 2.0))

    def note(self, kind: str, target: str) -> None:
        """Note a fault that counts from now."""
        self.faults.append(Fault(kind, target, time.time_ns() // 1000))

    def busiest(self, stage: str) -> str:
        """The process of a stage that works most: lanes and partitions need not be spread over both."""
        names = [name for name in self.stack.processes() if name.startswith(f"{stage}-")]
        before = {name: cpu_ticks(self.stack.pid(name)) for name in names}
        threading.Event().wait(1.0)  # the span over which work is compared
        return max(names, key=lambda name: cpu_ticks(self.stack.pid(name)) - before[name])

    def kill(self, target: str) -> None:
        """Kill -9 at a random moment; wait until its successor is ready and requests are answered."""
        self.moment()
        self.kill_now(target)

    def kill_now(self, target: str) -> None:
        """As ``kill``, at once."""
        pid = self.stack.kill(target)
        self.note("kill -9", target)
        self.stack.wait_restarted(target, pid)
        self.probe()

    def freeze(self, target: str, seconds: float = FREEZE_S) -> None:
        """SIGSTOP at a random moment, SIGCONT after ``seconds``; wait until requests are answered."""
        self.moment()
        with self.frozen(target):
            threading.Event().wait(seconds)  # the length of the fault, not a wait for something
        self.probe()

    def freeze_until_replaced(self, target: str, seconds: float = 0.0) -> None:
        """SIGSTOP at a random moment, SIGCONT when others do all its work, and not before ``seconds``; then probe.

        Every partition and every model has answered a request by then that was sent after the session time-out.
        """
        self.moment()
        began = time.monotonic()
        with self.frozen(target):
            threading.Event().wait(self.stack.settings.session_timeout_s)  # before it nobody replaces anybody
            self.probe()
            self.probe_every_model()
            threading.Event().wait(max(0.0, began + seconds - time.monotonic()))  # the length of the fault
        self.probe()

    @contextlib.contextmanager
    def frozen(self, target: str) -> Iterator[None]:
        """SIGSTOP at once, SIGCONT at the end, from which the fault counts."""
        pid = self.stack.freeze(target)
        try:
            yield
        finally:
            self.stack.thaw(pid)
        self.note("freeze", target)

    def freeze_with_answers_in_hand(self, validator: str) -> None:
        """Freeze a Validator while it works off a backlog, so that it wakes with results that others have written.

        It is stopped for a while that costs it no partition; the frames of that time keep it busy when it goes on. Then
        it is frozen until the other one has claimed what it held.
        """
        other = "validator-1" if validator == "validator-0" else "validator-0"
        claims = self.stack.log(other).count(CLAIMED)
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
        with self.frozen(validator):
            wait_until(lambda: self.stack.log(other).count(CLAIMED) > claims, 60, f"a claim of {other}")
            self.probe()  # results of the other stand: a write of the woken one would be a second
        self.probe()

    def probe(self) -> None:
        """Wait until each partition has answered a request that is sent now."""
        count = 2 * self.stack.settings.partitions
        asyncio.run(_probe(self.stack.settings.bootstrap, FAST[:1] * count))
        self.num_probes += count

    def wait_for_traffic(self) -> None:
        """Wait until the traffic itself is answered on each partition: its library may be slow to connect again.

        Else the time until then would count for a fault that was over, and the next one with it.
        """
        partitions = range(self.stack.settings.partitions)
        with results_ends(self.stack.settings.bootstrap) as ends:
            before = [ends(each) for each in partitions]
            wait_until(lambda: all(ends(each) >= before[each] + FLOWING for each in partitions), 60, "answers again")

    def probe_every_model(self) -> None:
        """Wait until each model, on whatever lane, has answered a request that is sent now."""
        models = (*FAST, SLOW)
        asyncio.run(_probe(self.stack.settings.bootstrap, models))
        self.num_probes += len(models)

    def finish(self) -> Record:
        """Stop the traffic and collect every result."""
        return self.load.stop()

    def check(self, limit_s: float | None = None) -> Record:
        """Finish; every request ended OK and exactly once, and the recovery from each fault took at most ``limit_s``.

        Only what this run sent came to the ledger since it began; its garbage, and nothing else, ended in an error.
        """
        record = self.finish()
        counts, books, before = record.summary, ledger(self.stack), self.books
        rows = [(fault, recovery_s(record, fault.at_us, self.stack.settings.partitions)) for fault in self.faults]
        print("\n" + table(rows))
        print({name: counts[name] for name in ("sent", "ok", "missing", "duplicated", "reaped", "p99_ms", "max_ms")})
        assert counts["unacknowledged"] == 0
        assert counts["ok"] == counts["sent"] == counts["acknowledged"] > 0, counts
        assert (counts["missing"], counts["duplicated"], counts["reaped"]) == (0, 0, 0)
        assert counts["foreign"] == self.num_probes + self.num_garbage
        assert books["exit_status"] == 0, books
        assert (books["missing"], books["duplicated"], books["reaped"], books["in_flight"]) == (0, 0, 0, 0)
        came = {name: books[name] - before[name] for name in ("ok", "error", "rejected", "expired")}
        expected = {"ok": counts["sent"] + self.num_probes, "error": self.num_garbage, "rejected": 0, "expired": 0}
        assert came == expected
        for fault, seconds in rows:
            assert seconds is not None, f"no request was answered after {fault}"
            assert limit_s is None or seconds <= limit_s, f"{fault} took {seconds} s"
        return record


def cpu_ticks(pid: int) -> int:
    """CPU time of a process since its start, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@contextlib.contextmanager
def results_ends(bootstrap: str) -> Iterator[Callable[[int], int]]:
    """The end of a results partition, asked for anew at each call."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "results-ends", "socket.nagle.disable": True})
    topic = full_name("inference.results")
    try:
        yield lambda partition: int(client.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1])
    finally:
        client.close()


async def _probe(bootstrap: str, names: Sequence[str]) -> None:
    row = np.zeros((1, 256), np.float32)
    async with Client(bootstrap) as client:
        for name in names:
            await client.infer(name, {"x": row}, timeout_ms=TIMEOUT_MS)


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
    if source is not None:  # once, and not in each of its processes at the same time
        argv = [sys.executable, "-m", "infra.compiled"]
        subprocess.run(argv, env=child_environment(settings, os.environ), cwd=source, check=True)
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
def traffic(
    stack: RunningStack, folder: Path, seed: int, rate: float = RATE, slow_per_s: float = RATE / 50
) -> Iterator[FaultRun]:
    """1,000 requests a second (or ``CHAOS_RATE``), ``slow_per_s`` of them to the slow model, with 60 s to answer.

    They go to the partitions that there are at the start.
    """
    ids = asyncio.run(read_schema_ids(Connection(stack.settings.bootstrap)))
    schema_id = ids.write_ids[subject_of("inference.requests")]
    books = ledger(stack)
    loads = [Load(name, weight=(rate - slow_per_s) / len(FAST)) for name in FAST] + [Load(SLOW, weight=slow_per_s)]
    with LoadRun(folder, stack.settings.bootstrap, schema_id, loads, rate, timeout_ms=TIMEOUT_MS) as load:
        run = FaultRun(stack, load, random.Random(seed), books=books)
        load.go()
        load.wait_for_flow()
        run.probe()
        yield run


def ledger(stack: RunningStack) -> dict[str, Any]:
    """``isos ledger --drained`` as JSON, whatever its exit status."""
    done = stack.isos("ledger", "--drained", "--output", "json", check=False)
    document: dict[str, Any] = json.loads(done.stdout)
    return {**document, "exit_status": done.returncode}
