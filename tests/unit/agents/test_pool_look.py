"""Pools are looked at apart: each by its own models, executors and policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agents import orchestrator, verdict
from agents.load_picture import PictureParams
from agents.pool_look import Params
from agents.scaler import scaler
from schemas.canary import Canary
from schemas.environment import Environment
from schemas.load import ExecutorLoad, VersionLoad
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.model import ModelVersion
from schemas.plan import SLOW, Plan, VersionWeight
from schemas.scaling import BatchBound, Replicas, ScaleConfirmation, ScalingPolicy
from schemas.serving import Slo
from schemas.telemetry import Heartbeat, LoadedModel, RouterLoad
from streams.canonical import from_json
from streams.memory_view import ActiveVersion, Rejection
from tests.support.control import at
from tests.support.scaler_bench import Bench, S, listening

PARAMS = Params(PictureParams(first_slow=4), most_replicas=4, most_slow=3)
FAST = ScalingPolicy("executors", 1, 4, upscale_delay_s=2, downscale_delay_s=10, cooldown_s=3)
POLICY = replace(FAST, pool="executors-slow", max_replicas=3)
PLAN = Plan("heavy", (VersionWeight("v1.0.0", 100),), 10, 30_000, SLOW)
TIMES = (LoadedModel("heavy", "v1.0.0", "cd", "CPU", 0.0, 99_988.0),)
"""A tenth of a second for an item."""


def bench(policy: ScalingPolicy | None = POLICY, **more: Any) -> Bench:
    """The fast pool's bench and a slow model beside it."""
    made = listening(FAST, params=PARAMS, **more)
    made.note("plan/heavy", PLAN)
    if policy is not None:
        made.note("scaling/executors-slow", policy)
        made.note("replicas/executors-slow", Replicas("executors-slow", 1, ""))
    told(made, 6)
    return made


def told(made: Bench, seconds: int, rate: float = 0.0, slow: int = 1, waiting: int = 0) -> list[tuple[str, int, int]]:
    """Seconds in which slow executors are heard and heavy rows are routed; pool and numbers of what was asked for."""
    found = []
    for _ in range(seconds):
        now = made.now_s * S
        for instance in range(4, 4 + slow):
            made.give(Heartbeat("executor", instance, 1, 1, now, 0, TIMES))
        made.give(RouterLoad("heavy", rate, 0, now, 0, rate))
        items = (0, waiting) if waiting else ()
        load = VersionLoad("heavy", "v1.0.0", 0.0, 99_988.0, 10, True, 0.0, 0, 0, items)
        made.give(ExecutorLoad("executor-4", now, 0, 2, (load,)))
        found += [each for each in made.second() if each.decision != "hold"]
    return [(each.pool, each.current_replicas, each.target_replicas) for each in found]


def confirm(made: Bench, replicas: int) -> None:
    made.give(ScaleConfirmation(made.said[-1].action_id, "executors-slow", replicas, "done", made.now_s * S))


def test_the_slow_pool_follows_its_own_load_and_the_fast_one_stays() -> None:
    made = bench()
    assert told(made, 5, rate=10.0) == [("executors-slow", 1, 2)], "10 a second take one executor whole"
    assert made.said[-1].action_id == f"executors-slow/{made.said[-1].time_us}"
    confirm(made, 2)
    assert told(made, 12, rate=10.0, slow=2) == []
    assert told(made, 40, rate=0.5, slow=2) == [("executors-slow", 2, 1)]


def test_the_fast_pool_follows_its_load_and_the_slow_one_stays() -> None:
    made = bench(rate=1_000.0)
    assert told(made, 6) == [("executors", 1, 2)]


def test_both_may_have_an_action_under_way() -> None:
    made = bench(rate=1_000.0)
    assert sorted(told(made, 6, rate=10.0)) == [("executors", 1, 2), ("executors-slow", 1, 2)]
    confirm(made, 2)  # of the other pool, or of this one: only the action that it names ends
    assert (made.state.standing is None) + (made.state.slow.standing is None) == 1


def test_slow_executors_that_are_not_heard_hold_their_pool_only() -> None:
    made = bench(rate=300.0)
    assert told(made, 6, slow=0) == []
    made.rate = 1_000.0
    assert told(made, 10, rate=10.0, slow=0) == [("executors", 1, 2)]
    assert "no executor is heard" in [each for each in made.said if each.pool == "executors-slow"][-1].reason.lower()


