"""Planner: a plan for every registered model.

Watches ``memory.events``; consumes ``control.context`` (constraints), ``control.heartbeats`` (how long batches of the
loaded models take), ``control.load`` (rates) and ``control.validations``; emits ``control.plans`` (key = model).
State: what memory says about models, active versions and plans, the known rules, which models are slow, what they take,
which versions failed a check, and the proposals under way.

Rule: the active version serves 100 %, batch size and time-out as registered and set, lowered to the strictest
constraint. A model whose full batch takes over ``SLOW_US`` is served by the slow lanes, so that it holds nobody up; it
comes back below ``FAST_US``, and in between it stays where it is. What the serving policy in memory says of fallbacks,
tries, hedging and the SLO goes into the plan, less fallbacks that take other inputs than the active version, or inputs
that a rule bans, or that failed a check (``agents.unfit``); so does the capacity that the model takes
(``agents.sizing``), where that is more than one executor. Where the effective plan differs, it is proposed with the
version it is to replace; one proposal per model is under way at a time. Unanswered, the same one is sent again after
``retry_us``; refused for a stale version, it is made anew at once; refused otherwise, after ``retry_us``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agents.constraint import KIND, Rule, banned, bounded_by, rule_of
from agents.sizing import Sizing, is_new_profile, is_sample, judged, loaded, profiled
from agents.unfit import Unfit, is_unfit, note
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from schemas.model import ModelVersion
from schemas.plan import HASHED, SLOW, Plan, PlanProposal, VersionWeight
from schemas.review import ContextSignal, Validation
from schemas.scaling import ScalingPolicy
from schemas.serving import ServingPolicy
from schemas.telemetry import Heartbeat, LoadedModel, RouterLoad
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick
from streams.canonical import digest, from_json, to_json
from streams.errors import PoisonRecordError
from streams.memory_view import ActiveVersion, MemoryHead, Rejection, void_reason

SLOW_US: Final = 5_000.0
FAST_US: Final = 3_000.0


@dataclass(frozen=True, slots=True)
class Params:
    """``timeout_ms``: the policy's default budget of a request; ``retry_us``: when to propose again."""

    timeout_ms: int = 30_000
    retry_us: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Pending:
    """A proposal under way; ``refused`` after a refusal that a new version alone does not cure."""

    proposal_id: str
    since_us: int
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """What is known of a model: batch limit per version, active version, effective plan and its memory version.

    ``is_slow``: whether full batches of its active version were heard to take long. ``inputs``: a digest of what each
    version takes, ``features``: the names of that. ``sizing``: what serving it takes.
    """

    max_batch_sizes: Mapping[str, int] = field(default_factory=dict)
    active: str = ""
    plan: str = ""
    plan_version: int = 0
    cause: RecordCoordinate | None = None
    attempt: int = 0
    pending: Pending | None = None
    is_slow: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)
    policy: ServingPolicy | None = None
    features: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sizing: Sizing = field(default_factory=Sizing)


@dataclass(frozen=True, slots=True)
class State:
    """``head``: the end of the accepted chain of memory. ``scaling``: the policy of the pool that serves.

    ``unfit``: versions that failed a check.
    """

    head: MemoryHead = field(default_factory=MemoryHead)
    models: Mapping[str, Served] = field(default_factory=dict)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    scaling: ScalingPolicy | None = None
    unfit: Unfit = field(default_factory=dict)


def decide(state: State, event: Event, params: Params) -> tuple[State, Effects]:
    """Learn from memory and context, then propose what differs."""
    match event.record:
        case MemoryEvent() as change:
            if void_reason(state.head, change) is not None:
                return state, NO_EFFECTS
            state = replace(state, head=MemoryHead(change.sequence, event.answers))
            state = _learn(state, change, event.coordinate)
        case ContextSignal(kind=kind) as signal if kind == KIND:
            state = _constrain(state, signal, event.coordinate)
        case Heartbeat() as heartbeat:
            state = _time(state, heartbeat, event.coordinate)
        case RouterLoad(model=model) as load if model in state.models:
            before, state = state.models[model].sizing.capacity, _load(state, load, event, params)
            if state.models[model].sizing.capacity == before:
                return state, NO_EFFECTS
        case Validation(model=model) as validation if model in state.models:
            unfit = note(state.unfit, validation)
            if unfit is state.unfit:
                return state, NO_EFFECTS
            served = replace(state.models[model], cause=event.coordinate)
            state = _with(replace(state, unfit=unfit), model, served)
        case Tick():
            state = _size_waiting(_expire(state, event.now_us, params), event.now_us, params)
        case _:
            return state, NO_EFFECTS
    return propose(state, event.now_us, params)


