"""A Scaler in a small stack: seconds of heartbeats and loads given to it, and a pool of executors with one queue."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agents.pool_look import Params
from agents.scaler import State, decide
from schemas.load import ExecutorLoad, VersionLoad
from schemas.memory import MemoryCommand, MemoryEvent
from schemas.plan import Plan, VersionWeight
from schemas.scaling import Replicas, ScaleAction, ScaleConfirmation, ScalingPolicy
from schemas.telemetry import Heartbeat, LoadedModel, RouterLoad
from streams.canonical import from_json, to_json
from streams.memory_fold import StoredEvent
from tests.support.control import SECOND, at, tick

S = SECOND
PLAN = Plan("digits", (VersionWeight("v1.0.0", 100),), 10, 30_000)
TIMES = (LoadedModel("digits", "v1.0.0", "ab", "CPU", 80.0, 980.0),)
"""With 12 us of the row that is 1 ms an item."""
ITEMS_PER_S = 1_000
"""What an executor does in a second."""


@dataclass
class Bench:
    """A Scaler in a small stack: ``second`` runs one, with what is heard in it; ``said``: its actions.

    ``times`` and ``cap``: of the executors' batches; ``proposed`` gets commands to the Orchestrator.
    """

    params: Params = field(default_factory=Params)
    state: State = field(default_factory=State)
    now_s: int = 100
    routers: int = 1
    executors: int = 1
    rate: float = 0.0
    waiting: int = 0
    said: list[ScaleAction] = field(default_factory=list)
    events: list[StoredEvent] = field(default_factory=list)
    times: tuple[LoadedModel, ...] = TIMES
    cap: int = 10
    proposed: Callable[[MemoryCommand], None] | None = None

    def give(self, record: Any, answers: Any = None) -> None:
        """Have it hear a record; nothing but ticks makes it act."""
        self.state, effects = decide(self.state, at(record, self.now_s * S, answers=answers), self.params)
        assert effects == ()

    def note(self, key: str, body: Any, agent: str = "cli", command: str = "", kind: str = "Noted") -> None:
        """A fact of memory, by a command of its own where none is named."""
        sequence = len(self.events) + 1
        before = self.events[-1].value_hash if self.events else bytes(32)
        written = None if body is None else to_json(body)
        event = MemoryEvent(
            sequence, before, command or f"c{sequence}", agent, kind, key, 1, written, "", (), sequence
        )  # fmt: skip
        self.events.append(StoredEvent.of(event, to_json(event).encode()))
        self.give(event, self.events[-1].value_hash)

    def hear(self) -> None:
        """What is said in a second."""
        now = self.now_s * S
        for instance in range(self.routers):
            self.give(Heartbeat("router", instance, 1, 1, now, 0))
            share = self.rate / self.routers
            self.give(RouterLoad("digits", share, 0, now, instance, share))
        for instance in range(self.executors):
            self.give(Heartbeat("executor", instance, 1, 1, now, 0, self.times))
        items = (0, self.waiting) if self.waiting else ()
        load = VersionLoad("digits", "v1.0.0", 80.0, 980.0, self.cap, False, 0.0, 0, 0, items)
        self.give(ExecutorLoad("executor-0", now, 0, 2, (load,)))

    def second(self, num: int = 1, *, hears: bool = True) -> list[ScaleAction]:
        """Run seconds; gives the actions of these."""
        before = len(self.said)
        for _ in range(num):
            if hears:
                self.hear()
            self.state, effects = decide(self.state, tick(self.now_s * S), self.params)
            for effect in effects:
                if effect.topic == "memory.commands" and self.proposed is not None:
                    self.proposed(effect.record)
            effects = tuple([each for each in effects if self.proposed is None or each.topic != "memory.commands"])
            assert all(effect.topic == "control.scale-actions" for effect in effects)
            assert from_json(State, to_json(self.state)) == self.state  # a snapshot holds it all
            self.said += [effect.record for effect in effects]
            self.now_s += 1
        return self.said[before:]

    def steps(self, num: int = 1, *, hears: bool = True) -> list[tuple[int, int]]:
        """Run seconds; gives replicas before and after of the actions that were no hold."""
        return [
            (each.current_replicas, each.target_replicas)
            for each in self.second(num, hears=hears)
            if each.decision != "hold"
        ]

    def confirm(self, outcome: str = "done", replicas: int | None = None) -> None:
        """The supervisor's answer to the last action; as many executors are heard from then on."""
        last = self.said[-1]
        self.executors = last.target_replicas if replicas is None else replicas
        self.give(ScaleConfirmation(last.action_id, "executors", self.executors, outcome, self.now_s * S))


@dataclass
class Pool:
    """Executors with one queue, and a supervisor who takes ``start_s`` to have what an action asks for ready.

    ``history``: second, replicas and items waiting at the end of each.
    """

    bench: Bench
    start_s: int = 3
    due_s: int = 0
    history: list[tuple[int, int, int]] = field(default_factory=list)

    def run(self, seconds: int, rate: Callable[[int], float]) -> None:
        """Seconds of a load of so many items a second, by the second."""
        bench = self.bench
        for second in range(seconds):
            bench.rate = rate(second)
            bench.waiting = max(0, bench.waiting + round(bench.rate) - ITEMS_PER_S * bench.executors)
            if self.due_s and bench.now_s >= self.due_s:
                bench.confirm()
                self.due_s = 0
            if bench.steps(1):
                self.due_s = bench.now_s + self.start_s
            self.history.append((second, bench.executors, bench.waiting))

    @property
    def num_steps(self) -> int:
        """How often the number of replicas changed."""
        counts = [replicas for _, replicas, _ in self.history]
        return sum(before != after for before, after in itertools.pairwise(counts))


def listening(policy: ScalingPolicy | None, **more: Any) -> Bench:
    """A bench that has listened for long enough."""
    made = Bench(**more)
    made.note("plan/digits", PLAN)
    if policy is not None:
        made.note("scaling/executors", policy)
        made.note("replicas/executors", Replicas("executors", made.executors, ""))
    made.second(5)
    return made
