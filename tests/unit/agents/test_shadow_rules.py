"""What the Orchestrator allows of shadows, in commands and in plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.plan import Plan, VersionWeight
from schemas.shadow import Shadow, ShadowPolicy
from streams.memory_view import ActiveVersion, plan
from streams.shadow_view import shadow_policy
from tests.support.control import model_version
from tests.unit.agents.test_orchestrator import register
from tests.unit.agents.test_serving_rules import Memory, command

ORDERED = replace(model_version("sorted", digest="12" * 32), ordered=True)


@pytest.fixture
def memory() -> Memory:
    made = Memory()
    for number, version in enumerate((ORDERED, replace(ORDERED, version="v2.0.0", digest="34" * 32))):
        made.handle(register(version, f"o{number}"))
    return made


def asked(version: str = "v2.0.0", percent: int = 10, model: str = "digits", **given: Any) -> Any:
    return command("SetShadow", f"shadow/{model}", ShadowPolicy(model, version, percent), **given)


def test_a_shadow_is_set_changed_and_taken_back_under_its_key(memory: Memory) -> None:
    assert memory.kinds(asked()) == ["ShadowSet"]
    assert shadow_policy(memory.view, "digits") == ShadowPolicy("digits", "v2.0.0", 10)
    assert memory.kinds(asked(percent=10, number=1)) == []
    assert memory.kinds(asked(percent=20)) == ["ShadowSet"]
    assert memory.kinds(asked("", 0)) == ["ShadowSet"]
    assert shadow_policy(memory.view, "digits") is None
    assert memory.kinds(asked(percent=20, number=2)) == ["ShadowSet"]
    assert memory.view.entries["shadow/digits"].version == 4


def test_nothing_is_taken_back_where_nothing_stands(memory: Memory) -> None:
    assert memory.kinds(asked("", 0)) == []


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (asked("v9.0.0"), "unknown_version"),
        (asked(model="nobody"), "unknown_model"),
        (asked("v1.0.0"), "invalid_shadow"),
        (asked("v3.0.0"), "invalid_shadow"),
        (asked(percent=101), "invalid_shadow"),
        (asked(percent=-1), "invalid_shadow"),
        (asked(model="sorted"), "invalid_shadow"),
        (asked(agent="planner"), "not_permitted"),
        (command("SetShadow", "shadow/other", ShadowPolicy("digits", "v2.0.0", 5)), "invalid_body"),
    ],
)
def test_what_is_refused(memory: Memory, wanted: Any, code: str) -> None:
    assert memory.refused(wanted) == code
    assert shadow_policy(memory.view, "digits") is None


def test_the_shadow_may_become_the_version_that_serves(memory: Memory) -> None:
    memory.kinds(asked())
    active = command("ActivateVersion", "active/digits", ActiveVersion("digits", "v2.0.0"))
    assert "VersionActivated" in memory.kinds(active)


@pytest.mark.parametrize(
    ("shadow", "code"),
    [
        (Shadow("v2.0.0", 10), ""),
        (Shadow("v9.0.0", 10), "unknown_version"),
        (Shadow("v1.0.0", 10), "invalid_plan"),
        (Shadow("v2.0.0", 0), "invalid_plan"),
        (Shadow("v2.0.0", 101), "invalid_plan"),
    ],
)
def test_a_plan_names_a_registered_shadow_that_does_not_serve(memory: Memory, shadow: Shadow, code: str) -> None:
    proposed = Plan("digits", (VersionWeight("v1.0.0", 100),), 64, 30_000, shadow=shadow)
    given = command("ProposePlan", "plan/digits", proposed, agent="planner")
    if code:
        assert memory.refused(given) == code
        return
    assert memory.kinds(given) == ["PlanMadeEffective"]
    effective = plan(memory.view, "digits")
    assert effective is not None
    assert effective.shadow == shadow