def _learn(state: State, change: MemoryEvent, cause: RecordCoordinate) -> State:
    kind, body = change.kind, change.body or ""
    try:
        if kind == "ModelRegistered":
            model = from_json(ModelVersion, body, newer=True)
            served = state.models.get(model.model, Served())
            sizes = {**served.max_batch_sizes, model.version: model.max_batch_size}
            inputs = {**served.inputs, model.version: digest(model.inputs).hex()[:16]}
            features = {**served.features, model.version: tuple(spec.name for spec in model.inputs)}
            sizing = replace(served.sizing, file_bytes={**served.sizing.file_bytes, model.version: model.size_bytes})
            served = replace(served, max_batch_sizes=sizes, inputs=inputs, features=features, sizing=sizing)
            return _with(state, model.model, served)
        if kind == "ScalingPolicySet":
            return replace(state, scaling=from_json(ScalingPolicy, body, newer=True))
        if kind == "ServingPolicySet":
            policy = from_json(ServingPolicy, body, newer=True)
            served = state.models.get(policy.model, Served())
            return _with(state, policy.model, replace(served, policy=policy, cause=cause))
        if kind in ("VersionActivated", "VersionRolledBack"):
            active = from_json(ActiveVersion, body, newer=True)
            served = state.models.get(active.model, Served())
            return _with(state, active.model, replace(served, active=active.version, cause=cause))
        if kind == "PlanMadeEffective":
            plan = from_json(Plan, body, newer=True)
            served = state.models.get(plan.model, Served())
            standing = replace(served, plan=to_json(plan), plan_version=change.version, pending=None, attempt=0)
            return _with(state, plan.model, standing)
        if kind == "CommandRejected":
            return _refused(state, from_json(Rejection, body, newer=True))
    except PoisonRecordError:
        return state  # the Orchestrator writes no such body; whatever it is, it is nothing to plan by
    return state


def _refused(state: State, rejection: Rejection) -> State:
    for name, served in sorted(state.models.items()):
        if served.pending is not None and served.pending.proposal_id == rejection.command_id:
            stale = rejection.code in ("version_mismatch", "not_active")
            pending = None if stale else replace(served.pending, refused=True)
            return _with(state, name, replace(served, pending=pending, attempt=served.attempt + 1))
    return state


def _constrain(state: State, signal: ContextSignal, cause: RecordCoordinate) -> State:
    try:
        rule = rule_of(signal)
    except PoisonRecordError:
        return state
    models = {name: replace(served, cause=cause) for name, served in state.models.items()}
    return replace(state, rules={**state.rules, rule.rule_id: rule}, models=models)


def _time(state: State, heartbeat: Heartbeat, cause: RecordCoordinate) -> State:
    """Learn from an executor which models are slow, and how long batches take."""
    for name, is_slow in _moves(state, heartbeat):
        state = _with(state, name, replace(state.models[name], is_slow=is_slow, cause=cause))
    for found in _profiles(state, heartbeat):
        served = state.models[found.model]
        state = _with(state, found.model, replace(served, sizing=profiled(served.sizing, found)))
    return state


def _moves(state: State, heartbeat: Heartbeat) -> list[tuple[str, bool]]:
    """Models whose class a heartbeat changes, with the new one."""
    moves: list[tuple[str, bool]] = []
    for found in heartbeat.models:
        served = state.models.get(found.model)
        if served is None or found.version != served.active or served.active not in served.max_batch_sizes:
            continue
        full_us = found.fixed_us + found.per_item_us * served.max_batch_sizes[served.active]
        if full_us > SLOW_US if not served.is_slow else full_us < FAST_US:
            moves.append((found.model, not served.is_slow))
    return moves


def _profiles(state: State, heartbeat: Heartbeat) -> list[LoadedModel]:
    """Versions of known models whose times are new."""
    return [
        found
        for found in heartbeat.models
        if found.version in (served := state.models.get(found.model, Served())).max_batch_sizes
        and is_new_profile(served.sizing, found)
    ]


def ignores(state: State, record: Any) -> bool:
    """Whether a record tells nothing new: nearly every heartbeat, and most of what Routers say of their load."""
    match record:
        case Heartbeat():
            return not _moves(state, record) and not _profiles(state, record)
        case RouterLoad():
            return record.model not in state.models or not is_sample(state.models[record.model].sizing, record)
    return False


def _load(state: State, load: RouterLoad, event: Event, params: Params) -> State:
    """Learn from a Router how much of a model is asked for."""
    served = state.models[load.model]
    served = replace(served, sizing=loaded(served.sizing, load, event.now_us))
    return _size(_with(state, load.model, served), load.model, event.now_us, params, event.coordinate)


