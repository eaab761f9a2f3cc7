"""Whether the answers of models are cached: read from memory, changed by commands to the Orchestrator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infra.memory_command import command_of
from infra.memory_control import MemoryControl, require_model
from schemas.cache import CachePolicy
from schemas.memory import MemoryCommand
from streams.canonical import to_json
from streams.memory_view import MemoryView, cache_policy, models

KIND: Final = "SetCachePolicy"
DEFAULT_TTL_S: Final = 3_600

Change = Callable[[CachePolicy], CachePolicy]
"""From the policy that stands (a disabled one of epoch 0 where none does) to the one that is wanted."""


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A registered model, the policy of its cache, and which of its versions draw lots and so are never cached."""

    model: str
    policy: CachePolicy
    not_deterministic: tuple[str, ...]


def cached_model_list(view: MemoryView) -> tuple[CachedModel, ...]:
    """Every registered model, by name."""
    found = []
    for model, versions in sorted(models(view).items()):
        lots = tuple(facts.version for facts in versions if not facts.deterministic)
        found.append(CachedModel(model, standing(view, model), lots))
    return tuple(found)


def standing(view: MemoryView, model: str) -> CachePolicy:
    """The policy in memory, or a disabled one of epoch 0."""
    return cache_policy(view, model) or CachePolicy(model, False, 0, DEFAULT_TTL_S)


def command_for(wanted: CachePolicy, view: MemoryView, now_us: int) -> MemoryCommand:
    """The proposal, for the version that stands in ``view``; see ``command_of``."""
    what = "are cached" if wanted.enabled else "are not cached"
    reason = f"answers of {wanted.model} {what}, {wanted.ttl_s} s, epoch {wanted.epoch}"
    return command_of(KIND, f"cache/{wanted.model}", to_json(wanted), reason, view, now_us)


class CacheControl(MemoryControl):
    """An open connection to memory, by which caching is changed. Use ``async with``."""

    async def change(self, model: str, change: Change) -> CachePolicy:
        """Have a model's policy changed and wait until it stands in memory; what stands already is a success.

        Raises ChangeRefusedError, and WatchTimeoutError when nobody answers in time.
        """
        require_model(self.view, model)
        wanted = change(standing(self.view, model))
        if wanted != cache_policy(self.view, model):
            command = command_for(wanted, self.view, time.time_ns() // 1000)
            remedy = "`isos cache list` shows what stands; the command may be repeated."
            await self.propose(command, lambda view: cache_policy(view, model) == wanted, remedy)
        return wanted
