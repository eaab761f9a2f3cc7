"""What processes say about themselves where the whole control plane runs: by chance, early, late, and often not at all.

Heartbeats are those of processes that run, by their own clocks; telemetry, load and what an operator wants of it all is
made up, so that agents meet mixtures that a healthy data plane would never show them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.check import CheckRequest, Observation
from schemas.figures import AnswerFigures, IntegrityFigures
from schemas.scaling import Replicas, ScaleAction, ScaleConfirmation
from schemas.telemetry import LATENCY_BOUNDS_MS, Heartbeat, LoadedModel, ModelWindow, RouterLoad, Telemetry
from streams.canonical import to_json
from streams.memory_view import MemoryView, active_version, canary, serving_policy
from tests.sim.breaker_invariants import ask
from tests.sim.people import People
from tests.sim.processes import Process
from tests.sim.world import LANES, World

PHASE_US: Final = 5_000_000
WINDOW_US: Final = 1_000_000
TELLING: Final = ("validator", "validator", "executor", "gate")
"""Stages whose windows say something of versions."""


SHARES: Final = {
    "": (45, 20, 8, 4, 3, 20),
    "scaling": (50, 2, 20, 15, 1, 12),
    "reviews": (10, 2, 2, 1, 1, 84),
    "roll-backs": (10, 72, 1, 1, 6, 10),
}
"""Per focus of a world: heartbeats, telemetry, load, supervisors, observations, people."""
NOTHING: Final = MemoryView()
IMAGINED: Final = ("edge-0", "router-0", "router-1", "executor-0", "executor-1", "validator-0")


@dataclass(frozen=True, slots=True, eq=False)
class Imagined:
    """A process of the data plane that is not there, of a world that is all control plane."""

    name: str
    frozen: bool = False
    skew_us: int = 0
    view: MemoryView = NOTHING


class Reports:
    """``pids`` numbers the processes as they are first heard; nothing is heard of the one that is ``mute``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.people = People(world)
        self.mute = ""
        self.pids: dict[Any, tuple[int, int]] = {}
        self.imagined = [Imagined(name) for name in IMAGINED] if world.profile.alone else []

    def act(self, running: list[Process], registered: list[str], view: MemoryView) -> str:
        """One record, or one wish of an operator."""
        acts: tuple[Callable[[], str], ...] = (
            lambda: self.heartbeat(running, view),
            lambda: self.telemetry(registered, view),
            lambda: self.load(registered),
            self.supervise,
            self.observe,
            lambda: self.people.act(registered, view),
        )
        return self.world.rng.choices(acts, SHARES[self.world.profile.focus])[0]()

    def send(self, topic: str, key: str, record: Any) -> str:
        """Append a record that nobody awaits."""
        self.world.append(topic, 0, key.encode(), self.world.codec.encode(topic, record))
        return f"{topic} has {type(record).__name__} of {key}"

    def heartbeat(self, running: list[Process], view: MemoryView) -> str:
        """A process that is not frozen says that it lives; now and then it is read late."""
        rng = self.world.rng
        told_of: Sequence[Any] = [*running, *self.imagined]
        if told_of and rng.random() < 0.03:
            self.mute = rng.choice(told_of).name
        awake = [process for process in told_of if not process.frozen and process.name != self.mute]
        if not awake:
            return ""
        process = rng.choice(awake)
        role, _, instance = process.name.partition("-")
        sent_us = self.world.now_us + process.skew_us - rng.choice((0, 0, 0, 2_000_000))
        pid, started_us = self.pids.setdefault(process, (len(self.pids) + 1, sent_us))
        loaded = self.loaded(view) if role == "executor" else ()
        busy = rng.choice((0.0, 0.3, 0.95)) if loaded else 0.0
        beat = Heartbeat(
            role, int(instance), pid, started_us, sent_us, process.view.sequence, loaded,
            "cpu" if loaded else "", "simulated" if loaded else "", busy, busy, 0.5 if loaded else 0.0,
        )  # fmt: skip
        return self.send("control.heartbeats", process.name, beat)

    def loaded(self, view: MemoryView) -> tuple[LoadedModel, ...]:
        """The active versions and the canaries as an executor has them."""
        slow = 6_000.0 if self.world.rng.random() < 0.05 else 100.0
        names = sorted(key.removeprefix("active/") for key in view.entries if key.startswith("active/"))
        tried = [found for name in names if (found := canary(view, name)) is not None]
        held = [*((name, active_version(view, name) or "") for name in names), *((e.model, e.version) for e in tried)]
        return tuple(LoadedModel(*each, "ab" * 32, "simulated", slow, 10.0) for each in held)

    def telemetry(self, registered: list[str], view: MemoryView) -> str:
        """A stage's window in which one version did well, badly, or late."""
        rng = self.world.rng
        focused = self.world.profile.focus == "roll-backs"
        model = registered[0] if focused else rng.choice(registered)
        version = rng.choice((active_version(view, model) or "v1.0.0", *(() if focused else ("v1.0.0", "v1.1.0"))))
        tried = canary(view, model)
        if tried is not None and rng.random() < 0.3:
            version = tried.version
        rows, late = rng.randint(1, 60), rng.random() < 0.2
        errors = rng.choice((0, 0, 0, rows // 2, rows))
        if focused:  # of the first model the first version does well, the others do not, and with one try nobody does
            policy = serving_policy(view, model)
            is_well = version == "v1.0.0" and (policy is None or policy.max_attempts > 1)
            late, errors = False, 0 if is_well else rows
        good = rows - errors
        at = LATENCY_BOUNDS_MS.index(1_000 if late else 10)
        counts = (*[0] * at, good) if good else ()
        window = ModelWindow(model, version, rows, good, errors, 0, 0, rows * 5_000, 9_000, counts)
        stage, instance = rng.choice(TELLING), rng.randint(0, 1)
        start_us = self.world.now_us - WINDOW_US + rng.randint(-500_000, 500_000)
        told = Telemetry(stage, instance, start_us, WINDOW_US, rows, 0, (window,))
        return self.send("control.telemetry", f"{stage}-{instance}", told)

    def load(self, registered: list[str]) -> str:
        """A Router's load of a model."""
        rng = self.world.rng
        rate = rng.choice((0.0, 0.0, 400.0, 20_000.0))
        if self.world.profile.focus == "scaling" and rng.random() < 0.95:  # much for some seconds, then nothing
            rate = 20_000.0 if self.world.now_us // PHASE_US % 2 else 0.0
        load = RouterLoad(rng.choice(registered), rate, 0, self.world.now_us)
        return self.send("control.load", load.model, load)

    def supervise(self) -> str:
        """The supervisor does what the newest scale action says, or a part of it, or it cannot."""
        world, topic = self.world, "control.scale-actions"
        records = world.log.scan(topic, 0) if topic in world.topics else ()
        actions: list[ScaleAction] = [world.codec.decode(topic, record.value) for record in records]
        steps = [action for action in actions if action.decision != "hold"]
        if not steps:
            return ""
        action = steps[-1]
        outcome, replicas = world.rng.choice((*["done"] * 9, "failed")), min(action.target_replicas, LANES)
        if outcome == "done":
            noted = Replicas(action.pool, replicas, action.action_id)
            ask(world, "supervisor", "NoteReplicas", f"replicas/{action.pool}", noted)
        done = ScaleConfirmation(action.action_id, action.pool, replicas, outcome, world.now_us)
        return self.send("control.scale-confirmations", action.pool, done)

    def observe(self) -> str:
        """What the newest check found out: by what it is judged, or that it could not be run."""
        world, topic, rng = self.world, "control.validation-requests", self.world.rng
        newest = list(world.log.scan(topic, 0))[-1:] if topic in world.topics else []
        if not newest:
            return ""
        request: CheckRequest = world.codec.decode(topic, newest[0].value)
        bad = rng.random() < 0.3
        answers = AnswerFigures("requests", 100, 50 if bad else 100, 50 if bad else 0, 0, 0, 0, (50 if bad else 100,))
        artefact = IntegrityFigures("cd" * 32 if bad else "ab" * 32, ())
        figures = {"serving": answers, "latency": answers, "integrity": artefact}.get(request.check)
        text, problem = ("{}", "nobody measured") if figures is None else (to_json(figures), "")
        found = Observation(request, not problem, problem, 100, text, world.now_us, world.now_us)
        return self.send("control.observations", request.request_id, found)
