"""Rule of the Orchestrator for ``scaling/<pool>``: within what the Scaler moves a pool."""

from __future__ import annotations

from agents.verdict import Change, Refusal, State, Verdict
from schemas.memory import MemoryCommand
from schemas.scaling import ScalingPolicy
from streams.canonical import from_json, to_json
from streams.lane_class import POOLS


def set_scaling_policy(state: State, command: MemoryCommand) -> Verdict:
    """Set the policy of a pool of executors; what is wrong with it is said."""
    del state
    policy = from_json(ScalingPolicy, command.body)
    if policy.pool not in POOLS:
        return Refusal("unknown_pool", f"The pools that are scaled are {' and '.join(POOLS)}, not {policy.pool}.")
    if command.key != f"scaling/{policy.pool}":
        return Refusal(
            "invalid_body", f"The policy of {policy.pool} stands under scaling/{policy.pool}, not {command.key}."
        )
    if policy.problem:
        return Refusal("invalid_policy", f"{policy.problem[0].upper()}{policy.problem[1:]}.")
    return (Change("ScalingPolicySet", command.key, to_json(policy)),)
