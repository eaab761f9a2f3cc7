"""A batch through a session: gathered once per distinct item, spread to all, and an error is its result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from executors.executed import Work
from executors.row_slice import RowSlice
from executors.run import Run
from executors.session import ExecutionError
from streams.columns import Columns
from tests.support.frames import MODEL, T, frame, row


class Session:
    """Doubles, and remembers what it was given."""

    provider = "CPUExecutionProvider"
    reentrant = True

    def __init__(self, *, deterministic: bool = True, error: ExecutionError | None = None) -> None:
        self.model = replace(MODEL, deterministic=deterministic)
        self.error = error
        self.given: list[np.ndarray] = []

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.given.append(inputs["x"])
        if self.error is not None:
            raise self.error
        return {"y": inputs["x"] * 2}


def run_of(session: Any, *values: int) -> Run:
    rows = [row(at) for at in range(len(values))]
    for each, value in zip(rows, values, strict=True):
        each.blocks = (("x", "FP32", (2,), np.full((1, 2), value, "<f4").tobytes()),)
    work = Work.of(frame(rows), None, None, 0)
    items, deadlines = [1] * len(values), Columns.of(work.frame).deadlines_us.tolist()
    whole = RowSlice(work, 0, 0, len(values), 0, len(values), 5, T, min(deadlines), items, deadlines)
    return Run(session, ("digits", "v1.0.0"), [whole], len(values), 1.0)


@pytest.mark.parametrize("deterministic", [True, False])
def test_identical_items_run_once_and_each_has_its_output(deterministic: bool) -> None:
    session = Session(deterministic=deterministic)
    run = run_of(session, 3, 5, 3, 3)
    run.prepare()
    run.compute()
    assert run.outputs is not None
    assert run.outputs["y"][:, 0].tolist() == [6.0, 10.0, 6.0, 6.0]
    assert (len(session.given[0]), run.num_coalesced) == ((2, 2) if deterministic else (4, 0))
    assert run.started_us > T
    assert run.is_second is False


def test_an_error_of_the_session_is_what_came_of_it() -> None:
    error = ExecutionError("execution_failed", "no memory", transient=True)
    run = run_of(Session(error=error), 1)
    run.prepare()
    run.compute()
    assert (run.error, run.outputs, run.run_us) == (error, None, 0)
