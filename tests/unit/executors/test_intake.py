"""What waits in an executor: each row is queued, refused, claimed for its blob, or passed on as it ended."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from executors.batcher import Batcher
from executors.execution import Execution
from executors.intake import WAITED_US
from schemas.frame import RowError
from schemas.request import BlobRef
from streams.columns import ERROR, EXPIRED, REJECTED, num_rows
from tests.support.frames import T, frame, row
from tests.unit.executors.test_execution import FAR, Loaded, Session, ended, run_all, work_of

BLOB = BlobRef("ab" * 32, 8)


def execution_of(*ordered: str) -> Execution:
    def models(_sequence: int) -> Container[str]:
        return frozenset(ordered)

    return Execution("executor-0", Loaded(**{"v1.0.0": Session()}), lambda size: None, models)


def rows(*offsets: int) -> list:  # type: ignore[type-arg]
    return [row(offset, version="v1.0.0", deadline_us=FAR) for offset in offsets]


def test_rows_above_a_models_bound_are_refused_with_the_time_to_try_again() -> None:
    execution = execution_of()
    execution.intake.batcher = Batcher(max_items=3)
    execution.add(work_of(frame(rows(0, 1, 2))), T)
    execution.add(work_of(frame(rows(9))), T)
    assert execution.intake.queued_items == 3
    (_, refused), _ = execution.outbox.flush(T)
    assert refused is not None
    assert refused.statuses == bytes([REJECTED])
    assert (refused.errors[0].code, refused.errors[0].retry_after_ms > 0) == ("overloaded", True)
    assert execution.counts.num_refused_rows == 1


def test_a_version_that_is_not_here_is_asked_for_and_its_rows_wait() -> None:
    loaded = Loaded()
    execution = Execution("executor-0", loaded, lambda size: None)
    execution.add(work_of(frame(rows(0, 1))), T)
    assert (loaded.wanted, execution.intake.queued_items) == ([("digits", "v1.0.0")], 2)
    execution.intake.drop("digits", "v1.0.0", "no such file")
    assert execution.intake.queued_items == 0
    assert {code for _, code, _ in ended(execution).values()} == {"model_unavailable"}


def test_a_row_with_a_blob_is_claimed_and_queued_when_its_inputs_are_here() -> None:
    execution = execution_of()
    made = frame(rows(5))
    inputs = made.segments[0].inputs
    claimed = replace(made, segments=(replace(made.segments[0], blob=BLOB),))
    (claim,) = execution.add(work_of(claimed), T)
    assert (claim.ref, execution.intake.queued_items) == (BLOB, 0)
    execution.intake.add_fetched(claim, inputs, T)
    assert execution.intake.queued_items == 1
    run_all(execution)
    assert list(ended(execution)) == [5]


def test_a_row_whose_blob_is_not_to_be_had_ends() -> None:
    execution = execution_of("digits")
    made = frame(rows(5))
    (claim,) = execution.add(work_of(replace(made, segments=(replace(made.segments[0], blob=BLOB),))), T)
    execution.intake.fail_fetch(claim, ERROR, "blob_missing", "no such blob")
    assert ended(execution) == {5: (ERROR, "blob_missing", None)}
    assert not execution.intake.lines


def test_rows_that_ended_before_they_came_are_passed_on_as_they_are() -> None:
    execution = execution_of("digits")
    made = frame(rows(1, 2))
    late = replace(
        made,
        statuses=bytes([EXPIRED, EXPIRED]),
        errors=tuple(RowError(at, "deadline_exceeded", "too late") for at in range(num_rows(made))),
    )
    execution.add(work_of(late), T)
    assert execution.intake.queued_items == 0
    assert ended(execution) == dict.fromkeys((1, 2), (EXPIRED, "deadline_exceeded", None))


def test_rows_of_an_ordered_model_stand_in_a_line_until_it_is_their_turn() -> None:
    execution = execution_of("digits")
    assert execution.intake.keeps_order(frame(rows(1)))
    for offset in (1, 2, 3):
        execution.add(work_of(frame(rows(offset))), T)
    assert (execution.intake.batcher.queued_items, execution.intake.queued_items) == (0, 3)
    execution.intake.feed({"digits"})
    assert execution.intake.batcher.queued_items == 0
    execution.intake.feed(frozenset())
    assert execution.intake.batcher.queued_items > 0
    run_all(execution)
    assert list(ended(execution)) == [1, 2, 3]


def test_nothing_is_left_after_a_rebalance_but_what_threads_still_hold() -> None:
    execution = execution_of()
    execution.add(work_of(frame(rows(1, 2))), T)
    execution.intake.clear({("digits", "v1.0.0")})
    assert execution.intake.queued_items == 0
    assert execution.intake.batcher.busy == {("digits", "v1.0.0"): 0}


def test_rows_that_waited_here_until_it_was_too_late_are_counted_by_version() -> None:
    execution = execution_of()
    execution.add(work_of(frame(rows(1, 2))), T)
    batch = execution.intake.batcher.next_batch(T, execution.intake._loaded.profiles)
    assert batch is not None
    (whole,) = batch.slices
    version = ("digits", "v1.0.0")
    execution.intake.expire(version, whole.part(0, 1), T + WAITED_US)  # came with next to no time left
    assert execution.intake.num_late == {}
    execution.intake.expire(version, whole.part(1, 2), T + WAITED_US + 1)
    assert execution.intake.num_late == {version: 1}
    assert ended(execution) == dict.fromkeys((1, 2), (EXPIRED, "deadline_exceeded", None))


def test_memory_is_asked_once_per_frame_for_what_is_ordered() -> None:
    asked: list[int] = []

    def models(sequence: int) -> Container[str]:
        asked.append(sequence)
        return {"digits"}

    execution = Execution("executor-0", Loaded(**{"v1.0.0": Session(), "v2.0.0": Session()}), lambda size: None, models)
    made = frame([*rows(1), row(2, version="v2.0.0", deadline_us=FAR)])
    execution.add(work_of(made), T)
    assert (asked, execution.intake.lines.num_items) == ([made.memory_sequence], 2)
