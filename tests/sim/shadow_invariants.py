"""Shadows in simulated worlds: copies are those that the plan wants, and nothing of them reaches who asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np

from agents.shadow import COHORT, is_chosen
from schemas.frame import InferenceFrame
from schemas.result import InferenceResult
from schemas.shadow import EQUAL, ShadowComparison, ShadowPolicy
from streams.columns import OK, SHADOW, request_ids, routing_keys, segment_starts
from streams.memory_view import MemoryView, ordered_models, plan
from tests.sim.breaker_invariants import ask
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.clients import Client

SHADOWED: Final = "a shadow's copies are its share of the rows, and no result, retry or count of anybody's"
CANDIDATES: Final = ("v1.1.0", "v1.1.0", "v1.2.0", "v1.0.0")


def shade(world: World, name: str) -> str:
    """Another version shadows a model, with another share, or none does."""
    percent = world.rng.choice((0, 20, 60, 60, 100))
    policy = ShadowPolicy(name, world.rng.choice(CANDIDATES), percent)
    return ask(world, "cli", "SetShadow", f"shadow/{name}", policy)


class ShadowInvariants:
    """Judges frames, results and comparisons; ``views``: memory after each event."""

    def __init__(self, world: World, views: list[MemoryView], client: Client, violated: Callable[..., None]) -> None:
        self.world = world
        self.views = views
        self.client = client
        self.violated = violated

    def frame(self, topic: str, frame: InferenceFrame) -> None:
        """A frame of copies was appended."""
        if topic not in ("inference.routed", "inference.executed") or set(frame.roles) != {SHADOW} or frame.attempt:
            self.violated(SHADOWED, f"{topic} has copies for a shadow among rows, or tried again")
        self.world.count(f"shadows {topic.rpartition('.')[2]}", len(frame.roles))
        if topic == "inference.routed":
            self.routed(frame)

    def routed(self, frame: InferenceFrame) -> None:
        view = self.views[frame.memory_sequence]
        keys = [key or request_id for key, request_id in zip(routing_keys(frame), request_ids(frame), strict=True)]
        for first, segment in zip(segment_starts(frame), frame.segments, strict=False):
            effective = plan(view, segment.model)
            shadow = None if effective is None else effective.shadow
            if shadow is None or shadow.version != segment.version or segment.model in ordered_models(view):
                self.violated(SHADOWED, f"{segment.model} was copied to {segment.version}, which no plan says")
            elif not all(
                is_chosen(segment.model, key, shadow.percent) for key in keys[first : first + segment.num_rows]
            ):
                self.violated(SHADOWED, f"a row of {segment.model} was copied that belongs to no share")

    def result(self, result: InferenceResult, name: str) -> None:
        """A result was written."""
        if result.provenance.cohort == COHORT:
            self.violated(SHADOWED, f"request {name} was answered by a copy", name)

    def compared(self, said: ShadowComparison) -> None:
        """The Validator compared copies with their rows; all simulated versions compute the same."""
        offsets = np.frombuffer(said.offsets, "<i8").tolist()
        self.world.count("shadows compared", sum(1 for status in said.primary_statuses if status))
        columns = (offsets, said.statuses, said.primary_statuses, said.agreements)
        for offset, status, primary, agreement in zip(*columns, strict=True):
            name = f"{said.partition}@{offset}"
            if (said.partition, offset) not in self.client.expected:
                self.violated(SHADOWED, f"there is no request {name}, but a copy of it", name)
            if status == primary == OK and agreement != EQUAL:
                self.violated(SHADOWED, f"the copy of {name} is taken for another one's", name)
