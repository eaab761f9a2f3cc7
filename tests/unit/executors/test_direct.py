"""A frame runs at once where the queues would do the same with it, and only there."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from executors.direct import FEW, distinct_items, earliest, outputs_of, planned, run_all
from executors.executed import Work
from executors.profile import Profile
from executors.session import ExecutionError
from schemas.frame import InferenceFrame
from tests.support.frames import MODEL, T, frame, row, with_blob

KEY = ("digits", "v1.0.0")


class Session:
    """Counts the items it runs; fails on a negative one."""

    model = MODEL
    provider = "CPUExecutionProvider"
    reentrant = True

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.sizes.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise ExecutionError("execution_failed", "negative")
        return {"y": inputs["x"][:, :1] * 2}


def plan_of(made: InferenceFrame, profile: Profile, budget_us: float = 1e6) -> Any:
    session: Any = Session()
    return planned(Work.of(made, None, None, 0), {KEY: session}, {KEY: profile}, T, budget_us)


def routed(*offsets: int, **given: Any) -> InferenceFrame:
    return frame([row(offset, version="v1.0.0", **given) for offset in offsets])


QUICK = Profile(100.0, 1.0, 8)


@pytest.mark.parametrize(
    ("made", "profile", "budget_us"),
    [
        (routed(*range(9)), QUICK, 1e6),  # more than a batch
        (routed(0, 1), QUICK, 50.0),  # longer than what is left
        (routed(0, deadline_us=T + 50), QUICK, 1e6),  # too late, so it must end
        (frame([row(0, version="v2.0.0")]), QUICK, 1e6),  # not loaded
        (frame([with_blob(row(0, version="v1.0.0"))]), QUICK, 1e6),  # not here
    ],
)
def test_what_is_not_plain_goes_the_other_way(made: InferenceFrame, profile: Profile, budget_us: float) -> None:
    assert plan_of(made, profile, budget_us) is None


def test_each_segment_is_a_batch_of_its_items() -> None:
    made = frame(
        [row(0, version="v1.0.0", items=3), row(1, version="v1.0.0", items=2), row(2, version="v1.0.0", width=3)]
    )
    runs = plan_of(made, QUICK)
    assert [(run.number, run.num_items) for run in runs] == [(0, 5), (1, 1)]
    run_all(runs)
    assert outputs_of(runs[0])["y"][:, 0].tolist() == [0.0, 0.0, 0.0, 2.0, 2.0]
    assert [distinct_items(run) for run in runs] == [2, 1]
    assert runs[0].session.sizes == [2, 1]


def test_a_failed_batch_is_told_and_the_others_run() -> None:
    runs = plan_of(frame([row(-1, version="v1.0.0"), row(4, version="v1.0.0", width=3)]), QUICK)
    began_us = time.time_ns() // 1000
    run_all(runs)
    assert runs[0].error is not None
    assert runs[0].outputs is None
    assert outputs_of(runs[1])["y"].tolist() == [[8.0]]
    assert all(began_us <= run.started_us <= time.time_ns() // 1000 for run in runs)


def test_a_model_that_is_not_deterministic_runs_for_every_item() -> None:
    runs = plan_of(routed(5, 5, 5), QUICK)
    runs[0].session.model = replace(MODEL, deterministic=False)
    run_all(runs)
    assert runs[0].session.sizes == [3]


@pytest.mark.parametrize("num_rows", [1, 5, FEW, FEW + 1, 500])
def test_the_earliest_deadline_is_found_in_columns_of_any_length(num_rows: int) -> None:
    deadlines = np.random.default_rng(num_rows).integers(-(1 << 62), 1 << 62, num_rows).astype("<i8")
    assert earliest(deadlines.tobytes()) == deadlines.min()
