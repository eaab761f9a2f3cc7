"""Rules of the Orchestrator for how models are served: the active version, the serving policy, breakers."""

from __future__ import annotations

from typing import Final

from agents.configuration import policy_changes
from agents.rollback import go_back, struck
from agents.verdict import Change, Refusal, State, Verdict
from schemas.known_good import Activation
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from schemas.serving import Breaker, ServingPolicy
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion

MAX_ATTEMPTS: Final = 5
MAX_FALLBACKS: Final = 4
MAX_OPEN_US: Final = 300_000_000


def activate_version(state: State, command: MemoryCommand) -> Verdict:
    """Let another registered version serve; one with a lower number is a roll-back by name.

    One that comes with its configuration is a roll-back to what proved itself (``agents.rollback.go_back``).
    """
    asked = from_json(Activation, command.body)
    wanted = ActiveVersion(asked.model, asked.version)
    if command.key != f"active/{wanted.model}":
        return _wrong_key(f"The active version of {wanted.model} stands under active/{wanted.model}", command)
    standing = state.values.get(command.key)
    if standing is None:
        return Refusal("unknown_model", f"No model {wanted.model} is registered.")
    if f"model/{wanted.model}/{wanted.version}" not in state.values:
        return Refusal("unknown_version", f"{wanted.model} has no version {wanted.version}.")
    before = from_json(ActiveVersion, standing.body, newer=True).version
    if asked.configuration is not None:
        return go_back(state, asked, before)
    if _rank(wanted.version) < _rank(before):
        return (Change("VersionRolledBack", command.key, to_json(wanted)), *struck(state, wanted.model, before))
    return (Change("VersionActivated", command.key, to_json(wanted)),)


def set_serving_policy(state: State, command: MemoryCommand) -> Verdict:
    """Set fallbacks, tries, hedging, SLO, and whether breakers open; without breakers the open ones are closed."""
    policy = from_json(ServingPolicy, command.body)
    if command.key != f"serving/{policy.model}":
        return _wrong_key(f"The serving policy of {policy.model} stands under serving/{policy.model}", command)
    active = state.values.get(f"active/{policy.model}")
    if active is None:
        return Refusal("unknown_model", f"No model {policy.model} is registered.")
    refusal = _refused_fallbacks(state, policy, from_json(ActiveVersion, active.body, newer=True).version)
    if refusal is not None:
        return refusal
    if not 1 <= policy.max_attempts <= MAX_ATTEMPTS:
        return Refusal("invalid_policy", f"A row is tried 1 to {MAX_ATTEMPTS} times, not {policy.max_attempts}.")
    if policy.slo is not None and policy.slo.problem:
        return Refusal("invalid_policy", f"{policy.slo.problem[0].upper()}{policy.slo.problem[1:]}.")
    return policy_changes(state, policy)


def _refused_fallbacks(state: State, policy: ServingPolicy, active: str) -> Refusal | None:
    if len(policy.fallbacks) > MAX_FALLBACKS or len(set(policy.fallbacks)) < len(policy.fallbacks):
        return Refusal("invalid_policy", f"A model has up to {MAX_FALLBACKS} fallbacks, each once.")
    inputs = _facts(state, policy.model, active)
    for version in policy.fallbacks:
        if f"model/{policy.model}/{version}" not in state.values:
            return Refusal("unknown_version", f"{policy.model} has no version {version}.")
        if _facts(state, policy.model, version).inputs != inputs.inputs:
            return Refusal("invalid_fallback", f"{policy.model} {version} does not take the inputs of {active}.")
    return None


def _facts(state: State, model: str, version: str) -> ModelVersion:
    return from_json(ModelVersion, state.values[f"model/{model}/{version}"].body, newer=True)


def open_breaker(state: State, command: MemoryCommand) -> Verdict:
    """Keep a version from rows."""
    breaker = from_json(Breaker, command.body)
    refusal = _refused_breaker(state, command, breaker, "open")
    if refusal is not None:
        return refusal
    policy = state.values.get(f"serving/{breaker.model}")
    if policy is not None and not from_json(ServingPolicy, policy.body, newer=True).breaker:
        return Refusal("breaker_off", f"The serving policy of {breaker.model} wants no breakers.")
    return (Change("BreakerOpened", command.key, to_json(breaker)),)


def half_open_breaker(state: State, command: MemoryCommand) -> Verdict:
    """Let a few rows go to a version whose breaker is open."""
    breaker = from_json(Breaker, command.body)
    refusal = _refused_breaker(state, command, breaker, "half_open")
    if refusal is not None:
        return refusal
    if command.key not in state.values:
        return Refusal("not_open", f"The breaker of {breaker.model} {breaker.version} is closed.")
    return (Change("BreakerHalfOpened", command.key, to_json(breaker)),)


def close_breaker(state: State, command: MemoryCommand) -> Verdict:
    """Let all rows go to a version again; the body is not read."""
    if not command.key.startswith("breaker/"):
        return _wrong_key("Breakers stand under breaker/<model>/<version>", command)
    return (Change("BreakerClosed", command.key, None),) if command.key in state.values else ()


def _refused_breaker(state: State, command: MemoryCommand, breaker: Breaker, wanted: str) -> Refusal | None:
    name = f"{breaker.model} {breaker.version}"
    if command.key != f"breaker/{breaker.model}/{breaker.version}":
        return _wrong_key(f"The breaker of {name} stands under breaker/{breaker.model}/{breaker.version}", command)
    if f"model/{breaker.model}/{breaker.version}" not in state.values:
        return Refusal("unknown_version", f"{breaker.model} has no version {breaker.version}.")
    if breaker.state != wanted or not 0 < breaker.open_us <= MAX_OPEN_US:
        return Refusal(
            "invalid_breaker", f"{command.kind} of {name} gives the state {breaker.state} for the wrong time."
        )
    return None


def _wrong_key(sentence: str, command: MemoryCommand) -> Refusal:
    return Refusal("invalid_body", f"{sentence}, not under {command.key}.")


def _rank(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removeprefix("v").split("."))
