"""How large batches may be: within the policy and what is registered, by the Scaler alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.orchestrator import judge
from agents.verdict import Change, Refusal, State, Value
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from schemas.plan import SLOW, Plan, VersionWeight
from schemas.scaling import BatchBound, ScalingPolicy
from streams.canonical import to_json

POLICY = ScalingPolicy("executors", 1, 4, vertical=("batch",))
PLAN = Plan("digits", (VersionWeight("v1.0.0", 100),), 64, 1_000)
FACTS = ModelVersion("digits", "v1.0.0", "ab", 1, (), (), max_batch_size=100)


def state(policy: ScalingPolicy | None = POLICY, plan: Plan = PLAN, bound: int = 0) -> State:
    bodies: dict[str, object] = {"plan/digits": plan, "model/digits/v1.0.0": FACTS}
    if bound:
        bodies["vertical/digits"] = BatchBound("digits", bound)
    if policy is not None:
        bodies[f"scaling/{policy.pool}"] = policy
    return State(values={key: Value(1, to_json(body)) for key, body in bodies.items()})


def command(items: int, model: str = "digits", agent: str = "scaler", key: str = "") -> MemoryCommand:
    body = to_json(BatchBound(model, items))
    return MemoryCommand("c1", agent, "BoundBatches", key or f"vertical/{model}", -1, body, "", (), 5)


def test_a_bound_within_plan_and_policy_stands_and_is_taken_back() -> None:
    body = to_json(BatchBound("digits", 64))
    assert judge(state(), command(64)) == (Change("BatchesBound", "vertical/digits", body),)
    assert judge(state(bound=64), command(0)) == (Change("BatchesUnbound", "vertical/digits", None),)
    assert judge(state(), command(0)) == ()
    slow = replace(POLICY, pool="executors-slow")
    assert judge(state(slow, replace(PLAN, lane=SLOW)), command(8)) != ()


@pytest.mark.parametrize(
    ("given", "asked", "code"),
    [
        (state(), command(65), "invalid_bound"),
        (state(), command(-1), "invalid_bound"),
        (state(plan=replace(PLAN, max_batch_size=128)), command(101), "invalid_bound"),
        (state(), command(8, "nobody"), "unknown_model"),
        (state(), command(8, key="vertical/other"), "invalid_body"),
        (state(), command(8, agent="cli"), "not_permitted"),
        (state(None), command(8), "below_policy"),
        (state(replace(POLICY, vertical=())), command(8), "below_policy"),
        (state(replace(POLICY, pool="executors-slow")), command(8), "below_policy"),
    ],
)
def test_others_are_refused(given: State, asked: MemoryCommand, code: str) -> None:
    verdict = judge(given, asked)
    assert isinstance(verdict, Refusal)
    assert verdict.code == code