def test_a_slow_pool_sleeps_by_its_own_rows_and_wakes() -> None:
    made = bench(replace(POLICY, min_replicas=0, idle_s=30), rate=300.0)
    assert told(made, 8) == []
    assert told(made, 30) == [("executors-slow", 1, 0)]
    confirm(made, 0)
    assert told(made, 3, rate=1.0, slow=0) == [("executors-slow", 0, 1)]


def test_without_a_policy_or_slow_lanes_nobody_listens_to_slow_executors() -> None:
    spec = scaler(PARAMS)
    beat = Heartbeat("executor", 4, 1, 1, 9, 0, TIMES)
    load = ExecutorLoad("executor-4", 9, 0, 2, (VersionLoad("heavy", "v1", 0.0, 1.0, 1, True, 0.0, 0, 0, (1,)),))
    assert spec.ignores is not None
    for made, expected in ((bench(None), True), (bench(), False)):
        assert spec.ignores(made.state, beat) is expected
        assert spec.ignores(made.state, load) is expected
    made = bench()
    made.params = replace(PARAMS, most_slow=0)
    assert told(made, 8, rate=50.0) == []


def test_no_more_slow_replicas_than_there_are_lanes() -> None:
    made = bench(replace(POLICY, max_replicas=64))
    assert told(made, 5, rate=500.0) == [("executors-slow", 1, 3)]


def test_larger_batches_come_before_another_replica_and_go_when_the_load_is_gone() -> None:
    policy = replace(FAST, vertical=("batch",))
    made = listening(policy, params=PARAMS)
    slo = Slo(latency_ms=500, late_ppm=10_000)
    made.note("plan/digits", Plan("digits", (VersionWeight("v1.0.0", 100),), 128, 30_000, slo=slo))
    made.times = (LoadedModel("digits", "v1.0.0", "ab", "CPU", 9_000.0, 988.0),)
    made.rate, made.waiting = 700.0, 50
    asked: list[MemoryCommand] = []
    made.proposed = asked.append
    made.second(4)
    (first,) = asked
    assert (first.key, from_json(BatchBound, first.body)) == ("vertical/digits", BatchBound("digits", 128))
    assert [each for each in made.said if each.decision != "hold"] == []
    made.note("vertical/digits", BatchBound("digits", 128))
    made.cap = 128
    assert made.steps(8) == [(1, 2)], "what is still too much takes another replica"
    made.confirm()
    made.rate, made.waiting = 10.0, 0
    assert made.steps(16) == [(2, 1)]
    assert len(asked) == 1, "replicas go first"
    made.confirm()
    made.second(14)
    assert from_json(BatchBound, asked[1].body) == BatchBound("digits", 0)
    made.note("vertical/digits", None)
    made.second(20)
    assert len(asked) == 2


def test_a_vertical_step_that_nobody_confirms_holds_no_replica_up() -> None:
    made = listening(replace(FAST, vertical=("batch",)), params=PARAMS)
    slo = Slo(latency_ms=500, late_ppm=10_000)
    made.note("plan/digits", Plan("digits", (VersionWeight("v1.0.0", 100),), 128, 30_000, slo=slo))
    made.times = (LoadedModel("digits", "v1.0.0", "ab", "CPU", 9_000.0, 988.0),)
    made.rate, made.waiting = 700.0, 50
    asked: list[MemoryCommand] = []
    made.proposed = asked.append
    assert made.steps(10) == [(1, 2)]
    assert len(asked) == 1


def test_where_no_more_replicas_are_allowed_a_declared_variant_serves_until_the_load_is_gone() -> None:
    made = listening(replace(FAST, max_replicas=1, vertical=("variant",)), params=PARAMS)
    made.note("model/digits/v1.1.0", ModelVersion("digits", "v1.1.0", "ab", 1, (), (), variant_of="v1.0.0"))
    asked: list[MemoryCommand] = []
    made.proposed = asked.append
    made.rate = 5_000.0
    made.second(8)
    assert [from_json(Canary, each.body) for each in asked] == [Canary("digits", "v1.1.0", 99)], "once, until answered"
    made.note("canary/digits", Canary("digits", "v1.1.0", 99), agent="scaler")
    made.note("plan/digits", Plan("digits", (VersionWeight("v1.0.0", 1), VersionWeight("v1.1.0", 99)), 10, 30_000))
    made.times = (*made.times, LoadedModel("digits", "v1.1.0", "ef", "CPU", 0.0, 10.0))
    made.second(40)
    assert len(asked) == 1, "light as it is with the variant, the load is not gone"
    made.rate = 1.0
    made.second(16)
    assert from_json(Canary, asked[1].body) == Canary("digits", "v1.1.0", 0)
    made.note("canary/digits", Canary("digits", "v1.1.0", 0), agent="scaler")
    made.note("plan/digits", Plan("digits", (VersionWeight("v1.0.0", 100),), 10, 30_000))
    made.rate = 5_000.0
    made.second(8)
    assert len(asked) == 3, "it may serve again"
    made.note("canary/digits", Canary("digits", "v1.1.0", 99), agent="scaler")
    made.note("canary/digits", Canary("digits", "v1.1.0", 0), agent="monitor")
    made.second(60)
    assert len(asked) == 3, "it was taken back for what became of its rows"


