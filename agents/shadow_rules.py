"""Rules of the Orchestrator for shadows: who may shadow a model, and what a plan may say of it."""

from __future__ import annotations

from agents.verdict import Change, Refusal, State, Verdict
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from schemas.plan import Plan
from schemas.shadow import ShadowPolicy
from streams.canonical import from_json, to_json
from streams.memory_view import ActiveVersion


def set_shadow(state: State, command: MemoryCommand) -> Verdict:
    """Have another version run a share of a model's rows too, or with 0 percent none any more."""
    wanted = from_json(ShadowPolicy, command.body)
    model, version = wanted.model, wanted.version
    if command.key != f"shadow/{model}":
        return Refusal("invalid_body", f"The shadow of {model} stands under shadow/{model}, not under {command.key}.")
    active = state.values.get(f"active/{model}")
    if active is None:
        return Refusal("unknown_model", f"No model {model} is registered.")
    if wanted.percent == 0:
        return (Change("ShadowSet", command.key, to_json(wanted)),) if command.key in state.values else ()
    if not 1 <= wanted.percent <= 100:
        return Refusal("invalid_shadow", f"A shadow gets 1 to 100 percent of the rows, not {wanted.percent}.")
    facts = state.values.get(f"model/{model}/{version}")
    if facts is None:
        return Refusal("unknown_version", f"{model} has no version {version}.")
    serving = from_json(ActiveVersion, active.body, newer=True).version
    if version == serving:
        return Refusal("invalid_shadow", f"{model} is served by {version}, which cannot shadow itself.")
    mine = from_json(ModelVersion, facts.body, newer=True)
    served = from_json(ModelVersion, state.values[f"model/{model}/{serving}"].body, newer=True)
    if mine.inputs != served.inputs:
        return Refusal("invalid_shadow", f"{model} {version} does not take the inputs of {serving}.")
    if mine.ordered or served.ordered:
        return Refusal("invalid_shadow", f"{model} keeps the order of its keys, and such models have no shadow.")
    return (Change("ShadowSet", command.key, to_json(wanted)),)


def refused_shadow(state: State, plan: Plan) -> Refusal | None:
    """Why a plan may not have its shadow, or None."""
    shadow = plan.shadow
    if shadow is None:
        return None
    if f"model/{plan.model}/{shadow.version}" not in state.values:
        return Refusal("unknown_version", f"{plan.model} has no version {shadow.version}.")
    if not 1 <= shadow.percent <= 100 or any(share.version == shadow.version for share in plan.versions):
        return Refusal("invalid_plan", f"{plan.model} cannot have {shadow.percent} % copied to {shadow.version}.")
    return None
