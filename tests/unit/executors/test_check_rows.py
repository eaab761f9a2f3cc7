"""Rows and items of checks in a batch of an executor: counted nowhere, wherever they stand."""

from __future__ import annotations

from typing import Any

import pytest

from executors.check_rows import client_items, num_client_rows
from executors.execution import Execution
from executors.row_slice import RowSlice
from executors.statistics import VersionTally
from schemas.telemetry import ModelWindow
from streams.check_id import TENANT
from tests.support import drift
from tests.support.frames import T, frame, row
from tests.unit.executors.test_execution import FAR, Loaded, Session, execution_of, run_all, work_of

MIXED = [row(1, items=2), row(2, items=3, tenant=TENANT), row(3), row(4, tenant=TENANT), row(5, items=2)]
ITEMS = [2, 3, 1, 1, 2]


def whole(rows: list[Any], items: list[int]) -> RowSlice:
    return RowSlice(work_of(frame(rows)), 0, 0, len(rows), 0, sum(items), 5, T, FAR, items, [FAR] * len(rows))


def test_rows_and_items_of_clients_in_a_batch_of_several_slices() -> None:
    mixed, plain = whole(MIXED, ITEMS), whole([row(7, items=2)], [2])
    assert num_client_rows([mixed, plain]) == 4
    found = client_items([plain, mixed])
    assert found is not None
    assert found.tolist() == [0, 1, 2, 3, 7, 9, 10]
    assert num_client_rows([mixed.part(1, 4)]) == 1
    part = client_items([mixed.part(1, 4)])
    assert part is not None
    assert part.tolist() == [3]


def test_where_no_check_is_all_items_count() -> None:
    plain = whole([row(7, items=2), row(8)], [2, 1])
    assert (num_client_rows([plain]), client_items([plain])) == (2, None)


@pytest.mark.parametrize("alone", [True, False])
def test_an_execution_counts_clients_rows_only(alone: bool) -> None:
    execution = execution_of(Loaded(**{"v1.0.0": Session({3, 6})}))
    seen: list[Any] = []

    class Spy:
        def note(self, *given: Any) -> None:
            seen.append(given[3:])

    execution.statistics.watched["digits", "v1.0.0"] = Spy()  # type: ignore[assignment]
    rows = [row(at, version="v1.0.0", deadline_us=FAR, tenant=TENANT if at > 3 else "default") for at in range(8)]
    work = work_of(frame(rows))
    if not (alone and execution.run_alone(work, T, 1e9)):
        execution.add(work, T)
    run_all(execution)
    lost = work_of(frame([row(9, version="v9.0.0", deadline_us=FAR, tenant=TENANT)]))
    execution.add(lost, T)
    execution.intake.drop("digits", "v9.0.0", "its blob is missing")
    window = execution.attempts.close(0, 0)
    assert window is not None
    assert window.models == (ModelWindow("digits", "v1.0.0", 4, 3, 1, 0, 0, 0, 0),)
    counted = sum(num_items if items is None else len(items) for num_items, _, items in seen)
    assert counted == 3


def test_a_batch_of_checks_alone_is_not_told_of() -> None:
    execution: Execution = execution_of(Loaded(**{"v1.0.0": Session()}))
    assert execution.run_alone(work_of(frame([row(1, version="v1.0.0", deadline_us=FAR, tenant=TENANT)])), T, 1e9)
    assert execution.attempts.close(0, 0) is None


def test_a_tally_looks_at_the_items_that_count_only() -> None:
    of, rows = VersionTally(drift.reference(200), "id"), drift.rows(6)
    rows[[0, 4]] = -50.0
    items = client_items([whole([row(1, items=4, tenant=TENANT), row(2, items=2)], [4, 2])])
    of.note({"x": rows}, drift.answers(rows), None, 6, T, items)
    made = of.take("executor-0", ("digits", "v1.0.0"), T, T + 1)
    assert made is not None
    assert (made.num_rows, made.num_sampled, made.measures[0].num_below) == (2, 2, 1)
    nobody = client_items([whole([row(1, tenant=TENANT)], [1])])
    of.note({"x": rows[:1]}, drift.answers(rows[:1]), None, 1, T, nobody)
    assert of.take("executor-0", ("digits", "v1.0.0"), T, T + 1) is None
