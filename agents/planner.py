"""Planner: a plan for every registered model.

Watches ``memory.events``; consumes ``control.context`` (constraints), ``control.heartbeats`` (how long batches of the
loaded models take), ``control.load`` (rates) and ``control.validations``; emits ``control.plans`` (key = model).
State: what memory says about models, active versions and plans, the known rules, which models are slow, what they take,
which versions failed a check, and the proposals under way.

Rule: the active version serves 100 %, less what its canary has once executors hold that (``agents.canary_warmth``);
batch size and time-out as registered and set, lowered to the strictest constraint. A model whose active version's full
batch takes over ``SLOW_US`` is served by the slow lanes, so that it holds nobody up; it comes back below ``FAST_US``,
and in between it stays where it is. What the serving policy in memory says of fallbacks,
tries, hedging and the SLO goes into the plan, less fallbacks that take other inputs than the active version, or inputs
that a rule bans, or that failed a check (``agents.unfit``); so does the capacity that the model takes
(``agents.sizing``), where that is more than one executor, and a version that people let
shadow it. Where the effective plan differs, it is proposed with the
version it is to replace; one proposal per model is under way at a time. Unanswered, the same one is sent again after
``retry_us``; refused for a stale version, it is made anew at once; refused otherwise, after ``retry_us``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from agents.canary_warmth import shares
from agents.constraint import KIND, Rule, banned, bounded_by
from agents.plan_facts import (
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
    with_served,
)
from agents.sizing import is_sample, judged, loaded
from agents.unfit import is_unfit, note
from schemas.memory import MemoryEvent
from schemas.plan import HASHED, SLOW, Plan, PlanProposal, VersionWeight
from schemas.review import ContextSignal, Validation
from schemas.serving import ServingPolicy
from schemas.shadow import Shadow
from schemas.telemetry import Heartbeat, RouterLoad
from streams.agent import NO_EFFECTS, AgentSpec, Effects, Event, Publish, Tick
from streams.canonical import digest, to_json
from streams.memory_fold import void_reason
from streams.memory_view import MemoryHead


@dataclass(frozen=True, slots=True)
class Params:
    """``timeout_ms``: the policy's default budget of a request; ``retry_us``: when to propose again.

    ``first_slow``: least number of an executor of the slow lanes, which loads what they serve; 0: executors load all.
    """

    timeout_ms: int = 30_000
    retry_us: int = 10_000_000
    first_slow: int = 0


def decide(state: State, event: Event, params: Params) -> tuple[State, Effects]:
    """Learn from memory and context, then propose what differs."""
    match event.record:
        case MemoryEvent() as change:
            if void_reason(state.head, change) is not None:
                return state, NO_EFFECTS
            state = replace(state, head=MemoryHead(change.sequence, event.answers))
            state = learn(state, change, event.coordinate)
        case ContextSignal(kind=kind) as signal if kind == KIND:
            state = constrain(state, signal, event.coordinate)
        case Heartbeat() as heartbeat:
            state = hear(state, heartbeat, event.coordinate)
            state = warmed(state, event.now_us, params.first_slow, heartbeat)
        case RouterLoad(model=model) as load if model in state.models:
            before, state = state.models[model].sizing.capacity, _load(state, load, event, params)
            if state.models[model].sizing.capacity == before:
                return state, NO_EFFECTS
        case Validation(model=model) as validation if model in state.models:
            unfit = note(state.unfit, validation)
            if unfit is state.unfit:
                return state, NO_EFFECTS
            served = replace(state.models[model], cause=event.coordinate)
            state = with_served(replace(state, unfit=unfit), model, served)
        case Tick():
            state = warmed(_expire(state, event.now_us, params), event.now_us, params.first_slow)
            state = _size_waiting(state, event.now_us, params)
        case _:
            return state, NO_EFFECTS
    return propose(state, event.now_us, params)


def ignores(state: State, record: Any) -> bool:
    """Whether a record tells nothing new: nearly every heartbeat, and most of what Routers say of their load."""
    match record:
        case Heartbeat():
            return not (moves(state, record) or profiles(state, record) or awaits(state, record))
        case RouterLoad():
            return record.model not in state.models or not is_sample(state.models[record.model].sizing, record)
    return False


def _load(state: State, load: RouterLoad, event: Event, params: Params) -> State:
    """Learn from a Router how much of a model is asked for."""
    served = state.models[load.model]
    served = replace(served, sizing=loaded(served.sizing, load, event.now_us, event.coordinate))
    return _size(with_served(state, load.model, served), load.model, event.now_us, params)


def _size(state: State, name: str, now_us: int, params: Params) -> State:
    """Reckon anew what a model takes; only what has been needed for long enough changes its plan."""
    served, plan = state.models[name], wanted_plan(state, name, params)
    sizing = served.sizing if plan is None else judged(served.sizing, plan, state.scaling, now_us)
    if sizing is served.sizing:
        return state
    cause = served.cause if sizing.capacity == served.sizing.capacity else sizing.told
    return with_served(state, name, replace(served, sizing=sizing, cause=cause))


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
            state = with_served(state, name, replace(served, pending=None))
    return state


def propose(state: State, now_us: int, params: Params) -> tuple[State, Effects]:
    """A proposal for each model whose effective plan is not the wanted one, unless one is under way."""
    effects: list[Publish] = []
    for name, served in sorted(state.models.items()):
        plan = wanted_plan(state, name, params)
        if plan is None or served.pending is not None or served.plan == to_json(plan):
            continue
        proposal = _proposal(served, plan, now_us)
        state = with_served(state, name, replace(served, pending=Pending(proposal.proposal_id, now_us)))
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
    versions = shares(served.split, served.active)
    most = min(served.max_batch_sizes[share.version] for share in versions)
    return Plan(
        model=name,
        versions=versions,
        max_batch_size=bounded_by(rules, name, "max_batch_size", most),
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
        shadow=_shadow(served, versions, out),
    )


def _shadow(served: Served, versions: tuple[VersionWeight, ...], out: Mapping[str, Rule]) -> Shadow | None:
    """What was asked for, as long as that version does not serve and may have the rows; a failed check is no bar."""
    wanted = served.shadow
    if wanted is None or not wanted.percent or any(share.version == wanted.version for share in versions):
        return None
    if not _may_stand_in(served, wanted.version, out):
        return None
    return Shadow(wanted.version, wanted.percent)


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
    for share in plan.versions[1:]:
        reason += f", {share.version} is a canary of {share.weight_percent} percent"
    if served.is_slow:
        reason += ", slow lane"
    if plan.fallbacks:
        reason += f", falls back to {', '.join(plan.fallbacks)}"
    if plan.hedge:
        reason += ", hedged"
    if plan.shadow is not None:
        reason += f", {plan.shadow.percent} % copied to {plan.shadow.version}"
    if plan.slo is not None:
        reason += f", SLO {plan.slo}"
    if plan.capacity is not None:
        taken = plan.capacity
        reason += f", takes {taken.replicas} executors ({taken.items_per_s} items/s, {taken.forecast_per_s} foreseen)"
    told = (served.cause, served.split.cause if len(plan.versions) > 1 else None)
    causes = tuple(dict.fromkeys(cause for cause in told if cause is not None))
    return PlanProposal(identity, plan, served.plan_version, reason, causes, now_us)


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
