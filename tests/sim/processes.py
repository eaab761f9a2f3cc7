"""What every simulated process does: belong to a group, hear of rebalances, fold memory, take the outcomes of sends."""

from __future__ import annotations

from collections.abc import Callable

from streams.memory_view import MemoryView, StoredEvent, extend
from tests.sim.group import Place
from tests.sim.world import Link, Outcome, Sending, World

Step = tuple[str, Callable[[], str]]
COMMIT_CHANCE = 0.25
HEAR_CHANCE = 0.15  # who lost its partitions goes on for a while


class Process:
    """One process from its start to its death. ``dying`` is set by what would end the real one with an error."""

    role = ""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.frozen = False
        self.dying = ""
        self.group = world.groups[self.role]
        self.member = ""
        self.generation = -1
        self.view = MemoryView()
        self.watched = 0
        self.committed: dict[Place, int] = {}
        self.watch(1_000_000)  # ready means: folded to the end of memory
        self.join()

    @property
    def process(self) -> Process:
        """Itself: owners of links are asked for their process."""
        return self

    # What the scheduler may choose from.

    def steps(self) -> list[Step]:
        """Every step that is possible now."""
        if self.dying:
            return []
        found: list[Step] = []
        if self.generation != self.group.generation and (self.generation < 0 or self.world.rng.random() < HEAR_CHANCE):
            found.append(("hear", self.hear))
        if self.watched < self.world.end(("memory.events", 0)):
            found.append(("watch", self.watch))
        links = [link for link in self.world.links if link.landed and link.owner.process is self]
        if links:
            found += [("ack", lambda: self.take_outcome(self.world.rng.choice(links)))] * 2
        if self.world.rng.random() < COMMIT_CHANCE and self.committable():
            found.append(("commit", self.commit))
        return found + self.own_steps()

    def own_steps(self) -> list[Step]:
        """Steps of the role."""
        raise NotImplementedError

    def committable(self) -> dict[Place, int]:
        """Offsets that may be committed and are not yet."""
        raise NotImplementedError

    def assigned(self, places: tuple[Place, ...]) -> None:
        """Begin anew with these partitions at their committed offsets."""
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """Whether nothing is under way inside."""
        return not self.dying and self.generation == self.group.generation

    # Steps.

    def join(self) -> None:
        """Enter the group as a new member."""
        self.member = f"{self.name}.{self.world.number()}"
        self.group.join(self.member, self.world.rng)

    def hear(self) -> str:
        """Learn of the group's newest generation; whoever was thrown out enters again."""
        if self.member not in self.group.members:
            self.join()
        self.generation = self.group.generation
        self.committed = {}
        places = self.group.assignment[self.member]
        self.assigned(places)
        return f"generation {self.generation}: {' '.join(f'{t}-{p}' for t, p in places)}"

    def watch(self, most: int | None = None) -> str:
        """Fold some more of memory."""
        most = most or self.world.rng.randint(1, 5)
        events = []
        for record in self.world.log.read("memory.events", 0, self.watched, most):
            events.append(StoredEvent.of(self.world.wire.decode("memory.events", record.value), record.value or b""))
            self.watched = record.offset + 1
        if not events:
            self.watched = self.world.end(("memory.events", 0))
        self.view, _ = extend(self.view, events)
        return f"to sequence {self.view.sequence}"

    def take_outcome(self, link: Link) -> str:
        """Take the oldest outcome of a link."""
        sending, outcome = link.landed.popleft()
        sending.done(outcome)
        return f"{link.place[0]}-{link.place[1]} {outcome.error or outcome.first}"

    def commit(self) -> str:
        """Commit what may be; a stale generation is refused, as by the coordinator."""
        said = []
        for place, offset in self.committable().items():
            accepted = self.group.commit(self.member, self.generation, place, offset)
            if accepted:
                self.committed[place] = offset
            said.append(f"{place[0]}-{place[1]}@{offset}{'' if accepted else ' refused'}")
        return " ".join(said)

    def start_of(self, place: Place) -> int:
        """Where reading begins in this generation."""
        return self.group.committed.get(place, 0)

    # Sends.

    def send(self, topic: str, partition: int, value: bytes, done: Callable[[Outcome], None]) -> None:
        """Send one record without a key on the process's own producer."""
        self.world.send(self, topic, partition, Sending([(None, value, ())], done))

    def fail(self, outcome: Outcome) -> None:
        """A frame's fate is unknown: the real process ends and starts anew."""
        self.dying = self.dying or outcome.error

    def die(self) -> None:
        """Lose everything volatile; what is under way lands later or never."""
        self.alive = False
        self.world.orphan(self)
