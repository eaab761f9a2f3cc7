"""Batches in threads: so many at a time, handed over when they end, abandoned where a rebalance overtook them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from executors import long_runs
from executors.long_runs import MAX_THREADS, NICE, LongRuns
from tests.support.fake_kafka import turns, until

VERSION = ("m", "v1.0.0")


class Batch:
    """A batch that takes until its gate opens; with ``error`` it is defective."""

    def __init__(self, version: tuple[str, str] = VERSION, error: Exception | None = None) -> None:
        self.version, self.error = version, error
        self.time_us, self.started_us = 5_000.0, 0
        self.gate = threading.Event()
        self.thread = ""
        self.is_prepared = False

    def prepare(self) -> None:
        self.is_prepared = True

    def compute(self) -> None:
        self.thread = threading.current_thread().name
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error


class Bench:
    """Long runs under the test's hands; what they tell an execution and the lanes is kept."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.abandoned: list[Any] = []
        self.passable: list[Any] = []
        self.failures: list[BaseException] = []
        self.num_ended = 0
        execution: Any = SimpleNamespace(
            done=self.done.append, abandon=self.abandoned.append, let_pass=self.passable.append
        )
        self.lanes: Any = SimpleNamespace(generation=1, fail=self.failures.append)
        self.runs = LongRuns("executor-0", execution, self.lanes, self._ended)

    def _ended(self) -> None:
        self.num_ended += 1


@contextlib.contextmanager
def stopped() -> Iterator[Bench]:
    """Runs that are stopped in the end."""
    bench = Bench()
    try:
        yield bench
    finally:
        bench.runs.stop()


async def test_a_batch_runs_in_a_thread_and_is_handed_over_when_it_ends() -> None:
    with stopped() as bench:
        batch: Any = Batch()
        assert (bool(bench.runs), bench.runs.room) == (False, MAX_THREADS)
        bench.runs.start(batch)
        assert (bool(bench.runs), bench.runs.room) == (True, MAX_THREADS - 1)
        await until(lambda: batch.thread)
        assert (batch.is_prepared, bench.passable, bench.done) == (True, [batch], [])
        assert batch.thread.startswith("executor-0-batch")
        batch.gate.set()
        await until(lambda: bench.num_ended)
        assert (bench.done, bench.abandoned, bench.failures, bool(bench.runs)) == ([batch], [], [], False)


async def test_what_is_left_of_batches_is_told_by_version() -> None:
    with stopped() as bench:
        batches: list[Any] = [Batch(), Batch()]
        for batch in batches:
            bench.runs.start(batch)
        await until(lambda: all(batch.thread for batch in batches))
        now_us = 1_000_000
        batches[0].started_us, batches[1].started_us = now_us - 2_000, now_us - 60_000
        assert bench.runs.left_us(now_us) == {VERSION: 3_001.0}  # one should have ended long ago
        for batch in batches:
            batch.gate.set()
        await until(lambda: bench.num_ended == 2)
        assert bench.runs.left_us(now_us) == {}


async def test_a_batch_that_a_rebalance_overtook_is_abandoned() -> None:
    with stopped() as bench:
        batch: Any = Batch()
        bench.runs.start(batch)
        await until(lambda: batch.thread)
        bench.lanes.generation += 1
        batch.gate.set()
        await until(lambda: bench.num_ended)
        assert (bench.done, bench.abandoned) == ([], [batch])


async def test_what_a_thread_raises_fails_the_lanes() -> None:
    with stopped() as bench:
        batch: Any = Batch(error=ZeroDivisionError())
        batch.gate.set()
        bench.runs.start(batch)
        await until(lambda: bench.num_ended)
        assert (bench.failures, bench.done, bench.abandoned) == ([batch.error], [], [])


async def test_after_the_stop_nothing_is_handed_over() -> None:
    bench, batch = Bench(), Batch()
    bench.runs.start(batch)  # type: ignore[arg-type]
    await until(lambda: batch.thread)
    bench.runs.stop()
    batch.gate.set()
    await until(lambda: bench.num_ended)
    await turns()
    assert (bench.done, bench.abandoned, bench.failures) == ([], [], [])


def test_threads_of_long_batches_are_nicer_than_their_process() -> None:
    def started() -> int:
        long_runs._yield_to_others()
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    with ThreadPoolExecutor(1) as pool:
        niceness = pool.submit(started).result()
    assert niceness == min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICE, 19)
