"""Rules of the Orchestrator for models: registering a version, making a plan effective, caching answers."""

from __future__ import annotations

import re
from typing import Final

from agents.authorship import environment_of
from agents.canary import may_serve, refused_plan, settled
from agents.shadow_rules import refused_shadow
from agents.verdict import Change, Refusal, State, Verdict, keys_below
from agents.vertical_rules import refused_variant
from schemas.cache import CachePolicy
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from schemas.plan import Plan
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion

MAX_CACHE_TTL_S: Final = 604_800
MODEL_NAME: Final = re.compile(r"[a-zA-Z0-9_\-]{3,64}")
VERSION: Final = re.compile(r"v[0-9]+\.[0-9]+\.[0-9]+")
DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def register_model(state: State, command: MemoryCommand) -> Verdict:
    """Note a version that was checked and stored; the first one of a model is active at once."""
    model = from_json(ModelVersion, command.body)
    if not MODEL_NAME.fullmatch(model.model) or not VERSION.fullmatch(model.version):
        return Refusal("invalid_name", f"{model.model} {model.version} is not a valid model name and version.")
    if not DIGEST.fullmatch(model.digest) or command.key != f"model/{model.model}/{model.version}":
        return Refusal("invalid_body", f"Digest or key of {model.model} {model.version} does not fit.")
    if command.key in state.values:
        return Refusal("already_registered", f"{model.model} {model.version} is registered with another content.")
    refusal = refused_variant(state, model)
    if refusal is not None:
        return refusal
    changes = (Change("ModelRegistered", command.key, to_json(model)),)
    active = f"active/{model.model}"
    if active in state.values:
        return changes
    return (*changes, Change("VersionActivated", active, to_json(ActiveVersion(model.model, model.version))))


def propose_plan(state: State, command: MemoryCommand) -> Verdict:
    """Make a plan effective that names registered versions and shares that are 100 percent in all."""
    plan = from_json(Plan, command.body)
    if command.key != f"plan/{plan.model}":
        return Refusal("invalid_body", f"The key of a plan for {plan.model} is plan/{plan.model}, not {command.key}.")
    if f"active/{plan.model}" not in state.values:
        return Refusal("unknown_model", f"No model {plan.model} is registered.")
    for share in plan.versions:
        if f"model/{plan.model}/{share.version}" not in state.values:
            return Refusal("unknown_version", f"{plan.model} has no version {share.version}.")
    weights = [share.weight_percent for share in plan.versions]
    if sum(weights) != 100 or min(weights) < 0 or len({share.version for share in plan.versions}) != len(weights):
        return Refusal("invalid_weights", f"The weights {weights} of {plan.model} are not 100 percent in all.")
    active = from_json(ActiveVersion, state.values[f"active/{plan.model}"].body, newer=True).version
    refusal = refused_plan(state, plan, active) or _refused_shares(state, plan, active) or refused_shadow(state, plan)
    if refusal is not None:
        return refusal
    for version in plan.fallbacks:
        if f"model/{plan.model}/{version}" not in state.values:
            return Refusal("unknown_version", f"{plan.model} has no version {version}.")
    if plan.max_batch_size < 1 or plan.timeout_ms < 1 or plan.max_attempts < 1:
        return Refusal("invalid_plan", f"Batch size, time-out and tries of {plan.model} must be positive.")
    return (Change("PlanMadeEffective", command.key, to_json(plan)), *settled(state, plan))


def _refused_shares(state: State, plan: Plan, active: str) -> Refusal | None:
    """Where activations wait for an approval, no plan goes around it; a canary has its own."""
    environment = environment_of(state)
    if environment is None or "ActivateVersion" not in environment.gated:
        return None
    if environment.is_sandbox and environment.development_policy:
        return None
    shares = [each for each in plan.versions if each.weight_percent and not may_serve(state, plan.model, each)]
    others = [share.version for share in shares if share.version != active]
    return Refusal("not_active", f"{plan.model} {others[0]} is not active in {environment.name}.") if others else None


def set_cache_policy(state: State, command: MemoryCommand) -> Verdict:
    """Cache the answers of deterministic versions, or no more; an epoch never comes again."""
    policy = from_json(CachePolicy, command.body)
    if command.key != f"cache/{policy.model}":
        return Refusal("invalid_body", f"The key of {policy.model}'s cache is cache/{policy.model}, not {command.key}.")
    versions = [
        from_json(ModelVersion, state.values[key].body, newer=True)
        for key in keys_below(state, f"model/{policy.model}/")
    ]
    if not versions:
        return Refusal("unknown_model", f"No model {policy.model} is registered.")
    if policy.enabled and not any(version.deterministic for version in versions):
        return Refusal("not_deterministic", f"No version of {policy.model} is deterministic by its manifest.")
    standing = state.values.get(command.key)
    epoch = 0 if standing is None else from_json(CachePolicy, standing.body, newer=True).epoch
    if policy.epoch < epoch:
        return Refusal("stale_epoch", f"The cache of {policy.model} has epoch {epoch}, and no epoch comes again.")
    if not 1 <= policy.ttl_s <= MAX_CACHE_TTL_S:
        return Refusal("invalid_policy", f"Answers are cached for 1 to {MAX_CACHE_TTL_S} seconds.")
    return (Change("CachePolicySet", command.key, to_json(policy)),)
