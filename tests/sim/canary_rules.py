"""Canaries in simulated worlds: somebody gives versions shares at random, and rows go by what memory says of them.

Judged by memory's events alone, in their order (``CanaryRules``), and by the Router's frames (``CanaryInvariants``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from agents.retry import PINNED
from schemas.canary import Canary
from schemas.frame import InferenceFrame
from schemas.memory import MemoryEvent
from schemas.plan import Plan
from schemas.telemetry import Heartbeat, LoadedModel
from streams.canonical import from_json
from streams.columns import HEDGE, request_ids, routing_keys, segment_starts
from streams.memory_view import ActiveVersion, MemoryView, all_breakers, canary, models, plan
from tests.sim.breaker_invariants import ask
from tests.sim.world import World

SPLIT: Final = "a plan splits rows between the active version and its canary, by the share that memory says"
OVER: Final = "a canary is over as soon as another version is active"
GIVEN: Final = "a version gets rows where the plan gives it some, and none any more where it does not"
STICKY: Final = "a larger share adds keys to a canary, and takes none"
SHARES: Final = (0, 1, 5, 20, 20, 50, 50, 99)
VERSIONS: Final = ("v1.0.0", "v1.1.0", "v1.1.0", "v1.2.0", "v1.3.0")
EXECUTORS: Final = (0, 1)


def some_share(world: World, view: MemoryView, name: str) -> Canary:
    """A share of a version of a model, mostly of its canary, else of one that may not be registered."""
    rng = world.rng
    wanted = Canary(name, rng.choice(VERSIONS), rng.choice(SHARES))
    running = canary(view, name)
    if running is not None and rng.random() < 0.7:
        wanted = Canary(name, running.version, wanted.weight_percent)
    return wanted


def share(world: World, view: MemoryView, name: str) -> str:
    """A version of a model gets a share, or executors say that they hold all there are."""
    if world.rng.random() < 0.3:
        return ask(world, "cli", "SetCanary", f"canary/{name}", some_share(world, view, name))
    known = [each for versions in models(view).values() for each in versions]
    held = tuple(LoadedModel(each.model, each.version, "ab", "simulated", 100.0, 10.0) for each in known)
    for instance in EXECUTORS:
        beat = Heartbeat("executor", instance, 1, 1, world.now_us, view.sequence, held, "cpu", "simulated")
        value = world.codec.encode("control.heartbeats", beat)
        world.append("control.heartbeats", 0, f"executor-{instance}".encode(), value)
    return f"executors hold {len(held)} versions"


class CanaryRules:
    """``take`` an event: the rules that it breaks. ``active`` and ``shares`` (version, percent) by model.

    ``due``: the key under which the next event ends a canary, because another version became active.
    """

    def __init__(self) -> None:
        self.active: dict[str, str] = {}
        self.shares: dict[str, tuple[str, int]] = {}
        self.due = ""

    def take(self, event: MemoryEvent) -> Iterator[tuple[str, str]]:
        """Judge an event that follows the ones before."""
        if self.due not in ("", event.key):
            yield OVER, f"{event.kind} {event.key} stands where {self.due} ends"
        self.due = ""
        space, _, model = event.key.partition("/")
        if event.body is None:
            return
        if space == "active":
            version = from_json(ActiveVersion, event.body).version
            if version != self.active.get(model) and self.shares.get(model, ("", 0))[1]:
                self.due = f"canary/{model}"
            self.active[model] = version
        elif space == "canary":
            found = from_json(Canary, event.body)
            if event.kind == "CanarySet" and found.version == self.active.get(model):
                yield OVER, f"{model} {found.version} is active and a canary"
            self.shares[model] = found.version, found.weight_percent
        elif space == "plan":
            yield from self.planned(model, from_json(Plan, event.body))

    def planned(self, model: str, effective: Plan) -> Iterator[tuple[str, str]]:
        """A plan became effective."""
        given = [(each.version, each.weight_percent) for each in effective.versions if each.weight_percent]
        wanted = self.shares.get(model, ("", 0))
        others = [each for each in given if each[0] != self.active.get(model)]
        if any(each != wanted for each in others) and (len(given) > 1 or others[0][0] == wanted[0]):
            yield SPLIT, f"{model} is served by {given}; active is {self.active.get(model)}, its canary {wanted}"


class CanaryInvariants:
    """Judges frames of the Router by memory at the sequence that they name; ``views``: memory after each event."""

    def __init__(self, world: World, views: list[MemoryView], violated: Callable[..., None]) -> None:
        self.world = world
        self.views = views
        self.violated = violated
        self.bounds: dict[tuple[str, ...], dict[bytes, tuple[int, int]]] = {}

    def frame(self, topic: str, frame: InferenceFrame) -> None:
        """A frame of the data plane was appended; what is tried again and copies go elsewhere, too."""
        if topic != "inference.routed" or frame.attempt or HEDGE in frame.roles:
            return
        view = self.views[frame.memory_sequence]
        keys: list[tuple[bytes, bytes]] = []
        for first, segment in zip(segment_starts(frame), frame.segments, strict=False):
            effective = plan(view, segment.model)
            if effective is None or frame.statuses[first] or segment.cohort == PINNED:
                continue
            if segment.model in all_breakers(view):
                continue
            given = {each.version: each.weight_percent for each in effective.versions if each.weight_percent}
            if segment.version not in given:
                what = f"{segment.model} {segment.version} was given rows, and the plan has {given}"
                self.violated(GIVEN, f"{what} at sequence {view.sequence}")
            if len(effective.versions) != 2:
                continue
            keys = keys or list(zip(routing_keys(frame), request_ids(frame), strict=True))
            self.split(effective, segment.version, keys[first : first + segment.num_rows])

    def split(self, effective: Plan, version: str, rows: Any) -> None:
        """Rows of a model whose plan splits them went to a version."""
        before, tried = effective.versions
        bounds = self.bounds.setdefault((effective.model, before.version, tried.version), {})
        for key, request_id in rows:
            name = key or request_id
            out, tried_from = bounds.get(name, (0, 100))
            if version == tried.version:
                self.world.count("rows of canaries")
                tried_from = min(tried_from, tried.weight_percent)
            else:
                out = max(out, tried.weight_percent)
            if out >= tried_from:
                what = f"{name!r} of {effective.model} went to {tried.version} at {tried_from} percent and not at {out}"
                self.violated(STICKY, what)
            bounds[name] = out, tried_from
