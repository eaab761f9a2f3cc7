"""Rules of the Orchestrator for the Scaler's vertical steps: larger batches (``vertical/<model>``), and variants.

A variant serves as a canary does (``agents.canary``), with nearly all rows: executors hold it before it gets any, its
own SLO, errors and breaker take it back. A smaller share is somebody else's trial, which stays as it is. Where
activations wait for an approval the Scaler, who signs nothing, may not give it any (``agents.authorship``).
"""

from __future__ import annotations

from agents import canary
from agents.verdict import Change, Refusal, State, Verdict
from schemas.canary import MOST_PERCENT, Canary
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from schemas.plan import SLOW, Plan
from schemas.scaling import BATCH, VARIANT, BatchBound, ScalingPolicy
from streams.canonical import from_json, to_json
from streams.lane_class import POOL, SLOW_POOL
from streams.memory_view import ActiveVersion


def bound_batches(state: State, command: MemoryCommand) -> Verdict:
    """Bound them within what the policy and the registered versions allow; 0 takes the bound back."""
    asked = from_json(BatchBound, command.body)
    if command.key != f"vertical/{asked.model}":
        return Refusal("invalid_body", f"The bound of {asked.model} stands under vertical/{asked.model}.")
    if asked.max_items == 0:
        return (Change("BatchesUnbound", command.key, None),) if command.key in state.values else ()
    standing = state.values.get(f"plan/{asked.model}")
    if standing is None:
        return Refusal("unknown_model", f"{asked.model} has no plan.")
    plan = from_json(Plan, standing.body, newer=True)
    if not _allows(state, plan, BATCH):
        return Refusal("below_policy", f"No scaling policy allows larger batches of {asked.model}.")
    limits = [
        from_json(ModelVersion, state.values[f"model/{asked.model}/{share.version}"].body, newer=True).max_batch_size
        for share in plan.versions
    ]
    most = min(plan.max_batch_size, *limits)
    if not 1 <= asked.max_items <= most:
        return Refusal("invalid_bound", f"A batch of {asked.model} has 1 to {most} items, not {asked.max_items}.")
    return (Change("BatchesBound", command.key, to_json(asked)),)


def set_canary(state: State, command: MemoryCommand) -> Verdict:
    """As anybody's canary; the Scaler's is a declared variant of the active version, where the policy wants that."""
    if command.agent == "scaler":
        wanted = from_json(Canary, command.body)
        standing, active = state.values.get(f"plan/{wanted.model}"), state.values.get(f"active/{wanted.model}")
        facts = state.values.get(f"model/{wanted.model}/{wanted.version}")
        if standing is None or active is None or facts is None:
            return Refusal("unknown_version", f"{wanted.model} has no version {wanted.version} that is planned by.")
        before = from_json(ActiveVersion, active.body, newer=True).version
        if from_json(ModelVersion, facts.body, newer=True).variant_of != before:
            return Refusal("no_variant", f"{wanted.model} {wanted.version} is not declared a variant of {before}.")
        plan = from_json(Plan, standing.body, newer=True)
        if wanted.weight_percent and not _allows(state, plan, VARIANT):
            return Refusal("below_policy", f"No scaling policy allows variants of {wanted.model}.")
        if wanted.weight_percent not in (0, MOST_PERCENT):
            return Refusal("invalid_weight", f"A variant serves {MOST_PERCENT} percent or none of {wanted.model}.")
        running = canary.standing(state, wanted.model)
        if running is not None and running.weight_percent != MOST_PERCENT:
            share = f"{running.version} is tried with {running.weight_percent} percent"
            return Refusal("canary_running", f"{share} of {wanted.model}; who tries it says what becomes of it.")
    return canary.set_canary(state, command)


def refused_variant(state: State, model: ModelVersion) -> Refusal | None:
    """A version is the variant of one that is registered, is none itself, and takes and gives the same."""
    if not model.variant_of:
        return None
    value = state.values.get(f"model/{model.model}/{model.variant_of}")
    if value is None:
        return Refusal("unknown_version", f"{model.model} has no version {model.variant_of} to be a variant of.")
    of = from_json(ModelVersion, value.body, newer=True)
    if of.variant_of:
        return Refusal("invalid_variant", f"{model.model} {of.version} is a variant itself, of {of.variant_of}.")
    if (model.inputs, model.outputs) != (of.inputs, of.outputs):
        return Refusal(
            "invalid_variant", f"{model.model} {model.version} does not take and give what {of.version} does."
        )
    return None


def _allows(state: State, plan: Plan, step: str) -> bool:
    """Whether the policy of the pool that serves a plan wants such steps."""
    pools = (SLOW_POOL if plan.lane == SLOW else POOL, POOL)  # without slow lanes slow models are the fast ones'
    bodies = [state.values[f"scaling/{pool}"].body for pool in pools if f"scaling/{pool}" in state.values]
    return bool(bodies) and step in from_json(ScalingPolicy, bodies[0], newer=True).vertical