def test_somebody_elses_canary_is_not_taken_back() -> None:
    made = listening(replace(FAST, vertical=("variant",)), params=PARAMS)
    asked: list[MemoryCommand] = []
    made.proposed = asked.append
    made.note("canary/digits", Canary("digits", "v1.1.0", 50), agent="cli")
    made.rate = 1.0
    made.second(30)
    assert asked == []


def short(asked: list[MemoryCommand], **policy: Any) -> Bench:
    """One that needs more replicas than are allowed, and has asked for the declared variant."""
    made = listening(replace(FAST, max_replicas=1, vertical=("variant",), **policy), params=PARAMS)
    made.note("model/digits/v1.1.0", ModelVersion("digits", "v1.1.0", "ab", 1, (), (), variant_of="v1.0.0"))
    made.proposed = asked.append
    made.rate = 5_000.0
    made.second(8)
    assert len(asked) == 1
    return made


def refuse(made: Bench, command: MemoryCommand) -> None:
    """The Orchestrator, which knows nothing of the model, refuses a command."""
    _, effects = orchestrator.decide(verdict.State(), at(command, made.now_s * S), None)
    (event,) = [each.record for each in effects if isinstance(each.record, MemoryEvent)]
    made.note(event.key, from_json(Rejection, event.body or ""), event.agent, event.command_id, event.kind)


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("environment", Environment("sandbox")),
        ("breaker/digits/v1.1.0", None),
        ("active/digits", ActiveVersion("digits", "v1.0.0")),
        ("canary/digits", Canary("digits", "v1.2.0", 0)),
        ("scaling/executors", replace(FAST, max_replicas=1, vertical=("variant",))),
    ],
)
def test_a_refused_variant_is_asked_for_again_only_when_something_else_is_so(key: str, body: Any) -> None:
    asked: list[MemoryCommand] = []
    made = short(asked)
    refuse(made, asked[0])
    made.second(100)
    made.note("plan/digits", Plan("digits", (VersionWeight("v1.0.0", 100),), 10, 30_000))
    made.note("breaker/other/v1.1.0", None)
    made.second(100)
    assert len(asked) == 1
    made.note(key, body)
    made.second(100)
    assert len(asked) > 1


def test_a_variant_that_waits_for_people_is_not_asked_for_a_second_time() -> None:
    asked: list[MemoryCommand] = []
    made = short(asked)
    made.note("review/r9", "{}", "scaler", asked[0].command_id, "ReviewOpened")
    made.second(100)
    assert len(asked) == 1


def test_a_refused_bound_is_asked_for_again_only_when_something_else_is_so() -> None:
    made = listening(replace(FAST, max_replicas=2, vertical=("batch",)), params=PARAMS)
    plan = Plan("digits", (VersionWeight("v1.0.0", 100),), 128, 30_000, slo=Slo(latency_ms=500, late_ppm=10_000))
    made.note("plan/digits", plan)
    made.times = (LoadedModel("digits", "v1.0.0", "ab", "CPU", 9_000.0, 988.0),)
    made.rate, made.waiting = 700.0, 50
    asked: list[MemoryCommand] = []
    made.proposed = asked.append
    made.second(4)
    assert len(asked) == 1
    refuse(made, asked[0])
    for _ in range(3):  # its action ends without an answer, and it is short again
        made.second(100)
    assert len(asked) == 1
    made.note("plan/digits", plan)
    made.second(100)
    assert len(asked) == 2


@pytest.mark.parametrize(("command", "again"), [("activation", True), ("other", False)])
def test_a_variant_that_ends_with_an_activation_may_serve_again(command: str, *, again: bool) -> None:
    asked: list[MemoryCommand] = []
    made = short(asked)
    made.note("canary/digits", Canary("digits", "v1.1.0", 99), agent="scaler")
    made.note("active/digits", ActiveVersion("digits", "v2.0.0"), command="activation")
    made.note("canary/digits", Canary("digits", "v1.1.0", 0), command=command)
    made.note("active/digits", ActiveVersion("digits", "v1.0.0"))
    made.second(60)
    assert (len(asked) > 1) is again
