"""What a supervisor carries out is within the pool's policy, whoever wrote it."""

from __future__ import annotations

import pytest

from infra.scale_gate import outside
from schemas.scaling import ScaleAction, ScalingPolicy

COSTLY = ScalingPolicy("executors", 1, 8, cost_per_replica_milli=500, budget_milli=1_500)


@pytest.mark.parametrize(
    ("policy", "allowed"),
    [
        (None, range(10)),
        (ScalingPolicy("executors", 2, 4), range(2, 5)),
        (ScalingPolicy("executors", 0, 4), range(5)),
        (ScalingPolicy("executors", 1, 64), range(1, 9)),
        (COSTLY, range(1, 4)),
    ],
)
def test_the_least_the_most_and_the_budget_are_the_bounds(policy: ScalingPolicy | None, allowed: range) -> None:
    found = [
        target
        for target in range(10)
        if not outside(ScaleAction("a", "executors", "scale_up", 1, target, "", 1), policy, 8)
    ]
    assert found == list(allowed)
