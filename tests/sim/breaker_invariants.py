"""Breakers in simulated worlds: somebody opens and closes them at random, and no row may go where it must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from agents.breaker import alternatives, is_probe
from schemas.frame import InferenceFrame
from schemas.memory import MemoryCommand
from schemas.serving import Breaker, ServingPolicy
from streams.canonical import to_json
from streams.columns import HEDGE, request_ids, segment_starts
from streams.memory_view import ActiveVersion, MemoryView, breakers, plan
from tests.sim.world import World

KEPT: Final = "a version whose breaker is not closed is kept from rows, and only they end for it"
VERSIONS: Final = ("v1.0.0", "v1.0.0", "v1.1.0", "v1.2.0")


def stir(world: World, name: str) -> str:
    """Move a breaker of a model, give it other fallbacks, or have another version serve it."""
    rng = world.rng
    version, chance = rng.choice(VERSIONS), rng.random()
    if chance < 0.2:
        policy = ServingPolicy(name, tuple(dict.fromkeys(rng.choices(VERSIONS, k=rng.randint(0, 2)))))
        return ask(world, "cli", "SetServingPolicy", f"serving/{name}", policy)
    if chance < 0.3:
        return ask(world, "cli", "ActivateVersion", f"active/{name}", ActiveVersion(name, version))
    kind, state = rng.choice((("OpenBreaker", "open"), ("HalfOpenBreaker", "half_open"), ("CloseBreaker", "open")))
    breaker = Breaker(name, version, state, "by chance", world.now_us, 15_000_000)  # type: ignore[arg-type]
    return ask(world, "monitor", kind, f"breaker/{name}/{version}", breaker)


def ask(world: World, agent: str, kind: str, key: str, body: Any) -> str:
    """Send a command to memory, whatever version its key has."""
    text = "" if kind == "CloseBreaker" else to_json(body)
    command = MemoryCommand(f"{key}/{world.number()}", agent, kind, key, -1, text, "", (), world.now_us)
    world.append("memory.commands", 0, key.encode(), world.codec.encode("memory.commands", command))
    return f"asks for {kind} of {key}"


class BreakerInvariants:
    """Judges frames of the Router by memory at the sequence that they name; ``views``: memory after each event."""

    def __init__(self, world: World, views: list[MemoryView], violated: Callable[..., None]) -> None:
        self.world = world
        self.views = views
        self.violated = violated

    def frame(self, topic: str, frame: InferenceFrame) -> None:
        """A frame of the data plane was appended."""
        if HEDGE in frame.roles:  # a copy goes where its row went before
            return
        if topic == "inference.routed":
            self.routed(frame)
        elif topic == "inference.executed":
            self.ended(frame)

    def routed(self, frame: InferenceFrame) -> None:
        ids, view = request_ids(frame), self.views[frame.memory_sequence]
        for first, segment in zip(segment_starts(frame), frame.segments, strict=False):
            found = breakers(view, segment.model).get(segment.version)
            if found is None or frame.statuses[first]:
                continue
            rows = ids[first : first + segment.num_rows]
            self.world.count("probes", len(rows))
            if found.state == "open" or not all(is_probe(each) for each in rows):
                what = f"{segment.model} {segment.version} was given rows, and its breaker is {found.state}"
                self.violated(KEPT, f"{what} at sequence {view.sequence}")

    def ended(self, frame: InferenceFrame) -> None:
        refused = {error.row for error in frame.errors if error.code == "circuit_open"}
        if not refused:
            return
        view = self.views[frame.memory_sequence]
        for first, segment in zip(segment_starts(frame), frame.segments, strict=False):
            mine = refused & set(range(first, first + segment.num_rows))
            self.world.count("refused by breakers", len(mine))
            effective, found = plan(view, segment.model), breakers(view, segment.model)
            pinned = segment.version
            able = () if effective is None else (pinned,) if pinned else tuple(alternatives(effective, ""))
            if mine and (effective is None or any(version not in found for version in able)):
                self.violated(KEPT, f"{segment.model} {pinned} was refused rows that {able} might have taken")
