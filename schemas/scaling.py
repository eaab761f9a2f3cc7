"""Scaling handoffs between Scaler, supervisors and Monitor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScaleAction:
    """The Scaler's decision for a pool: ``decision`` is hold, scale_up or scale_down, always with its reason."""

    action_id: str
    pool: str
    decision: str
    current_replicas: int
    target_replicas: int
    reason: str
    time_us: int


@dataclass(frozen=True, slots=True)
class ScaleConfirmation:
    """What a supervisor did about a ``ScaleAction``."""

    action_id: str
    pool: str
    replicas: int
    outcome: str
    time_us: int
