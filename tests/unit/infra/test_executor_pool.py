"""As many executors as are wanted: the highest end first, and one that still ends is waited for."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.executor_pool import ExecutorPool, changes
from infra.launcher import LocalLauncher
from infra.pools import Pool, pools
from infra.settings import Settings, load_settings


class Child:
    """A stand-in for a supervised process: ends when ``gone`` is set; ``told`` are the signals it was sent."""

    def __init__(self, stop_s: float = 5.0) -> None:
        self.spec: Any = type("Spec", (), {"stop_s": stop_s, "name": "executor"})
        self.told: list[int] = []
        self.gone = asyncio.Event()

    def ask_to_stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.told.append(number)
        if number == signal.SIGKILL:
            self.gone.set()


class Children:
    """Starts and forgets stand-ins, and notes what was done."""

    def __init__(self, settings: Settings, count: int = 1, stop_s: float = 5.0, pool: Pool | None = None) -> None:
        self.stop_s = stop_s
        self.events: list[str] = []
        running: Any = {instance: Child(stop_s) for instance in range(count)}
        mine = pool or pools(settings)[0]
        begin = self.start, self.forget, lambda: self.events.append("noted")
        self.pool = ExecutorPool(settings, mine, *begin, count, running)

    def start(self, instance: int) -> Any:
        self.events.append(f"start {instance}")
        return Child(self.stop_s)

    async def forget(self, process: Any) -> None:
        await process.gone.wait()

    def child(self, instance: int) -> Child:
        found: Any = self.pool.running[instance]
        return found  # type: ignore[no-any-return]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(data_dir=tmp_path, executors=1, max_executors=3)


@given(st.integers(0, 8), st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)))
def test_afterwards_the_first_so_many_run_or_still_end(wanted: int, running: set[int], ending: set[int]) -> None:
    ending &= running
    missing, surplus = changes(wanted, dict.fromkeys(running), dict.fromkeys(ending))
    after = (running | set(missing)) - set(surplus) - {each for each in ending if each >= wanted}
    assert after == set(range(wanted))
    assert list(surplus) == sorted(surplus, reverse=True)
    assert not set(surplus) & ending


async def test_the_instances_of_a_slow_pool_follow_those_of_the_fast_one(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, executors=1, max_executors=3, max_slow_executors=2)
    settings.run_dir.mkdir(parents=True)
    slow = pools(settings)[1]
    children = Children(settings, pool=slow)
    LocalLauncher(settings).set(3)  # of the other pool
    LocalLauncher(settings, slow.name).set(9)
    following = asyncio.create_task(children.pool.follow())
    try:
        async with asyncio.timeout(10):
            while "start 4" not in children.events:
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
        await asyncio.wait({following})
    assert children.events == ["noted", "start 4"], "at most two, which are 3 and 4"
    assert children.pool.wanted == 2


async def test_more_are_started_and_the_highest_are_ended(settings: Settings) -> None:
    children = Children(settings)
    pool = children.pool
    pool.reconcile(3)
    assert children.events == ["noted", "start 1", "start 2"]
    pool.reconcile(1)
    ending = dict(pool.ending)
    assert sorted(ending) == [1, 2]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [children.child(each).told for each in (0, 1, 2)] == [[], [signal.SIGTERM], [signal.SIGTERM]]
    pool.reconcile(1)  # told once, however often it is looked at
    assert dict(pool.ending) == ending
    for instance in ending:
        children.child(instance).gone.set()
    await asyncio.gather(*ending.values())
    assert (sorted(pool.running), pool.ending) == ([0], {})


async def test_one_that_still_ends_is_started_anew_when_it_is_gone(settings: Settings) -> None:
    children = Children(settings, 2)
    pool = children.pool
    pool.reconcile(1)
    (task,) = pool.ending.values()
    pool.reconcile(2)
    assert "start 1" not in children.events
    children.child(1).gone.set()
    await task
    pool.reconcile(2)
    assert children.events[-1] == "start 1"


async def test_who_does_not_end_in_time_is_killed(settings: Settings) -> None:
    children = Children(settings, 2, stop_s=0.01)
    doomed = children.child(1)
    children.pool.reconcile(1)
    await asyncio.gather(*children.pool.ending.values())
    assert doomed.told == [signal.SIGTERM, signal.SIGKILL]


async def test_the_pool_follows_what_is_asked_within_its_bounds(settings: Settings) -> None:
    settings.run_dir.mkdir(parents=True)
    children = Children(settings)
    following = asyncio.create_task(children.pool.follow())
    try:
        LocalLauncher(settings).set(99)
        async with asyncio.timeout(10):
            while children.pool.wanted != 3:
                await asyncio.sleep(0.01)
        assert sorted(children.pool.running) == [0, 1, 2]
        LocalLauncher(settings).set(0)
        async with asyncio.timeout(10):
            while len(children.pool.ending) < 3:
                await asyncio.sleep(0.01)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await children.pool.stop()
    assert children.pool.ending == {}
