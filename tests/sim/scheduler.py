"""Picks the next step by a seeded chance, tells the story, and checks every invariant after each step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from streams.errors import IsosError
from tests.sim.clients import Client, Operator
from tests.sim.faults import Faults, Fleet
from tests.sim.invariants import DRAINED, Invariants
from tests.sim.violation import Violation
from tests.sim.world import FOREVER_US, Bugs, World

DRAIN_STEPS: Final = 40_000
DEAD_LOSS: Final = 0.7  # of what a killed process had under way, most was still in its buffers
DEFECT: Final = "no code fails"
_DEFECTS: Final = (IsosError, AssertionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Rates:
    """Chances of a step being a request, the operator, a fault, a recovery, a delivery; else a process steps."""

    request: float = 0.08
    operator: float = 0.004
    fault: float = 0.016
    recovery: float = 0.03
    delivery: float = 0.35


QUIET: Final = Rates(request=0.0, operator=0.0, fault=0.0, recovery=0.03)


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended: ``violation`` None = clean; ``digest`` is the same for the same seed."""

    seed: int
    steps: int
    digest: str
    seconds: float
    violation: Violation | None
    story: tuple[str, ...]
    counts: dict[str, int]

    def text(self) -> str:
        """The report as lines for a person."""
        rate = self.steps / self.seconds if self.seconds else 0.0
        head = f"seed {self.seed}: {self.steps} steps, {rate:.0f} steps/s, digest {self.digest[:16]}"
        if self.violation is None:
            return f"{head}, no violation"
        lines = "\n".join(f"  {line}" for line in self.story)
        return f"{head}\nviolated at step {self.steps}: {self.violation}\nthe last steps:\n{lines}"


class Simulation:
    """One run of one seed."""

    def __init__(
        self, seed: int, bugs: Bugs | None = None, rates: Rates | None = None, *, muted: tuple[str, ...] = ()
    ) -> None:
        self.world = World(seed, bugs)
        self.rates = rates or Rates()
        self.client = Client(self.world)
        self.operator = Operator(self.world)
        self.invariants = Invariants(self.world, self.client, muted)
        self.fleet = Fleet.of(self.world)
        self.faults = Faults(self.world, self.fleet)

    def run(self, steps: int) -> Report:
        """Run ``steps`` steps with faults, then without until everything has ended; stop at a violation."""
        began = time.perf_counter()
        violation: Violation | None = None
        try:
            self.operator.register("alpha")
            for _ in range(steps):
                self.step(self.rates)
            self.drain()
        except Violation as found:
            violation = found
        except _DEFECTS as error:
            violation = Violation(DEFECT, f"{type(error).__name__}: {error}")
            violation.__cause__ = error
        seconds = time.perf_counter() - began
        world = self.world
        self.finish()
        return Report(world.seed, world.step, world.digest, seconds, violation, tuple(world.story), world.counts)

    def step(self, rates: Rates) -> None:
        """One step and the check behind it."""
        world, rng = self.world, self.world.rng
        world.step += 1
        world.now_us += rng.randint(50, 2_000) if rng.random() > 0.01 else rng.randint(100_000, 3_000_000)
        chance = rng.random()
        for share, act in (
            (rates.request, self.send),
            (rates.operator, lambda: f"the operator {self.operator.act()}"),
            (rates.fault, self.faults.happen),
            (rates.recovery, self.faults.recover),
            (rates.delivery, self.deliver),
        ):
            if chance < share:
                self.outside(act)
                return
            chance -= share
        self.inside()

    def outside(self, act: Callable[[], str]) -> None:
        """A step of the surroundings."""
        line = act()
        if line:
            self.world.tell(line)
        self.invariants.check(None)

    def send(self) -> str:
        """A request is sent."""
        memory = self.invariants.views[-1]
        return f"a client sends {self.client.send(self.fleet.running, memory, self.operator.registered)}"

    def deliver(self) -> str:
        """A send reaches the broker; one whose producer is gone may be lost on the way."""
        links = [link for link in self.world.links if link.waiting]
        if not links:
            return ""
        link = self.world.rng.choice(links)
        where = f"{link.place[0]}-{link.place[1]}"
        if not link.owner.alive and self.world.rng.random() < DEAD_LOSS:
            self.world.lose(link, lands=False)
            return f"what a dead producer had under way to {where} is lost"
        outcome = self.world.deliver(link)
        return f"{link.owner.process.name} delivers to {where}: {outcome.error or outcome.first}"

    def inside(self) -> None:
        """A step of a process; one that failed ends, and is started again later."""
        slots = self.fleet.slots
        first = self.world.rng.randrange(len(slots))
        for slot in (*slots[first:], *slots[:first]):
            process = slot.process
            if slot.down or process.frozen:
                continue
            if process.dying:
                self.world.tell(f"{slot.name} ends: {process.dying}")
                self.outside(partial(self.fleet.crash, slot))
                return
            steps = process.steps()
            if steps:
                name, act = self.world.rng.choice(steps)
                line = act()
                self.world.tell(f"{process.name} {name}: {line}")
                self.invariants.check(process)
                return

    def drain(self) -> None:
        """No more requests and faults: everything must end by itself."""
        for _ in range(DRAIN_STEPS):
            self.step(QUIET)
            if self.world.step % 64 == 0 and not self.unrest():
                self.invariants.final()
                return
        self.invariants.final()
        raise Violation(DRAINED, f"{self.unrest()} after {DRAIN_STEPS} steps without faults")

    def unrest(self) -> str:
        """What is broken, under way, unread or uncommitted, or an empty string."""
        slots, log = self.fleet.slots, self.world.log
        broken = [slot.name for slot in slots if slot.down or slot.process.frozen]
        if broken or self.fleet.sessions:
            return f"not recovered: {', '.join(broken)}, {len(self.fleet.sessions)} sessions"
        links = [f"{link.place[0]}-{link.place[1]}" for link in self.world.links if link.waiting or link.landed]
        if links:
            return f"under way: {', '.join(links)}"
        for group in self.world.groups.values():
            for place in group.places:
                if log.read(*place, group.committed.get(place, 0), 1):
                    return f"{group.name} has not committed all of {place[0]}-{place[1]}"
        missing = self.invariants.missing()
        if missing and self.world.give_up_us != FOREVER_US:
            return f"the reaper has not ended {missing[:5]}"
        busy = [slot.name for slot in slots if not slot.process.idle or slot.process.committable()]
        return f"busy: {', '.join(busy)}" if busy else ""

    def finish(self) -> None:
        """Close what runs."""
        for process in self.fleet.running:
            process.die()
