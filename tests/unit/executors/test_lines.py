"""Lines of ordered models: rows come out as they went in, whatever batches, priorities, faults and blobs there are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.blob_fetch import Claim, Fetched
from executors.executed import Work
from executors.execution import Execution
from executors.lines import Lines
from executors.profile import Profile
from executors.row_queue import BatchKey
from executors.row_slice import RowSlice
from executors.run import Run
from executors.session import ExecutionError
from schemas.frame import TensorBlock
from streams.columns import ERROR, OK, Columns
from streams.frame_builder import FrameBuilder, Row
from tests.support.frames import MODEL, TOPIC_ID, T, row, with_blob

FAR = T + 3_600_000_000
KEY, OTHER = BatchKey("digits", "v1.0.0", (("x", (2,), 4),)), BatchKey("digits", "v2.0.0", (("x", (2,), 4),))
FAILS, FAILS_ONCE = 3, 2


class Session:
    """Triples; batches with ``FAILS`` fail, those with ``FAILS_ONCE`` in passing, once each."""

    model = MODEL
    provider = "CPUExecutionProvider"
    reentrant = True

    def __init__(self, fixed_us: float) -> None:
        self.profile = Profile(fixed_us, 1.0, 8)
        self.failed = 0

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = set(inputs["x"][:, 0].astype(int).tolist())
        if FAILS in values:
            raise ExecutionError("execution_failed", "never runs")
        if FAILS_ONCE in values and self.failed < 3:
            self.failed += 1
            raise ExecutionError("execution_failed", "no memory", transient=True)
        return {"y": np.repeat(inputs["x"][:, :1] * 3, 3, axis=1)}


class Loaded:
    """A fast version and a slow one."""

    def __init__(self) -> None:
        self.sessions: Any = {("digits", "v1.0.0"): Session(100.0), ("digits", "v2.0.0"): Session(9_000.0)}
        self.profiles = {version: session.profile for version, session in self.sessions.items()}

    def want(self, model: str, version: str) -> None:
        raise AssertionError(f"{model} {version} is loaded")


class Driver:
    """An execution, and what left it, in the order in which it left."""

    def __init__(self, frames: list[list[Row]]) -> None:
        self.execution = Execution(
            "executor-0", Loaded(), lambda size: None, lambda _: frozenset({"digits"}), lambda _: 1
        )
        builder = FrameBuilder(TOPIC_ID, 1)
        self.frames = []
        for rows in frames:
            for each in rows:
                builder.add(each)
            self.frames += builder.build(0, T, 1, {"digits"})
        self.claims: list[Claim] = []
        self.running: list[Run] = []
        self.left: list[tuple[int, int]] = []

    def add(self) -> None:
        """The next frame comes."""
        if self.frames:
            work = Work.of(self.frames.pop(0), None, None, 0)
            assert not self.execution.run_alone(work, T, 1e9)
            self.claims += self.execution.add(work, T)

    def start(self) -> None:
        """The next batch runs."""
        run = self.execution.next(T)
        if run is not None:
            assert not any(each.version[0] == run.version[0] for each in self.running)
            run.prepare()
            run.compute()
            self.running.append(run)

    def finish(self) -> None:
        """A batch has ended."""
        if self.running:
            self.execution.done(self.running.pop())

    def fetch(self, *, fails: bool) -> None:
        """The newest blob is here, or cannot be had."""
        if not self.claims:
            return
        claim = self.claims.pop()
        if fails:
            self.execution.intake.fail_fetch(claim, ERROR, "blob_missing", "no such blob")
            return
        data = np.full((claim.items, 2), 1, "<f4").tobytes()
        inputs = (TensorBlock("x", "FP32", (2,), data),)
        claim.work.fetched[claim.segment] = Fetched(inputs, (), len(data))
        self.execution.intake.add_fetched(claim, inputs, T)

    def flush(self, *, partial: bool) -> None:
        """What is finished leaves."""
        for _, made in self.execution.outbox.flush(T, partial=partial):
            if made is not None:
                self.left += zip(Columns.of(made).offsets.tolist(), made.statuses, strict=True)


each_row = st.tuples(
    st.integers(1, 2), st.integers(1, 9), st.integers(0, 4), st.integers(0, 9), st.booleans(), st.booleans()
)
steps = st.lists(
    st.sampled_from(("add", "add", "start", "start", "finish", "finish", "fetch", "lose", "tick", "flush")),
    max_size=60,
)


def rows_of(frames: list[list[tuple[int, int, int, int, bool, bool]]]) -> list[list[Row]]:
    offset, made = 0, []
    for columns in frames:
        rows = []
        for version, items, value, priority, is_late, has_blob in columns:
            each = row(offset, version=f"v{version}.0.0", items=items, priority=priority)
            each.deadline_us = T + 50 if is_late else FAR
            each.blocks = (("x", "FP32", (2,), np.full((items, 2), value, "<f4").tobytes()),)
            rows.append(with_blob(each) if has_blob else each)
            offset += 1
        made.append(rows)
    return made


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executors.retry.PAUSE_US", (0, 0))
    monkeypatch.setattr("executors.retry.time.time_ns", lambda: T * 1000)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.lists(each_row, min_size=1, max_size=6), min_size=1, max_size=5), steps)
def test_rows_that_are_served_leave_in_the_order_they_came(frames: Any, schedule: list[str]) -> None:
    driver = Driver(rows_of(frames))
    wanted = sum(len(each) for each in frames)
    acts = {
        "add": driver.add, "start": driver.start, "finish": driver.finish,
        "fetch": lambda: driver.fetch(fails=False), "lose": lambda: driver.fetch(fails=True),
        "tick": lambda: driver.flush(partial=True), "flush": lambda: driver.flush(partial=False),
    }  # fmt: skip
    for step in [*schedule, *["add"] * len(frames), *["fetch"] * wanted]:
        acts[step]()
    for _ in range(20 * wanted):
        for step in ("start", "finish", "flush"):
            acts[step]()
    driver.flush(partial=True)
    assert sorted(offset for offset, _ in driver.left) == list(range(wanted))
    served = [offset for offset, status in driver.left if status == OK]
    assert served == sorted(served)
    assert (driver.execution.intake.queued_items, bool(driver.execution.intake.lines)) == (0, False)


def rows(num_rows: int, priority: int = 5) -> RowSlice:
    return RowSlice(None, 0, 0, num_rows, 0, num_rows, priority, T, FAR, [1] * num_rows, [FAR] * num_rows)


def test_a_line_gives_one_group_at_a_time_with_one_priority() -> None:
    lines = Lines()
    first, second, third = rows(2, priority=7), rows(1, priority=0), rows(1)
    assert lines.put(KEY, first)
    assert lines.put(KEY, second)
    assert lines.put(OTHER, third)
    assert (lines.num_items, bool(lines)) == (4, True)
    assert list(lines.feed(lambda model: False)) == []
    assert list(lines.feed(lambda model: True)) == [(KEY, first), (KEY, second)]
    assert [first.priority, second.priority] == [7, 7]
    assert list(lines.feed(lambda model: model == "digits")) == [(OTHER, third)]
    assert (lines.num_items, bool(lines)) == (0, False)


def test_a_place_that_is_reserved_holds_its_line_and_no_other() -> None:
    lines = Lines()
    place, behind, beside = lines.reserve(KEY), rows(1), rows(1)
    stranger = BatchKey("letters", "v1.0.0", ())
    lines.put(KEY, behind)
    lines.put(stranger, beside)
    assert list(lines.feed(lambda model: True)) == [(stranger, beside)]
    late = rows(1)
    lines.fill(place, OTHER, late)
    assert list(lines.feed(lambda model: True)) == [(OTHER, late)]
    assert list(lines.feed(lambda model: True)) == [(KEY, behind)]
    gone = lines.reserve(KEY)
    lines.leave(gone)
    assert not lines


def test_a_full_line_refuses_and_one_group_always_fits() -> None:
    lines = Lines(max_items=3, max_bytes=1000)
    assert lines.put(KEY, rows(5))
    assert not lines.put(KEY, rows(1))
    assert lines.num_items == 5
    small = Lines(max_items=100, max_bytes=20)
    assert small.put(KEY, rows(2))
    assert not small.put(KEY, rows(1))


def test_dropping_a_version_takes_its_rows_out_of_the_line() -> None:
    lines = Lines()
    first, second, third = rows(1), rows(1), rows(1)
    lines.put(KEY, first)
    lines.put(OTHER, second)
    lines.put(KEY, third)
    assert lines.drop(("digits", "v1.0.0")) == [first, third]
    assert lines.drop(("nobody", "v1.0.0")) == []
    assert list(lines.feed(lambda model: True)) == [(OTHER, second)]
    assert lines.num_items == 0
