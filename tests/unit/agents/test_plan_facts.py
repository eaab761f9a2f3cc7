"""What the Planner learns: from memory, rules, heartbeats; what it cannot read changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents import canary_warmth
from agents.constraint import Constraint, Rule
from agents.plan_facts import (
    FAST_US,
    SLOW_US,
    Pending,
    Served,
    State,
    awaits,
    constrain,
    hear,
    learn,
    moves,
    profiles,
    warmed,
)
from schemas.canary import Canary
from schemas.memory import MemoryEvent
from schemas.plan import Plan, VersionWeight
from schemas.review import ContextSignal
from schemas.scaling import ScalingPolicy
from schemas.serving import ServingPolicy
from schemas.telemetry import Heartbeat, LoadedModel
from streams.canonical import to_json
from streams.memory_view import ActiveVersion, Rejection
from tests.support.control import HERE, model_version

PLAN = Plan("digits", (VersionWeight("v1.0.0", 100),), 64, 30_000)


def noted(state: State, kind: str, body: object, version: int = 1, key: str = "any") -> State:
    event = MemoryEvent(1, bytes(32), "c", "cli", kind, key, version, to_json(body), "", (), 1)
    return learn(state, event, HERE)


def known() -> State:
    state = noted(State(), "ModelRegistered", model_version())
    return noted(state, "VersionActivated", ActiveVersion("digits", "v1.0.0"))


def beat(fixed_us: float, version: str = "v1.0.0", model: str = "digits") -> Heartbeat:
    return Heartbeat("executor", 0, 1, 1, 1, 0, (LoadedModel(model, version, "ab", "CPU", fixed_us, 0.0),))


def test_memory_is_learnt_by_kind() -> None:
    state = known()
    served = state.models["digits"]
    assert (served.active, served.max_batch_sizes, served.cause) == ("v1.0.0", {"v1.0.0": 64}, HERE)
    assert (served.features, served.sizing.file_bytes) == ({"v1.0.0": ()}, {"v1.0.0": 10})
    state = noted(state, "ServingPolicySet", ServingPolicy("digits", hedge=True))
    assert state.models["digits"].policy == ServingPolicy("digits", hedge=True)
    state = noted(state, "ScalingPolicySet", ScalingPolicy("executors", 1, 3))
    assert state.scaling == ScalingPolicy("executors", 1, 3)
    assert noted(state, "ScalingPolicySet", ScalingPolicy("executors-slow", 1, 2)) == state
    state = noted(state, "PlanMadeEffective", PLAN, 7)
    assert (state.models["digits"].plan, state.models["digits"].plan_version) == (to_json(PLAN), 7)


def test_what_is_nothing_to_plan_by_changes_nothing() -> None:
    state = known()
    assert noted(state, "IncidentRaised", PLAN) == state
    assert noted(state, "PlanMadeEffective", {"no": "plan"}) == state


@pytest.mark.parametrize(
    ("code", "pending"),
    [("version_mismatch", None), ("not_active", None), ("unknown_version", Pending("p1", 5, refused=True))],
)
def test_a_refusal_ends_or_marks_what_is_under_way(code: str, pending: Pending | None) -> None:
    state = State(models={"digits": Served(pending=Pending("p1", 5)), "other": Served(pending=Pending("p2", 5))})
    after = noted(state, "CommandRejected", Rejection("p1", code, "No."))
    assert after.models == {"digits": Served(pending=pending, attempt=1), "other": state.models["other"]}
    assert noted(state, "CommandRejected", Rejection("p3", code, "No.")) == state


def test_a_rule_is_learnt_and_one_that_cannot_be_read_is_not() -> None:
    signal = ContextSignal("b", "constraint", "model/*", '{"field":"timeout_ms","maximum":5}', "law", 1)
    assert constrain(State(), signal, HERE).rules == {"b": Rule("b", "model/*", Constraint("timeout_ms", 5), "law")}
    assert constrain(State(), replace(signal, expression="{}"), HERE) == State()


def test_full_batches_say_which_lanes_and_times_how_many_executors() -> None:
    state = known()
    assert moves(state, beat(SLOW_US + 1)) == [("digits", True)]
    assert moves(state, beat(SLOW_US)) == []
    slow = hear(state, beat(SLOW_US + 1), HERE)
    assert slow.models["digits"].is_slow
    assert moves(slow, beat(FAST_US)) == []
    assert moves(slow, beat(FAST_US - 1)) == [("digits", False)]
    assert [each.fixed_us for each in profiles(state, beat(9.0))] == [9.0]
    assert profiles(hear(state, beat(9.0), HERE), beat(9.0)) == []
    for dull in (beat(9_999.0, version="v9.0.0"), beat(9_999.0, model="unheard-of")):
        assert (moves(state, dull), profiles(state, dull)) == ([], [])


def test_heartbeats_say_who_holds_a_canary_that_is_awaited() -> None:
    state = noted(known(), "CanarySet", Canary("digits", "v2.0.0", 5), key="canary/digits")
    split = state.models["digits"].split
    assert (split.version, split.percent, split.cause) == ("v2.0.0", 5, HERE)
    assert (awaits(known(), beat(9.0)), awaits(state, beat(9.0))) == ([], ["digits"])
    state = warmed(state, 10, 0, beat(9.0, version="v2.0.0"))
    assert not state.models["digits"].split.is_warm
    late = 10 + canary_warmth.SETTLE_US
    assert warmed(state, late, 0).models["digits"].split.is_warm
    assert warmed(state, late - 1, 0) is state
    assert not warmed(state, late, 0 + 1).models["digits"].split.is_awaited
    slow = replace(state, models={"digits": replace(state.models["digits"], is_slow=True)})
    assert warmed(slow, late, 1) is slow


def test_a_canary_that_cannot_be_read_is_none() -> None:
    assert noted(known(), "CanarySet", {"no": "canary"}, key="canary/digits") == known()
