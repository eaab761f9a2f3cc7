"""What must hold of cached answers: each was routed in the epoch of its model's policy in which it is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streams.cache.lookup import LookedUp
from streams.memory_view import MemoryView, cache_policy, cached_models
from tests.sim.world import World

CACHED = "a cached answer is of its epoch"


class CacheInvariants:
    """``views``: memory after each event; ``begins``: the memory by which an epoch of a model began."""

    def __init__(self, world: World, views: Sequence[MemoryView], violated: Callable[..., None]) -> None:
        self.world = world
        self.views = views
        self.violated = violated
        self.begins: dict[tuple[str, int], int] = {}
        self.num_seen = 0

    def found(self, view: MemoryView, looked_up: LookedUp) -> None:
        """A Router that asked by the memory of ``view`` was answered so."""
        self.look()
        for asked, entries in zip(looked_up.lookup.asked, looked_up.entries, strict=True):
            policy = cache_policy(view, asked.model)
            if policy is None or not policy.enabled:
                self.violated(CACHED, f"{asked.model} is not cached at {view.sequence}, and was looked up")
                continue
            begin = self.begins[asked.model, policy.epoch]
            for entry in entries:
                self.world.count("cached answers", entry is not None)
                if entry is not None and entry.memory_sequence < begin:
                    self.violated(
                        CACHED,
                        f"an answer of {asked.model} was routed by {entry.memory_sequence}, and used in epoch "
                        f"{policy.epoch}, which began at {begin}",
                    )

    def look(self) -> None:
        """Note where epochs begin."""
        for view in self.views[self.num_seen :]:
            for model in cached_models(view):
                policy = cache_policy(view, model)
                if policy is not None:
                    self.begins.setdefault((model, policy.epoch), view.sequence)
        self.num_seen = len(self.views)
