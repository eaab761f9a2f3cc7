"""What the planted bugs need besides a switch."""

from __future__ import annotations

from types import MappingProxyType

from schemas.memory import MemoryEntry
from schemas.plan import Plan, VersionWeight
from streams.canonical import to_json
from streams.memory_view import MemoryView, active_version, models, plan


def guessing_view(view: MemoryView) -> MemoryView:
    """Memory as a Router sees it that cannot wait: a model without an effective plan is given one."""
    entries = dict(view.entries)
    for model in models(view):
        version = active_version(view, model)
        if version is not None and plan(view, model) is None:
            guess = Plan(model, (VersionWeight(version, 100),), 8, 30_000)
            entries[f"plan/{model}"] = MemoryEntry(f"plan/{model}", 1, view.sequence, to_json(guess), view.time_us)
    return MemoryView(view.sequence, view.last_hash, view.time_us, MappingProxyType(entries))
