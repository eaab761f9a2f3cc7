"""What rules in memory keep out at the door: tenants, regions, and versions that take a banned input. Pure.

The Researcher publishes the rules (``agents.constraint``), the edge asks for each request before its tensors are looked
at. A rule counts from the moment in which it stands in memory; rows that were admitted before it go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from agents.constraint import Rule, banned, rules_in
from schemas.model import ModelVersion
from streams.memory_view import MemoryView, derived

CODE: Final = "not_allowed"


class _Bans(NamedTuple):
    """What is banned of a model, each name with its rule."""

    tenants: Mapping[str, Rule]
    regions: Mapping[str, Rule]
    features: Mapping[str, Rule]


def barred(tenant: str, target: ModelVersion, memory: MemoryView, region: str = "") -> str:
    """Why a request of ``tenant`` for ``target`` is refused, as a sentence without a full stop, or an empty string."""
    bans = _bans(memory, target.model)
    if bans is None:
        return ""
    if rule := bans.tenants.get(tenant):
        return f"model {target.model} is not allowed for tenant {tenant} ({rule.source}, rule {rule.rule_id})"
    if rule := bans.regions.get(region):
        return f"model {target.model} is not allowed in region {region} ({rule.source}, rule {rule.rule_id})"
    for spec in target.inputs:
        if rule := bans.features.get(spec.name):
            what = f"{target.model} {target.version} takes the input {spec.name}"
            return f"{what}, which may not be used ({rule.source}, rule {rule.rule_id})"
    return ""


def _bans(memory: MemoryView, model: str) -> _Bans | None:
    """What is banned of a model; None for nothing, as nearly always."""
    return derived(memory, ("bans", model), lambda: _found(rules_in(memory), model))


def _found(rules: tuple[Rule, ...], model: str) -> _Bans | None:
    bans = _Bans(
        banned(rules, model, "not_allowed_tenant"),
        banned(rules, model, "not_allowed_region"),
        banned(rules, model, "features_not_used"),
    )
    return bans if any(bans) else None
