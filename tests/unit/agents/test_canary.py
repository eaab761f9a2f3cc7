"""Rules for a canary: what may be one, that it ends with the next activation, and which plans may give it rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents.canary import lowers, may_serve, standing
from agents.orchestrator import decide
from agents.verdict import State, Value
from schemas.canary import Canary
from schemas.environment import Environment
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.model import TensorSpec
from schemas.plan import Plan, PlanProposal, VersionWeight
from schemas.review import ReviewRequest
from schemas.serving import Breaker
from streams.agent import Effects
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion, Incident, Rejection
from tests.support.control import SECOND, at, model_version
from tests.support.signers import PRODUCTION
from tests.unit.agents.test_orchestrator import register

OTHER_INPUTS = (TensorSpec("y", "FP32", (3,)),)


class World:
    """The Orchestrator with a model of three versions, of which the first one is active."""

    def __init__(self) -> None:
        self.state = State()
        self.last: Effects = ()
        self.number = 0
        for version in ("v1.0.0", "v2.0.0", "v3.0.0"):
            facts = model_version(version=version)
            self.hear(register(replace(facts, inputs=OTHER_INPUTS) if version == "v3.0.0" else facts, f"r/{version}"))

    def hear(self, record: object) -> None:
        self.state, self.last = decide(self.state, at(record, 1_000 * SECOND), None)

    def ask(self, kind: str, key: str, body: object, agent: str = "cli") -> None:
        self.number += 1
        text = body if isinstance(body, str) else to_json(body)
        self.hear(MemoryCommand(f"c{self.number}", agent, kind, key, -1, text, "why", (), 5))

    def share(self, percent: int, version: str = "v2.0.0", model: str = "digits") -> None:
        self.ask("SetCanary", f"canary/{model}", Canary(model, version, percent))

    def activate(self, version: str) -> None:
        self.ask("ActivateVersion", "active/digits", ActiveVersion("digits", version))

    def plan(self, *shares: tuple[str, int]) -> None:
        self.number += 1
        plan = Plan("digits", tuple(VersionWeight(*share) for share in shares), 8, self.number)
        self.hear(PlanProposal(f"p{self.number}", plan, -1, "so", (), 5))

    @property
    def kinds(self) -> list[str]:
        return [each.record.kind for each in self.last if isinstance(each.record, MemoryEvent)]

    @property
    def refused(self) -> str:
        bodies = [each.record.body for each in self.last if getattr(each.record, "kind", "") == "CommandRejected"]
        return from_json(Rejection, bodies[0] or "").code if bodies else ""

    @property
    def canary(self) -> Canary | None:
        return standing(self.state, "digits")


def test_a_share_is_given_raised_lowered_and_taken_back() -> None:
    world = World()
    for percent in (5, 20, 99, 1):
        world.share(percent)
        assert (world.kinds, world.canary) == (["CanarySet"], Canary("digits", "v2.0.0", percent))
    world.share(0)
    assert (world.kinds, world.canary) == (["CanaryTakenBack"], None)
    version = world.state.values["canary/digits"].version
    world.share(0)
    assert world.last == ()
    world.share(5)  # the same share as at first is a later version, so its command is another one
    assert (world.kinds, world.state.values["canary/digits"].version) == (["CanarySet"], version + 1)


def running(world: World) -> None:
    world.share(5)


def broken(world: World) -> None:
    breaker = Breaker("digits", "v2.0.0", "half_open", "bad", 5, SECOND)
    world.ask("OpenBreaker", "breaker/digits/v2.0.0", replace(breaker, state="open"), "monitor")


@pytest.mark.parametrize(
    ("before", "body", "code"),
    [
        (None, Canary("other", "v2.0.0", 5), "unknown_model"),
        (None, Canary("digits", "v9.0.0", 5), "unknown_version"),
        (None, Canary("digits", "v2.0.0", 100), "invalid_weight"),
        (None, Canary("digits", "v2.0.0", -1), "invalid_weight"),
        (None, Canary("digits", "v1.0.0", 5), "already_active"),
        (None, Canary("digits", "v3.0.0", 5), "invalid_canary"),
        (None, "{", "invalid_body"),
        (running, Canary("digits", "v3.0.0", 5), "canary_running"),
        (running, Canary("digits", "v3.0.0", 0), "canary_running"),
        (broken, Canary("digits", "v2.0.0", 5), "breaker_open"),
    ],
)
def test_what_may_be_no_canary_is_refused_by_its_code(before: Any, body: Any, code: str) -> None:
    world = World()
    if before is not None:
        before(world)
    standing_before = world.canary
    model = body.model if isinstance(body, Canary) else "digits"
    world.ask("SetCanary", f"canary/{model}", body)
    assert (world.refused, world.canary) == (code, standing_before)


def test_it_stands_under_its_models_key_and_only_people_set_it() -> None:
    world = World()
    world.ask("SetCanary", "canary/other", Canary("digits", "v2.0.0", 5))
    assert world.refused == "invalid_body"
    world.ask("SetCanary", "canary/digits", Canary("digits", "v2.0.0", 5), "planner")
    assert world.refused == "not_permitted"


@pytest.mark.parametrize(
    ("version", "kinds"),
    [
        ("v2.0.0", ["VersionActivated", "CanaryPromoted"]),
        ("v3.0.0", ["VersionActivated", "CanaryTakenBack"]),
    ],
)
def test_it_is_over_in_the_decision_that_makes_another_version_active(version: str, kinds: list[str]) -> None:
    world = World()
    world.share(20)
    world.activate(version)
    assert (world.kinds, world.canary) == (kinds, None)
    world.activate("v1.0.0")
    assert world.kinds == ["VersionRolledBack"]


def test_a_plan_gives_a_canary_the_share_that_memory_says() -> None:
    world = World()
    world.share(20)
    world.plan(("v1.0.0", 80), ("v2.0.0", 20))
    assert world.kinds == ["PlanMadeEffective"]
    world.plan(("v1.0.0", 95), ("v2.0.0", 5))
    assert world.refused == "not_active"
    world.share(0)
    world.plan(("v1.0.0", 80), ("v2.0.0", 20))  # proposed before it was taken back
    assert world.refused == "not_active"
    world.plan(("v1.0.0", 100))
    assert world.kinds == ["PlanMadeEffective"]


def test_a_promoted_one_serves_all() -> None:
    world = World()
    world.share(20)
    world.activate("v2.0.0")
    world.plan(("v2.0.0", 100))
    assert world.kinds == ["PlanMadeEffective"]


def test_a_larger_share_waits_for_an_approval_where_activations_do_and_a_smaller_one_never() -> None:
    world = World()
    world.share(20)
    sandbox = Environment()
    for environment, code in ((sandbox, ""), (PRODUCTION, "unsigned_command")):
        world.state = replace(world.state, values={**world.state.values, "environment": Value(1, to_json(environment))})
        world.share(50)
        asked = [each for each in world.last if isinstance(each.record, ReviewRequest)]
        assert (world.refused, len(asked)) == (code, 0 if code else 1)
    world.share(20)
    assert world.last == ()
    world.share(5)
    assert world.kinds == ["CanarySet"]
    world.share(0)
    assert world.kinds == ["CanaryTakenBack"]
    world.share(5)
    assert world.refused == "unsigned_command"


def test_where_activations_wait_a_plan_may_serve_an_approved_canary_and_nothing_else() -> None:
    world = World()
    world.share(20)
    world.state = replace(world.state, values={**world.state.values, "environment": Value(1, to_json(PRODUCTION))})
    assert may_serve(world.state, "digits", VersionWeight("v2.0.0", 20))
    world.plan(("v1.0.0", 80), ("v2.0.0", 20))
    assert world.kinds == ["PlanMadeEffective"]
    world.plan(("v1.0.0", 80), ("v3.0.0", 20))
    assert world.refused == "not_active"


def test_a_body_that_cannot_be_read_lowers_nothing() -> None:
    assert not lowers(World().state, MemoryCommand("c", "cli", "SetCanary", "canary/digits", -1, "{", "", (), 5))


def test_an_incident_of_one_that_was_taken_back_ends_with_the_plan_that_gives_it_no_rows() -> None:
    world = World()
    world.share(20)
    world.plan(("v1.0.0", 80), ("v2.0.0", 20))
    world.ask("RaiseIncident", "incident/canary/digits/7", incident(), "monitor")
    world.plan(("v1.0.0", 80), ("v2.0.0", 20))
    assert "incident/canary/digits/7" in world.state.values
    world.share(0)
    world.plan(("v1.0.0", 100))
    assert world.kinds == ["PlanMadeEffective", "IncidentResolved"]


def incident() -> Incident:
    return Incident("canary/digits/7", "canary", "digits", "critical", "It is bad.", "{}")


def test_an_incident_ends_also_where_another_canary_runs_by_then() -> None:
    world = World()
    third = Value(1, to_json(model_version(version="v3.0.0")))  # with the inputs of the others
    world.state = replace(world.state, values={**world.state.values, "model/digits/v3.0.0": third})
    world.share(20)
    world.plan(("v1.0.0", 80), ("v2.0.0", 20))
    blamed = replace(incident(), evidence=to_json(Canary("digits", "v2.0.0", 20)))
    unclear = Incident("canary/digits/8", "canary", "digits", "critical", "It is bad.", "{}")
    for each in (blamed, unclear):
        world.ask("RaiseIncident", f"incident/{each.incident_id}", each, "monitor")
    world.share(0)
    world.share(20, "v3.0.0")
    world.plan(("v1.0.0", 80), ("v3.0.0", 20))
    assert world.kinds == ["PlanMadeEffective", "IncidentResolved"]
    assert "incident/canary/digits/7" not in world.state.values
    world.share(0, "v3.0.0")
    world.plan(("v1.0.0", 100))
    assert "incident/canary/digits/8" not in world.state.values
