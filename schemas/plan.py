"""How a model is served: the Planner's proposal and, once the Orchestrator made it effective, the value in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.coordinate import RecordCoordinate
from schemas.serving import Slo
from schemas.shadow import Shadow

HASHED: Final = -1
"""Lane of a plan: by a hash of the model's name, among the fast lanes."""
SLOW: Final = -2
"""Lane of a plan: by a hash of the model's name, among the lanes for slow models."""


@dataclass(frozen=True, slots=True)
class VersionWeight:
    """Share of a model's rows that a version serves, in percent (0-100)."""

    version: str
    weight_percent: int


@dataclass(frozen=True, slots=True)
class Capacity:
    """What serving a model takes, as reckoned when its replicas last changed for long enough.

    ``replicas``: executors that its work fills to the target utilization. ``device``: the execution provider that
    serves it. ``memory_bytes``: its versions' files, in every executor. ``items_per_s`` and ``forecast_per_s``: batch
    items as observed and as foreseen. ``cost_milli``: per hour, thousandths of a unit of money; 0 where none is set.
    """

    replicas: int
    device: str
    memory_bytes: int
    items_per_s: float
    forecast_per_s: float
    cost_milli: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of one model: weights sum to 100; ``max_batch_size`` in items; ``timeout_ms``: the default budget.

    ``lane``: a lane of ``inference.routed`` from 0 on, ``HASHED`` or ``SLOW``. ``fallbacks``: versions that serve where
    the planned one cannot, first choice first. ``max_attempts``: tries of a row over the whole path, 1 = no second one.
    ``hedge``: a row that takes long is also given to another lane, and the first answer counts. ``slo``: what the
    model promises. ``capacity``: what serving it takes; None while one executor does, or nobody knows yet. ``shadow``:
    a version that also runs a share of the rows, whose outcome is compared and answered to nobody.
    """

    model: str
    versions: tuple[VersionWeight, ...]
    max_batch_size: int
    timeout_ms: int
    lane: int = HASHED
    fallbacks: tuple[str, ...] = ()
    max_attempts: int = 2
    hedge: bool = False
    slo: Slo | None = None
    capacity: Capacity | None = None
    shadow: Shadow | None = None


@dataclass(frozen=True, slots=True)
class PlanProposal:
    """What the Planner hands over: the plan, the memory version it expects to replace, its reason and causes."""

    proposal_id: str
    plan: Plan
    expected_version: int
    reason: str
    causes: tuple[RecordCoordinate, ...]
    proposed_us: int
