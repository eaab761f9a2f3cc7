"""Copies in an executor: in spare time, one batch at a time, bounded, and never in anybody's way."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from executors import shadow_runs
from executors.execution import Execution
from executors.profile import Profile
from executors.shadow_runs import ShadowRuns, is_of_copies
from schemas.frame import InferenceFrame
from schemas.quick import replaced
from streams.columns import ERROR, EXPIRED, OK, REJECTED, SHADOW, Columns
from tests.support.fake_kafka import until
from tests.support.frames import T, frame, row
from tests.unit.executors.test_execution import FAR, Loaded, Session, work_of

INLINE_US = 2_000.0
VERSION = "v1.1.0"


class FakeLanes:
    """The part of the lanes that is asked."""

    def __init__(self) -> None:
        self.generation = 0
        self.failure: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        self.failure = error


class Bench:
    """Copies of one executor over a session of ``VERSION``."""

    def __init__(self, session: Session | None = None) -> None:
        self.session = session or Session()
        self.loaded = Loaded(**{VERSION: self.session})
        self.rows = Execution("executor-0", self.loaded, lambda _size: None)
        self.lanes = FakeLanes()
        self.num_ended = 0
        lanes: Any = self.lanes
        self.runs = ShadowRuns("executor-0", self.loaded, self.rows, lanes, self._ended)

    def _ended(self) -> None:
        self.num_ended += 1

    def outcomes(self, now_us: int = T) -> dict[int, int]:
        return {
            offset: status
            for made in self.runs.flush(now_us)
            for offset, status in zip(Columns.of(made).offsets.tolist(), made.statuses, strict=True)
        }


def copies(*offsets: int, deadline_us: int = FAR) -> InferenceFrame:
    made = frame([row(offset, version=VERSION, deadline_us=deadline_us, priority=9) for offset in offsets])
    return replaced(made, roles=bytes([SHADOW]) * len(offsets))


def test_frames_of_copies_are_known_by_their_role() -> None:
    assert is_of_copies(copies(1))
    assert not is_of_copies(frame([row(1)]))


def test_copies_of_several_frames_are_a_batch_and_end_as_executed_frames_of_copies() -> None:
    bench = Bench()
    bench.runs.take(copies(1, 2), 100, T)
    bench.runs.take(copies(3), 100, T)
    assert bench.runs
    assert bench.runs.step(T, INLINE_US)
    assert bench.session.sizes == [3]
    frames = bench.runs.flush(T)
    assert [set(each.roles) for each in frames] == [{SHADOW}, {SHADOW}]
    assert [each.segments[0].executor for each in frames] == ["executor-0"] * 2
    assert not bench.runs
    assert not bench.runs.step(T, INLINE_US)


def test_nothing_of_it_is_counted_where_versions_and_load_are_judged() -> None:
    bench = Bench(Session(poisoned={3 * 1}))
    bench.runs.take(copies(1, 2), 100, T)
    bench.runs.take(copies(3), 100, T)
    while bench.runs.step(T, INLINE_US):
        pass
    assert set(bench.outcomes().values()) == {OK, ERROR}
    assert bench.rows.attempts.close(0, 0) is None
    assert bench.rows.intake.queued_items == 0
    assert bench.rows.counts.num_rows == 0
    assert bench.rows.is_idle


def test_their_slow_runs_do_not_make_the_version_slow_for_rows() -> None:
    session = Session()
    session.profile = Profile(0.001, 0.0, 8)
    bench = Bench(session)
    for at in range(40):
        bench.runs.take(copies(at), 10, T)
        assert bench.runs.step(T, INLINE_US)
    assert set(bench.outcomes().values()) == {OK}
    assert bench.loaded.profiles["digits", VERSION] is session.profile


def test_more_than_may_wait_is_rejected_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_runs, "MOST_ROWS", 3)
    monkeypatch.setattr(shadow_runs, "MOST_BYTES", 1_000)
    bench = Bench()
    bench.runs.take(copies(1, 2), 10, T)
    bench.runs.take(copies(3, 4), 10, T)
    bench.runs.take(copies(5), 999, T)
    (first, second) = bench.runs.flush(T + 1)
    assert (set(first.statuses), first.errors[0].code, first.executed_us) == ({REJECTED}, "overloaded", T)
    assert second.segments[0].inputs == ()
    assert bench.runs.step(T, INLINE_US)
    assert bench.outcomes() == {1: OK, 2: OK}
    bench.runs.take(copies(6), 999, T)
    assert bench.runs.step(T, INLINE_US)
    assert bench.outcomes() == {6: OK}


def test_copies_whose_time_is_over_expire_without_running() -> None:
    bench = Bench()
    bench.runs.take(copies(1, deadline_us=T + 5), 10, T)
    assert not bench.runs.step(T + 10, INLINE_US)
    assert bench.outcomes() == {1: EXPIRED}
    assert bench.session.sizes == []


def test_a_version_that_cannot_be_loaded_ends_its_copies() -> None:
    bench = Bench()
    bench.loaded.profiles.clear()
    bench.runs.take(copies(1), 10, T)
    assert bench.loaded.wanted == [("digits", VERSION)]
    assert not bench.runs.step(T, INLINE_US)
    bench.runs.drop("digits", VERSION, "no blob")
    assert bench.outcomes() == {1: ERROR}
    assert bench.rows.attempts.close(0, 0) is None


def test_a_rebalance_forgets_all() -> None:
    bench = Bench()
    bench.runs.take(copies(1), 10, T)
    bench.runs.clear()
    assert not bench.runs
    assert not bench.runs.step(T, INLINE_US)


class Held(Session):
    """Waits in its batch until it is let go."""

    def __init__(self) -> None:
        super().__init__(fixed_us=50_000.0)
        self.entered, self.let_go = threading.Event(), threading.Event()

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.entered.set()
        assert self.let_go.wait(10)
        return super().run(inputs)


async def test_a_long_batch_runs_in_a_thread_and_rows_of_its_version_alone_wait_for_it() -> None:
    held, other = Held(), Session()
    bench = Bench(held)
    bench.loaded.sessions["digits", "v1.0.0"], bench.loaded.profiles["digits", "v1.0.0"] = other, other.profile
    bench.runs.take(copies(1), 10, T)
    assert bench.runs.step(T, INLINE_US)
    try:
        await until(held.entered.is_set)
        assert bench.runs.is_running
        assert not bench.runs.step(T, INLINE_US)
        bench.rows.add(work_of(frame([row(7, version=VERSION, deadline_us=FAR)])), T)
        assert bench.rows.next(T) is None
        bench.rows.add(work_of(frame([row(8, version="v1.0.0", deadline_us=FAR)])), T)
        run = bench.rows.next(T)
        assert run is not None
        assert run.version == ("digits", "v1.0.0")
    finally:
        held.let_go.set()
    await until(lambda: bench.num_ended == 1)
    assert bench.outcomes() == {1: OK}
    run = bench.rows.next(T)
    assert run is not None
    assert run.version == ("digits", VERSION)
    assert bench.lanes.failure is None
    bench.runs.stop()


async def test_a_batch_that_a_rebalance_overtook_is_forgotten() -> None:
    held = Held()
    bench = Bench(held)
    bench.runs.take(copies(1), 10, T)
    bench.runs.step(T, INLINE_US)
    await until(held.entered.is_set)
    bench.lanes.generation += 1
    bench.runs.clear()
    bench.rows.clear()
    held.let_go.set()
    await until(lambda: bench.num_ended == 1)
    assert bench.outcomes() == {}
    assert bench.rows.is_idle
    bench.runs.take(copies(2), 10, T)
    assert bench.runs.step(T, INLINE_US)
    await until(lambda: bench.num_ended == 2)
    assert bench.outcomes() == {2: OK}
    bench.runs.stop()
    await asyncio.sleep(0)
