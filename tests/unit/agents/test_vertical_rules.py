"""How large batches may be: within the policy and what is registered, by the Scaler alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.orchestrator import judge
from agents.verdict import Change, Refusal, State, Value
from schemas.canary import Canary
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion, TensorSpec
from schemas.plan import SLOW, Plan, VersionWeight
from schemas.scaling import BatchBound, ScalingPolicy
from streams.canonical import to_json
from streams.memory_view import ActiveVersion

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


INT8 = ModelVersion("digits", "v1.1.0", "cd" * 32, 1, (), (), variant_of="v1.0.0")
OTHER = replace(INT8, version="v1.2.0", variant_of="")
VARYING = replace(POLICY, vertical=("variant",))


def varied(policy: ScalingPolicy | None = VARYING, active: str = "v1.0.0", canary: Canary | None = None) -> State:
    bodies: dict[str, object] = {
        "plan/digits": PLAN, "active/digits": ActiveVersion("digits", active), "model/digits/v1.0.0": FACTS,
        "model/digits/v1.1.0": INT8, "model/digits/v1.2.0": OTHER,
    }  # fmt: skip
    if policy is not None:
        bodies["scaling/executors"] = policy
    if canary is not None:
        bodies["canary/digits"] = canary
    return State(values={key: Value(1, to_json(body)) for key, body in bodies.items()})


def tried(version: str, percent: int = 99, agent: str = "scaler", model: str = "digits") -> MemoryCommand:
    body = to_json(Canary(model, version, percent))
    return MemoryCommand("c1", agent, "SetCanary", f"canary/{model}", -1, body, "", (), 5)


def test_a_declared_variant_serves_as_a_canary_does() -> None:
    body = to_json(Canary("digits", "v1.1.0", 99))
    assert judge(varied(), tried("v1.1.0")) == (Change("CanarySet", "canary/digits", body),)
    back = judge(varied(None, canary=Canary("digits", "v1.1.0", 99)), tried("v1.1.0", 0))
    assert not isinstance(back, Refusal)
    assert [(each.kind, each.key) for each in back] == [("CanaryTakenBack", "canary/digits")]


@pytest.mark.parametrize(
    ("given", "asked", "code"),
    [
        (varied(), tried("v1.2.0"), "no_variant"),  # what a person may do, the Scaler may not
        (varied(), tried("v1.0.0"), "no_variant"),
        (varied(), tried("v3.0.0"), "unknown_version"),
        (varied(), tried("v1.1.0", model="nobody"), "unknown_version"),
        (varied(POLICY), tried("v1.1.0"), "below_policy"),
        (varied(None), tried("v1.1.0"), "below_policy"),
        (varied(active="v1.2.0"), tried("v1.1.0"), "no_variant"),
        (varied(canary=Canary("digits", "v1.2.0", 5)), tried("v1.1.0"), "canary_running"),
        (varied(), tried("v1.1.0", agent="planner"), "not_permitted"),
        (varied(canary=Canary("digits", "v1.1.0", 5)), tried("v1.1.0"), "canary_running"),  # a person tries it
        (varied(canary=Canary("digits", "v1.1.0", 5)), tried("v1.1.0", 0), "canary_running"),
        (varied(), tried("v1.1.0", 50), "invalid_weight"),
    ],
)
def test_other_versions_are_refused(given: State, asked: MemoryCommand, code: str) -> None:
    verdict = judge(given, asked)
    assert isinstance(verdict, Refusal)
    assert verdict.code == code


def test_people_set_canaries_as_before() -> None:
    assert not isinstance(judge(varied(None), tried("v1.2.0", 5, "cli")), Refusal)


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (replace(INT8, version="v1.3.0"), ""),
        (replace(INT8, version="v1.3.0", variant_of="v9.0.0"), "unknown_version"),
        (replace(INT8, version="v1.3.0", variant_of="v1.1.0"), "invalid_variant"),
        (replace(INT8, version="v1.3.0", inputs=(TensorSpec("x", "INT8", (4,)),)), "invalid_variant"),
        (replace(INT8, version="v1.3.0", outputs=(TensorSpec("y", "INT8", (4,)),)), "invalid_variant"),
    ],
)
def test_a_variant_is_of_a_registered_version_and_takes_and_gives_the_same(facts: ModelVersion, code: str) -> None:
    key = f"model/digits/{facts.version}"
    verdict = judge(varied(), MemoryCommand("c1", "cli", "RegisterModel", key, -1, to_json(facts), "", (), 5))
    assert (verdict.code if isinstance(verdict, Refusal) else "") == code
