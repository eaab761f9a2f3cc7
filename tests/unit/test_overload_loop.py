"""Edge and executor under more load than it carries, in virtual time: the real rules, a clock that only we move."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from executors.batcher import Batcher, BatchKey
from executors.lines import Lines
from executors.load_report import LoadReport
from executors.profile import Profile
from schemas.frame import InferenceFrame
from streams.edge.forecast import Forecast
from streams.edge.screen import too_late
from streams.frame_builder import Row
from tests.support.frames import T, frame, row

MS, S = 1_000, 1_000_000
TICK_US = 10 * MS
REPORT_US = 250 * MS
WAY_US = 8 * MS
"""From the edge to the executor, and back."""
VERSION = ("slow", "v1.0.0")
KEY = BatchKey(*VERSION, (("x", (2,), 4),))
PROFILE = Profile(300.0, 3_000.0, 128)
CAPACITY = PROFILE.cap / PROFILE.time_us(PROFILE.cap) * S
"""Rows a second."""


@dataclass
class World:
    """One edge, one executor, one model whose rows take 3 ms. ``slowness``: how much longer than its profile says."""

    rate: Callable[[float], float]
    seconds: float
    budget_ms: int = 1_000
    slowness: float = 1.0
    admits: bool = True
    now_us: int = T
    done: list[tuple[int, int]] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    refused: list[tuple[int, int]] = field(default_factory=list)
    """Instants of arrival, and of the end where it is of interest, in microseconds since the beginning."""

    def run(self) -> World:
        self.rng, self.events, self.order = random.Random(7), [], count()
        self.forecast, self.batcher, self.report = Forecast(), Batcher(), LoadReport("executor-0", 2, 2_000.0)
        self.arrived: list[int] = []
        self.running: dict[tuple[str, str], int] = {}
        self.num_late: dict[tuple[str, str], int] = {}
        for at, act in ((0, self.arrive), (TICK_US, self.tick), (REPORT_US // 3, self.tell)):
            self.later(at, act)
        while self.events:
            self.now_us, _, act = heapq.heappop(self.events)
            act()
        return self

    def later(self, in_us: float, act: Callable[[], Any]) -> None:
        heapq.heappush(self.events, (self.now_us + int(in_us), next(self.order), act))

    @property
    def elapsed_s(self) -> float:
        return (self.now_us - T) / S

    def arrive(self) -> None:
        if self.elapsed_s < self.seconds:
            self.arrived.append(self.now_us)
            self.later(self.rng.expovariate(self.rate(self.elapsed_s)) * S, self.arrive)

    def tick(self) -> None:
        if self.elapsed_s < self.seconds + 2:
            self.later(TICK_US, self.tick)
        arrived, self.arrived = self.arrived, []
        if not arrived:
            return
        rows = {at: self.row(at, received_us) for at, received_us in enumerate(arrived)}
        batch: Any = SimpleNamespace(
            signatures=[], signature=np.full(len(rows), -1), received_us=np.array(arrived), rows=rows
        )
        passed = np.ones(len(rows), np.bool_)
        refused = too_late(batch, passed, rows, self.forecast, self.now_us) if self.admits else []
        for each in refused:
            self.refused.append((rows.pop(each.at).received_us - T, self.now_us - T))
        if rows:
            made = frame([*rows.values()], now_us=self.now_us)
            self.later(WAY_US, lambda: self.take(made))

    def row(self, at: int, received_us: int) -> Row:
        made = row(at, model=VERSION[0], version=VERSION[1], deadline_us=received_us + self.budget_ms * MS)
        made.received_us = received_us
        return made

    def take(self, made: InferenceFrame) -> None:
        self.report.took(made)
        rows = len(made.priorities)
        deadlines = np.frombuffer(made.deadlines_us, "<i8").tolist()
        assert not self.batcher.add(KEY, made, 0, made.priorities, [1] * rows, deadlines, self.now_us)
        self.execute()

    def execute(self) -> None:
        while not self.running:
            batch = self.batcher.next_batch(self.now_us, {VERSION: PROFILE})
            if batch is None:
                return
            for each in batch.expired:
                self.expired += [each.deadlines_us[at] - self.budget_ms * MS - T for at in range(each.num_rows)]
                self.num_late[VERSION] = self.num_late.get(VERSION, 0) + each.num_rows
            if batch.slices:
                time_us = batch.time_us * self.slowness * self.rng.uniform(0.8, 1.2)
                self.running[VERSION] = self.now_us + int(time_us)
                due = [due_us for each in batch.slices for due_us in each.deadlines_us]
                self.later(time_us, lambda due=due: self.end(due))  # type: ignore[misc]

    def end(self, due: list[int]) -> None:
        self.running.clear()
        for due_us in due:
            self.done.append((due_us - self.budget_ms * MS - T, self.now_us + WAY_US - T))
        self.execute()

    def tell(self) -> None:
        if self.elapsed_s < self.seconds + 2:
            self.later(REPORT_US, self.tell)
        queues: Any = SimpleNamespace(batcher=self.batcher, lines=Lines(), num_late=self.num_late)
        left = {version: float(max(1, end_us - self.now_us)) for version, end_us in self.running.items()}
        load = self.report.make(queues, {VERSION: PROFILE}, left, self.now_us)
        if load is not None:
            self.later(WAY_US, lambda: self.forecast.take(load, self.now_us))

    def share(self, of: list[Any], first_s: float, last_s: float) -> float:
        """How many a second of those that arrived in a while, of the capacity."""
        instants = [each[0] if isinstance(each, tuple) else each for each in of]
        return sum(first_s * S <= at < last_s * S for at in instants) / (last_s - first_s) / CAPACITY

    def latency_ms(self, first_s: float, last_s: float) -> float:
        """99th percentile of those that were done, by when they came."""
        return float(np.percentile([end - at for at, end in self.done if first_s * S <= at < last_s * S], 99)) / MS


def test_moderate_load_is_not_touched() -> None:
    world = World(lambda s: 0.7 * CAPACITY, 10.0).run()
    assert (world.refused, world.expired) == ([], [])


@pytest.mark.parametrize("budget_ms", [200, 1_000])
def test_what_is_too_much_is_refused_at_once_and_the_executor_stays_full(budget_ms: int) -> None:
    world = World(lambda s: 1.5 * CAPACITY, 20.0, budget_ms).run()
    assert world.share(world.done, 1, 20) >= 0.95
    assert world.share(world.expired, 1, 20) <= 0.02
    assert world.share(world.refused, 1, 20) >= 0.4
    assert max(end - at for at, end in world.refused) <= TICK_US
    assert world.latency_ms(0, 20) <= budget_ms + 20


def test_without_it_they_wait_in_vain() -> None:
    world = World(lambda s: 1.5 * CAPACITY, 20.0, admits=False).run()
    assert world.share(world.expired, 1, 20) >= 0.4


def test_after_the_flood_all_is_as_before() -> None:
    world = World(lambda s: (0.5 if s < 5 or s >= 15 else 3.0) * CAPACITY, 25.0).run()
    assert world.share(world.done, 6, 15) >= 0.9
    assert world.share(world.refused, 17, 25) == 0
    assert world.latency_ms(18, 25) <= 60


@pytest.mark.parametrize("slowness", [1.5, 3.0])
def test_a_machine_slower_than_it_says_is_noticed(slowness: float) -> None:
    world = World(lambda s: 1.5 * CAPACITY, 30.0, slowness=slowness).run()
    assert world.share(world.expired, 10, 30) <= 0.15 * world.share(world.done, 10, 30)
    assert world.share(world.done, 10, 30) >= 0.9 / slowness


def test_a_machine_faster_than_it_says_is_kept_busy() -> None:
    world = World(lambda s: 2.0 * CAPACITY, 20.0, slowness=0.7).run()
    assert world.share(world.done, 1, 20) >= 0.9 / 0.7
