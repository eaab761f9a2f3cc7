"""From queued rows to executed rows without Kafka: every row ends once, as its session says, whichever way it went."""

from __future__ import annotations

import random
from math import inf
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.executed import Work
from executors.execution import Execution
from executors.profile import Profile
from executors.run import Run
from executors.session import ExecutionError
from schemas.frame import InferenceFrame
from streams.columns import ERROR, EXPIRED, OK, Columns, block_array
from tests.support.frames import MODEL, T, frame, row

FAR = T + 3_600_000_000


class Session:
    """Triples; a batch with a poisoned value fails as a whole."""

    model = MODEL
    provider = "CPUExecutionProvider"

    def __init__(self, poisoned: set[int] | None = None, fixed_us: float = 100.0) -> None:
        self.profile = Profile(fixed_us, 1.0, 8)
        self.reentrant = True
        self.poisoned = poisoned or set()
        self.sizes: list[int] = []

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.sizes.append(len(inputs["x"]))
        if self.poisoned & set(inputs["x"][:, 0].astype(int).tolist()):
            raise ExecutionError("execution_failed", "poisoned")
        return {"y": np.repeat(inputs["x"][:, :1] * 3, 3, axis=1)}


class Loaded:
    """Sessions by version of ``digits``."""

    def __init__(self, **sessions: Session) -> None:
        self.sessions: Any = {("digits", version): session for version, session in sessions.items()}
        self.profiles = {version: session.profile for version, session in self.sessions.items()}
        self.wanted: list[tuple[str, str]] = []

    def want(self, model: str, version: str) -> None:
        self.wanted.append((model, version))


def execution_of(loaded: Loaded) -> Execution:
    return Execution("executor-0", loaded, lambda size: None)


def work_of(made: InferenceFrame) -> Work:
    return Work.of(made, None, None, 0)


def run_all(execution: Execution) -> None:
    while (left := execution.run_short(T, 1e9, inf, 0)) is not None:
        assert left == []


def ended(execution: Execution) -> dict[int, tuple[int, str, float | None]]:
    """Status, code and first output per offset; a row twice is an error."""
    found: dict[int, tuple[int, str, float | None]] = {}
    for _, made in execution.outbox.flush(T):
        if made is None:
            continue
        columns, errors, at = Columns.of(made), {error.row: error.code for error in made.errors}, 0
        for segment in made.segments:
            values = block_array(segment.outputs[0])[:, 0].tolist() if segment.outputs else []
            item = 0
            for _ in range(segment.num_rows):
                offset = int(columns.offsets[at])
                assert offset not in found
                found[offset] = (made.statuses[at], errors.get(at, ""), values[item] if values else None)
                item, at = item + int(columns.row_items[at]), at + 1
    return found


rows = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=14)


@settings(deadline=None, max_examples=60)
@given(rows, st.sets(st.integers(0, 3), max_size=2), st.booleans())
def test_every_row_ends_as_its_session_says(
    columns: list[tuple[int, int, int]], poisoned: set[int], alone: bool
) -> None:
    execution = execution_of(Loaded(**{"v1.0.0": Session(poisoned)}))
    made = [
        row(offset, version="v1.0.0", items=items, priority=priority, deadline_us=FAR)
        for offset, (items, _, priority) in enumerate(columns)
    ]
    for each, (items, value, _) in zip(made, columns, strict=True):
        each.blocks = (("x", "FP32", (2,), np.full((items, 2), value, "<f4").tobytes()),)
    work = work_of(frame(made))
    if not (alone and execution.run_alone(work, T, 1e9)):
        execution.add(work, T)
    run_all(execution)
    assert ended(execution) == {
        offset: (ERROR, "execution_failed", None) if value in poisoned else (OK, "", 3.0 * value)
        for offset, (_, value, _) in enumerate(columns)
    }
    assert (execution.intake.batcher.queued_items, execution.intake.batcher.busy) == (0, {})


def test_a_frame_alone_runs_as_it_would_from_the_queues() -> None:
    rows_of = [row(offset, version="v1.0.0", deadline_us=FAR) for offset in (1, 2, 3, 4)]
    rows_of[2].blocks = rows_of[1].blocks
    made = frame(rows_of)
    outcomes = []
    for alone in (True, False):
        session = Session()
        execution = execution_of(Loaded(**{"v1.0.0": session}))
        work = work_of(made)
        assert not alone or execution.run_alone(work, T, 1e9)
        if not alone:
            execution.add(work, T)
            run_all(execution)
        outcomes.append((ended(execution), session.sizes, execution.counts))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1] == [3]


def test_a_frame_is_not_alone_while_something_waits() -> None:
    loaded = Loaded(**{"v1.0.0": Session(), "v2.0.0": Session()})
    execution = execution_of(loaded)
    execution.add(work_of(frame([row(0, version="v2.0.0", deadline_us=FAR)])), T)
    assert not execution.run_alone(work_of(frame([row(1, version="v1.0.0", deadline_us=FAR)])), T, 1e9)


