"""Rule of the Orchestrator for ``vertical/<model>``: how large a model's batches may be, as the Scaler proposes."""

from __future__ import annotations

from agents.verdict import Change, Refusal, State, Verdict
from schemas.memory import MemoryCommand
from schemas.model import ModelVersion
from schemas.plan import SLOW, Plan
from schemas.scaling import BATCH, BatchBound, ScalingPolicy
from streams.canonical import from_json, to_json
from streams.lane_class import POOL, SLOW_POOL


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
    policies = [
        from_json(ScalingPolicy, state.values[key].body, newer=True)
        for key in (f"scaling/{SLOW_POOL if plan.lane == SLOW else POOL}", f"scaling/{POOL}")
        if key in state.values
    ]
    if not policies or BATCH not in policies[0].vertical:
        return Refusal("below_policy", f"No scaling policy allows larger batches of {asked.model}.")
    limits = [
        from_json(ModelVersion, state.values[f"model/{asked.model}/{share.version}"].body, newer=True).max_batch_size
        for share in plan.versions
    ]
    most = min(plan.max_batch_size, *limits)
    if not 1 <= asked.max_items <= most:
        return Refusal("invalid_bound", f"A batch of {asked.model} has 1 to {most} items, not {asked.max_items}.")
    return (Change("BatchesBound", command.key, to_json(asked)),)
