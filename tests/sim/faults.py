"""What goes wrong from outside: each fault is a line of the story, is counted, and has its weight in the profile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from streams.terminals import Terminals
from tests.sim.control_roles import kinds
from tests.sim.processes import Process
from tests.sim.profile import FAULTS, OF_DATA
from tests.sim.redis_double import answers_of
from tests.sim.world import World

FRAMES = ("inference.admitted", "inference.routed", "inference.retries", "inference.executed")
DUPLICATED = (*FRAMES, "control.plans", "memory.commands")
MARKED = (*FRAMES, "inference.requests", "control.plans", "memory.commands")
RUBBISH = (None, b"", b"rubbish", b"\x00\x00\x00\x00\x63more")


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
            for kind in kinds(world.profile)
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
        return f"{slot.name} is killed"

    def restart(self, slot: Slot) -> str:
        """Start a process anew in its slot."""
        slot.process = slot.kind(self.world, slot.name)
        slot.down = False
        return f"{slot.name} starts, its clock off by {slot.process.skew_us} us"

    def expire(self, process: Process) -> str:
        """The groups notice a silent member."""
        self.sessions.remove(process)
        if process.frozen or not process.alive:
            for group in self.world.groups.values():
                for name in [each for each in process.names if each in group.members]:
                    group.leave(name, self.world.rng)
        return f"the session of {process.name} ends"

    def freeze(self, process: Process) -> str:
        """A SIGSTOP: nothing happens inside, its sends under way go on."""
        process.frozen = True
        self.sessions.append(process)
        return f"{process.name} is frozen"

    def wake(self, process: Process) -> str:
        """A SIGCONT: it goes on with the state it had."""
        process.frozen = False
        return f"{process.name} is woken"


class Faults:
    """Picks faults by their weights."""

    def __init__(self, world: World, fleet: Fleet) -> None:
        self.world = world
        self.fleet = fleet
        without = OF_DATA if world.profile.alone else ()
        self.weights = [0.0 if fault in without else world.profile.weights.get(fault, 0.0) for fault in FAULTS]
        if not any(self.weights):
            self.weights[FAULTS.index("crash")] = 1.0
        self.acts: dict[str, Callable[[], str]] = {
            "crash": self.crash,
            "freeze": self.freeze,
            "rebalance": self.rebalance,
            "lost send": self.lose,
            "duplicate": self.duplicate,
            "marker": self.mark,
            "rubbish": self.rubbish,
            "foreign frame": self.foreign,
            "clock jump": self.jump,
            "retention": self.retain,
            "redis away": self.redis_away,
            "redis flushed": self.redis_flushed,
        }

    def happen(self) -> str:
        """One fault, or nothing where it does not apply."""
        fault = self.world.rng.choices(FAULTS, self.weights)[0]
        line = self.acts[fault]()
        if line:
            self.world.count(fault)
        return line

    def recover(self) -> str:
        """Something that was broken gets better: a session ends, a frozen process wakes, a dead one starts."""
        better: list[Callable[[], str]] = [partial(self.fleet.expire, process) for process in self.fleet.sessions]
        better += [partial(self.fleet.restart, slot) for slot in self.fleet.slots if slot.down]
        better += [partial(self.fleet.wake, process) for process in self.fleet.running if process.frozen]
        if self.world.redis_away:
            better.append(self.redis_back)
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
        return f"{group.name} is rebalanced to generation {group.generation}"

    def lose(self) -> str:
        links = [link for link in self.world.links if link.waiting]
        if not links:
            return ""
        fenced = [link for link in links if link.waiting[0].epoch is not None]
        if fenced and self.world.rng.random() < 0.7:  # there are fewer of them, and more hangs on them
            links = fenced
        link, lands = self.world.rng.choice(links), self.world.rng.random() < 0.5
        self.world.lose(link, lands=lands, alone=not link.owner.idempotent)
        return f"a send to {link.place[0]}-{link.place[1]} has an unknown fate and {'landed' if lands else 'is lost'}"

    def duplicate(self) -> str:
        """A record of an at-least-once topic is there once more."""
        world, topic = self.world, self.world.rng.choice(DUPLICATED)
        partition = world.rng.randrange(world.log.partitions(topic))
        end = world.end((topic, partition))
        records = world.log.read(topic, partition, world.rng.randrange(max(0, end - 30), end) if end else 0, 1)
        if not records:
            return ""
        world.append(topic, partition, records[0].key, records[0].value, records[0].headers)
        return f"{topic}-{partition}@{records[0].offset} is there twice"

    def mark(self) -> str:
        """Offsets that hold no record."""
        topic = self.world.rng.choice(MARKED)
        partition = self.world.rng.randrange(self.world.log.partitions(topic))
        self.world.log.skip(topic, partition, self.world.rng.randint(1, 3))
        return f"{topic}-{partition} has a marker"

    def rubbish(self) -> str:
        """A record that cannot be read stands on a topic of frames."""
        topic = self.world.rng.choice(FRAMES)
        partition = self.world.rng.randrange(self.world.log.partitions(topic))
        offset = self.world.append(topic, partition, None, self.world.rng.choice(RUBBISH))
        return f"{topic}-{partition}@{offset} is rubbish"

    def foreign(self) -> str:
        """A frame of an earlier requests topic, with coordinates like ours."""
        world, rng = self.world, self.world.rng
        partition = rng.randrange(world.log.partitions("inference.executed"))
        records = world.log.read("inference.executed", partition, 0, 50)
        frames = [record for record in records if world.readable("inference.executed", record.value) is not None]
        if not frames:
            return ""
        frame = world.codec.decode("inference.executed", rng.choice(frames).value)
        ended = replace(frame, topic_id=b"another topic id", offsets=_later(frame.offsets, rng.randint(0, 9)))
        offset = world.append("inference.executed", partition, None, world.codec.encode("inference.executed", ended))
        return f"inference.executed-{partition}@{offset} is a frame of an earlier topic"

    def jump(self) -> str:
        """A process's clock is set."""
        process = self.world.rng.choice(self.fleet.running) if self.fleet.running else None
        if process is None:
            return ""
        process.skew_us += self.world.rng.randint(-10_000_000, 10_000_000)
        return f"the clock of {process.name} jumps and is off by {process.skew_us} us"

    def retain(self) -> str:
        """The log's start moves, over what nobody needs any more."""
        world = self.world
        group = world.groups[world.rng.choice(("edge", "router", "executor", "validator"))]
        place = world.rng.choice(group.places)
        first = group.committed.get(place, 0)
        if group.name == "edge":
            first = min(first, self.low_watermark(place[1]))
        if first <= world.start(place):
            return ""
        world.starts[place] = world.rng.randint(world.start(place) + 1, first)
        return f"{place[0]}-{place[1]} starts at {world.starts[place]}"

    def low_watermark(self, partition: int) -> int:
        """Up to where the last checkpoint says that every request has its result."""
        low = 0
        for record in self.world.log.scan("inference.ledger-checkpoints", partition):
            checkpoint = self.world.codec.decode(record.topic, record.value)
            low = Terminals.from_bits(checkpoint.low_watermark, checkpoint.bits).low_watermark
        return low

    def redis_away(self) -> str:
        self.world.redis_away = True
        return "Redis is away"

    def redis_back(self) -> str:
        self.world.redis_away = False
        return "Redis is back"

    def redis_flushed(self) -> str:
        if self.world.profile.cached and self.world.rng.random() < 0.95:
            return self.redis_lies()
        self.world.redis.clear()
        return "Redis is empty"

    def redis_lies(self) -> str:
        """Cached answers stand under other keys than their own, or are other ones."""
        rng = self.world.rng
        for answers in answers_of(self.world).values():
            keys = [key for key in answers if key != b"bytes"]
            values = [answers[key] for key in keys]
            rng.shuffle(values)
            for key, value in zip(keys, values, strict=True):
                answers[key] = value if rng.random() < 0.7 else value[:-1] + bytes([value[-1] ^ 1])
        return "Redis lies"


def _later(offsets: bytes, by: int) -> bytes:
    """Other offsets in a frame's column."""
    count = len(offsets) // 8
    values = [int.from_bytes(offsets[8 * at : 8 * at + 8], "little") + by for at in range(count)]
    return b"".join(value.to_bytes(8, "little") for value in values)