def _size(state: State, name: str, now_us: int, params: Params, cause: RecordCoordinate | None = None) -> State:
    """Reckon anew what a model takes; only what has been needed for long enough changes its plan."""
    served, plan = state.models[name], wanted_plan(state, name, params)
    sizing = served.sizing if plan is None else judged(served.sizing, plan, state.scaling, now_us)
    if sizing is served.sizing:
        return state
    changed = sizing.capacity != served.sizing.capacity
    return _with(
        state, name, replace(served, sizing=sizing, cause=(cause or served.cause) if changed else served.cause)
    )


def _size_waiting(state: State, now_us: int, params: Params) -> State:
    """Look whether another number of executors has been needed for long enough, where one is."""
    for name, served in sorted(state.models.items()):
        if served.sizing.since_us:
            state = _size(state, name, now_us, params)
    return state


def _expire(state: State, now_us: int, params: Params) -> State:
    """Forget proposals that were not answered, or refused, ``retry_us`` ago."""
    for name, served in sorted(state.models.items()):
        if served.pending is not None and now_us - served.pending.since_us >= params.retry_us:
            state = _with(state, name, replace(served, pending=None))
    return state


def propose(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    """A proposal for each model whose effective plan is not the wanted one, unless one is under way."""
    effects: list[Publish] = []
    for name, served in sorted(state.models.items()):
        plan = wanted_plan(state, name, params)
        if plan is None or served.pending is not None or served.plan == to_json(plan):
            continue
        proposal = _proposal(served, plan, now_us)
        state = _with(state, name, replace(served, pending=Pending(proposal.proposal_id, now_us)))
        effects.append(Publish("control.plans", name.encode(), proposal))
    return state, tuple(effects)


def wanted_plan(state: State, name: str, params: Params) -> Plan | None:
    """The plan a model should have, or None while no version is active."""
    served = state.models[name]
    if served.active not in served.max_batch_sizes:
        return None
    rules = [state.rules[key] for key in sorted(state.rules)]
    policy = served.policy or ServingPolicy(name)
    out = banned(rules, name, "features_not_used")
    return Plan(
        model=name,
        versions=(VersionWeight(served.active, 100),),
        max_batch_size=bounded_by(rules, name, "max_batch_size", served.max_batch_sizes[served.active]),
        timeout_ms=bounded_by(rules, name, "timeout_ms", params.timeout_ms),
        lane=SLOW if served.is_slow else HASHED,
        fallbacks=tuple(
            version
            for version in policy.fallbacks
            if _may_stand_in(served, version, out) and not is_unfit(state.unfit, name, version)
        ),
        max_attempts=policy.max_attempts,
        hedge=policy.hedge,
        slo=policy.slo,
        capacity=served.sizing.capacity,
    )


def _may_stand_in(served: Served, version: str, out: Mapping[str, Rule]) -> bool:
    """Whether a version is another one than the active, takes the same inputs, and none that is ``out``."""
    if version == served.active or version not in served.max_batch_sizes:
        return False
    if any(name in out for name in served.features.get(version, ())):
        return False
    mine, active = served.inputs.get(version, ""), served.inputs.get(served.active, "")
    return mine == active or not (mine and active)  # unknown of what an older release noted; checked when it was set


def _proposal(served: Served, plan: Plan, now_us: int) -> PlanProposal:
    """The id follows from the content, so sending it again is no second proposal; ``attempt`` counts refusals."""
    identity = f"plan/{plan.model}/{served.plan_version}/{served.attempt}/{digest(plan).hex()[:16]}"
    what = "has no plan yet" if not served.plan else "has another plan"
    reason = f"{plan.model} {what}: {served.active} is active, batch {plan.max_batch_size}, {plan.timeout_ms} ms"
    if served.is_slow:
        reason += ", slow lane"
    if plan.fallbacks:
        reason += f", falls back to {', '.join(plan.fallbacks)}"
    if plan.hedge:
        reason += ", hedged"
    if plan.slo is not None:
        reason += f", SLO {plan.slo}"
    if plan.capacity is not None:
        taken = plan.capacity
        reason += f", takes {taken.replicas} executors ({taken.items_per_s} items/s, {taken.forecast_per_s} foreseen)"
    causes = () if served.cause is None else (served.cause,)
    return PlanProposal(identity, plan, served.plan_version, reason, causes, now_us)


def _with(state: State, name: str, served: Served) -> State:
    return replace(state, models={**state.models, name: served})


PLANNER: Final = AgentSpec(
    name="planner",
    consumes=("control.context", "control.heartbeats", "control.load", "control.validations"),
    watches=("memory.events",),
    emits=("control.plans",),
    tick_ms=1_000,
    initial=lambda params: State(),
    decide=decide,
    journaled=True,
    ignores=ignores,
    params=Params(),
)
