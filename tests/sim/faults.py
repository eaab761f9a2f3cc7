"""What goes wrong: crashes, freezes, rebalances, sends of unknown fate, duplicates; each a line of the story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from tests.sim.control_process import OrchestratorProcess, PlannerProcess
from tests.sim.edge_process import EdgeProcess
from tests.sim.executor_process import ExecutorProcess
from tests.sim.frame_process import RouterProcess, ValidatorProcess
from tests.sim.processes import Process
from tests.sim.world import World

KINDS: tuple[type[Process], ...] = (
    EdgeProcess,
    RouterProcess,
    ExecutorProcess,
    ValidatorProcess,
    OrchestratorProcess,
    PlannerProcess,
)
DUPLICATED = ("inference.admitted", "inference.routed", "inference.executed", "control.plans", "memory.commands")


@dataclass(slots=True)
class Slot:
    """A place for a process: the one that runs there, or (``down``) none until it is started again."""

    kind: type[Process]
    name: str
    process: Process
    down: bool = False


@dataclass(slots=True)
class Fleet:
    """All processes, and the sessions of dead or frozen members that the groups have not noticed yet."""

    world: World
    slots: list[Slot]
    sessions: list[Process] = field(default_factory=list)

    @classmethod
    def of(cls, world: World, instances: int = 2) -> Fleet:
        """Start ``instances`` of each role."""
        slots = [
            Slot(kind, f"{kind.role}-{number}", kind(world, f"{kind.role}-{number}"))
            for kind in KINDS
            for number in range(instances)
        ]
        return cls(world, slots)

    @property
    def running(self) -> list[Process]:
        """Processes that are not down, frozen ones too."""
        return [slot.process for slot in self.slots if not slot.down]

    def crash(self, slot: Slot) -> str:
        """A kill -9: everything volatile is gone, the group does not know yet."""
        slot.process.die()
        slot.down = True
        self.sessions.append(slot.process)
        self.world.count("crashes")
        return f"{slot.name} is killed"

    def restart(self, slot: Slot) -> str:
        """Start a process anew in its slot."""
        slot.process = slot.kind(self.world, slot.name)
        slot.down = False
        return f"{slot.name} starts as {slot.process.member}"

    def expire(self, process: Process) -> str:
        """The group notices a silent member."""
        self.sessions.remove(process)
        if process.member in process.group.members and (process.frozen or not process.alive):
            process.group.leave(process.member, self.world.rng)
        return f"the session of {process.member} ends"

    def freeze(self, process: Process) -> str:
        """A SIGSTOP: nothing happens inside, its sends under way go on."""
        process.frozen = True
        self.sessions.append(process)
        self.world.count("freezes")
        return f"{process.name} is frozen"

    def wake(self, process: Process) -> str:
        """A SIGCONT: it goes on with the state it had."""
        process.frozen = False
        return f"{process.name} is woken"


class Faults:
    """Picks faults by chance."""

    def __init__(self, world: World, fleet: Fleet) -> None:
        self.world = world
        self.fleet = fleet
        self.kinds: tuple[Callable[[], str], ...] = (
            self.crash,
            self.freeze,
            self.rebalance,
            self.lose,
            self.duplicate,
            self.duplicate,
        )

    def happen(self) -> str:
        """One fault, or nothing where it does not apply."""
        return self.world.rng.choice(self.kinds)()

    def recover(self) -> str:
        """Something that was broken gets better: a session ends, a frozen process wakes, a dead one starts."""
        better: list[Callable[[], str]] = [partial(self.fleet.expire, process) for process in self.fleet.sessions]
        better += [partial(self.fleet.restart, slot) for slot in self.fleet.slots if slot.down]
        better += [partial(self.fleet.wake, process) for process in self.fleet.running if process.frozen]
        return self.world.rng.choice(better)() if better else ""

    def crash(self) -> str:
        """Of a process that runs."""
        victim = self.victim([slot for slot in self.fleet.slots if not slot.down])
        return "" if victim is None else self.fleet.crash(victim)

    def freeze(self) -> str:
        """Of a process that runs; often so long that its group goes on without it."""
        victim = self.victim([slot for slot in self.fleet.slots if not slot.down and not slot.process.frozen])
        if victim is None:
            return ""
        line = self.fleet.freeze(victim.process)
        if self.world.rng.random() < 0.5:
            line = f"{line}, {self.fleet.expire(victim.process)}"
        return line

    def victim(self, slots: list[Slot]) -> Slot | None:
        """Half of the time one that has something under way: that is when it hurts."""
        rng = self.world.rng
        owners = [link.owner.process for link in self.world.links if link.waiting or link.landed]
        busy = [slot for slot in slots if slot.process in owners]
        if busy and rng.random() < 0.5:
            return rng.choice(busy)
        return rng.choice(slots) if slots else None

    def rebalance(self) -> str:
        group = self.world.rng.choice(list(self.world.groups.values()))
        group.rebalance(self.world.rng)
        self.world.count("rebalances")
        return f"{group.name} is rebalanced to generation {group.generation}"

    def lose(self) -> str:
        links = [link for link in self.world.links if link.waiting]
        if not links:
            return ""
        link, lands = self.world.rng.choice(links), self.world.rng.random() < 0.5
        self.world.lose(link, lands=lands)
        self.world.count("sends of unknown fate")
        return f"a send to {link.place[0]}-{link.place[1]} has an unknown fate and {'landed' if lands else 'is lost'}"

    def duplicate(self) -> str:
        """A record of an at-least-once topic is there once more."""
        topic = self.world.rng.choice(DUPLICATED)
        partition = self.world.rng.randrange(self.world.log.partitions(topic))
        end = self.world.log.end_offset(topic, partition)
        records = self.world.log.read(
            topic, partition, self.world.rng.randrange(max(0, end - 30), end) if end else 0, 1
        )
        if not records:
            return ""
        record = records[0]
        self.world.append(topic, partition, record.key, record.value, record.headers)
        self.world.count("duplicates")
        return f"{topic}-{partition}@{record.offset} is there twice"
