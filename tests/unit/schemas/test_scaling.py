"""The records of schemas.scaling mirror their schema files; what stands in memory says what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.scaling import Replicas, ScaleAction, ScaleConfirmation, ScalingPolicy
from streams.canonical import from_json, to_json
from tests.support.schema_mirror import assert_mirrors


@pytest.mark.parametrize("cls", [ScaleAction, ScaleConfirmation])
def test_mirrors_its_schema(cls: type) -> None:
    assert_mirrors(cls)


def test_a_policy_comes_back_and_an_older_one_has_the_defaults() -> None:
    policy = ScalingPolicy("executors", 0, 4, idle_s=60)
    assert from_json(ScalingPolicy, to_json(policy)) == policy
    assert from_json(ScalingPolicy, '{"pool":"executors"}') == ScalingPolicy("executors")
    noted = Replicas("executors", 2, "executors/5")
    assert from_json(Replicas, to_json(noted)) == noted


@pytest.mark.parametrize(
    ("policy", "ceiling", "floor"),
    [
        (ScalingPolicy("executors", 1, 4), 4, 1),
        (ScalingPolicy("executors", 0, 4), 4, 1),
        (ScalingPolicy("executors", 2, 4, cost_per_replica_milli=300, budget_milli=1_000), 3, 2),
        (ScalingPolicy("executors", 2, 4, cost_per_replica_milli=300), 4, 2),
    ],
)
def test_its_bounds(policy: ScalingPolicy, ceiling: int, floor: int) -> None:
    assert (policy.ceiling, policy.floor, policy.problem) == (ceiling, floor, "")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"min_replicas": -1}, "replicas are 0 to 64"),
        ({"min_replicas": 5}, "replicas are 0 to 64"),
        ({"min_replicas": 0, "max_replicas": 0}, "replicas are 0 to 64"),
        ({"max_replicas": 65}, "replicas are 0 to 64"),
        (
            {"cost_per_replica_milli": 300, "budget_milli": 200},
            "the budget pays for 0 replicas, fewer than the 1 needed",
        ),
        ({"target_utilization_percent": 99}, "the target utilization is 10 to 95 percent, not 99"),
        ({"drain_s": 0}, "a backlog drains in 1 to 86400 seconds, not 0"),
        ({"cooldown_s": -1}, "delays, cooldown, idle time and forecast are 0 to 86400 seconds"),
        ({"lag_threshold": -1}, "targets, thresholds and money are not negative"),
    ],
)
def test_what_is_wrong_with_it(change: dict[str, Any], problem: str) -> None:
    assert replace(ScalingPolicy("executors", 1, 4), **change).problem.startswith(problem)
