"""Generations of held partitions, with hand-made Faust signals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from streams import takeover
from streams.errors import FencedError, RetriableError
from streams.event_queue import EventQueue
from streams.takeover import FrameLostError, HeldPartition, Takeover
from tests.support.fake_kafka import FakeApp, FakeEvent, turns, until


class Bench:
    """A take-over whose runner is the test's."""

    def __init__(self, runner: Callable[[HeldPartition], Awaitable[None]]) -> None:
        self.app = FakeApp()
        self.defects: list[BaseException] = []
        self.takeover = Takeover(self.app, runner, self.defects.append)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "FIRST_BACKOFF_S", 0.0)
    monkeypatch.setattr(takeover, "MAX_BACKOFF_S", 0.0)


async def test_every_generation_begins_anew_for_all_partitions() -> None:
    started: list[tuple[int, int]] = []

    async def runner(held: HeldPartition) -> None:
        started.append((held.generation, held.partition))
        await asyncio.Event().wait()

    bench = Bench(runner)
    await bench.app.assign(("t", 0), ("t", 1))
    await turns()
    old = list(bench.takeover.held.values())
    await bench.app.assign(("t", 1), ("t", 0))
    await turns()
    generations = sorted({generation for generation, _ in started})
    assert started == [(generation, partition) for generation in generations for partition in (0, 1)]
    assert len(generations) == 2
    assert all(held.task is not None and held.task.cancelled() for held in old)
    assert [bench.takeover.is_current(held) for held in old] == [False, False]
    assert all(bench.takeover.is_current(held) for held in bench.takeover.held.values())
    await bench.takeover.stop()
    assert bench.takeover.held == {}


async def test_the_callback_does_not_wait_for_the_take_over() -> None:
    bench = Bench(lambda held: asyncio.Event().wait())  # type: ignore[arg-type,return-value]
    async with asyncio.timeout(1):
        await bench.app.assign(("t", 0))
    assert bench.takeover.assigned_once.is_set()
    assert not bench.takeover.held["t", 0].ready.is_set()
    await bench.takeover.stop()


async def test_events_go_to_their_partition_and_those_of_no_partition_are_dropped() -> None:
    bench = Bench(lambda held: asyncio.Event().wait())  # type: ignore[arg-type,return-value]
    await bench.app.assign(("t", 0), ("t", 1))
    mine, other = FakeEvent(b"", 5, partition=1), FakeEvent(b"", 6, partition=7)
    await bench.takeover.feed(mine)
    await bench.takeover.feed(other)
    assert [held.events.qsize() for held in bench.takeover.held.values()] == [0, 1]
    await bench.app.on_partitions_revoked.send(set())
    await bench.takeover.feed(FakeEvent(b"", 7, partition=1))
    assert (mine.acks, other.acks) == (0, 0)
    await bench.takeover.stop()


async def test_draining_takes_no_more_and_waits_for_what_is_at_hand() -> None:
    bench = Bench(lambda held: asyncio.Event().wait())  # type: ignore[arg-type,return-value]
    await bench.app.assign(("t", 0))
    (held,) = bench.takeover.held.values()
    left = [2]
    held.unfinished = lambda: left[0]
    await bench.takeover.feed(FakeEvent(b"", 5, partition=0))
    draining = asyncio.ensure_future(bench.takeover.drain())
    await turns()
    refused = FakeEvent(b"", 6, partition=0)
    await bench.takeover.feed(refused)
    assert (held.events.qsize(), refused.acks, draining.done()) == (1, 0, False)
    held.events.get_nowait()
    await turns()
    assert not draining.done()
    left[0] = 0
    await asyncio.wait_for(draining, 5)
    await bench.takeover.stop()


