"""The Planner: one plan per model, proposed until it stands."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import orchestrator, planner, verdict
from agents.plan_facts import Pending, State
from agents.planner import Params, decide, ignores
from schemas.canary import Canary
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.model import TensorSpec
from schemas.plan import HASHED, SLOW, Plan, PlanProposal, VersionWeight
from schemas.review import ContextSignal, Validation
from schemas.scaling import ScalingPolicy
from schemas.serving import ServingPolicy, Slo
from schemas.shadow import Shadow, ShadowPolicy
from schemas.telemetry import Heartbeat, LoadedModel, RouterLoad
from streams.agent import Effects, Publish
from streams.canonical import digest, from_json, to_json
from streams.memory_fold import StoredEvent
from streams.memory_view import ActiveVersion, MemoryHead, Rejection
from tests.support.control import HERE, SECOND, at, chained, model_version, tick
from tests.unit.agents.test_orchestrator import register

PARAMS = Params()
PLAN = Plan("digits", (VersionWeight("v1.0.0", 100),), 64, 30_000)
TIGHT = ContextSignal("tight", "constraint", "model/*", '{"field":"max_batch_size","maximum":16}', "rules file", 1)


def registered() -> list[StoredEvent]:
    _, effects = orchestrator.decide(verdict.State(), at(register(model_version())), None)
    return chained(effects)


def following(events: list[StoredEvent], kind: str, key: str, body: str, version: int = 1) -> StoredEvent:
    last = events[-1]
    sequence = last.event.sequence + 1
    event = MemoryEvent(sequence, last.value_hash, "c", "planner", kind, key, version, body, "", (), sequence)
    return StoredEvent.of(event, to_json(event).encode())


def learn(state: State, events: list[StoredEvent], now_us: int = SECOND) -> tuple[State, Effects]:
    effects: Effects = ()
    for stored in events:
        state, made = decide(state, at(stored.event, now_us, answers=stored.value_hash), PARAMS)
        effects += made
    return state, effects


def proposals(effects: Effects) -> list[PlanProposal]:
    return [effect.record for effect in effects]


def test_a_registered_model_gets_a_plan_proposed() -> None:
    state, effects = learn(State(), registered())
    identity = f"plan/digits/0/0/{digest(PLAN).hex()[:16]}"
    reason = "digits has no plan yet: v1.0.0 is active, batch 64, 30000 ms"
    assert effects == (Publish("control.plans", b"digits", PlanProposal(identity, PLAN, 0, reason, (HERE,), SECOND)),)
    assert state.models["digits"].pending == Pending(identity, SECOND)
    assert state.head == MemoryHead(2, registered()[-1].value_hash)


def test_a_plan_of_a_later_release_stands_where_it_is_the_same_in_what_this_one_knows() -> None:
    events, later = registered(), to_json(PLAN)[:-1] + ',"more":{"of":"later"}}'
    state, _ = learn(State(), [*events, following(events, "PlanMadeEffective", "plan/digits", later)])
    assert (state.models["digits"].pending, state.models["digits"].plan_version) == (None, 1)
    assert decide(state, tick(100 * SECOND), PARAMS) == (state, ())


def test_nothing_more_once_the_plan_stands() -> None:
    events = registered()
    state, _ = learn(State(), [*events, following(events, "PlanMadeEffective", "plan/digits", to_json(PLAN))])
    assert (state.models["digits"].pending, state.models["digits"].plan_version) == (None, 1)
    assert decide(state, tick(100 * SECOND), PARAMS) == (state, ())


def test_an_unanswered_proposal_is_the_same_again() -> None:
    state, first = learn(State(), registered())
    assert decide(state, tick(5 * SECOND), PARAMS) == (state, ())
    state, second = decide(state, tick(11 * SECOND), PARAMS)
    (a,), (b,) = proposals(first), proposals(second)
    assert a == replace(b, proposed_us=a.proposed_us)


def refusal(events: list[StoredEvent], proposal: PlanProposal, code: str) -> StoredEvent:
    body = to_json(Rejection(proposal.proposal_id, code, "No."))
    return following(events, "CommandRejected", f"rejections/{proposal.proposal_id}", body)


@pytest.mark.parametrize("code", ["version_mismatch", "not_active"])
def test_a_stale_version_is_proposed_anew_at_once(code: str) -> None:
    events = registered()
    state, effects = learn(State(), events)
    state, again = learn(state, [refusal(events, *proposals(effects), code)])
    assert [p.proposal_id.split("/")[:4] for p in proposals(again)] == [["plan", "digits", "0", "1"]]


def test_any_other_refusal_waits() -> None:
    events = registered()
    state, effects = learn(State(), events)
    state, again = learn(state, [refusal(events, *proposals(effects), "unknown_version")])
    assert again == ()
    _, later = decide(state, tick(11 * SECOND), PARAMS)
    assert [p.proposal_id.split("/")[3] for p in proposals(later)] == ["1"]


def test_constraints_lower_the_plan() -> None:
    state, _ = decide(State(), at(TIGHT), PARAMS)
    state, effects = learn(state, registered())
    (proposal,) = proposals(effects)
    assert proposal.plan == replace(PLAN, max_batch_size=16)


def test_a_new_constraint_changes_a_standing_plan() -> None:
    events = registered()
    state, _ = learn(State(), [*events, following(events, "PlanMadeEffective", "plan/digits", to_json(PLAN))])
    _, effects = decide(state, at(TIGHT), PARAMS)
    (proposal,) = proposals(effects)
    assert (proposal.plan.max_batch_size, proposal.expected_version) == (16, 1)
    assert decide(state, at(replace(TIGHT, expression="{}")), PARAMS) == (state, ())
    assert decide(state, at(replace(TIGHT, kind="observation")), PARAMS) == (state, ())


def test_void_memory_events_are_ignored() -> None:
    first, second = registered()
    forged = replace(second.event, prev_hash=b"x" * 32)
    state, _ = learn(State(), [first])
    assert decide(state, at(forged, answers=b"h" * 32), PARAMS) == (state, ())


@given(st.permutations(["a-model", "b-model", "c-model"]), st.integers(0, 6))
def test_planner_and_orchestrator_agree(names: list[str], repeats: int) -> None:
    """Whatever the order and however often proposals are delivered, every model ends with its plan and peace."""
    memory, state, head = verdict.State(), State(), MemoryHead()
    inbox: list[object] = [register(model_version(name), f"r-{name}") for name in names]
    for _ in range(20):
        if not inbox:
            break
        record = inbox.pop(0)
        copies = repeats if isinstance(record, PlanProposal) else 0
        for _ in range(1 + copies):
            memory, effects = orchestrator.decide(memory, at(record), None)
            events = chained(effects, head)
            head = MemoryHead(events[-1].event.sequence, events[-1].value_hash) if events else head
            state, made = learn(state, events)
            inbox.extend(proposals(made))
    assert inbox == []
    assert sorted(key for key in memory.values if key.startswith("plan/")) == [
        "plan/a-model",
        "plan/b-model",
        "plan/c-model",
    ]
    assert planner.propose(state, SECOND, PARAMS) == (state, ())


def heard(full_us: float, version: str = "v1.0.0", model: str = "digits") -> Heartbeat:
    """An executor that takes ``full_us`` for a full batch of 64."""
    return Heartbeat("executor", 0, 1, 1, 2, 3, (LoadedModel(model, version, "ab" * 32, "CPU", 0.0, full_us / 64),))


def standing(lane: int = HASHED) -> tuple[State, list[StoredEvent]]:
    events = registered()
    events.append(following(events, "PlanMadeEffective", "plan/digits", to_json(replace(PLAN, lane=lane))))
    return learn(State(), events)[0], events


def test_a_model_that_is_heard_to_be_slow_gets_the_slow_lane_and_comes_back_when_it_is_quick_again() -> None:
    state, events = standing()
    state, effects = decide(state, at(heard(5_001.0)), PARAMS)
    (proposal,) = proposals(effects)
    assert (proposal.plan.lane, proposal.expected_version, proposal.causes) == (SLOW, 1, (HERE,))
    assert proposal.reason.endswith("slow lane")
    state, _ = learn(state, [following(events, "PlanMadeEffective", "plan/digits", to_json(proposal.plan), 2)])
    for full_us in (5_001.0, 4_999.0, 3_001.0):
        state, effects = decide(state, at(heard(full_us)), PARAMS)
        assert effects == ()
    _, effects = decide(state, at(heard(2_999.0)), PARAMS)
    (proposal,) = proposals(effects)
    assert (proposal.plan.lane, proposal.expected_version) == (HASHED, 2)


def test_heartbeats_that_tell_nothing_new_are_ignored_and_change_nothing() -> None:
    state, _ = standing()
    assert not ignores(state, heard(4_000.0))  # its times are new
    state, _ = decide(state, at(heard(4_000.0)), PARAMS)
    dull = (
        heard(4_999.0),
        heard(9_999.0, version="v9.0.0"),  # not the active version
        heard(9_999.0, model="unheard-of"),
        Heartbeat("router", 0, 1, 1, 2, 3),
    )
    for record in dull:
        assert ignores(state, record)
        assert decide(state, at(record), PARAMS) == (state, ())
    assert not ignores(state, heard(5_001.0))
    assert not ignores(state, heard(1_000.0))
    assert not ignores(state, TIGHT)


V2 = replace(model_version(version="v2.0.0", digest="cd" * 32), max_batch_size=32)


def chain_of(*commands: object) -> list[StoredEvent]:
    """Memory after commands to the Orchestrator."""
    memory, effects = verdict.State(), []
    for command in commands:
        memory, made = orchestrator.decide(memory, at(command), None)
        effects += made
    return chained(tuple(effects))


def serving(policy: ServingPolicy) -> MemoryCommand:
    return MemoryCommand("s1", "cli", "SetServingPolicy", f"serving/{policy.model}", -1, to_json(policy), "", (), 5)


def activated(version: str) -> MemoryCommand:
    body = to_json(ActiveVersion("digits", version))
    return MemoryCommand(f"a-{version}", "cli", "ActivateVersion", "active/digits", -1, body, "", (), 5)


def test_the_serving_policy_goes_into_the_plan() -> None:
    policy = ServingPolicy("digits", ("v2.0.0",), 3, True)
    events = chain_of(register(model_version()), register(V2, "r2"), serving(policy))
    state, _ = learn(State(), events)
    wanted = replace(PLAN, fallbacks=("v2.0.0",), max_attempts=3, hedge=True)
    assert planner.wanted_plan(state, "digits", PARAMS) == wanted


def shadowing(version: str, percent: int, number: int = 0) -> MemoryCommand:
    body = to_json(ShadowPolicy("digits", version, percent))
    return MemoryCommand(f"sh-{version}-{percent}-{number}", "cli", "SetShadow", "shadow/digits", -1, body, "", (), 5)


def test_a_shadow_goes_into_the_plan_until_it_is_taken_back_or_serves() -> None:
    two = [register(model_version()), register(V2, "r2")]
    state, _ = learn(State(), chain_of(*two, shadowing("v2.0.0", 20)))
    assert planner.wanted_plan(state, "digits", PARAMS) == replace(PLAN, shadow=Shadow("v2.0.0", 20))
    nothing_pending = replace(state.models["digits"], pending=None)
    _, made = planner.propose(replace(state, models={"digits": nothing_pending}), SECOND, PARAMS)
    (proposal,) = proposals(made)
    assert proposal.reason.endswith(", 20 % copied to v2.0.0")
    assert proposal.causes == (HERE,)
    gone, _ = learn(State(), chain_of(*two, shadowing("v2.0.0", 20), shadowing("", 0)))
    assert planner.wanted_plan(gone, "digits", PARAMS) == PLAN
    serves, _ = learn(State(), chain_of(*two, shadowing("v2.0.0", 20), activated("v2.0.0")))
    plan = planner.wanted_plan(serves, "digits", PARAMS)
    assert plan is not None
    assert plan.shadow is None


def test_an_activated_version_is_planned_also_after_a_roll_back_and_never_falls_back_to_itself() -> None:
    policy = serving(ServingPolicy("digits", ("v1.0.0", "v2.0.0")))
    events = chain_of(register(model_version()), register(V2, "r2"), policy, activated("v2.0.0"), activated("v1.0.0"))
    assert events[-1].event.kind == "VersionRolledBack"
    upgraded, _ = learn(State(), events[:-1])
    assert planner.wanted_plan(upgraded, "digits", PARAMS) == Plan(
        "digits", (VersionWeight("v2.0.0", 100),), 32, 30_000, fallbacks=("v1.0.0",)
    )
    rolled_back, _ = learn(State(), events)
    assert planner.wanted_plan(rolled_back, "digits", PARAMS) == replace(PLAN, fallbacks=("v2.0.0",))


def test_a_fallback_that_failed_a_check_is_left_out_until_it_passes() -> None:
    policy = serving(ServingPolicy("digits", ("v2.0.0",)))
    state, _ = learn(State(), chain_of(register(model_version()), register(V2, "r2"), policy))
    there = RecordCoordinate("control.validations", 0, 3)
    for outcome, fallbacks in (("passed", ("v2.0.0",)), ("failed", ()), ("not_run", ()), ("passed", ("v2.0.0",))):
        said = Validation("v", "golden_set", "digits", "v2.0.0", outcome == "passed", "", 5, outcome)
        before = state
        state, _ = decide(state, at(said, coordinate=there), PARAMS)
        plan = planner.wanted_plan(state, "digits", PARAMS)
        assert plan is not None
        assert plan.fallbacks == fallbacks, outcome
        is_news = state.unfit != before.unfit
        assert (state.models["digits"].cause == there) if is_news else (state is before)
    assert decide(State(), at(replace(said, outcome="failed")), PARAMS) == (State(), ())


def test_a_fallback_that_takes_other_inputs_than_the_active_version_is_left_out() -> None:
    other = replace(V2, inputs=(TensorSpec("x", "FP32", (4,)),))
    policy = serving(ServingPolicy("digits", ("v2.0.0",)))
    later = replace(model_version(version="v3.0.0", digest="ef" * 32), inputs=other.inputs)
    events = chain_of(register(model_version()), register(V2, "r2"), policy, register(later, "r3"), activated("v3.0.0"))
    state, _ = learn(State(), events)
    plan = planner.wanted_plan(state, "digits", PARAMS)
    assert plan is not None
    assert (plan.versions[0].version, plan.fallbacks) == ("v3.0.0", ())


def test_the_slo_goes_into_the_plan_and_its_reason() -> None:
    slo = Slo(250, 10_000, 1_000)
    events = chain_of(register(model_version()), serving(ServingPolicy("digits", slo=slo)))
    state, _ = learn(State(), events)
    assert planner.wanted_plan(state, "digits", PARAMS) == replace(PLAN, slo=slo)
    state, _ = learn(state, [following(events, "PlanMadeEffective", "plan/digits", to_json(PLAN))])
    (proposal,) = proposals(decide(state, tick(100 * SECOND), PARAMS)[1])
    assert proposal.reason.endswith("SLO 99 % within 250 ms, errors up to 0.1 %")


def test_a_fallback_that_takes_a_banned_input_is_left_out() -> None:
    inputs = (TensorSpec("age", "FP32", (4,)),)
    v1, v2 = replace(model_version(), inputs=inputs), replace(V2, inputs=inputs)
    policy = serving(ServingPolicy("digits", ("v2.0.0",)))
    state, _ = learn(State(), chain_of(register(v1), register(v2, "r2"), policy))
    plan = planner.wanted_plan(state, "digits", PARAMS)
    assert plan is not None
    assert plan.fallbacks == ("v2.0.0",)
    ban = ContextSignal("b", "constraint", "model/digits", '{"field":"features_not_used","names":["age"]}', "law", 1)
    state, _ = decide(state, at(ban), PARAMS)
    plan = planner.wanted_plan(state, "digits", PARAMS)
    assert plan is not None
    assert plan.fallbacks == ()


def loads(state: State, rate: float, seconds: range) -> tuple[State, list[PlanProposal]]:
    """A load of so many items a second, told each second, with ticks between."""
    made: list[PlanProposal] = []
    for second in seconds:
        told = RouterLoad("digits", rate, 0, second * SECOND, 0, rate)
        if not ignores(state, told):
            there = RecordCoordinate("control.load", 0, second)
            state, effects = decide(state, at(told, second * SECOND, there), PARAMS)
            made += proposals(effects)
        state, effects = decide(state, tick(second * SECOND), PARAMS)
        made += proposals(effects)
    return state, made


def test_a_load_that_lasts_changes_the_capacity_once_and_one_that_does_not_never() -> None:
    state, events = standing()
    state, _ = decide(state, at(heard(4_000.0)), PARAMS)  # 62.5 us an item
    priced = to_json(ScalingPolicy("executors", 1, 8, cost_per_replica_milli=350))
    events.append(following(events, "ScalingPolicySet", "scaling/executors", priced))
    state, _ = learn(state, events[-1:])
    state, made = loads(state, 20_000.0, range(10, 36))
    state, quiet = loads(state, 500.0, range(36, 60))
    assert made == quiet == []
    state, made = loads(state, 20_000.0, range(200, 300))
    assert len({each.proposal_id for each in made}) == 1  # sent again, since nobody answers
    proposal = made[0]
    capacity = proposal.plan.capacity
    assert capacity is not None
    assert (capacity.device, capacity.memory_bytes, capacity.items_per_s) == ("CPU", 10, 20_000.0)
    assert (capacity.replicas, capacity.cost_milli) == (3, 1_050)  # 20,000 x (62.5 + 12) us = 1.49, of 60 %
    assert f"takes 3 executors (20000.0 items/s, {capacity.forecast_per_s} foreseen)" in proposal.reason
    assert [(cause.topic, cause.offset >= 225) for cause in proposal.causes] == [("control.load", True)]
    events.append(following(events, "PlanMadeEffective", "plan/digits", to_json(proposal.plan), 2))
    state, _ = learn(state, events[-1:])
    state, made = loads(state, 20_000.0, range(300, 500))
    assert made == []
    state, made = loads(state, 0.0, range(500, 700))
    assert {each.plan.capacity for each in made} == {None}


def test_a_load_of_a_model_that_nobody_registered_is_ignored() -> None:
    assert ignores(State(), RouterLoad("digits", 5.0, 0, SECOND))
    assert decide(State(), at(RouterLoad("digits", 5.0, 0, SECOND)), PARAMS) == (State(), ())


def test_a_snapshot_of_an_older_release_is_read() -> None:
    state, _ = standing()
    plain = json.loads(to_json(state))
    assert from_json(State, json.dumps(plain)) == state
    for name in ("features", "sizing"):
        del plain["models"]["digits"][name]
    del plain["scaling"]
    assert from_json(State, json.dumps(plain)).models["digits"].plan == state.models["digits"].plan


def beat(*versions: str, instance: int = 0, sent_us: int = 20 * SECOND) -> Heartbeat:
    models = tuple(LoadedModel("digits", version, "ab", "CPU", 1.0, 1.0) for version in versions)
    return Heartbeat("executor", instance, 1, 1, sent_us, 0, models)


def test_a_canary_is_planned_once_executors_hold_it_and_no_more_once_it_is_over() -> None:
    state, events = standing()
    set_here = RecordCoordinate("memory.events", 0, 9)
    second = to_json(model_version(version="v2.0.0", batch=16))
    events.append(following(events, "ModelRegistered", "model/digits/v2.0.0", second))
    state, effects = learn(state, events[-1:])
    events.append(following(events, "CanarySet", "canary/digits", to_json(Canary("digits", "v2.0.0", 5))))
    change = events[-1]
    state, more = decide(state, at(change.event, 20 * SECOND, set_here, answers=change.value_hash), PARAMS)
    assert (effects, more) == ((), ())
    assert not ignores(state, beat("v1.0.0"))
    state, effects = decide(state, at(beat("v1.0.0"), 20 * SECOND), PARAMS)
    assert effects == ()
    assert ignores(state, beat("v1.0.0"))
    state, effects = decide(state, at(beat("v1.0.0", "v2.0.0"), 21 * SECOND), PARAMS)
    assert effects == ()
    state, effects = decide(state, tick(22 * SECOND), PARAMS)
    (proposal,) = proposals(effects)
    assert proposal.plan.versions == (VersionWeight("v1.0.0", 95), VersionWeight("v2.0.0", 5))
    assert proposal.plan.max_batch_size == 16
    assert "v2.0.0 is a canary of 5 percent" in proposal.reason
    assert set_here in proposal.causes
    events.append(following(events, "PlanMadeEffective", "plan/digits", to_json(proposal.plan), 2))
    events.append(following(events, "CanarySet", "canary/digits", to_json(Canary("digits", "v2.0.0", 20)), 2))
    state, effects = learn(state, events[-2:], 23 * SECOND)
    (proposal,) = proposals(effects)
    assert [each.weight_percent for each in proposal.plan.versions] == [80, 20]
    events.append(following(events, "CanaryTakenBack", "canary/digits", to_json(Canary("digits", "v2.0.0", 0)), 3))
    events.append(refusal(events, proposal, "not_active"))
    state, effects = learn(state, events[-2:], 24 * SECOND)
    assert [each.plan.versions for each in proposals(effects)] == [(VersionWeight("v1.0.0", 100),)]
    assert ignores(state, beat("v1.0.0", sent_us=90 * SECOND))


def test_a_promoted_canary_is_the_only_one_in_the_plan() -> None:
    state, events = standing()
    second = to_json(model_version(version="v2.0.0"))
    active = to_json(ActiveVersion("digits", "v2.0.0"))
    for kind, key, body in (
        ("ModelRegistered", "model/digits/v2.0.0", second),
        ("CanarySet", "canary/digits", to_json(Canary("digits", "v2.0.0", 5))),
        ("VersionActivated", "active/digits", active),
        ("CanaryPromoted", "canary/digits", to_json(Canary("digits", "v2.0.0", 0))),
    ):
        events.append(following(events, kind, key, body))
    _, effects = learn(state, events[-4:])
    assert [each.plan.versions for each in proposals(effects)] == [(VersionWeight("v2.0.0", 100),)]
