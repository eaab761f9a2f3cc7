"""Rules for models; that the Orchestrator carries them out is tested with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agents.model_rules import MAX_CACHE_TTL_S, propose_plan, register_model, set_cache_policy
from agents.verdict import Change, Refusal, State, Value
from schemas.cache import CachePolicy
from schemas.canary import Canary
from schemas.environment import Environment
from schemas.memory import MemoryCommand
from schemas.plan import Plan, VersionWeight
from streams.canonical import to_json
from streams.memory_view import ActiveVersion
from tests.support.control import model_version
from tests.support.signers import PRODUCTION

FACTS = model_version()
ACTIVE = to_json(ActiveVersion("digits", "v1.0.0"))
KNOWN = State(2, {"model/digits/v1.0.0": Value(1, to_json(FACTS)), "active/digits": Value(1, ACTIVE)})
PLAN = Plan("digits", (VersionWeight("v1.0.0", 100),), 64, 30_000)


def command(key: str, body: str) -> MemoryCommand:
    return MemoryCommand("c", "cli", "any", key, -1, body, "", (), 1)


def test_the_first_version_is_active_at_once_and_no_other() -> None:
    given = command("model/digits/v1.0.0", to_json(FACTS))
    first = register_model(State(), given)
    assert first == (
        Change("ModelRegistered", given.key, given.body),
        Change("VersionActivated", "active/digits", ACTIVE),
    )
    second = to_json(model_version(version="v2.0.0"))
    assert register_model(KNOWN, command("model/digits/v2.0.0", second)) == (
        Change("ModelRegistered", "model/digits/v2.0.0", second),
    )


def test_a_plan_for_what_is_registered() -> None:
    given = command("plan/digits", to_json(PLAN))
    assert propose_plan(KNOWN, given) == (Change("PlanMadeEffective", "plan/digits", given.body),)
    refused = propose_plan(State(), given)
    assert isinstance(refused, Refusal)
    assert refused.code == "unknown_model"


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        (PRODUCTION, "not_active"),
        (Environment(development_policy=False), "not_active"),
        (replace(PRODUCTION, gated=()), ""),
        (Environment(), ""),
        (None, ""),
    ],
)
def test_no_plan_goes_around_an_approval(environment: Environment | None, code: str) -> None:
    values = {**KNOWN.values, "model/digits/v2.0.0": KNOWN.values["model/digits/v1.0.0"]}
    if environment is not None:
        values["environment"] = Value(1, to_json(environment))
    given = command("plan/digits", to_json(replace(PLAN, versions=(VersionWeight("v2.0.0", 100),))))
    verdict = propose_plan(replace(KNOWN, values=values), given)
    assert (verdict.code if isinstance(verdict, Refusal) else "") == code
    shares = (VersionWeight("v1.0.0", 90), VersionWeight("v2.0.0", 10))
    given = command("plan/digits", to_json(replace(PLAN, versions=shares)))
    verdict = propose_plan(replace(KNOWN, values=values), given)
    assert isinstance(verdict, Refusal)
    assert verdict.code == "not_active"
    values["canary/digits"] = Value(1, to_json(Canary("digits", "v2.0.0", 10)))
    assert not isinstance(propose_plan(replace(KNOWN, values=values), given), Refusal)
    shares = (VersionWeight("v1.0.0", 100), VersionWeight("v2.0.0", 0))
    given = command("plan/digits", to_json(replace(PLAN, versions=shares)))
    assert not isinstance(propose_plan(replace(KNOWN, values=values), given), Refusal)


@pytest.mark.parametrize(("ttl_s", "code"), [(1, ""), (MAX_CACHE_TTL_S, ""), (0, "invalid_policy")])
def test_a_cache_policy_within_its_bounds(ttl_s: int, code: str) -> None:
    verdict = set_cache_policy(KNOWN, command("cache/digits", to_json(CachePolicy("digits", False, 0, ttl_s))))
    assert (verdict.code if isinstance(verdict, Refusal) else "") == code
