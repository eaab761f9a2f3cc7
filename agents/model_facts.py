"""What memory says of models, as far as checks are judged by it: a fold of ``memory.events``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agents.check_rules import Facts
from schemas.check import GoldenSet
from schemas.memory import MemoryEvent
from schemas.model import ModelVersion
from schemas.plan import Plan
from schemas.serving import ServingPolicy
from streams.canonical import from_json
from streams.errors import PoisonRecordError
from streams.memory_view import ActiveVersion

Models = Mapping[str, Facts]
"""By model, those that are registered."""


def fold_facts(models: Models, change: MemoryEvent) -> Models:
    """The facts after an event that follows the chain; the same object where it changes none.

    Raises nothing: a body that cannot be read is none of the Orchestrator's, and changes nothing.
    """
    try:
        return _fold(models, change)
    except PoisonRecordError:
        return models


def _fold(models: Models, change: MemoryEvent) -> Models:
    body = change.body or ""
    if change.kind == "ModelRegistered":
        version = from_json(ModelVersion, body, newer=True)
        facts = models.get(version.model, Facts())
        digests = {**facts.digests, version.version: version.digest}
        return {**models, version.model: replace(facts, digests=digests)}
    if change.kind in ("VersionActivated", "VersionRolledBack"):
        active = from_json(ActiveVersion, body, newer=True)
        return _with(models, active.model, active=active.version)
    if change.kind == "ServingPolicySet":
        policy = from_json(ServingPolicy, body, newer=True)
        return _with(models, policy.model, slo=policy.slo)
    if change.kind == "PlanMadeEffective":
        plan = from_json(Plan, body, newer=True)
        return _with(models, plan.model, timeout_ms=plan.timeout_ms)
    if change.kind == "GoldenSetSet":
        golden = from_json(GoldenSet, body, newer=True)
        return _with(models, golden.model, golden=golden)
    return models


def _with(models: Models, model: str, **changes: object) -> Models:
    return {**models, model: replace(models.get(model, Facts()), **changes)}  # type: ignore[arg-type]
