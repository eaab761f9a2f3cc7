"""What the Planner knows of models, versions, plans and executors, and how it learns that. Pure.

From memory: registered versions, the active one and the canary, the effective plan, the policies, refusals of its
proposals. From context: rules. From heartbeats: which models are slow, how long batches take, who holds a canary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agents import canary_warmth
from agents.canary_warmth import Split
from agents.constraint import Rule, rule_of
from agents.sizing import Sizing, is_new_profile, profiled
from agents.unfit import Unfit
from schemas.canary import Canary
from schemas.coordinate import RecordCoordinate
from schemas.memory import MemoryEvent
from schemas.model import ModelVersion
from schemas.plan import Plan
from schemas.review import ContextSignal
from schemas.scaling import ScalingPolicy
from schemas.serving import ServingPolicy
from schemas.shadow import ShadowPolicy
from schemas.telemetry import Heartbeat, LoadedModel
from streams.canonical import digest, from_json, to_json
from streams.errors import PoisonRecordError
from streams.lane_class import POOL
from streams.memory_view import ActiveVersion, MemoryHead, Rejection

SLOW_US: Final = 5_000.0
FAST_US: Final = 3_000.0


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
    version takes, ``features``: the names of that. ``sizing``: what serving it takes. ``split``: its canary.
    ``shadow``: the version that is to run a share of its rows, too.
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
    split: Split = field(default_factory=Split)
    shadow: ShadowPolicy | None = None


@dataclass(frozen=True, slots=True)
class State:
    """``head``: the end of the accepted chain of memory. ``scaling``: the policy of the fast pool.

    ``unfit``: versions that failed a check.
    """

    head: MemoryHead = field(default_factory=MemoryHead)
    models: Mapping[str, Served] = field(default_factory=dict)
    rules: Mapping[str, Rule] = field(default_factory=dict)
    scaling: ScalingPolicy | None = None
    unfit: Unfit = field(default_factory=dict)


def learn(state: State, change: MemoryEvent, cause: RecordCoordinate) -> State:
    """Learn from an event of memory that follows the last one."""
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
            return with_served(state, model.model, served)
        if kind == "ScalingPolicySet":
            scaling = from_json(ScalingPolicy, body, newer=True)
            return replace(state, scaling=scaling) if scaling.pool == POOL else state
        if kind == "ServingPolicySet":
            policy = from_json(ServingPolicy, body, newer=True)
            served = state.models.get(policy.model, Served())
            return with_served(state, policy.model, replace(served, policy=policy, cause=cause))
        if kind == "ShadowSet":
            shadow = from_json(ShadowPolicy, body, newer=True)
            served = state.models.get(shadow.model, Served())
            return with_served(state, shadow.model, replace(served, shadow=shadow, cause=cause))
        if kind in ("VersionActivated", "VersionRolledBack"):
            active = from_json(ActiveVersion, body, newer=True)
            served = state.models.get(active.model, Served())
            return with_served(state, active.model, replace(served, active=active.version, cause=cause))
        if change.key.startswith("canary/"):
            canary = from_json(Canary, body, newer=True)
            served = state.models.get(canary.model, Served())
            split = canary_warmth.learnt(served.split, canary, cause)
            return with_served(state, canary.model, replace(served, split=split, cause=cause))
        if kind == "PlanMadeEffective":
            plan = from_json(Plan, body, newer=True)
            served = state.models.get(plan.model, Served())
            standing = replace(served, plan=to_json(plan), plan_version=change.version, pending=None, attempt=0)
            return with_served(state, plan.model, standing)
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
            return with_served(state, name, replace(served, pending=pending, attempt=served.attempt + 1))
    return state


def constrain(state: State, signal: ContextSignal, cause: RecordCoordinate) -> State:
    """Learn a rule; every model may be planned anew because of it."""
    try:
        rule = rule_of(signal)
    except PoisonRecordError:
        return state
    models = {name: replace(served, cause=cause) for name, served in state.models.items()}
    return replace(state, rules={**state.rules, rule.rule_id: rule}, models=models)


def hear(state: State, heartbeat: Heartbeat, cause: RecordCoordinate) -> State:
    """Learn from an executor which models are slow, and how long batches take."""
    for name, is_slow in moves(state, heartbeat):
        state = with_served(state, name, replace(state.models[name], is_slow=is_slow, cause=cause))
    for found in profiles(state, heartbeat):
        served = state.models[found.model]
        state = with_served(state, found.model, replace(served, sizing=profiled(served.sizing, found)))
    return state


def moves(state: State, heartbeat: Heartbeat) -> list[tuple[str, bool]]:
    """Models whose class a heartbeat changes, with the new one."""
    changed: list[tuple[str, bool]] = []
    for found in heartbeat.models:
        served = state.models.get(found.model)
        if served is None or found.version != served.active or served.active not in served.max_batch_sizes:
            continue
        full_us = found.fixed_us + found.per_item_us * served.max_batch_sizes[served.active]
        if full_us > SLOW_US if not served.is_slow else full_us < FAST_US:
            changed.append((found.model, not served.is_slow))
    return changed


def awaits(state: State, heartbeat: Heartbeat) -> list[str]:
    """Models of whose awaited canary a heartbeat says something new."""
    models = sorted(state.models.items())
    return [name for name, served in models if canary_warmth.tells(served.split, name, served.active, heartbeat)]


def warmed(state: State, now_us: int, first_slow: int, heartbeat: Heartbeat | None = None) -> State:
    """Learn, from an executor or from time alone, which canaries are held by those that serve their model.

    ``first_slow``: least number of an executor of the slow lanes; 0: executors have no classes.
    """
    for name, served in sorted(state.models.items()):
        split = served.split
        if heartbeat is not None:
            split = canary_warmth.heard(split, name, served.active, heartbeat, now_us)
        split = canary_warmth.settled(split, now_us, first_slow, is_slow=served.is_slow)
        if split is not served.split:
            state = with_served(state, name, replace(served, split=split))
    return state


def profiles(state: State, heartbeat: Heartbeat) -> list[LoadedModel]:
    """Versions of known models whose times are new."""
    return [
        found
        for found in heartbeat.models
        if found.version in (served := state.models.get(found.model, Served())).max_batch_sizes
        and is_new_profile(served.sizing, found)
    ]


def with_served(state: State, name: str, served: Served) -> State:
    """The state with another fact of a model."""
    return replace(state, models={**state.models, name: served})
