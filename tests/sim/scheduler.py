"""Picks the next step by a seeded chance, tells the story, and checks every invariant after each step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from streams.memory_view import plan
from tests.sim.clients import Client, Operator
from tests.sim.faults import Faults, Fleet
from tests.sim.invariants import DRAINED, Invariants
from tests.sim.profile import FOREVER_US, Profile
from tests.sim.reports import Reports
from tests.sim.substitutes import substituted
from tests.sim.violation import Violation
from tests.sim.world import STORY_LENGTH, World

DRAIN_STEPS: Final = 60_000
CONTROL_SHARE: Final = 0.5
DEAD_LOSS: Final = 0.7  # of what a killed process had under way, most was still in its buffers


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

    def __init__(self, seed: int, profile: Profile | None = None, *, muted: tuple[str, ...] = ()) -> None:
        self.world = World(seed, profile)
        self.profile = self.world.profile
        self.client = Client(self.world)
        self.operator = Operator(self.world)
        self.reports = Reports(self.world)
        self.invariants = Invariants(self.world, self.client, muted)
        self.fleet = Fleet(self.world, [])
        self.faults = Faults(self.world, self.fleet)

    def run(self, steps: int) -> Report:
        """Run ``steps`` steps with faults, then without until everything has ended; stop at a violation."""
        began = time.perf_counter()
        violation: Violation | None = None
        with substituted(self.world):
            try:
                self.fleet.slots += Fleet.of(self.world).slots
                self.operator.register("alpha")
                self.reports.people.begin()
                self.warm_up()
                for _ in range(steps):
                    self.step(self.profile)
                self.drain()
            except Violation as found:
                violation = found
            finally:
                self.finish()
        seconds = time.perf_counter() - began
        world = self.world
        return Report(world.seed, world.step, world.digest, seconds, violation, self.story(violation), world.counts)

    def warm_up(self) -> None:
        """Nothing goes wrong until the first model has a plan."""
        calm = replace(self.profile, request=0.0, operator=0.0, fault=0.0, report=0.0)
        for _ in range(self.profile.warm_up):
            if plan(self.invariants.control.views[-1], "alpha") is not None:
                return
            self.step(calm)

    def story(self, violation: Violation | None) -> tuple[str, ...]:
        """What was told of the thing at fault, then the last lines."""
        lines = self.world.lines
        if violation is None:
            return tuple(lines[-STORY_LENGTH:])
        about = [line for line in lines[:-STORY_LENGTH] if any(word in line for word in violation.about)]
        return (*about[-STORY_LENGTH:], *lines[-STORY_LENGTH:])

    def step(self, profile: Profile) -> None:
        """One step and the check behind it."""
        world, rng = self.world, self.world.rng
        world.step += 1
        world.now_us += (
            rng.randint(50, self.profile.pace_us)
            if rng.random() > self.profile.jump
            else rng.randint(100_000, 3_000_000)
        )
        chance = rng.random()
        for share, act in (
            (profile.request, self.send),
            (profile.operator, self.operate),
            (profile.fault, self.faults.happen),
            (profile.recovery, self.faults.recover),
            (profile.delivery, self.deliver),
            (profile.report, self.report),
        ):
            if chance < share:
                self.outside(act)
                return
            chance -= share
        self.inside()

    def outside(self, act: Callable[[], str]) -> None:
        """A step of the surroundings."""
        self.world.current = None
        line = act()
        if line:
            self.world.tell(line)
        self.invariants.check(None)

    def operate(self) -> str:
        """The operator does something."""
        return f"the operator {self.operator.act(self.invariants.control.views[-1])}"

    def send(self) -> str:
        """A request is sent."""
        memory = self.invariants.control.views[-1]
        return f"a client sends {self.client.send(self.fleet.running, memory, self.operator.registered)}"

    def report(self) -> str:
        """The control agents are told something."""
        view = self.invariants.control.views[-1]
        return self.reports.act(self.fleet.running, self.operator.registered, view)

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
        slots, world = self.fleet.slots, self.world
        first = world.rng.randrange(len(slots))
        if self.profile.control and world.rng.random() < CONTROL_SHARE:
            first = world.rng.randrange(len(slots) - 4, len(slots))  # the last four: Orchestrators, control processes
        for slot in (*slots[first:], *slots[:first]):
            process = slot.process
            if slot.down or process.frozen:
                continue
            if process.dying:
                world.tell(f"{slot.name} ends: {process.dying}")
                world.count("ended by itself")
                self.outside(partial(self.fleet.crash, slot))
                return
            steps = process.steps()
            if steps:
                name, act = world.rng.choice(steps)
                world.current = process
                line = act()
                world.tell(f"{process.name} {name} {line}")
                self.invariants.check(process)
                return
        waiting = [slot.process.loop.next_s() for slot in slots if not slot.down and not slot.process.frozen]
        soonest = min(waiting, default=float("inf"))
        if soonest < float("inf"):  # everybody waits for the clock
            world.now_us += max(0, round((soonest - world.elapsed_s()) * 1e6)) + 1

    def drain(self) -> None:
        """No more requests and faults: everything must end by itself."""
        quiet = replace(self.profile, request=0.0, operator=0.0, fault=0.0, recovery=0.03, report=0.0)
        self.world.profile = replace(
            self.profile, lag=min(self.profile.lag, 0.1), refusal=0.0, hear=max(0.1, self.profile.hear)
        )
        missing, until = len(self.invariants.missing()), self.world.step + DRAIN_STEPS
        while self.world.step < until:
            self.step(quiet)
            if self.world.step % 64 == 0:
                if not self.unrest():
                    self.invariants.final()
                    return
                if len(self.invariants.missing()) < missing:  # slow worlds, one record at a time, are no stuck ones
                    missing, until = len(self.invariants.missing()), self.world.step + DRAIN_STEPS
        self.invariants.final()
        raise Violation(DRAINED, f"{self.unrest()} after {DRAIN_STEPS} steps without faults and without a new result")

    def unrest(self) -> str:
        """What is broken, under way, unread or uncommitted, or an empty string."""
        slots, log = self.fleet.slots, self.world.log
        broken = [slot.name for slot in slots if slot.down or slot.process.frozen]
        if broken or self.fleet.sessions or self.world.redis_away:
            return f"not recovered: {', '.join(broken)}, {len(self.fleet.sessions)} sessions"
        links = [f"{link.place[0]}-{link.place[1]}" for link in self.world.links if link.waiting or link.landed]
        if links:
            return f"under way: {', '.join(links)}"
        for group in self.world.groups.values():
            for place in group.places:
                if log.read(*place, group.committed.get(place, 0), 1):
                    return f"{group.name} has not committed all of {place[0]}-{place[1]}"
        missing = self.invariants.missing()
        if missing and self.profile.give_up_us != FOREVER_US:
            return f"the reaper has not ended {missing[:5]}"
        low = self.invariants.unsettled(self.fleet.running)
        if low:
            return low
        busy = [slot.name for slot in slots if not slot.process.idle]
        return f"busy: {', '.join(busy)}" if busy else ""

    def finish(self) -> None:
        """End what runs."""
        for process in self.fleet.running:
            process.die()