def test_long_batches_come_back_one_per_version_and_the_short_ones_run() -> None:
    loaded = Loaded(**{"v1.0.0": Session(), "v2.0.0": Session(fixed_us=9_000.0), "v3.0.0": Session(fixed_us=9_000.0)})
    execution = execution_of(loaded)
    rows_of = [row(at, version=f"v{1 + at % 3}.0.0", deadline_us=FAR) for at in range(60)]
    execution.add(work_of(frame(rows_of)), T)
    long = execution.run_short(T, 1e5, 2_000.0, 1)
    assert long is not None
    assert [run.version for run in long] == [("digits", "v2.0.0")]
    while execution.run_short(T, 1e5, 2_000.0, 0) is not None:
        pass  # no thread is free, so it is the short ones that run
    assert loaded.sessions["digits", "v1.0.0"].sizes == [8, 8, 4]
    more = execution.run_short(T, 1e5, 2_000.0, 1)
    assert more is not None
    assert [run.version for run in more] == [("digits", "v3.0.0")]  # the other is under way
    for run in (*long, *more):
        run.prepare()
        run.compute()
        execution.done(run)
    run_all(execution)
    assert {status for status, _, _ in ended(execution).values()} == {OK}


def test_a_long_batch_that_fails_is_halved_one_half_at_a_time() -> None:
    execution = execution_of(Loaded(**{"v1.0.0": Session({3}, fixed_us=9_000.0)}))
    execution.add(work_of(frame([row(at, version="v1.0.0", deadline_us=FAR) for at in range(6)])), T)
    num_runs = 0
    while (long := execution.run_short(T, 1e9, 2_000.0, 2)) is not None:
        assert len(long) <= 1  # a session is not asked twice at a time
        for run in long:
            run.prepare()
            run.compute()
            execution.done(run)
            num_runs += 1
    found = ended(execution)
    assert [offset for offset in found if found[offset][0] == ERROR] == [3]
    assert num_runs >= 3


def test_late_rows_end_before_they_cost_anything() -> None:
    session = Session()
    execution = execution_of(Loaded(**{"v1.0.0": session}))
    execution.add(work_of(frame([row(0, version="v1.0.0", deadline_us=T + 5)])), T)
    run_all(execution)
    assert ended(execution) == {0: (EXPIRED, "deadline_exceeded", None)}
    assert session.sizes == []


def test_what_takes_longer_than_profiled_is_corrected() -> None:
    session = Session(fixed_us=0.001)
    session.profile = Profile(0.001, 0.0, 8)
    loaded = Loaded(**{"v1.0.0": session})
    loaded.profiles["digits", "v1.0.0"] = session.profile.bounded(3)
    execution = execution_of(loaded)
    for at in range(40):
        execution.add(work_of(frame([row(at, version="v1.0.0", deadline_us=FAR)])), T)
        run_all(execution)
    assert loaded.profiles["digits", "v1.0.0"].fixed_us > 0.001
    assert loaded.profiles["digits", "v1.0.0"].cap == 3, "memory's bound stays"


def test_who_corrects_nothing_leaves_the_profiles_as_they_are() -> None:
    session = Session(fixed_us=0.001)
    session.profile = Profile(0.001, 0.0, 8)
    loaded = Loaded(**{"v1.0.0": session})
    execution = Execution("executor-0", loaded, lambda size: None, corrects=False)
    for at in range(40):
        execution.add(work_of(frame([row(at, version="v1.0.0", deadline_us=FAR)])), T)
        run_all(execution)
    assert len(session.sizes) == 40
    assert loaded.profiles["digits", "v1.0.0"] is session.profile


def test_what_was_measured_too_slow_for_its_deadlines_is_tried_again() -> None:
    session = Session(fixed_us=1_000.0)
    execution = execution_of(Loaded(**{"v1.0.0": session}))
    statuses: list[int] = []
    while OK not in statuses:
        execution.add(work_of(frame([row(len(statuses), version="v1.0.0", deadline_us=T + 500)])), T)
        run_all(execution)
        statuses += [status for status, _, _ in ended(execution).values()]
        assert len(statuses) < 200
    assert statuses[0] == EXPIRED


@settings(deadline=None, max_examples=100)
@given(rows, st.sets(st.integers(0, 3), max_size=2), st.booleans(), st.integers(0, 1 << 30))
def test_batches_that_run_beside_others_are_more_urgent_and_one_a_time(
    columns: list[tuple[int, int, int]], poisoned: set[int], reentrant: bool, seed: int
) -> None:
    """Rows come, batches begin and end in any order; every row ends once."""
    rng = random.Random(seed)
    session = Session(poisoned)
    session.reentrant = reentrant
    execution = execution_of(Loaded(**{"v1.0.0": session}))
    waiting = [
        row(at, version="v1.0.0", items=n, priority=each, deadline_us=FAR) for at, (n, _, each) in enumerate(columns)
    ]
    for each, (items, value, _) in zip(waiting, columns, strict=True):
        each.blocks = (("x", "FP32", (2,), np.full((items, 2), value, "<f4").tobytes()),)
    under_way: list[Run] = []
    while waiting or under_way or execution.intake.batcher.queued_items:
        action = rng.randrange(3)
        if action == 0 and waiting:
            execution.add(work_of(frame([waiting.pop(0)])), T)
        elif action == 1 and (begun := execution.next(T)) is not None:
            assert len(under_way) < 2
            assert all(reentrant and begun.priority < other.priority for other in under_way)
            under_way.append(begun)
            execution.let_pass(begun)
        elif action == 2 and under_way:
            done = under_way.pop(rng.randrange(len(under_way)))
            done.prepare()
            done.compute()
            execution.done(done)
    run_all(execution)
    assert ended(execution) == {
        offset: (ERROR, "execution_failed", None) if value in poisoned else (OK, "", 3.0 * value)
        for offset, (_, value, _) in enumerate(columns)
    }
    assert execution.intake.batcher.busy == {}
