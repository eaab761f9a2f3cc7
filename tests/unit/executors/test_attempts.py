"""What an executor tells of how rows fared with a version."""

from __future__ import annotations

import pytest

from executors.attempts import Attempts
from schemas.telemetry import ModelWindow
from tests.support.frames import T, frame, row
from tests.unit.executors.test_execution import FAR, Loaded, Session, execution_of, run_all, work_of

V1, V2 = ("digits", "v1.0.0"), ("digits", "v2.0.0")


def test_a_window_counts_rows_by_version_and_begins_anew() -> None:
    attempts = Attempts()
    attempts.passed(V2, 3)
    attempts.passed(V1, 8)
    attempts.passed(V1, 4)
    attempts.failed(V1, 2, "execution_failed")
    attempts.failed(V1, 1, "model_unavailable")
    window = attempts.close(1, 7)
    assert window is not None
    assert (window.stage, window.instance, window.queue_depth) == ("executor", 1, 7)
    assert window.models == (
        ModelWindow(*V1, 15, 12, 3, 0, 0, 0, 0),
        ModelWindow(*V2, 3, 3, 0, 0, 0, 0, 0),
    )
    attempts.passed(V2, 1)
    later = attempts.close(1, 0)
    assert later is not None
    assert later.window_start_us == window.window_start_us + window.window_us


def test_what_a_client_sent_wrong_is_no_fault() -> None:
    attempts = Attempts()
    attempts.failed(V1, 5, "wrong_shape")
    assert attempts.close(0, 0) is None


@pytest.mark.parametrize("alone", [True, False])
def test_an_execution_counts_rows_that_ran_failed_or_could_not(alone: bool) -> None:
    execution = execution_of(Loaded(**{"v1.0.0": Session({3})}))
    work = work_of(frame([row(at, version="v1.0.0", items=2, deadline_us=FAR) for at in range(6)]))
    if not (alone and execution.run_alone(work, T, 1e9)):
        execution.add(work, T)
    run_all(execution)
    execution.add(work_of(frame([row(7, version="v9.0.0", deadline_us=FAR)])), T)
    execution.intake.drop("digits", "v9.0.0", "its blob is missing")
    window = execution.attempts.close(0, 0)
    assert window is not None
    assert window.models == (
        ModelWindow(*V1, 6, 5, 1, 0, 0, 0, 0),
        ModelWindow("digits", "v9.0.0", 1, 0, 1, 0, 0, 0, 0),
    )
