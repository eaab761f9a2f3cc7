"""Versions that no plan names yet and that executors hold all the same, for they may be needed at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from streams.memory_view import MemoryView, canary, known_good


def stand_by(memory: MemoryView, model: str, serving: Sequence[str]) -> tuple[str, ...]:
    """A model's canary, which gets rows only where it is held, and the last known good version.

    That one while none of those ``serving`` proved itself: a roll-back goes to it.
    """
    found = canary(memory, model)
    tried = () if found is None else (found.version,)
    good = known_good(memory, model)
    if good is None or any(good.has(version) for version in serving):
        return tried
    return (*tried, *(each.version for each in good.versions[:1]))
