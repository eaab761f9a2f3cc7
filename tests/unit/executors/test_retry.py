"""What is tried again, where and when, and that nothing is tried past its deadline or beyond its budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from executors import retry
from executors.executed import Work
from executors.execution import Execution
from executors.profile import Profile
from executors.retry import BACKOFF_US, PAUSE_US, Retries, max_attempts, retry_frame
from executors.row_slice import RowSlice
from executors.session import ExecutionError
from schemas.frame import InferenceFrame, RowError
from streams.codec import Codec, SchemaIds
from streams.columns import ERROR, EXPIRED, OK, PENDING, REJECTED, Columns, take
from streams.frame_check import checked
from streams.retry_budget import FULL
from tests.support.frames import MODEL, T, frame, memory, plan, row, with_blob

FAR = T + 3_600_000_000
NOWHERE: Any = None


class Clock:
    """Both clocks of the module, and its chance."""

    def __init__(self) -> None:
        self.now_us = T
        self.chance = 0.5

    def time_ns(self) -> int:
        return self.now_us * 1000

    monotonic_ns = time_ns

    def random(self) -> float:
        return self.chance


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(retry, "time", made)
    monkeypatch.setattr(retry, "random", made)
    return made


class Session:
    """Fails in passing as often as it is told; with ``hard``, for good."""

    model = MODEL
    provider = "CPUExecutionProvider"
    reentrant = True

    def __init__(self, failures: int = 0, *, hard: bool = False) -> None:
        self.profile = Profile(100.0, 1.0, 8)
        self.failures, self.hard, self.num_runs = failures, hard, 0

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.num_runs += 1
        if self.num_runs <= self.failures:
            raise ExecutionError("execution_failed", "no memory", transient=not self.hard)
        return {"y": np.repeat(inputs["x"][:, :1] * 3, 3, axis=1)}


class Loaded:
    """One session, of ``digits`` ``v1.0.0``."""

    def __init__(self, session: Session) -> None:
        self.sessions: Any = {("digits", "v1.0.0"): session}
        self.profiles: Any = {("digits", "v1.0.0"): session.profile}

    def want(self, model: str, version: str) -> None:
        """Nothing is loaded."""


def work_of(made: InferenceFrame) -> Work:
    return Work.of(made, NOWHERE, NOWHERE, 0)


def routed(*offsets: int, deadline_us: int = FAR, attempt: int = 0) -> InferenceFrame:
    made = frame([row(offset, version="v1.0.0", deadline_us=deadline_us) for offset in offsets])
    errors = tuple(RowError(at, "execution_failed", "the last one") for at in range(len(offsets) if attempt else 0))
    return replace(made, attempt=attempt, errors=errors)


def slice_of(work: Work, segment: int = 0) -> RowSlice:
    columns, first = Columns.of(work.frame), work.starts[segment]
    rows = slice(first, work.starts[segment + 1])
    items, deadlines = columns.row_items[rows].tolist(), columns.deadlines_us[rows].tolist()
    return RowSlice(work, segment, 0, len(items), 0, sum(items), 5, T, min(deadlines), items, deadlines)


def execution_of(session: Session, tries: int = 2) -> Execution:
    return Execution("executor-0", Loaded(session), lambda size: None, max_attempts=lambda model: tries)


def run_all(execution: Execution, now_us: int = T) -> None:
    while execution.run_short(now_us, 1e9, 1e9, 0) is not None:
        pass


def left(execution: Execution) -> tuple[dict[int, tuple[int, str]], list[InferenceFrame]]:
    """Status and code by offset of what is executed, and the frames of what is tried elsewhere."""
    found: dict[int, tuple[int, str]] = {}
    again: list[InferenceFrame] = []
    for work, made in execution.outbox.flush(T):
        if made is None:
            assert work.left == 0
        elif made.attempt > work.frame.attempt:
            again.append(checked(made))
        else:
            codes = {error.row: error.code for error in made.errors}
            offsets = Columns.of(made).offsets.tolist()
            found |= {offset: (made.statuses[at], codes.get(at, "")) for at, offset in enumerate(offsets)}
    return found, again


@pytest.mark.parametrize("alone", [True, False])
def test_a_row_runs_again_here_when_its_pause_is_over(clock: Clock, alone: bool) -> None:
    session = Session(1)
    execution, work = execution_of(session), work_of(routed(1))
    if alone:
        assert execution.run_alone(work, T, 1e9) is True
    else:
        execution.add(work, T)
    run_all(execution)
    assert (session.num_runs, left(execution)) == (1, ({}, []))
    assert execution.intake.batcher.busy == {}  # its version serves others meanwhile
    assert execution.retries.wait_ms(200) == 15
    clock.now_us += sum(PAUSE_US) // 2
    assert execution.retries.wait_ms(200) == 0
    run_all(execution)
    assert left(execution) == ({1: (OK, "")}, [])
    assert (execution.intake.batcher.busy, execution.retries.wait_ms(200)) == ({}, 200)


def test_others_of_its_version_run_while_a_row_is_paused(clock: Clock) -> None:
    execution = execution_of(Session(1))
    execution.add(work_of(routed(1)), T)
    run_all(execution)
    execution.add(work_of(routed(2)), T)
    run_all(execution)
    assert left(execution) == ({2: (OK, "")}, [])


def test_rows_of_an_ordered_model_wait_behind_the_paused_one(clock: Clock) -> None:
    loaded = Loaded(Session(1))
    execution = Execution("executor-0", loaded, lambda size: None, lambda _sequence: {"digits"}, lambda model: 1)
    execution.add(work_of(routed(1)), T)
    run_all(execution)
    execution.add(work_of(routed(2)), T)
    run_all(execution)
    assert left(execution) == ({}, [])
    clock.now_us += PAUSE_US[1]
    run_all(execution)
    assert left(execution) == ({1: (OK, ""), 2: (OK, "")}, [])


def test_a_row_that_fails_again_leaves_after_a_back_off_that_grows(clock: Clock) -> None:
    for attempt, wait_us in ((0, BACKOFF_US // 2), (1, BACKOFF_US)):
        execution = execution_of(Session(2), tries=3)
        execution.add(work_of(routed(1, attempt=attempt)), T)
        run_all(execution)
        clock.now_us += PAUSE_US[1]
        run_all(execution)
        over, (again,) = left(execution)
        assert (over, again.attempt, again.not_before_us) == ({}, attempt + 1, clock.now_us + wait_us)
        assert [(error.row, error.code, error.message) for error in again.errors] == [
            (0, "execution_failed", "no memory")
        ]


def test_a_failure_for_good_ends_the_row_at_once(clock: Clock) -> None:
    execution = execution_of(Session(1, hard=True))
    execution.add(work_of(routed(1)), T)
    run_all(execution)
    assert left(execution) == ({1: (ERROR, "execution_failed")}, [])


def test_the_last_attempt_ends_with_its_error(clock: Clock) -> None:
    execution = execution_of(Session(9))
    execution.add(work_of(routed(1, attempt=1)), T)
    run_all(execution)
    clock.now_us += PAUSE_US[1]
    run_all(execution)
    assert left(execution) == ({1: (ERROR, "execution_failed")}, [])


def test_nothing_is_tried_that_would_be_late(clock: Clock) -> None:
    execution = execution_of(Session(9))
    execution.add(work_of(routed(1, deadline_us=T + 10_000)), T)
    run_all(execution)
    assert left(execution) == ({1: (ERROR, "execution_failed")}, [])
    execution.add(work_of(routed(2, deadline_us=T + 20_000)), T)  # one more here, none elsewhere
    run_all(execution)
    assert left(execution) == ({}, [])
    clock.now_us += PAUSE_US[1]
    run_all(execution)
    assert left(execution) == ({2: (ERROR, "execution_failed")}, [])


def test_a_retried_row_that_can_no_longer_run_ends_with_what_it_failed_with(clock: Clock) -> None:
    execution = execution_of(Session())
    execution.add(work_of(routed(1, 2, deadline_us=T + 50, attempt=1)), T)
    execution.add(work_of(routed(3, deadline_us=T + 50)), T)
    run_all(execution)
    assert left(execution)[0] == {
        1: (ERROR, "execution_failed"), 2: (ERROR, "execution_failed"), 3: (EXPIRED, "deadline_exceeded"),
    }  # fmt: skip
    execution.intake.batcher = type(execution.intake.batcher)(max_items=1)
    for offset in (4, 5):
        execution.add(work_of(routed(offset, attempt=offset - 4)), T)
    execution.add(work_of(routed(6)), T)
    assert left(execution)[0] == {5: (ERROR, "execution_failed"), 6: (REJECTED, "overloaded")}


def test_pauses_are_a_tenth_of_what_is_tried(clock: Clock) -> None:
    retries, run = Retries(lambda model: 2), object()
    assert all(retries.pause(run, "digits", 1.0, FAR) for _ in range(int(FULL)))
    assert retries.pause(run, "digits", 1.0, FAR) is False
    retries.tried(routed(*range(10)))
    assert [retries.pause(run, "digits", 1.0, FAR) for _ in range(2)] == [True, False]
    clock.now_us += PAUSE_US[1]
    assert len(retries.due()) == FULL + 1
    assert retries.due() == []


def test_what_waits_is_forgotten_with_the_lanes(clock: Clock) -> None:
    execution = execution_of(Session(1))
    execution.add(work_of(routed(1)), T)
    run_all(execution)
    execution.clear()
    clock.now_us += PAUSE_US[1]
    assert execution.retries.due() == []


def test_a_version_that_cannot_be_loaded_is_tried_elsewhere(clock: Clock) -> None:
    execution = execution_of(Session())
    loaded: Any = execution._loaded
    loaded.profiles.clear()
    made = frame([row(offset, version="v1.0.0", deadline_us=FAR if offset % 2 else T + 5) for offset in range(5)])
    execution.add(work_of(made), T)
    execution.intake.drop("digits", "v1.0.0", "no blob")
    over, (again,) = left(execution)
    assert over == dict.fromkeys((0, 2, 4), (ERROR, "model_unavailable"))
    assert Columns.of(again).offsets.tolist() == [1, 3]
    assert execution.counts.num_retried_rows == 2


@pytest.mark.parametrize("role", [1, 2])
def test_a_copy_of_a_row_is_not_tried_elsewhere(clock: Clock, role: int) -> None:
    work = work_of(replace(routed(1, 2), roles=bytes([0, role])))
    assert Retries(lambda model: 2).elsewhere(slice_of(work), "execution_failed", "no")[0] == []
    work = work_of(replace(routed(1, 2), roles=bytes([0, 0])))
    assert Retries(lambda model: 2).elsewhere(slice_of(work), "execution_failed", "no")[1] == []


def test_a_retry_frame_is_the_routed_one_cut_to_its_rows(clock: Clock) -> None:
    """Rows of several segments, one of them with a blob; readable, and with every column of the first frame."""
    rows = [row(1, version="v1.0.0"), row(2, version="v1.0.0", items=3), with_blob(row(3, version="v1.0.0"))]
    for each in rows:
        each.deadline_us = FAR
    made = frame(rows)
    work, retries = work_of(made), Retries(lambda model: 2)
    failed = []
    for segment, part in ((1, slice_of(work, 1)), (0, slice_of(work).part(1, 2))):
        clock.chance += 0.1
        failed += retries.elsewhere(part, "execution_failed", f"segment {segment}")[0]
    again = checked(retry_frame(work, failed))
    codec = Codec(SchemaIds.local())
    assert codec.decode("inference.retries", codec.encode("inference.retries", again)) == again
    kept = take(made, np.array([1, 2]))
    assert replace(again, errors=(), attempt=0, not_before_us=0) == kept
    assert set(again.statuses) == {PENDING}
    assert [error.message for error in again.errors] == ["segment 0", "segment 1"]
    assert again.not_before_us == T + int(0.7 * BACKOFF_US)


def test_attempts_are_those_of_the_plan() -> None:
    assert max_attempts(memory(MODEL), "digits") == 2
    assert max_attempts(memory(MODEL, replace(plan("digits", ("v1.0.0", 100)), max_attempts=5)), "digits") == 5
    ordered = replace(MODEL, ordered=True)
    assert max_attempts(memory(ordered, replace(plan("digits", ("v1.0.0", 100)), max_attempts=5)), "digits") == 1