async def test_a_feeder_that_waits_for_room_is_let_go_by_a_rebalance(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(lambda held: asyncio.Event().wait())  # type: ignore[arg-type,return-value]
    await bench.app.assign(("t", 1))
    old = bench.takeover.held["t", 1]
    old.events = EventQueue(1)
    await bench.takeover.feed(FakeEvent(b"", 1))
    feeding = asyncio.ensure_future(bench.takeover.feed(FakeEvent(b"", 2)))
    await turns()
    assert not feeding.done()
    await bench.app.assign(("t", 1))
    await turns()
    assert feeding.done()
    assert bench.takeover.held["t", 1].events.empty()  # the old generation's event is not the new one's
    await bench.takeover.stop()


async def test_a_runner_that_gives_up_starts_again_with_its_backlog() -> None:
    backlogs: list[list[object]] = []

    async def runner(held: HeldPartition) -> None:
        backlogs.append(list(held.backlog))
        if len(backlogs) < 4:
            held.backlog = [len(backlogs)]
            raise RetriableError("fenced")
        held.ready.set()
        await asyncio.Event().wait()

    bench = Bench(runner)
    await bench.app.assign(("t", 1))
    await until(lambda: len(backlogs) == 4)
    assert backlogs == [[], [1], [2], [3]]
    assert bench.defects == []
    await bench.takeover.stop()


async def test_news_wake_the_reader_and_are_lost_with_the_run() -> None:
    found: list[list[object]] = []

    async def runner(held: HeldPartition) -> None:
        held.ready.set()
        await held.events.sleep(60)
        found.append(list(held.news))
        if len(found) < 2:
            raise RetriableError("fenced")

    bench = Bench(runner)
    await bench.app.assign(("t", 1))
    (held,) = bench.takeover.held.values()
    await until(lambda: held.num_runs == 1)
    await turns()
    held.tell("one")
    await until(lambda: held.num_runs == 2)
    await turns()
    held.tell("two")
    await until(lambda: len(found) == 2)
    assert found == [["one"], ["two"]]
    await bench.takeover.stop()


async def test_of_too_many_news_the_oldest_are_dropped() -> None:
    held = HeldPartition("t", 1, 1)
    for number in range(takeover.MAX_NEWS + 3):
        held.tell(number)
    assert (len(held.news), held.news[0]) == (takeover.MAX_NEWS, 3)


async def test_backoff_doubles_and_begins_anew_after_serving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "FIRST_BACKOFF_S", 1.0)
    monkeypatch.setattr(takeover, "MAX_BACKOFF_S", 4.0)
    slept: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def runner(held: HeldPartition) -> None:
        if len(slept) == 6:
            done.set()
            return
        if len(slept) == 4:
            held.ready.set()
        raise RetriableError("away")

    monkeypatch.setattr("streams.takeover.asyncio.sleep", sleep)
    bench = Bench(runner)
    await bench.app.assign(("t", 1))
    await done.wait()
    assert slept == [1.0, 2.0, 4.0, 4.0, 1.0, 2.0]
    await bench.takeover.stop()


async def test_anything_else_is_a_defect() -> None:
    async def runner(held: HeldPartition) -> None:
        raise ZeroDivisionError

    bench = Bench(runner)
    await bench.app.assign(("t", 1))
    await until(lambda: bench.defects)
    assert [type(error) for error in bench.defects] == [ZeroDivisionError]
    await bench.takeover.stop()


async def test_a_fenced_runner_waits_longer_before_it_claims_again() -> None:
    app, starts = FakeApp(), []
    clock = asyncio.get_running_loop().time

    async def runner(held: HeldPartition) -> None:
        starts.append(clock())
        if len(starts) == 1:
            raise FencedError(held.topic, held.partition)
        await asyncio.Event().wait()

    fenced = Takeover(app, runner, lambda _error: None, fenced_backoff_s=0.3)  # type: ignore[arg-type]
    await app.assign(("t", 0))
    async with asyncio.timeout(10):
        while len(starts) < 2:
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    assert starts[1] - starts[0] >= 0.3
    await fenced.stop()


async def test_a_lost_frame_ends_the_process_and_is_not_taken_over_in_place() -> None:
    lost = FrameLostError("a frame's send failed")
    starts: list[int] = []

    async def runner(held: HeldPartition) -> None:
        starts.append(held.partition)
        raise lost

    bench = Bench(runner)
    await bench.app.assign(("t", 0))
    await until(lambda: bench.defects)
    assert (bench.defects, starts) == ([lost], [0])
    await bench.takeover.stop()
