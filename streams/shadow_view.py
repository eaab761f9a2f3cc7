"""Shadows as memory has them: what people asked for, and what plans say of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from schemas.shadow import Shadow, ShadowPolicy
from streams.canonical import from_json
from streams.memory_view import MemoryView, derived, models, ordered_models, plan

KEY: Final = "shadow/"


def shadow_policy(view: MemoryView, model: str) -> ShadowPolicy | None:
    """What was asked for of a model, or None; it holds only as far as the plan says so."""
    entry = view.entries.get(KEY + model)
    if entry is None:
        return None
    body = entry.body
    policy = derived(view, (KEY, model), lambda: from_json(ShadowPolicy, body, newer=True))
    return policy if policy.percent else None


def shadows(view: MemoryView) -> Mapping[str, Shadow]:
    """What shadows each model by its plan; of most models nothing does. Ordered models have no shadow."""
    return derived(view, ("shadows",), lambda: _shadows(view))


def planned_since(view: MemoryView, model: str) -> int:
    """The sequence of memory with which a model's plan became effective."""
    return view.entries[f"plan/{model}"].sequence


def _shadows(view: MemoryView) -> Mapping[str, Shadow]:
    found: dict[str, Shadow] = {}
    for name in models(view):
        effective = plan(view, name)
        if effective is not None and effective.shadow is not None and name not in ordered_models(view):
            found[name] = effective.shadow
    return MappingProxyType(found)
