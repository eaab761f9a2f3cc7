"""Whether a scale action is one that the pool's policy allows: whoever wrote it, the supervisor carries out no other.

The Scaler never asks for anything else (``agents.scaler``), and the topic has no fence: what stands on it may be
anybody's. A pool without a policy is moved by whoever asks, within what the settings allow. Pure.
"""

from __future__ import annotations

from schemas.scaling import ScaleAction, ScalingPolicy


def outside(action: ScaleAction, policy: ScalingPolicy | None, most: int) -> str:
    """Why an action is not the policy's, as a sentence, or "" where it is. ``most``: what the settings allow."""
    if policy is None:
        return ""
    limits = policy.within(most)
    least, target = (0 if limits.min_replicas == 0 else limits.floor), action.target_replicas
    if least <= target <= limits.ceiling:
        return ""
    return f"The policy of {action.pool} is {least} to {limits.ceiling} replicas (`isos scaling show`), not {target}."
