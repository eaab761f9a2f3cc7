"""What processes say about themselves where the whole control plane runs: by chance, early, late, and often not at all.

Heartbeats are those of processes that run, by their own clocks; telemetry, load and what an operator wants of it all is
made up, so that agents meet mixtures that a healthy data plane would never show them.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.scaling import Replicas, ScaleAction, ScaleConfirmation, ScalingPolicy
from schemas.serving import ServingPolicy, Slo
from schemas.telemetry import LATENCY_BOUNDS_MS, Heartbeat, LoadedModel, ModelWindow, RouterLoad, Telemetry
from streams.memory_view import MemoryView, active_version
from tests.sim.breaker_invariants import ask
from tests.sim.processes import Process
from tests.sim.world import LANES, World

WINDOW_US: Final = 1_000_000
TELLING: Final = ("validator", "validator", "executor", "gate")
"""Stages whose windows say something of versions."""


class Reports:
    """``pids`` numbers the processes as they are first heard."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pids: dict[Process, tuple[int, int]] = {}

    def act(self, running: list[Process], registered: list[str], view: MemoryView) -> str:
        """One record, or one wish of an operator."""
        chance = self.world.rng.random()
        if chance < 0.5:
            return self.heartbeat(running, view)
        if chance < 0.75:
            return self.telemetry(registered, view)
        if chance < 0.85:
            return self.load(registered)
        if chance < 0.9:
            return self.supervise()
        return self.wish(registered, view)

    def send(self, topic: str, key: str, record: Any) -> str:
        """Append a record that nobody awaits."""
        self.world.append(topic, 0, key.encode(), self.world.codec.encode(topic, record))
        return f"{topic} has {type(record).__name__} of {key}"

    def heartbeat(self, running: list[Process], view: MemoryView) -> str:
        """A process that is not frozen says that it lives; now and then it is read late."""
        awake = [process for process in running if not process.frozen]
        if not awake:
            return ""
        rng = self.world.rng
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
        """The active versions as an executor has them."""
        slow = 6_000.0 if self.world.rng.random() < 0.05 else 100.0
        names = sorted(key.removeprefix("active/") for key in view.entries if key.startswith("active/"))
        return tuple(
            LoadedModel(name, active_version(view, name) or "", "ab" * 32, "simulated", slow, 10.0) for name in names
        )

    def telemetry(self, registered: list[str], view: MemoryView) -> str:
        """A stage's window in which one version did well, badly, or late."""
        rng = self.world.rng
        model = rng.choice(registered)
        version = rng.choice((active_version(view, model) or "v1.0.0", "v1.0.0", "v1.1.0"))
        rows, late = rng.randint(1, 60), rng.random() < 0.2
        errors = rng.choice((0, 0, 0, rows // 2, rows))
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
        rate = rng.choice((0.0, 50.0, 400.0, 5_000.0))
        load = RouterLoad(rng.choice(registered), rate, 0, self.world.now_us)
        return self.send("control.load", load.model, load)

    def supervise(self) -> str:
        """The supervisor does what the newest scale action says, or a part of it, or it cannot."""
        world, topic = self.world, "control.scale-actions"
        newest = list(world.log.scan(topic, 0))[-1:] if topic in world.topics else []
        if not newest:
            return ""
        action: ScaleAction = world.codec.decode(topic, newest[0].value)
        outcome, replicas = world.rng.choice(("done", "done", "failed")), min(action.target_replicas, LANES)
        if outcome == "done":
            noted = Replicas(action.pool, replicas, action.action_id)
            ask(world, "supervisor", "NoteReplicas", f"replicas/{action.pool}", noted)
        done = ScaleConfirmation(action.action_id, action.pool, replicas, outcome, world.now_us)
        return self.send("control.scale-confirmations", action.pool, done)

    def wish(self, registered: list[str], view: MemoryView) -> str:
        """An operator sets a promise or how far a pool may grow."""
        rng = self.world.rng
        model = rng.choice(registered)
        if rng.random() < 0.5:
            slo = rng.choice((None, Slo(error_ppm=10_000), Slo(latency_ms=100, late_ppm=50_000)))
            return ask(self.world, "cli", "SetServingPolicy", f"serving/{model}", ServingPolicy(model, slo=slo))
        policy = ScalingPolicy("executors", rng.choice((0, 1)), rng.choice((1, 2, 4)), upscale_delay_s=1)
        return ask(self.world, "cli", "SetScalingPolicy", "scaling/executors", policy)
