"""Worlds with an ordered model: which one it is, what its clients send, and the rule that its results keep."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from schemas.frame import InferenceFrame
from streams.columns import routing_keys
from streams.key_order import lane_of_key
from tests.sim.profile import Profile
from tests.sim.world import LANES

ORDERED: Final = "OK results of a key stand in the order of its requests"
KEYS: Final = ("k", "k", "key", None)
"""Of which one belongs to another lane than its model."""
VERSION: Final = "v1.0.0"

Line = tuple[str, str]
"""Model and routing key of a request that has an order."""


def ordered_model(profile: Profile, names: tuple[str, ...]) -> str:
    """The ordered model of a world, or an empty string; another one than that whose answers are cached."""
    if not profile.ordered:
        return ""
    return names[1] if profile.cached else names[0]


def asked(rng: random.Random, model: str, registered: list[str]) -> tuple[str | None, str | None]:
    """Routing key and version of a request to ``model``, which is ordered: some name the first version."""
    return rng.choice(KEYS), VERSION if model in registered and rng.random() < 0.2 else None


class OrderInvariants:
    """Follows the results of requests that have an order."""

    def __init__(self, lines: dict[tuple[int, int], Line], violated: Callable[..., None]) -> None:
        self._lines = lines
        self._violated = violated
        self._last: dict[tuple[int, Line], int] = {}
        self.num_checked = 0

    def ended_well(self, partition: int, offset: int) -> None:
        """A request was served."""
        line = self._lines.get((partition, offset))
        if line is None:
            return
        self.num_checked += 1
        last = self._last.get((partition, line), -1)
        if offset < last:
            names = f"{partition}@{offset}", f"{partition}@{last}"
            self._violated(ORDERED, f"request {names[0]} of key {line[1]} was served behind {names[1]}", *names)
        self._last[partition, line] = max(last, offset)

    def routed(self, frame: InferenceFrame, model: str, row: int, lane: int, *, is_models: bool) -> None:
        """A row of an ordered model was routed: its lane is that of its key, or without one one of the model's."""
        key = routing_keys(frame)[row]
        if lane != lane_of_key(model, key, LANES, 0) if key else not is_models:
            self._violated(ORDERED, f"a row of key {key!r} of {model} went to lane {lane}, which is not its own")
